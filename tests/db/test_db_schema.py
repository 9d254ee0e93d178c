"""The schema: migrations and models agree, the database refuses what must not be, values come back as they went."""

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from db_world import World
from sqlalchemy import Engine, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from db import migrations, record, results
from db.clock import new_night_name, new_run_name
from db.connect import connect
from db.engine import open_engine, reader, writer
from db.migrations import REVISIONS, Schema, status, upgrade
from db.models import Base, Event, Run, Sample
from db.vocabulary import CLOSED_SETS, words
from stem4d.errors import BadInput

WORDS = "fulltext_"
"""Begins the names of what only migrations make: see `db.questions.fulltext`."""


def constraints_of(engine: Engine) -> dict[str, object]:
    """Checks, unique and foreign keys and indices of every table, which compare_metadata sees only in part."""
    found = inspect(engine)
    return {
        table: (
            sorted(
                (check["name"], re.sub(r"\s+", " ", check["sqltext"])) for check in found.get_check_constraints(table)
            ),
            sorted((unique["name"], tuple(unique["column_names"])) for unique in found.get_unique_constraints(table)),
            # Without names: SQLite does not tell that of a key which was added with its column.
            sorted(
                (tuple(key["constrained_columns"]), key["referred_table"], tuple(key["referred_columns"]))
                for key in found.get_foreign_keys(table)
            ),
            sorted(
                (index["name"], tuple(index["column_names"]))
                for index in found.get_indexes(table)
                if not str(index["name"]).startswith(WORDS)
            ),
            [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(table)],
        )
        for table in found.get_table_names()
        if table != "alembic_version" and not table.startswith(WORDS)
    }


def test_the_migrated_schema_is_that_of_the_models(engine: Engine) -> None:
    with engine.connect() as connection:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, _kind, _parents: not (name or "").startswith(WORDS),
        }
        assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []


def test_constraints_of_migrations_and_models_agree(empty_url: str, engine: Engine) -> None:
    bare = connect(empty_url)
    with bare.execution_options(nightbeam_writes=True).begin() as connection:
        Base.metadata.create_all(connection)
    assert constraints_of(bare) == constraints_of(engine)
    bare.dispose()


def test_the_list_of_revisions_is_that_of_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    scripts = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert scripts[::-1] == list(REVISIONS)
    # The column of Alembic's own table.
    assert all(len(revision) <= 32 for revision in REVISIONS)


def test_upgrade_from_empty_is_quick_and_repeatable(empty_url: str) -> None:
    assert status(empty_url).state == "empty"
    begun = time.process_time()
    assert upgrade(empty_url) == Schema(REVISIONS[-1], REVISIONS[-1], "current")
    # It stands in the way of every first run. Processor time: other work on the machine is not its fault. 0.2 s here.
    assert time.process_time() - begun < 1.0
    assert upgrade(empty_url).state == "current"


def test_a_new_sqlite_file_gets_the_schema_and_an_empty_postgresql_the_command(empty_url: str) -> None:
    if empty_url.startswith("sqlite"):
        open_engine(empty_url).dispose()
        assert status(empty_url).state == "current"
    else:
        with pytest.raises(BadInput, match="Run `nightbeam db upgrade`"):
            open_engine(empty_url)


def test_an_older_schema_is_refused_with_the_command(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "REVISIONS", (*REVISIONS, "0099_nightbeam_0.9.9"))
    with pytest.raises(BadInput, match=rf"{REVISIONS[-1]}.*needs 0099_nightbeam_0.9.9.*Run `nightbeam db upgrade`"):
        open_engine(url)


@pytest.mark.parametrize(
    ("revision", "remedy"),
    [("0099_nightbeam_0.7.0", r"Run `pip install 'nightbeam>=0\.7\.0'`"), ("strange", "Use a newer nightbeam")],
)
@pytest.mark.parametrize("opener", [open_engine, upgrade])
def test_a_newer_schema_is_refused_with_the_release(url: str, revision: str, remedy: str, opener: object) -> None:
    stamp(url, f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(BadInput, match=f"newer than {REVISIONS[-1]}.*{remedy}"):
        opener(url)
    assert status(url).found == revision


@pytest.mark.parametrize("opener", [open_engine, upgrade])
def test_a_foreign_database_is_refused_and_left_alone(empty_url: str, opener: object) -> None:
    stamp(empty_url, "CREATE TABLE groceries (name TEXT)")
    with pytest.raises(BadInput, match="not nightbeam's"):
        opener(empty_url)
    assert status(empty_url).state == "foreign"


def stamp(url: str, statement: str) -> None:
    engine = connect(url)
    with engine.execution_options(nightbeam_writes=True).begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_rows_are_never_deleted_and_facts_never_changed(engine: Engine) -> None:
    changing = {"sample", "area", "night", "target", "run", "exposure_intent", "calibration", "lease", "launch"}
    catalogue = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }
    with engine.connect() as connection:
        found = connection.execute(text(catalogue[engine.dialect.name])).scalars()
        triggers = {name for name in found if not name.startswith(WORDS)}
    tables = set(Base.metadata.tables)
    assert triggers == {f"{table}_no_delete" for table in tables} | {f"{t}_no_update" for t in tables - changing}


def test_the_database_refuses_to_change_or_delete_a_fact(world: World) -> None:
    for statement in ("UPDATE event SET kind = 'other'", "DELETE FROM event", "DELETE FROM run"):
        with pytest.raises(DBAPIError, match="rows are kept as they were written"), writer(world.engine) as session:
            session.execute(text(statement))
    with reader(world.engine) as session:
        assert session.scalar(select(func.count()).select_from(Event)) == 2


def test_words_outside_the_vocabulary_are_refused_by_the_database(world: World) -> None:
    assert all(words(kind) for kind in CLOSED_SETS)
    with pytest.raises(IntegrityError, match="ck_run_state"), writer(world.engine) as session:
        session.execute(text("UPDATE run SET state = 'sleeping', ended = started"))
    with pytest.raises(IntegrityError, match="ck_quality_result_verdict"), writer(world.engine) as session:
        results.add_quality(
            session,
            run_id=world.run,
            stage="final",
            metric="m",
            verdict="superb",
            message="",
        )


def test_foreign_keys_hold(world: World) -> None:
    with pytest.raises(IntegrityError), writer(world.engine) as session:
        record.add_event(session, kind="k", message="m", run_id=10_000)


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-11))])
def test_times_come_back_as_the_same_utc_moment(engine: Engine, zone: timezone) -> None:
    moment = datetime(2026, 3, 29, 2, 30, 0, 999999, tzinfo=zone)
    with writer(engine) as session:
        record.register_sample(session, name="s", clock=lambda: moment)
    with reader(engine) as session:
        found = session.scalars(select(Sample.registered)).one()
        assert (found, found.tzinfo) == (moment, UTC)
        assert session.scalars(select(Sample.name).where(Sample.registered == moment)).one() == "s"
        assert session.scalars(select(Sample.name).where(Sample.registered > moment)).all() == []


def test_a_time_without_a_zone_is_refused(engine: Engine) -> None:
    with pytest.raises(StatementError, match="without a zone"), writer(engine) as session:
        record.register_sample(session, name="s", clock=lambda: datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_no_nan_gets_into_a_column_or_a_document(world: World, bad: float) -> None:
    with pytest.raises(BadInput, match=r"quality_result\.value: got"), writer(world.engine) as session:
        results.add_quality(session, run_id=world.run, stage="final", metric="m", verdict="pass", message="", value=bad)
    with pytest.raises(BadInput, match=r"event\.data\.centre\[1\]: got"), writer(world.engine) as session:
        record.add_event(session, kind="k", message="m", data={"centre": [1.0, bad]})


def test_an_integer_that_no_database_holds_is_refused(world: World) -> None:
    with pytest.raises(BadInput, match=r"run\.actual_bytes"), writer(world.engine) as session:
        record.finish_run(session, run_id=world.run, state="refused", actual=record.Cost(size_bytes=2**63))


def test_hostile_text_is_kept_the_same_way_on_both(world: World) -> None:
    message = "a'; DROP TABLE run;-- \0 \n \udce4 \u202e Å"
    with writer(world.engine) as session:
        sequence = record.add_event(session, kind="k", message=message, data={"text": message, "x": 0.1 + 0.2})
    with reader(world.engine) as session:
        event = session.get_one(Event, sequence)
        assert event.message == "a'; DROP TABLE run;-- \\x00 \n \\udce4 \u202e Å"
        assert event.data == {"text": message, "x": 0.1 + 0.2}
        assert session.scalar(select(func.count()).select_from(Run)) == 1


def test_public_names_sort_by_time_and_carry_their_random_part() -> None:
    name = new_run_name(
        lambda: datetime(2026, 11, 22, 21, 41, 39, tzinfo=timezone(timedelta(hours=1))), lambda n: b"\x7f:"
    )
    assert name == "r20261122-204139-7f3a"
    assert new_night_name(random=lambda n: b"\0\1")[0] == "n"
    assert len({new_run_name() for _ in range(20)}) > 1
