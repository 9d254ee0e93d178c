"""The questions: which runs there are, all about one of them, the story of a night."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from db_world import World
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from db import calibrations, dose, record, results
from db.engine import reader, writer
from db.questions.night import night_story
from db.questions.runs import RunPage, list_runs
from db.questions.show import show_run
from stem4d.errors import BadInput

FIRST = "r20261122-204139-0001"
SECOND = "r20261122-204139-0002"


@pytest.fixture
def mended(world: World) -> World:
    """The world's run saturated and was stopped; a second attempt went well, with everything recorded."""
    with writer(world.engine) as session:
        one = dose.open_intent(
            session,
            run_id=world.run,
            area_id=world.area,
            purpose="acquisition",
            token="t1",
            fluence_e_per_a2=40.0,
            clock=world.clock,
        )
        dose.close_intent(
            session, intent_id=one, delivered_e_per_a2=2.0, reason="stopped after two rows", clock=world.clock
        )
        results.add_quality(
            session,
            run_id=world.run,
            stage="online",
            metric="saturated_fraction",
            verdict="fail",
            message="1 % of the pixels are at full scale",
            value=0.01,
            limit=1e-6,
            analysis="com",
        )
        record.finish_run(
            session,
            run_id=world.run,
            state="stopped",
            exit_reason="saturated",
            actual=record.Cost(3.0, 2**30, 2.0),
            clock=world.clock,
        )
        second = record.start_run(
            session,
            name=SECOND,
            plan_id=world.plan,
            area_id=world.area,
            instrument="simulator",
            target_id=world.target,
            attempt=2,
            parent_id=world.run,
            environment_id=record.register_environment(session, python="3.11.7", packages={}, code_revision="abc"),
            predicted=record.Cost(60.0, 2**40, 40.0),
            flow_run_id="f-1",
            clock=world.clock,
        )
        record_second(session, world, second)
    return world


def record_second(session: Session, world: World, run: int) -> None:
    """All that a good run leaves."""
    at = world.clock()
    calibration = calibrations.add_calibration(
        session,
        kind="descan",
        mode_key="300kV",
        instrument="simulator",
        value=[0.1, 0.2],
        unit="pixel",
        measured_at=at,
        verdict="pass",
        evidence_run_id=world.run,
    )
    calibrations.use_calibration(session, run_id=run, calibration_id=calibration, role="descan")
    readings = [
        results.Reading("defocus_nm", -12.5, "nm", "measured", at),
        results.Reading("mode", "nano", "", "cached", at),
    ]
    results.add_snapshot(session, run_id=run, phase="before", readings=readings, clock=world.clock)
    results.add_remedy(
        session,
        run_id=run,
        cause_metric="saturated_fraction",
        action="dwell_time_us",
        from_value=33.3,
        to_value=10.0,
        cost="0.3 of the dose",
        outcome="no pixel at full scale",
    )
    two = dose.open_intent(
        session,
        run_id=run,
        area_id=world.area,
        purpose="acquisition",
        token="t2",
        fluence_e_per_a2=40.0,
        clock=world.clock,
    )
    dose.close_intent(session, intent_id=two, delivered_e_per_a2=41.0, electrons=5e6, clock=world.clock)
    results.add_dataset(
        session,
        run_id=run,
        pass_index=0,
        sha256="c" * 64,
        size_bytes=1234,
        scan_shape=(8, 9),
        detector_shape=(16, 17),
        dtype="uint16",
        frames=72,
        complete=True,
        path="/data/r.h5",
        host="stem1",
    )
    results.add_quality(session, run_id=run, stage="final", metric="frames", verdict="pass", message="", value=72.0)
    results.add_analysis(
        session,
        run_id=run,
        method="com",
        verdict="good",
        reason="",
        path="/data/com.h5",
        summary={"mean": 0.5},
    )
    record.finish_run(
        session,
        run_id=run,
        state="mended",
        actual=record.Cost(61.0, 2**40, 41.0),
        clock=world.clock,
    )
    record.set_target_state(session, target_id=world.target, state="mended", reason="re-exposed", clock=world.clock)


def test_show_tells_everything_of_a_run_and_is_json(mended: World) -> None:
    with reader(mended.engine) as session:
        told = json.loads(json.dumps(show_run(session, name=SECOND), allow_nan=False))
    assert (told["name"], told["state"], told["verdict"], told["attempt"]) == (SECOND, "mended", "pass", 2)
    assert (told["parent"], told["children"], told["flow_run_id"]) == (FIRST, [], "f-1")
    assert (told["predicted_seconds"], told["actual_seconds"]) == (60.0, 61.0)
    assert (told["sample"], told["night"], told["target"]["name"]) == (
        "gold-on-carbon",
        "n20261122-204139-0001",
        "first",
    )
    assert told["area"] == {
        "name": "a1",
        "fluence_budget_e_per_a2": 100.0,
        "delivered_e_per_a2": 43.0,
        "reserved_e_per_a2": 0.0,
        "left_e_per_a2": 57.0,
    }
    assert told["plan"]["document"] == {"defocus_nm": -12.5}
    assert told["environment"]["code_revision"] == "abc"
    (used,) = told["calibrations"]
    assert (used["role"], used["value"], used["evidence_run"]) == ("descan", [0.1, 0.2], FIRST)
    readings = {
        reading["name"]: (reading["value"], reading["unit"]) for reading in told["snapshots"]["before"]["readings"]
    }
    assert readings == {"defocus_nm": (-12.5, "nm"), "mode": ("nano", "")}
    (exposure,) = told["exposures"]
    assert (exposure["intended_e_per_a2"], exposure["delivered_e_per_a2"], exposure["electrons"]) == (40.0, 41.0, 5e6)
    (dataset,) = told["datasets"]
    assert (dataset["scan_shape"], dataset["detector_shape"]) == ([8, 9], [16, 17])
    assert dataset["locations"] == [{"host": "stem1", "path": "/data/r.h5"}]
    assert [quality["metric"] for quality in told["quality"]] == ["frames"]
    assert (told["remedies"][0]["from_value"], told["remedies"][0]["to_value"]) == (33.3, 10.0)
    assert told["analyses"][0]["summary"] == {"mean": 0.5}
    assert [event["kind"] for event in told["events"]] == ["run_started", "run_ended"]
    assert datetime.fromisoformat(told["started"]).utcoffset() == timedelta(0)


def test_show_of_a_run_with_an_open_exposure_and_a_child(mended: World) -> None:
    with reader(mended.engine) as session:
        told = show_run(session, name=FIRST)
    assert (told["parent"], told["children"], told["environment"]) == (None, [SECOND], None)
    assert told["exposures"][0]["reason"] == "stopped after two rows"
    assert (told["datasets"], told["snapshots"], told["calibrations"]) == ([], {}, [])


@pytest.mark.parametrize("question", [show_run, night_story])
def test_an_unknown_name_is_said_to_be_unknown(mended: World, question: Callable[..., object]) -> None:
    with reader(mended.engine) as session, pytest.raises(BadInput, match="got 'nothing'; not in this database"):
        question(session, name="nothing")


def test_the_story_of_a_night_in_its_order(mended: World) -> None:
    with writer(mended.engine) as session:
        for position, name in ((2, "third"), (1, "second")):
            record.add_target(session, night_id=mended.night, position=position, name=name, expected_state="refused")
        refused = record.register_plan(session, name="too-much", canonical_json="{}")
        last = record.add_target(session, night_id=mended.night, position=3, name="last", plan_id=refused)
        run = record.start_run(
            session,
            name="r20261122-204139-0003",
            plan_id=refused,
            area_id=mended.area,
            instrument="simulator",
            target_id=last,
            predicted=record.Cost(1e6, 1, 1.0),
        )
        record.finish_run(session, run_id=run, state="refused", exit_reason="probe overlap 0.2 < 0.6")
    with reader(mended.engine) as session:
        told = json.loads(json.dumps(night_story(session), allow_nan=False))
        assert told == json.loads(json.dumps(night_story(session, name="n20261122-204139-0001")))
    assert [target["name"] for target in told["targets"]] == ["first", "second", "third", "last"]
    assert [target["as_expected"] for target in told["targets"]] == [False, False, False, None]
    assert [target["plan"] for target in told["targets"]] == ["case-a", None, None, "too-much"]
    first, second = told["targets"][0]["runs"]
    assert (first["name"], first["state"], first["exit_reason"]) == (FIRST, "stopped", "saturated")
    assert first["quality"][0]["limit_value"] == 1e-6
    assert (second["parent"], second["remedies"][0]["action"]) == (FIRST, "dwell_time_us")
    assert second["analyses"][0]["verdict"] == "good"
    # The refused run predicted a cost and had none: it is in neither sum.
    assert told["cost"]["seconds"] == {"predicted": 120.0, "actual": 64.0, "runs": 2}
    assert told["cost"]["fluence_e_per_a2"] == {"predicted": 80.0, "actual": 43.0, "runs": 2}
    assert [event["kind"] for event in told["events"]] == ["night_started", "target_state"]


def test_no_night_yet_is_said_so(engine: Engine) -> None:
    with reader(engine) as session, pytest.raises(BadInput, match="no night has been run here yet"):
        night_story(session)


def ask(world: World, **filters: object) -> list[str]:
    with reader(world.engine) as session:
        return [run.name for run in list_runs(session, **filters).runs]


def test_runs_are_listed_by_what_is_asked(mended: World) -> None:
    with writer(mended.engine) as session:
        other = record.register_sample(session, name="silicon")
    assert other != mended.sample
    assert ask(mended) == [SECOND, FIRST]
    assert ask(mended, sample="gold-on-carbon") == [SECOND, FIRST]
    assert ask(mended, sample="silicon") == []
    assert ask(mended, state="stopped") == [FIRST]
    assert ask(mended, verdict="pass") == [SECOND]
    with reader(mended.engine) as session:
        second, first = list_runs(session).runs
    assert ask(mended, since=second.started) == [SECOND]
    assert ask(mended, since=second.started + timedelta(microseconds=1)) == []
    assert (first.night, first.target, first.area, first.plan) == ("n20261122-204139-0001", "first", "a1", "case-a")
    with pytest.raises(BadInput, match="not in this database"):
        ask(mended, sample="unobtainium")


@pytest.mark.parametrize("limit", [0, -1, 301])
def test_a_page_has_a_size(world: World, limit: int) -> None:
    with pytest.raises(BadInput, match="1 to 300 runs a page"):
        ask(world, limit=limit)


@pytest.mark.parametrize("limit", [1, 3, 5, 6, 300])
def test_pages_are_complete_and_undisturbed_by_new_runs_and_clock_jumps(world: World, limit: int) -> None:
    def start(number: int) -> str:
        name = f"r-{number}"
        # Each one an hour earlier than the one before: the order must not come from the clock.
        world.clock.now -= timedelta(hours=1)
        with writer(world.engine) as session:
            record.start_run(
                session, name=name, plan_id=world.plan, area_id=world.area, instrument="simulator", clock=world.clock
            )
        return name

    wanted = [*[start(number) for number in range(5)][::-1], FIRST]
    found: list[str] = []
    before, number = None, 5
    while True:
        with reader(world.engine) as session:
            page: RunPage = list_runs(session, limit=limit, before=before)
        assert 1 <= len(page.runs) <= limit
        found += [run.name for run in page.runs]
        before = page.next_before
        if before is None:
            break
        start(number)
        number += 1
    assert found == wanted
