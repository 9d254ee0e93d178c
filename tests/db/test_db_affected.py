"""What rests on a calibration: every acquisition made with it is listed and marked, nothing else is."""

from datetime import UTC, datetime

import pytest
from db_world import World
from sqlalchemy import select

from db import results
from db.calibrations import add_calibration, invalidate, use_calibration
from db.engine import reader, writer
from db.models import Event
from db.questions.affected import affected_by
from db.questions.show import show_run
from db.vocabulary import Purpose
from stem4d.errors import BadInput


def descan(world: World, kind: str = "descan") -> int:
    with writer(world.engine) as session:
        return add_calibration(
            session, kind=kind, mode_key="", instrument="simulator", value={}, unit="px", verdict="pass",
            measured_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
        )  # fmt: skip


def recorded(world: World, calibration: int, verdicts: tuple[str, ...] = ()) -> None:
    """The world's run used it for two passes and its own calibration's scan."""
    purposes: tuple[Purpose, ...] = ("acquisition", "acquisition", "calibration")
    with writer(world.engine) as session:
        use_calibration(session, run_id=world.run, calibration_id=calibration, role="descan")
        for number, purpose in enumerate(purposes):
            results.add_dataset(
                session, run_id=world.run, pass_index=number, sha256=f"{number:064d}", size_bytes=1, scan_shape=(2, 2),
                detector_shape=(8, 8), dtype="uint16", frames=4, complete=True, purpose=purpose, path=f"{number}.h5",
            )  # fmt: skip
        for verdict in verdicts:
            results.add_quality(
                session, run_id=world.run, stage="final", metric="descan.range", verdict=verdict, message=""
            )


def test_the_data_acquired_with_a_calibration_are_listed_with_their_own_verdict(world: World) -> None:
    used, other = descan(world), descan(world)
    recorded(world, used, ("pass", "fail"))
    with reader(world.engine) as session:
        told = affected_by(session, calibration_id=used)
        assert affected_by(session, calibration_id=other)["datasets"] == []
    assert [(one["pass_index"], one["path"], one["own_verdict"]) for one in told["datasets"]] == [
        (0, "0.h5", "fail"),
        (1, "1.h5", "fail"),
    ]
    assert told["withdrawn"] is None


@pytest.mark.parametrize(("kind", "own"), [("descan", "warn"), ("scan_step", None)])
def test_a_kind_that_no_metric_looks_at_has_no_verdict_of_its_own(world: World, kind: str, own: str | None) -> None:
    used = descan(world, kind)
    recorded(world, used, ("warn", "pass"))
    with reader(world.engine) as session:
        assert {one["own_verdict"] for one in affected_by(session, calibration_id=used)["datasets"]} == {own}


def test_a_withdrawal_marks_the_data_once_in_their_run(world: World) -> None:
    used = descan(world)
    recorded(world, used)
    with writer(world.engine) as session:
        assert invalidate(session, used, "the pattern moves by 3 px", by="r9", clock=world.clock)
    with writer(world.engine) as session:
        assert not invalidate(session, used, "again", by="r10", clock=world.clock)
    with reader(world.engine) as session:
        (mark,) = session.scalars(select(Event).filter_by(kind="data_marked"))
        shown = show_run(session, name=affected_by(session, calibration_id=used)["datasets"][0]["run"])
        assert (mark.run_id, mark.data["calibration_id"], len(mark.data["datasets"])) == (world.run, used, 2)
        assert "withdrawn by r9: the pattern moves by 3 px" in mark.message
    assert [one["withdrawn"]["reason"] for one in shown["calibrations"]] == ["the pattern moves by 3 px"]


def test_a_calibration_that_nobody_used_marks_nothing(world: World) -> None:
    with writer(world.engine) as session:
        invalidate(session, descan(world), "moved", by="Ada", clock=world.clock)
    with reader(world.engine) as session:
        assert session.scalars(select(Event).filter_by(kind="data_marked")).all() == []


@pytest.mark.parametrize("number", [99, 0, -1, 2**70])
def test_an_unknown_number_is_refused_with_where_the_numbers_stand(world: World, number: int) -> None:
    with reader(world.engine) as session, pytest.raises(BadInput, match=r"none of this number.*calibrate --list"):
        affected_by(session, calibration_id=number)


def measured(world: World, hour: int, rests_on: tuple[int, ...] | None) -> int:
    with writer(world.engine) as session:
        return add_calibration(
            session, kind="rotation", mode_key=f"{hour}", instrument="simulator", value={}, unit="deg", verdict="pass",
            measured_at=datetime(2026, 11, 22, hour, tzinfo=UTC), rests_on=rests_on,
        )  # fmt: skip


def test_calibrations_measured_with_it_are_listed_and_those_of_which_nobody_knows_apart(world: World) -> None:
    other = descan(world, "centre")
    used = descan(world)
    resting, beside, unknown = measured(world, 13, (other, used)), measured(world, 14, ()), measured(world, 15, None)
    with writer(world.engine) as session:
        invalidate(session, resting, "measured with a wrong one", by="r9", clock=world.clock)
    superseding = descan(world)
    measured(world, 16, None)
    with reader(world.engine) as session:
        told = affected_by(session, calibration_id=used)
        of_the_last = affected_by(session, calibration_id=superseding)
    assert [(one["id"], one["withdrawn"]) for one in told["calibrations"]] == [(resting, True)]
    assert beside not in {one["id"] for one in told["unknown"]}
    # What was recorded after another had taken its place was not measured with it; the one that did may have been.
    assert [one["id"] for one in told["unknown"]] == [unknown, superseding]
    assert of_the_last["calibrations"] == []
