"""Databases of every earlier revision are upgraded with their rows, on both databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, func, insert, select, text
from sqlalchemy.exc import DBAPIError

from db import migrations, record
from db.connect import connect
from db.engine import open_engine, reader, writer
from db.migrations import REVISIONS, status, upgrade
from db.models import CalibrationBasis, Run
from db.questions.fulltext import matching
from db.questions.show import show_run
from stem4d.model import sha256_of

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TEXTS = {
    "state": "done",
    "verdict": "pass",
    "purpose": "acquisition",
    "phase": "before",
    "source": "measured",
    "stage": "final",
    "canonical_json": '{"defocus_nm":-12.5}',
    "name": "r1",
    "instrument": "simulator",
    "expected_state": None,
    "text": None,
}
"""What a column of text holds that takes only certain words, or that is asked for below."""


@contextmanager
def at_revision(url: str, revision: str) -> Iterator[Connection]:
    """A connection to a new database with the schema of an earlier release."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = connect(url)
    with engine.execution_options(nightbeam_writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        yield connection
    engine.dispose()


def one_row_each(connection: Connection) -> dict[str, dict[str, Any]]:
    """Fill every table of whatever schema it is with one row of number 1, or two where a row needs another."""
    found = MetaData()
    found.reflect(connection)
    rows: dict[str, dict[str, Any]] = {}
    for table in found.sorted_tables:
        if table.name.startswith(("fulltext_", "alembic_version")):
            continue
        rows[table.name] = {column.name: value_of(table.name, column) for column in table.columns}
        if table.name == "dataset_parent":
            other = {**rows["dataset"], "id": 2, "pass_index": 2}
            connection.execute(insert(found.tables["dataset"]), [other])
            rows[table.name]["parent_id"] = 2
        connection.execute(insert(table), [rows[table.name]])
        if connection.dialect.name == "postgresql" and {"id", "sequence"} & set(rows[table.name]):
            # PostgreSQL counts only what it numbered itself.
            number = "id" if "id" in rows[table.name] else "sequence"
            connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table.name}', '{number}'), 9)"))
    return rows


def value_of(table: str, column: Any) -> Any:
    """A value that a column takes."""
    if column.name in ("parent_id", "superseded_by", "target_id", "night_id") and table in ("run", "calibration"):
        return None
    if column.name in TEXTS:
        # An analysis has verdicts of its own.
        return "good" if (table, column.name) == ("analysis_result", "verdict") else TEXTS[column.name]
    kind = column.type.python_type
    if column.name == "rests_on" or (table, column.name) == ("calibration", "value"):
        return [1]
    if kind is datetime:
        hours = {"valid_until": 2, "expires": 1}.get(column.name, 0)
        return NOON.replace(hour=12 + hours)
    if kind is dict:
        return {"numpy": "2.1"}
    if kind is str:
        return sha256_of(column.name) if column.name == "sha256" else f"{column.name} of the {table}"
    return {bool: True, float: 1.0, int: 1}[kind]


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_every_earlier_release_is_upgraded_with_its_rows(empty_url: str, revision: str) -> None:
    with at_revision(empty_url, revision) as connection:
        before = one_row_each(connection)
    assert status(empty_url).state == "older"
    assert upgrade(empty_url).found == REVISIONS[-1]
    engine = open_engine(empty_url)
    with reader(engine) as session:
        found = MetaData()
        found.reflect(session.connection())
        for table, row in before.items():
            columns = [found.tables[table].c[name] for name in row]
            stored = [dict(one._mapping) for one in session.execute(select(*columns))]
            assert row in [without_zone(one, row) for one in stored], table
        told = show_run(session, name="r1")
        assert (told["session"] is None, told["area"]["pose"] is None) == ("session" not in before,) * 2
        assert matching(session, "run", "r1 exit", limit=9) == [1]
        rested = int("rests_on" in before["calibration"])
        assert session.scalar(select(func.count()).select_from(CalibrationBasis)) == rested
    # What came with the upgrade is kept up and guarded as what stood there.
    with writer(engine) as session:
        record.start_run(session, name="r2", plan_id=1, area_id=1, instrument="simulator")
    with reader(engine) as session:
        ids = matching(session, "run", "r2", limit=9)
        assert session.scalars(select(Run.name).where(Run.id.in_(ids))).all() == ["r2"]
    for statement in ("UPDATE dataset SET purpose = 'survey'", "DELETE FROM calibration"):
        with pytest.raises(DBAPIError, match="rows are kept as they were written"), writer(engine) as session:
            session.execute(text(statement))
    engine.dispose()


def without_zone(stored: dict[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """A row as it was written: SQLite gives times back without their zone, in UTC."""
    return {
        name: value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value
        for name, value in stored.items()
        if name in written
    }
