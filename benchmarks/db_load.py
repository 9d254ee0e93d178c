"""``python -m benchmarks.db_load``: databases of made-up runs, made once and kept between benches."""

import argparse
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from benchmarks.db_world import COLUMNS, made
from benchmarks.harness import ROOT
from db.engine import Engine, open_engine
from db.migrations import REVISIONS, upgrade
from tests.postgres import Server, administer

FULL = 1_000_000
BACKENDS = ("sqlite", "postgresql")
KEPT = Path(os.environ.get("NIGHTBEAM_BENCH_DB", ROOT / ".bench-db"))
"""Where they are kept. The server of PostgreSQL runs as nobody where we are root, and has to be let in."""
SETTINGS = {"shared_buffers": "512MB", "maintenance_work_mem": "512MB", "max_wal_size": "1GB", "fsync": "on"}
MADE_OF = "3"
"""Of the rows in `db_world`: kept databases of another number are made anew."""


@contextmanager
def server() -> Iterator[Server]:
    """The server whose databases are kept; writes reach the disk before they are answered, as in earnest."""
    KEPT.mkdir(parents=True, exist_ok=True)
    one = Server(KEPT / "postgresql", **SETTINGS)
    try:
        yield one
    finally:
        one.stop()


@contextmanager
def kept(backend: str, runs: int, postgres: Server) -> Iterator[Engine]:
    """An open database of so many runs, made if it is not there or of other rows, at our schema."""
    url = _url(backend, runs, postgres)
    mark = KEPT / f"{backend}-{runs}.made"
    if not mark.is_file() or mark.read_text().strip() != MADE_OF:
        _make(backend, runs, url, postgres)
        mark.write_text(f"{MADE_OF}\n")
    upgrade(url)
    engine = open_engine(url, new=False)
    try:
        yield engine
    finally:
        engine.dispose()


def _url(backend: str, runs: int, postgres: Server) -> str:
    if backend == "sqlite":
        return f"sqlite:///{KEPT / f'runs-{runs}.db'}"
    return make_url(postgres.url).set(database=f"runs_{runs}").render_as_string(hide_password=False)


def _make(backend: str, runs: int, url: str, postgres: Server) -> None:
    begun = time.monotonic()
    say(f"making {runs} runs in {backend}: once, and kept in {KEPT}")
    if backend == "sqlite":
        path = Path(str(make_url(url).database))
        for left in path.parent.glob(f"{path.name}*"):
            left.unlink()
        upgrade(url)
        _load_sqlite(path, runs, begun)
    else:
        administer(postgres.url, f"DROP DATABASE IF EXISTS runs_{runs}")
        administer(postgres.url, f"CREATE DATABASE runs_{runs}")
        upgrade(url)
        _load_postgresql(url, runs, begun)
    say(f"made {runs} runs in {backend} in {time.monotonic() - begun:.0f} s")


def say(text: str) -> None:
    """Tell a person how it goes."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _load_sqlite(path: Path, runs: int, begun: float) -> None:
    """Rows without indices and triggers, then those again: keeping them up row by row would take ten times as long."""
    connection = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {setting}")
    put_off = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND (type = 'index' OR "
        "(type = 'trigger' AND (name LIKE 'fulltext%' OR name LIKE '%no_update'))) ORDER BY type"
    ).fetchall()
    for kind, name, _sql in put_off:
        connection.execute(f"DROP {kind} {name}")
    done = 0
    for rows in made(runs):
        connection.execute("BEGIN")
        for table, some in rows.items():
            columns = COLUMNS[table].split()
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", some)
        connection.execute("COMMIT")
        done += len(rows["run"])
        _tell(done, runs, begun)
    for _kind, _name, sql in put_off:
        if "fulltext_" in sql and "_added" in sql:
            _index_words(connection, sql)
        connection.execute(sql)
    say(f"  indices are there after {time.monotonic() - begun:.0f} s")
    connection.execute("ANALYZE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()


def _index_words(connection: sqlite3.Connection, trigger: str) -> None:
    """What a trigger on new rows would have written for those that are there already."""
    _, _, table = trigger.partition(" AFTER INSERT ON ")
    name, _, rest = table.partition(" BEGIN ")
    insert, _, values = rest.removesuffix("; END").partition(" VALUES ")
    connection.execute(f"{insert} SELECT {values.strip()[1:-1]} FROM {name} AS NEW")


def _load_postgresql(url: str, runs: int, begun: float) -> None:
    """Rows by COPY, past triggers and foreign keys; indices that no constraint needs are made afterwards."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET synchronous_commit = off")
        indices = connection.execute(
            "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indrelid LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid "
            "WHERE c.relnamespace = 'public'::regnamespace AND k.oid IS NULL"
        ).fetchall()
        for name, _definition in indices:
            connection.execute(f"DROP INDEX {name}")
        done = 0
        for rows in made(runs):
            for table, some in rows.items():
                with connection.cursor().copy(f"COPY {table} ({COLUMNS[table].replace(' ', ', ')}) FROM STDIN") as copy:
                    for row in some:
                        copy.write_row(row)
            connection.commit()
            done += len(rows["run"])
            _tell(done, runs, begun)
        for _name, definition in indices:
            connection.execute(definition)
            connection.commit()
        _number(connection)
        say(f"  indices are there after {time.monotonic() - begun:.0f} s")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("VACUUM (FREEZE, ANALYZE)")


def _number(connection: psycopg.Connection[Any]) -> None:
    """PostgreSQL numbers on from the rows that are there."""
    for table, columns in COLUMNS.items():
        number = columns.split()[0]
        if number in ("id", "sequence"):
            connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{number}'), (SELECT coalesce(max({number}), 1) "
                f"FROM {table}))"
            )


def _tell(done: int, runs: int, begun: float) -> None:
    if runs >= 100_000 and done % (runs // 10) == 0:
        say(f"  {done} of {runs} runs after {time.monotonic() - begun:.0f} s")


def main() -> int:
    """Make what is missing."""
    asked = argparse.ArgumentParser(description="Databases of made-up runs for the benches, kept between them.")
    asked.add_argument("--runs", type=int, default=FULL, help=f"how many (default {FULL})")
    asked.add_argument("--backend", choices=BACKENDS, action="append", help="only this one (default both)")
    asked.add_argument("--remove", action="store_true", help="remove all that is kept instead")
    given = asked.parse_args()
    if given.remove:
        shutil.rmtree(KEPT, ignore_errors=True)
        return 0
    with server() as postgres:
        for backend in given.backend or BACKENDS:
            with kept(backend, given.runs, postgres):
                pass
    say(f"schema {REVISIONS[-1]}, in {KEPT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
