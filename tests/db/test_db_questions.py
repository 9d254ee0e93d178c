"""The questions: which runs there are, all about one of them, the story of a night."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from db_world import World
from mended_world import FIRST, SECOND
from sqlalchemy import Engine

from db import record
from db.engine import reader, writer
from db.questions.night import night_story
from db.questions.runs import RunPage, list_runs
from db.questions.show import show_run
from stem4d.errors import BadInput


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
        "pose": None,
        "thumbnail": None,
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
