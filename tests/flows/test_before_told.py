"""A night that begins anew beside one of its name: said with what differs, and what would be exposed again."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db import record
from db.engine import open_engine, writer
from flows.cli.app import app
from flows.queue import queue
from stem4d.model import canonical_json
from storage.settings import Settings
from tests.flows.night_world import NAME, PLANS

TEXT = (PLANS / "demo" / "1_overview.yaml").read_text()
NIGHT = "n20261127-200000-1a2b"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A night of three targets whose first was run, the second broken off, when it was stopped."""
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "i.toml").write_text((PLANS / "instruments" / "demo.toml").read_text())
    for number in range(3):
        (tmp_path / f"p{number}.yaml").write_text(TEXT.replace("name: demo-crystal", f"name: crystal-{number}"))
    path = tmp_path / "night.json"
    change(path)
    return path


def change(path: Path, *names: str, **more: object) -> None:
    targets = [{"name": name, "plan": f"p{name[1:]}.yaml"} for name in names or ("t0", "t1", "t2")]
    facts = {"format_version": 1, "name": "flakes", "instrument": "i.toml", "targets": targets, **more}
    path.write_text(json.dumps(facts))


def had_been(path: Path, *, broken_off: bool) -> None:
    """That night as the database has it, after a run of its first two targets."""
    night, queued = queue(path)
    engine = open_engine(Settings(home=path.parent / "home").database_url.get_secret_value())
    with writer(engine) as session:
        at = record.start_night(session, name=NIGHT, canonical_json=canonical_json(night), instrument=NAME)
        for position, one in enumerate(queued):
            sample = record.register_sample(session, name=one.plan.sample.name)
            area = record.register_area(
                session,
                sample_id=sample,
                name=one.plan.sample.area,
                fluence_budget_e_per_a2=one.plan.sample.fluence_budget_e_per_a2,
            )
            plan = record.register_plan(session, name=one.plan.name, canonical_json=canonical_json(one.plan))
            target = record.add_target(session, night_id=at, position=position, name=one.target.name, plan_id=plan)
            if position < 2:
                run = record.start_run(
                    session, name=f"r{position}", plan_id=plan, area_id=area, instrument=NAME, target_id=target
                )
                record.finish_run(session, run_id=run, state="stopped" if position else "done")
            state = "done" if position == 0 else "skipped"
            record.set_target_state(session, target_id=target, state=state, broken_off=broken_off and position > 0)
        record.finish_night(session, night_id=at, state="stopped" if broken_off else "done")
    engine.dispose()


def told(path: Path, *options: str) -> str:
    """What is said before anybody agrees to anything."""
    answer = CliRunner().invoke(app, ["night", str(path), "--no-prefect", *options], input="n\n")
    assert "Traceback" not in answer.output
    return answer.stderr


def test_a_first_night_has_none_before_it(file: Path) -> None:
    assert "The last night" not in told(file)


def test_the_same_night_goes_on_and_with_new_says_what_it_exposes_again(file: Path) -> None:
    had_been(file, broken_off=True)
    assert f"{NIGHT} of " in told(file)
    assert "goes on (--new starts afresh)" in told(file)
    assert "The last night of" not in told(file)
    new = told(file, "--new")
    assert f"The last night of flakes here, {NIGHT} of " in new
    assert "was stopped with 2 of 3 targets to do, and does not go on." in new
    assert "Nothing of it has changed: without --new the same command goes on with it." in new
    assert "it would expose t0, t1 again." in new


def test_a_changed_file_is_said_with_both_hashes(file: Path) -> None:
    had_been(file, broken_off=True)
    change(file, max_hours=9.0)
    said = told(file)
    assert "was stopped with 2 of 3 targets to do, and does not go on." in said
    assert "Since then the night's file has changed (SHA-256 of its contents " in said
    assert "With all as it was, the same command goes on with it." in said
    assert "it would expose t0, t1 again." in said
    # It is a warning, and no refusal: it still asks.
    assert "3 target(s)" in said


def test_a_changed_plan_is_said_by_its_target(file: Path) -> None:
    had_been(file, broken_off=True)
    plan = file.with_name("p1.yaml")
    plan.write_text(plan.read_text().replace("dwell_time_us: 50", "dwell_time_us: 40"))
    said = told(file)
    assert "Since then the plan has changed of t1. With all" in said
    assert "night's file has changed" not in said
    assert "it would expose t0, t1 again." in said


def test_targets_that_came_and_went_are_named_and_a_plan_of_another_name_counts(file: Path) -> None:
    had_been(file, broken_off=True)
    change(file, "t0", "t2")
    said = told(file)
    assert "; t1 went out. With" in said
    assert "it would expose t0 again." in said
    facts = json.loads(file.read_text())
    facts["targets"] = [{"name": "other", "plan": "p1.yaml"}]
    file.write_text(json.dumps(facts))
    said = told(file)
    assert "; other came in; t0, t1, t2 went out." in said
    assert "it would expose other again." in said
    facts["targets"] = [{"name": "t2", "plan": "p2.yaml"}]
    file.write_text(json.dumps(facts))
    assert "This is a new night, with nothing that was run in that one." in told(file)


def test_a_night_that_has_ended_is_named_with_its_end(file: Path) -> None:
    had_been(file, broken_off=False)
    said = told(file)
    assert f"The last night of flakes here, {NIGHT} of " in said
    assert " UTC, ended at 20" in said
    assert " UTC: done." in said
    assert "Since then" not in said
    assert "it would expose t0, t1 again." in said
    change(file, max_hours=9.0)
    assert "Since then the night's file has changed" in told(file)
    assert "With all as it was" not in told(file)
