"""The command that says whether this machine can run a night, and what to do where it cannot."""

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flows.cli.answer import AsJson, Code, command, print_json
from stem4d.errors import NightbeamError

if TYPE_CHECKING:
    from storage.settings import Settings

OURS = ("stem4d", "storage", "devices", "db", "tasks", "flows", "web")
SLOW_FSYNC_MS = 50.0
"""A commit that takes this long on the disk is felt in every stage."""


class Line(NamedTuple):
    """One thing looked at."""

    what: str
    ok: bool
    found: str
    fix: str = ""


@command
def doctor(as_json: AsJson = False) -> Code:
    """Check versions, modules, drivers, disk and database, each with the fix.

    Example: nightbeam doctor
    """
    from storage.settings import load_settings

    settings = load_settings()
    lines = [line for look in LOOKS for line in look(settings)]
    if as_json:
        print_json([line._asdict() for line in lines])
    else:
        for line in lines:
            print(f"{'ok ' if line.ok else 'BAD'}  {line.what}: {line.found}{'' if line.ok else f'. {line.fix}'}")
    return Code.DONE if all(line.ok for line in lines) else Code.FAILED


def _versions(_settings: "Settings") -> Iterator[Line]:
    from importlib import metadata

    fix = "Install with the constraints file that comes with nightbeam"
    for package, good in (("prefect", "3.8."), ("sqlalchemy", "2.0.")):
        found = metadata.version(package)
        yield Line(f"{package} version", found.startswith(good), found, f"{good}x is known to work. {fix}")
    minor = int(metadata.version("fastapi").split(".")[1])
    yield Line("fastapi version", minor < 151, metadata.version("fastapi"), f"0.151 and newer break Prefect 3.8. {fix}")
    extra = importlib.util.find_spec("rsciio") is not None
    yield Line(
        "foreign formats",
        extra,
        "RosettaSciIO is installed" if extra else "RosettaSciIO is missing",
        "Only nightbeam's own files and plain HDF5 can be read; pip install 'nightbeam[formats]'",
    )


def _modules(_settings: "Settings") -> Iterator[Line]:
    home = Path(__file__).resolve().parents[2]
    for name in OURS:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        ours = found is not None and found.is_relative_to(home)
        yield Line(f"module {name}", ours, str(found), "Another package of that name shadows ours; remove it")


def _drivers(_settings: "Settings") -> Iterator[Line]:
    from devices.registry import drivers

    for driver in drivers():
        yield Line(
            f"driver {driver.name}",
            not driver.broken,
            driver.broken or f"{driver.target} of {driver.distribution}",
            "Reinstall or remove its package",
        )


def _disk(settings: "Settings") -> Iterator[Line]:
    try:
        settings.data_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=settings.data_folder) as probe:
            taken = sorted(_fsync_ms(probe.fileno()) for _ in range(9))
    except OSError as error:
        yield Line("data folder", False, f"{settings.data_folder}: {error.strerror}", "Set NIGHTBEAM_HOME elsewhere")
        return
    free_gb = shutil.disk_usage(settings.data_folder).free / 1e9
    needed = settings.disk_reserve_gb
    yield Line("free disk", free_gb > needed, f"{free_gb:.1f} GB", f"At least {needed:g} GB are kept free; make room")
    median = taken[len(taken) // 2]
    yield Line("fsync of 4 kB", median < SLOW_FSYNC_MS, f"{median:.2f} ms, longest {taken[-1]:.2f} ms", "A slow disk")


def _fsync_ms(handle: int) -> float:
    os.write(handle, b"\0" * 4096)
    started = time.perf_counter()
    os.fsync(handle)
    return (time.perf_counter() - started) * 1e3


def _database(settings: "Settings") -> Iterator[Line]:
    from db.connect import redacted
    from tasks.outbox import open_database

    url = settings.database_url.get_secret_value()
    try:
        open_database(settings).dispose()
    except NightbeamError as error:
        yield Line("database", False, str(error), "See the message")
        return
    yield Line("database", True, redacted(url))


def _outboxes(settings: "Settings") -> Iterator[Line]:
    """Records that wait for the database, of instruments that nobody holds."""
    from devices.lease import is_owned
    from tasks.outbox import waiting

    for folder in sorted(settings.instruments_folder.glob("*/")):
        try:
            records = 0 if is_owned(folder) else waiting(folder)
        except (NightbeamError, OSError) as error:
            yield Line(f"outbox of {folder.name}", False, str(error), "See the message")
            continue
        if records:
            found = f"{records} records wait for the database"
            yield Line(f"outbox of {folder.name}", False, found, "When it is back: `nightbeam recover`")


def _left_open(settings: "Settings") -> Iterator[Line]:
    """Runs that nobody runs any more, and beams that a session left on, of instruments that nobody holds."""
    from db.abandoned import running
    from db.engine import reader
    from db.lease import owners
    from devices.column_log import beam_on
    from devices.lease import is_owned
    from storage.processes import lives
    from tasks.outbox import open_database

    for folder in sorted(settings.instruments_folder.glob("*/")):
        try:
            on = None if is_owned(folder) else beam_on(folder)
        except (NightbeamError, OSError) as error:
            yield Line(f"beam of {folder.name}", False, str(error), "See the message")
            continue
        if on is not None:
            yield Line(f"beam of {folder.name}", False, f"left ON, {on}", f"Look at the instrument. {_TIDY}")
    try:
        engine = open_database(settings)
    except NightbeamError:
        return  # the database has its own line
    try:
        with reader(engine) as session:
            runs, owning = running(session), owners(session)
    finally:
        engine.dispose()
    for one in owning:
        gone = lives(one.process) is False or (one.expired and lives(one.process) is None)
        what = f"left by {one.words}" if gone else f"held by {one.words}"
        yield Line(f"owner of {one.instrument}", not gone, what, _TIDY)
    for run, instrument in runs:
        if not is_owned(settings.instruments_folder / instrument):
            yield Line(f"run {run}", False, f"left open on {instrument} by a process that died", _TIDY)


_TIDY = "`nightbeam recover`, or the next run or calibration on that instrument, closes what was left open"

LOOKS: tuple[Callable[["Settings"], Iterator[Line]], ...] = (
    _versions,
    _modules,
    _drivers,
    _disk,
    _database,
    _outboxes,
    _left_open,
)
