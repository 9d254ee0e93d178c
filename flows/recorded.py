"""The database as runs left it, opened without an instrument."""

from collections.abc import Iterator
from contextlib import contextmanager

from db.engine import Engine
from stem4d.errors import BadInput
from storage.settings import Settings
from tasks.outbox import open_database


@contextmanager
def recorded_database(settings: Settings) -> Iterator[Engine]:
    """The database of a home where something was run; a home that is not there is not made.

    Raises
    ------
    BadInput
        Where there is no such home, or its database cannot be used.
    """
    if not settings.home.exists():
        raise BadInput(
            field="NIGHTBEAM_HOME",
            value=str(settings.home),
            limit="nothing was run there yet",
            remedy="Set NIGHTBEAM_HOME to where it was: `make demo` uses .nightbeam in the checkout",
        )
    engine = open_database(settings)
    try:
        yield engine
    finally:
        engine.dispose()
