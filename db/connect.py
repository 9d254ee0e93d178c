"""Connections: URLs without secrets, SQLite and PostgreSQL set up for durability, errors in our own words."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
)

from db.errors import DatabaseAway, DatabaseDamaged
from stem4d.errors import BadInput

BUSY_TIMEOUT_MS = 5000
_POSTGRES_WAITS: dict[str, Any] = {
    # A host that is gone answers nothing: without these a run would wait for minutes, with its beam blanked at best.
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
WRITES = "nightbeam_writes"
"""Execution option of a connection that will write."""

_REMEDY = "Give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
# Busy, locked, read-only, I/O error, full, cannot open: the database is there no more, or not for us, or not now.
_SQLITE_AWAY = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
_READ_ONLY_SQLSTATE = "25006"
"""A PostgreSQL server that only copies another one, as after a switch to the wrong one."""
_TOO_LARGE_SQLSTATE = "22003"
_SQLITE_BAD = {
    sqlite3.SQLITE_NOTADB: ("the file is not an SQLite database", "Give another file"),
    sqlite3.SQLITE_CORRUPT: (
        "the file is damaged",
        "Move it away with its -wal and -shm files, and bring back a copy; the files of frames are not touched",
    ),
}


def redacted(url: str | URL) -> str:
    """A database URL as it may stand in a message: no password, no query, nothing of what cannot be parsed."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        scheme, found, _ = str(url).partition("://")
        return f"{scheme}://***" if found else "***"
    # The rest of a password with an @ of its own is taken for the host.
    host = "***" if "@" in (parsed.host or "") else parsed.host
    return parsed.set(query={}, host=host).render_as_string(hide_password=True)


def connect(url: str) -> Engine:
    """An engine with our settings; the schema is not looked at and nothing is opened yet."""
    parsed, secrets = _parse(url)
    try:
        if parsed.get_backend_name() == "sqlite":
            engine = create_engine(parsed)
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            waits = {name: value for name, value in _POSTGRES_WAITS.items() if name not in parsed.query}
            engine = create_engine(parsed, pool_pre_ping=True, connect_args={**waits, **secrets})
            event.listen(engine, "connect", _set_up_postgresql)
    except ModuleNotFoundError as missing:
        raise BadInput(
            field="database",
            value=redacted(parsed),
            limit=f"PostgreSQL needs the module {missing.name}, which is not installed",
            remedy="Install it with: pip install 'nightbeam[postgres]'",
        ) from None
    return engine


def keep_to_its_file(engine: Engine) -> None:
    """From now on an SQLite database is the file that it is, for every connection: another is never made in its place.

    A connection to a file that was moved away would go on writing there, and a new one would begin an empty database.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "do_connect", _connect_existing)
        event.listen(engine, "checkout", _refuse_moved)


def for_writing(engine: Engine) -> Engine:
    """The same engine, its transactions taking the write lock at their beginning."""
    return engine.execution_options(**{WRITES: True})


def for_reading(engine: Engine) -> Engine:
    """The same engine, its transactions read-only and each of them one consistent view."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


@contextmanager
def answering(engine: Engine) -> Iterator[None]:
    """Turn errors that mean "the database is away" into `DatabaseAway`, without secrets."""
    try:
        yield
    except OperationalError as error:
        code = getattr(error.orig, "sqlite_errorcode", None)
        if code is not None and code & 0xFF not in _SQLITE_AWAY:
            raise
        closed = code is not None and code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
        remedy = ". See that the file and its folder can be read and written, or choose another" if closed else ""
        raise DatabaseAway(f"database {redacted(engine.url)}: {_first_line(error)}{remedy}") from None
    except OverflowError as error:
        if "SQLite INTEGER" not in str(error):
            raise
        raise _no_such_number() from None
    except DatabaseError as error:
        code = getattr(error.orig, "sqlite_errorcode", None)
        if getattr(error.orig, "sqlstate", None) == _TOO_LARGE_SQLSTATE:
            raise _no_such_number() from None
        if getattr(error.orig, "sqlstate", None) == _READ_ONLY_SQLSTATE:
            raise DatabaseAway(f"database {redacted(engine.url)}: {_first_line(error)}") from None
        if code is None or code & 0xFF not in _SQLITE_BAD:
            raise
        limit, remedy = _SQLITE_BAD[code & 0xFF]
        raise DatabaseDamaged(field="database", value=redacted(engine.url), limit=limit, remedy=remedy) from None
    except InterfaceError as error:
        # The connection broke, and the driver knows it already.
        raise DatabaseAway(f"database {redacted(engine.url)}: {_first_line(error)}") from None


def _no_such_number() -> BadInput:
    return BadInput(field="number", value="one beyond 64 bits", limit="no row has it")


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


def _parse(url: str) -> tuple[URL, dict[str, Any]]:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        raise BadInput(field="database", value=redacted(url), limit="not a database URL", remedy=_REMEDY) from None
    if backend == "sqlite":
        # What follows a question mark is taken for options, and lost where it is none: another file would be opened.
        if "?" in url:
            limit = "the path of an SQLite file must not hold a question mark"
            raise BadInput(field="database", value=redacted(url), limit=limit, remedy="Choose another folder or name")
        _check_sqlite(parsed)
        return parsed, {}
    if parsed.drivername not in ("postgresql", "postgresql+psycopg"):
        raise BadInput(field="database", value=redacted(parsed), limit="SQLite or PostgreSQL (psycopg)", remedy=_REMEDY)
    if "@" in (parsed.host or ""):
        limit = "has an @ in its host: one in a password is written %40"
        raise BadInput(field="database", value=redacted(parsed), limit=limit, remedy=_REMEDY)
    # `repr(engine)` shows the query: passwords go another way.
    secrets = {key: value for key, value in parsed.query.items() if "pass" in key}
    return parsed.difference_update_query(secrets).set(drivername="postgresql+psycopg"), secrets


def _check_sqlite(url: URL) -> None:
    if url.drivername not in ("sqlite", "sqlite+pysqlite") or url.query or not url.database or url.database[0] == ":":
        raise BadInput(field="database", value=redacted(url), limit="a plain SQLite file", remedy=_REMEDY)
    folder = Path(url.database).parent
    if not folder.is_dir():
        raise BadInput(
            field="database",
            value=redacted(url),
            limit=f"{folder} is a file, not a folder" if folder.exists() else f"the folder {folder} does not exist",
            remedy="Move it away, or choose another folder" if folder.exists() else "Create it first",
        )


def _connect_existing(dialect: object, record: object, arguments: list[Any], options: dict[str, Any]) -> Any:
    return sqlite3.connect(f"file:{quote(str(arguments[0]))}?mode=rw", uri=True, **options)


def _refuse_moved(connection: Any, record: Any, _proxy: object) -> None:
    """Give up a pooled connection whose file no longer lies where it was opened."""
    (path,) = (row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main")
    try:
        found = os.stat(path)
    except OSError:
        raise DisconnectionError("the file is not there any more") from None
    place = (found.st_dev, found.st_ino)
    if record.info.setdefault("place", place) != place:
        raise DisconnectionError("another file lies in its place")


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    # Python must not begin transactions by itself: ours begin in _begin_sqlite.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    mode = _journal_mode(connection)
    if mode != "wal":
        raise sqlite3.OperationalError(f"this file system cannot hold an SQLite database with a WAL (mode is {mode})")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # 64 MB: the pages that lead to the others, of a million runs. The 2 MB of the default are read again all the time.
    connection.execute("PRAGMA cache_size = -65536")


def _journal_mode(connection: sqlite3.Connection) -> str:
    # SQLite does not apply the busy timeout to this pragma when several connections open a new file at once.
    give_up = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.005)


def _begin_sqlite(connection: Connection) -> None:
    writes = bool(connection.get_execution_options().get(WRITES))
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    # A deferred transaction that reads and then writes fails at once when another has written in between, whatever the
    # busy timeout is.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _set_up_postgresql(connection: Any, record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
        cursor.execute("SET timezone TO 'UTC'")
        # psycopg prepares what comes often, and a plan for any filter is a bad one for most of them: seconds, not
        # milliseconds, at a million runs. Planning anew takes less than one.
        cursor.execute("SET plan_cache_mode TO force_custom_plan")
        # A question reads some hundred rows. To start workers, to lay out memory for as many rows as might come, or
        # to compile takes some ms each: longer than all the rest.
        for help_of_many in ("max_parallel_workers_per_gather TO 0", "enable_memoize TO off", "jit TO off"):
            cursor.execute(f"SET {help_of_many}")
        cursor.execute(f"SET lock_timeout TO {BUSY_TIMEOUT_MS}")
    connection.commit()
