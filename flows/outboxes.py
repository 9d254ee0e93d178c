"""Lands what waits for the database in the outboxes of a home, and writes the pages that waited with it."""

from dataclasses import asdict, dataclass
from typing import Any

from db.operations import FinishRun
from devices.lease import owned
from flows.files import Database
from flows.report import page_again
from stem4d.errors import NightbeamError
from storage.journal import Journal
from storage.settings import Settings, instrument_folders
from tasks.outbox import land_all, outbox_of, waiting


@dataclass(frozen=True)
class Outbox:
    """What came of one instrument's."""

    instrument: str
    landed: int
    """Records that are in the database now."""
    whole: bool
    """Whether all that waited is there."""
    words: str

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def land_outboxes(settings: Settings, known: Database) -> tuple[Outbox, ...]:
    """The outbox of every instrument where something waits and that nobody holds: a session lands its own."""
    folders = instrument_folders(settings)
    return tuple(_landed(settings, known, folder.name) for folder in folders if waiting(folder))


def _landed(settings: Settings, known: Database, instrument: str) -> Outbox:
    folder = settings.instruments_folder / instrument
    if known.engine is None:
        return Outbox(instrument, 0, False, f"{waiting(folder)} records wait for the database: {known.away}")
    try:
        with owned(instrument, folder), Journal(outbox_of(folder)) as outbox:
            landed = land_all(known.engine, outbox)
    except NightbeamError as error:
        return Outbox(instrument, 0, False, f"{waiting(folder)} records wait for the database: {error}")
    if landed is None:
        return Outbox(instrument, 0, True, "nothing waits any more")
    ended = [one.run for one in landed.operations if isinstance(one, FinishRun)]
    trouble = [text for run in ended if (text := page_again(settings, known.engine, run))]
    words = "; ".join((landed.words, *trouble))
    return Outbox(instrument, len(landed.operations), not landed.refused and not landed.damaged, words)
