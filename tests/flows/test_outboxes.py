"""What waits for the database, as the commands tell and land it; and that no new database is made in its place."""

import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db.engine import open_engine, writer
from db.operations import AddEvent, FinishRun, as_text
from db.record import register_area, register_plan, register_sample, start_run
from devices.lease import owned
from flows.cli.app import app
from flows.examine.record import outboxes
from stem4d.model import canonical_json
from storage.journal import Journal
from storage.settings import Settings
from tasks.outbox import outbox_of, waiting
from tests.flows.night_world import NAME, small

RUN = "r20261122-204139-0001"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run that has ended, and a database that has not heard of it."""
    engine = open_engine(f"sqlite:///{tmp_path / 'nightbeam.db'}")
    plan = small("1_overview.yaml", 16)
    with writer(engine) as session:
        sample = register_sample(session, name="s")
        start_run(
            session,
            name=RUN,
            plan_id=register_plan(session, name=plan.name, canonical_json=canonical_json(plan)),
            area_id=register_area(session, sample_id=sample, name="a", fluence_budget_e_per_a2=1.0),
            instrument=NAME,
        )
    engine.dispose()
    with Journal(outbox_of(tmp_path / "instruments" / NAME)) as outbox:
        outbox.append(as_text(AddEvent(event="told", message="in the night", run=RUN)))
        outbox.append(as_text(FinishRun(run=RUN, state="failed", reason="the valve is shut")))
    return tmp_path


def nightbeam(home: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments, env={"NIGHTBEAM_HOME": str(home)})
    return done.exit_code, done.stdout


def state_of_run(home: Path) -> tuple[str, str]:
    with sqlite3.connect(home / "nightbeam.db") as connection:
        (row,) = connection.execute("SELECT state, exit_reason FROM run").fetchall()
    connection.close()
    return row  # type: ignore[no-any-return]


def test_recover_lands_what_waits_and_writes_the_page_of_the_run(home: Path) -> None:
    (line,) = outboxes(Settings(home=home))
    assert (line.ok, line.found) == (False, "2 records wait for the database")
    code, told = nightbeam(home, "recover")
    assert (code, told.splitlines()[0]) == (0, f"{NAME}: 2 records that waited for the database have landed")
    assert state_of_run(home) == ("failed", "the valve is shut")
    assert (home / "reports" / f"{RUN}.html").exists()
    assert list(outboxes(Settings(home=home))) == []
    code, told = nightbeam(home, "recover", "--json")
    assert (code, json.loads(told)["outboxes"]) == (0, [])


def test_a_session_lands_its_own_and_recover_leaves_it_alone(home: Path) -> None:
    with owned(NAME, home / "instruments" / NAME):
        assert list(outboxes(Settings(home=home))) == []
        code, told = nightbeam(home, "recover", "--json")
    (box,) = json.loads(told)["outboxes"]
    assert code == 3
    assert "held by process" in box["words"]
    assert waiting(home / "instruments" / NAME) == 2


def test_no_new_database_is_made_where_records_wait_for_the_one_that_was_there(home: Path) -> None:
    database, aside = home / "nightbeam.db", home / "elsewhere.db"
    database.rename(aside)
    for command in (("recover",), ("runs",), ("doctor",)):
        code, _told = nightbeam(home, *command)
        assert code != 0, command
        assert not database.exists(), command
    assert waiting(home / "instruments" / NAME) == 2
    aside.rename(database)
    assert nightbeam(home, "recover")[0] == 0
    assert state_of_run(home) == ("failed", "the valve is shut")


def test_what_the_database_refuses_is_said(home: Path) -> None:
    with Journal(outbox_of(home / "instruments" / NAME)) as outbox:
        outbox.append(as_text(AddEvent(event="told", message="lost", run="r-nowhere")))
    code, told = nightbeam(home, "recover")
    assert code == 3
    assert "1 were refused and lie beside the outbox, the first since event: run: got 'r-nowhere'" in told
    assert state_of_run(home)[0] == "failed"
