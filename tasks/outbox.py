"""Where an instrument's records wait while the database is away, and how they land."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from db.engine import Engine, open_engine
from db.recorder import Landed, replay
from storage.journal import Journal, waiting_in
from storage.settings import Settings


def outbox_of(folder: Path) -> Path:
    """The outbox in an instrument's folder."""
    return folder / "outbox" / "records.journal"


def waiting(folder: Path) -> int:
    """How many records wait in an instrument's folder."""
    return waiting_in(outbox_of(folder))


def open_database(settings: Settings) -> Engine:
    """The database of a home; a new one is never made where records wait for the one that was there."""
    expected = any(waiting(folder) for folder in settings.instruments_folder.glob("*/"))
    return open_engine(settings.database_url.get_secret_value(), new=not expected)


@contextmanager
def land(engine: Engine, folder: Path, say: Callable[[str], None]) -> Iterator[Journal]:
    """An instrument's outbox, whose records of before have landed. Only who holds the instrument may ask.

    Raises
    ------
    DatabaseAway
        Where records wait and the database is away.
    DiskFull, BadInput
        Where there is no room for an outbox.
    """
    with Journal(outbox_of(folder)) as outbox:
        landed = land_all(engine, outbox)
        if landed is not None:
            say(landed.words)
        yield outbox


def land_all(engine: Engine, outbox: Journal) -> Landed | None:
    """Apply what waits; None where nothing does."""
    return replay(engine, outbox) if outbox.waiting or outbox.damaged else None
