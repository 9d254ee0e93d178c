"""Looks at the record: its database, what waits for it, and what nobody runs any more."""

from collections.abc import Iterator

from flows.examine.line import Line
from stem4d.errors import NightbeamError
from storage.settings import Settings


def database(settings: Settings) -> Iterator[Line]:
    """Whether it can be used, without its password."""
    from db.connect import redacted
    from tasks.outbox import open_database

    url = settings.database_url.get_secret_value()
    try:
        open_database(settings).dispose()
    except NightbeamError as error:
        yield Line("database", False, str(error), "See the message")
        return
    yield Line("database", True, redacted(url))


def outboxes(settings: Settings) -> Iterator[Line]:
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


def left_open(settings: Settings) -> Iterator[Line]:
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
