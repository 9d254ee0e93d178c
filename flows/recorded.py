"""What runs left on this machine, without an instrument: the database, and where the passes of a run lie."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

from db.engine import Engine, reader
from db.questions.files import RecordedFile, files_of_run
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


def passes_here(engine: Engine, run: str) -> list[tuple[RecordedFile, Path]]:
    """The passes of a run, where they were recorded: a path of another machine may be another file here.

    Raises
    ------
    BadInput
        There is no such run, or not all of its passes lie on this machine.
    """
    with reader(engine) as session:
        files = [one for one in files_of_run(session, name=run) if one.purpose == "acquisition"]
    here = [(one, Path(paths[0])) for one in files if (paths := one.paths(gethostname()))]
    if len(here) < len(files) or not files:
        limit = f"{len(here)} of its {len(files)} passes were recorded on {gethostname()}"
        raise BadInput(field="run", value=run, limit=limit, remedy="Ask where its data are: nightbeam show RUN")
    return here
