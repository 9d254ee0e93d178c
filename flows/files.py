"""Which files a person means by paths, folders and names of runs, and what the database recorded of each."""

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from db.engine import Engine, reader
from db.questions.files import RecordedFile, files_of_run, has_run
from stem4d.errors import BadInput, NightbeamError
from storage.settings import Settings
from tasks.outbox import open_database

CLOSED, UNCLOSED = "*.h5", "*.h5.partial"


@dataclass(frozen=True)
class Asked:
    """A file to look at."""

    path: Path
    named: bool
    """Named by itself, not found in a folder or by a run."""


@dataclass(frozen=True)
class Database:
    """The provenance database, as far as it is there."""

    engine: Engine | None
    away: str = ""
    """Why it cannot be asked; empty where it can, or where there is none."""

    def required(self) -> Engine:
        """The engine; `NightbeamError` where there is no database to ask."""
        if self.engine is None:
            raise NightbeamError(f"there is no database to ask: {self.away or 'nothing was ever run here'}")
        return self.engine

    def has(self, run: str) -> bool:
        """Whether it has a run of this name."""
        if self.engine is None or not run:
            return False
        with reader(self.engine) as session:
            return has_run(session, name=run)

    def files(self, run: str) -> tuple[RecordedFile, ...]:
        """What it recorded of a run's files; none where it does not know the run."""
        if self.engine is None or not self.has(run):
            return ()
        with reader(self.engine) as session:
            return files_of_run(session, name=run)


@contextmanager
def database(settings: Settings) -> Iterator[Database]:
    """The database, where anything was ever run; one that is away is no reason not to look at files."""
    if not settings.home.exists():
        yield Database(None)
        return
    try:
        engine = open_database(settings)
    except NightbeamError as error:
        yield Database(None, str(error))
        return
    try:
        yield Database(engine)
    finally:
        engine.dispose()


def asked_for(
    settings: Settings, known: Database, arguments: Iterable[str], patterns: tuple[str, ...]
) -> tuple[Asked, ...]:
    """The files that are meant, each once.

    Parameters
    ----------
    settings : Settings
        Where data lies.
    known : Database
        Where names of runs are looked up.
    arguments : iterable of str
        Paths of files, of folders, which are searched with all that is in them, and names of runs.
    patterns : tuple of str
        Which files of a folder are meant.

    Raises
    ------
    BadInput
        For what is neither a path nor a run.
    """
    found: dict[Path, Asked] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            several = _within(path, patterns)
        elif path.exists():
            several = [Asked(path, named=True)]
        elif known.has(argument):
            here = (Path(one) for file in known.files(argument) for one in file.paths(socket.gethostname()))
            folder = settings.data_folder / argument
            recorded = [Asked(one, named=False) for one in here if any(one.match(pattern) for pattern in patterns)]
            several = [*recorded, *(_within(folder, patterns) if folder.is_dir() else ())]
        else:
            limit = "there is no such file or folder, and no run of that name"
            limit += f" as far as can be told: {known.away}" if known.away else ""
            raise BadInput(field="path or run", value=argument, limit=limit, remedy="`nightbeam runs` lists the runs")
        for one in several:
            found.setdefault(one.path.absolute(), one)
    return tuple(found.values())


def _within(folder: Path, patterns: tuple[str, ...]) -> list[Asked]:
    paths = {path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()}
    return [Asked(path, named=False) for path in sorted(paths)]


def recorded_of(known: Database, path: Path, run: str = "") -> RecordedFile | None:
    """What was recorded of a file, by where it lies; else of one of that name in the run that it says it is of.

    Parameters
    ----------
    known : Database
        Where it is looked up.
    path : Path
        The file.
    run : str
        The run that the file names, where that is known; the folder's name is tried before.
    """
    place, host = path.absolute(), socket.gethostname()
    for name in dict.fromkeys((place.parent.name, run)):
        files = known.files(name)
        for one in files:
            if str(place) in one.paths(host):
                return one
        for one in files:
            if any(Path(there).name == place.name for _, there in one.places):
                return one
    return None
