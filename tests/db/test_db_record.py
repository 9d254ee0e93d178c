"""What a run writes: names registered once, states that only move on, calibrations that supersede, facts as given."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from db_world import World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from db import calibrations, record, results
from db.calibrations import CalibrationRecord, add_calibration, standing_calibration
from db.engine import reader, writer
from db.models import (
    Calibration,
    Dataset,
    DatasetLocation,
    DatasetParent,
    DeviceReading,
    Event,
    Night,
    Plan,
    Run,
    RunCalibration,
    Target,
)
from stem4d.errors import BadInput
from stem4d.model import sha256_of

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def test_registering_again_gives_the_same_row(world: World) -> None:
    with writer(world.engine) as session:
        assert record.register_sample(session, name="gold-on-carbon") == world.sample
        assert (
            record.register_area(session, sample_id=world.sample, name="a1", fluence_budget_e_per_a2=100.0)
            == world.area
        )
        # Another name, the same content: the same plan.
        assert record.register_plan(session, name="other", canonical_json='{"defocus_nm":-12.5}') == world.plan
        assert record.register_plan(session, name="case-a", canonical_json='{"defocus_nm":-12.6}') != world.plan
        facts = {"python": "3.11.7", "packages": {"numpy": "2.1", "h5py": "3.16"}, "code_revision": "abc"}
        first = record.register_environment(session, **facts)
        facts["packages"] = {"h5py": "3.16", "numpy": "2.1"}
        assert record.register_environment(session, **facts) == first
        facts["packages"] = {"h5py": "3.17", "numpy": "2.1"}
        assert record.register_environment(session, **facts) != first
    with reader(world.engine) as session:
        plan = session.get_one(Plan, world.plan)
        assert (plan.name, plan.sha256) == ("case-a", sha256_of(plan.canonical_json))


def test_an_area_keeps_its_budget(world: World) -> None:
    with writer(world.engine) as session:
        with pytest.raises(BadInput, match=r"got 200\.0 e/Å²; this area was registered with 100 e/Å²"):
            record.register_area(session, sample_id=world.sample, name="a1", fluence_budget_e_per_a2=200.0)
        for bad in (0.0, -1.0, math.nan):
            with pytest.raises(BadInput, match="fluence_budget_e_per_a2"):
                record.register_area(session, sample_id=world.sample, name="a2", fluence_budget_e_per_a2=bad)


def test_a_night_and_its_target_move_on_and_leave_events(world: World) -> None:
    with writer(world.engine) as session:
        record.set_target_state(session, target_id=world.target, state="running", clock=world.clock)
        record.set_target_state(
            session, target_id=world.target, state="marked", reason="drift 3 nm/min", clock=world.clock
        )
        record.finish_night(session, night_id=world.night, state="done", exit_reason="all targets", clock=world.clock)
        ended = world.clock.now
    with reader(world.engine) as session:
        target, night = session.get_one(Target, world.target), session.get_one(Night, world.night)
        assert (target.state, target.reason) == ("marked", "drift 3 nm/min")
        assert (night.state, night.exit_reason, night.sha256) == ("done", "all targets", sha256_of('{"targets":[]}'))
        # The event's own reading of the ticking clock is the later one.
        assert night.ended == ended - timedelta(seconds=1)
        events = session.execute(select(Event.kind, Event.data).order_by(Event.sequence)).all()
        assert [tuple(event) for event in events] == [
            ("night_started", None),
            ("run_started", None),
            ("target_state", {"from": "pending", "to": "running"}),
            ("target_state", {"from": "running", "to": "marked"}),
            ("night_ended", None),
        ]


@pytest.mark.parametrize("state", ["done", "mended", "marked", "refused", "skipped", "failed"])
def test_a_target_that_has_ended_stays_as_it_is(world: World, state: str) -> None:
    with writer(world.engine) as session:
        record.set_target_state(session, target_id=world.target, state=state)
        with pytest.raises(BadInput, match=f"target first: got 'running'; it is {state}"):
            record.set_target_state(session, target_id=world.target, state="running")


def test_ended_runs_and_nights_stay_as_they_are(world: World) -> None:
    with writer(world.engine) as session:
        record.finish_run(session, run_id=world.run, state="crashed")
        record.finish_night(session, night_id=world.night, state="crashed")
        for state in ("done", "running"):
            with pytest.raises(BadInput, match="it is crashed"):
                record.finish_run(session, run_id=world.run, state=state)
            with pytest.raises(BadInput, match="it is crashed"):
                record.finish_night(session, night_id=world.night, state=state)


def test_a_run_does_not_end_as_running(world: World) -> None:
    with writer(world.engine) as session, pytest.raises(BadInput, match="it is running"):
        record.finish_run(session, run_id=world.run, state="running")


def test_a_position_of_a_night_is_taken_once(world: World) -> None:
    with pytest.raises(IntegrityError), writer(world.engine) as session:
        record.add_target(session, night_id=world.night, position=0, name="again")


@pytest.mark.parametrize("name", ["../../etc/x", "", "a/b", "r\n", "x" * 65, "r."])
def test_a_run_name_may_become_a_path(world: World, name: str) -> None:
    with writer(world.engine) as session, pytest.raises(BadInput, match="run name"):
        record.start_run(session, name=name, plan_id=world.plan, area_id=world.area, instrument="simulator")


def test_what_an_analysis_could_not_be_told_is_the_runs_verdict(world: World) -> None:
    with writer(world.engine) as session:
        for analysis, verdict in ((None, "pass"), ("strain", "not_measurable")):
            results.add_quality(
                session,
                run_id=world.run,
                stage="final",
                metric="m",
                analysis=analysis,
                verdict=verdict,
                message="",
            )
        assert record.finish_run(session, run_id=world.run, state="done") == "not_measurable"


@pytest.mark.parametrize("unknown", ["run", "target", "night"])
def test_an_unknown_id_is_said_to_be_unknown(world: World, unknown: str) -> None:
    with writer(world.engine) as session, pytest.raises(BadInput, match=f"{unknown}_id: got 999; no such row"):
        {
            "run": lambda: record.finish_run(session, run_id=999, state="done"),
            "target": lambda: record.set_target_state(session, target_id=999, state="running"),
            "night": lambda: record.finish_night(session, night_id=999, state="done"),
        }[unknown]()


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [
        ([], None),
        (["pass", "pass"], "pass"),
        # What concerns the whole and was not measured lowers nothing; where it is all there is, it is told.
        (["pass", "not_measurable"], "pass"),
        (["not_measurable"], "not_measurable"),
        (["not_measurable", "warn", "pass"], "warn"),
        (["warn", "fail", "pass"], "fail"),
    ],
)
def test_a_finished_run_has_its_worst_final_verdict_and_its_cost(
    world: World, verdicts: list[str], worst: str | None
) -> None:
    with writer(world.engine) as session:
        results.add_quality(session, run_id=world.run, stage="plan", metric="overlap", verdict="fail", message="")
        for number, verdict in enumerate(verdicts):
            results.add_quality(
                session,
                run_id=world.run,
                stage="final",
                metric=f"m{number}",
                verdict=verdict,
                message="",
            )
        cost = record.Cost(seconds=61.5, size_bytes=2**41, fluence_e_per_a2=39.5)
        assert record.finish_run(session, run_id=world.run, state="done", actual=cost, clock=world.clock) == worst
    with reader(world.engine) as session:
        run = session.get_one(Run, world.run)
        assert (run.state, run.verdict) == ("done", worst)
        assert (run.actual_seconds, run.actual_bytes, run.actual_fluence_e_per_a2) == (61.5, 2**41, 39.5)
        assert (run.predicted_seconds, run.predicted_bytes, run.predicted_fluence_e_per_a2) == (60.0, 2**40, 40.0)
        assert run.ended is not None
        assert run.ended > run.started


def calibrate(world: World, minutes: int, **more: object) -> int:
    facts: dict[str, object] = {
        "kind": "descan",
        "mode_key": "300kV-CL100",
        "instrument": "simulator",
        "value": {"matrix": [[0.1, 0.0], [0.0, 0.1]]},
        "unit": "pixel",
        "measured_at": NOON + timedelta(minutes=minutes),
        "verdict": "pass",
    }
    with writer(world.engine) as session:
        return add_calibration(session, **(facts | more))


def current(world: World, minutes: int = 60, **more: str) -> CalibrationRecord | None:
    key = {"kind": "descan", "mode_key": "300kV-CL100", "instrument": "simulator"} | more
    with reader(world.engine) as session:
        found = standing_calibration(session, now=NOON + timedelta(minutes=minutes), **key)
        return found.calibration if found.state == "valid" else None


def test_a_calibration_is_found_as_it_was_recorded(world: World) -> None:
    assert current(world) is None
    added = calibrate(
        world,
        0,
        uncertainty={"matrix": 0.01},
        valid_until=NOON + timedelta(hours=2),
        evidence_run_id=world.run,
        verdict="warn",
    )
    assert current(world) == CalibrationRecord(
        id=added,
        kind="descan",
        mode_key="300kV-CL100",
        instrument="simulator",
        value={"matrix": [[0.1, 0.0], [0.0, 0.1]]},
        uncertainty={"matrix": 0.01},
        unit="pixel",
        measured_at=NOON,
        valid_until=NOON + timedelta(hours=2),
        superseded_by=None,
        evidence_run_id=world.run,
        verdict="warn",
    )
    # Valid until two hours after noon, that moment excluded.
    assert current(world, minutes=119) is not None
    assert current(world, minutes=120) is None
    for other in ({"kind": "centre"}, {"mode_key": "80kV-CL100"}, {"instrument": "replay"}):
        assert current(world, **other) is None


def test_a_failed_calibration_supersedes_nothing_and_is_never_used(world: World) -> None:
    good = calibrate(world, 0)
    calibrate(world, 1, verdict="fail")
    calibrate(world, 2, verdict="not_measurable")
    found = current(world)
    assert found is not None
    assert found.id == good


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(minutes=st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_whatever_their_clocks_said_the_last_recorded_is_current(world: World, minutes: list[int]) -> None:
    # A mode of its own for each example.
    with writer(world.engine) as session:
        mode = f"mode-{session.scalar(select(func.count()).select_from(Calibration))}"
    ids = [calibrate(world, minute, mode_key=mode) for minute in minutes]
    found = current(world, mode_key=mode)
    assert found is not None
    assert (found.id, found.measured_at) == (ids[-1], NOON + timedelta(minutes=minutes[-1]))
    with reader(world.engine) as session:
        open_ones = session.scalars(select(Calibration.id).filter_by(mode_key=mode, superseded_by=None)).all()
        assert open_ones == [ids[-1]]


def test_a_run_uses_a_calibration_in_a_role_once(world: World) -> None:
    calibration = calibrate(world, 0)
    with writer(world.engine) as session:
        first = calibrations.use_calibration(session, run_id=world.run, calibration_id=calibration, role="descan")
        assert (
            calibrations.use_calibration(session, run_id=world.run, calibration_id=calibration, role="descan") == first
        )
        calibrations.use_calibration(session, run_id=world.run, calibration_id=calibration, role="check")
        assert session.scalar(select(func.count()).select_from(RunCalibration)) == 2


def test_readings_are_numbers_or_texts(world: World) -> None:
    values = {
        "defocus_nm": -12.5,
        "spot": 6,
        "mode": "nano",
        "blanked": True,
        "current_pa": math.nan,
        "hv_kv": math.inf,
    }
    with writer(world.engine) as session:
        results.add_snapshot(
            session,
            run_id=world.run,
            phase="before",
            readings=[results.Reading(name, value, "", "measured", NOON) for name, value in values.items()],
        )
    with reader(world.engine) as session:
        found = session.execute(select(DeviceReading.name, DeviceReading.number, DeviceReading.text)).all()
        assert {name: (number, text) for name, number, text in found} == {
            "defocus_nm": (-12.5, None),
            "spot": (6.0, None),
            "mode": (None, "nano"),
            "blanked": (None, "true"),
            "current_pa": (None, "nan"),
            "hv_kv": (None, "inf"),
        }
    with pytest.raises(IntegrityError), writer(world.engine) as session:
        results.add_snapshot(session, run_id=world.run, phase="before", readings=[])


def test_a_dataset_is_registered_once_with_its_places_and_parents(world: World) -> None:
    facts = {
        "run_id": world.run,
        "sha256": "a" * 64,
        "size_bytes": 2**40,
        "scan_shape": (3, 4),
        "detector_shape": (5, 6),
        "dtype": "uint16",
        "frames": 12,
        "complete": True,
    }
    with writer(world.engine) as session:
        first = results.add_dataset(session, pass_index=0, path="/data/r.h5", host="stem1", **facts)
        again = results.add_dataset(session, pass_index=0, path="/archive/r.h5", host="nas", **facts)
        results.add_dataset(session, pass_index=0, path="/archive/r.h5", host="nas", **facts)
        child = results.add_dataset(session, pass_index=1, parents=[first], **facts)
        assert first == again != child
        with pytest.raises(BadInput, match=r"dataset of pass 0.*registered with the checksum aaaa"):
            results.add_dataset(session, pass_index=0, **(facts | {"sha256": "b" * 64}))
    with reader(world.engine) as session:
        dataset = session.get_one(Dataset, first)
        assert (dataset.scan_y, dataset.scan_x, dataset.det_y, dataset.det_x) == (3, 4, 5, 6)
        assert (dataset.size_bytes, dataset.complete) == (2**40, True)
        places = session.execute(select(DatasetLocation.host, DatasetLocation.path).order_by(DatasetLocation.id)).all()
        assert [tuple(place) for place in places] == [("stem1", "/data/r.h5"), ("nas", "/archive/r.h5")]
        assert session.scalars(select(DatasetParent.parent_id).filter_by(dataset_id=child)).all() == [first]
