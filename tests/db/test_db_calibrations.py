"""Validity: expired and withdrawn calibrations are not used; evidence and reasons are kept; old databases upgrade."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from db_world import World
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from db import migrations, record, results
from db.calibrations import (
    SPOILED,
    Standing,
    add_calibration,
    evidence_of,
    invalidate,
    standing_calibration,
    use_calibration,
    used_calibrations,
)
from db.connect import connect
from db.engine import open_engine, reader, writer
from db.migrations import REVISIONS, status, upgrade
from db.models import Calibration, Dataset, Event, RunCalibration
from db.questions.calibrations import measured_in
from db.questions.show import show_run
from stem4d.errors import BadInput

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = {"kind": "centre", "mode_key": "camera_length_mm=106.4", "instrument": "simulator"}


def calibrate(world: World, minutes: int, **more: object) -> int:
    facts = {"value": {"centre_px": [63.5, 64.0]}, "unit": "px", "measured_at": NOON + timedelta(minutes=minutes),
             "valid_until": NOON + timedelta(hours=2), "verdict": "pass", "evidence_run_id": world.run}  # fmt: skip
    with writer(world.engine) as session:
        return add_calibration(session, **{**KEY, **facts, **more})


def standing(world: World, minutes: int) -> Standing:
    with reader(world.engine) as session:
        return standing_calibration(session, now=NOON + timedelta(minutes=minutes), **KEY)


def dataset(world: World, number: int, path: str) -> int:
    with writer(world.engine) as session:
        return results.add_dataset(
            session, run_id=world.run, pass_index=number, sha256=f"{number:064d}", size_bytes=1, scan_shape=(2, 2),
            detector_shape=(8, 8), dtype="uint16", frames=4, complete=True, purpose="calibration", path=path,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("instrument", "kinds", "minutes", "state"),
    [
        ("simulator", "current centre", 30, "expired"),
        ("simulator", "current", 30, "valid"),
        ("another", "centre", 30, "valid"),
        ("simulator", "centre", -1, "valid"),
    ],
)
def test_an_event_spoils_what_was_measured_before_it_on_its_instrument(
    world: World, instrument: str, kinds: str, minutes: int, state: str
) -> None:
    calibrate(world, 0)
    with writer(world.engine) as session:
        night = record.start_night(session, name="n1", canonical_json="{}", instrument=instrument)
        record.add_event(
            session,
            kind=SPOILED,
            message="",
            data={"kinds": kinds, "what": "gun flash"},
            night_id=night,
            clock=lambda: NOON + timedelta(minutes=minutes),
        )
    found = standing(world, 60)
    assert found.state == state
    assert found.why == ("gun flash at 2026-11-22 12:30 UTC spoiled it" if state == "expired" else "")


def test_standing_says_why_one_is_not_used(world: World) -> None:
    assert standing(world, 0).state == "missing"
    first = calibrate(world, 0)
    assert (standing(world, 119).state, standing(world, 119).why) == ("valid", "")
    expired = standing(world, 120)
    assert expired.state == "expired"
    assert "valid until 2026-11-22 14:00" in expired.why
    assert expired.calibration is not None
    assert expired.calibration.id == first


def test_a_withdrawn_one_is_not_used_and_the_one_before_it_does_not_come_back(world: World) -> None:
    calibrate(world, 0)
    second = calibrate(world, 1)
    with writer(world.engine) as session:
        invalidate(session, second, "the pattern lies 3 px off", by_run=world.run, by="r1", clock=world.clock)
        # The first reason stands.
        invalidate(session, second, "another reason", by="Ada", clock=world.clock)
    found = standing(world, 2)
    assert found.state == "withdrawn"
    assert found.why.endswith("by r1: the pattern lies 3 px off")
    with reader(world.engine) as session:
        event = session.scalars(select(Event).filter_by(kind="calibration_withdrawn")).one()
        assert (event.run_id, event.data) == (world.run, {"calibration_id": second})
    third = calibrate(world, 3)
    assert standing(world, 4) == Standing("valid", standing(world, 4).calibration, "")
    with reader(world.engine) as session:
        assert session.get_one(Calibration, second).superseded_by == third


def test_one_from_the_future_is_not_valid_and_sets_no_other_aside(world: World) -> None:
    """A clock that was wrong once must not hold until its wrong date, nor take what is measured after it away."""
    wrong = calibrate(world, 60 * 24 * 365, valid_until=NOON + timedelta(days=400))
    found = standing(world, 0)
    assert (found.state, found.calibration and found.calibration.id) == ("future", wrong)
    assert "measured in the future, 2027-11-22 12:00 UTC: the clock was wrong" in found.why
    fresh = calibrate(world, 0)
    assert (standing(world, 1).state, standing(world, 1).calibration.id) == ("valid", fresh)
    # Nor what was measured before it: it supersedes nothing.
    calibrate(world, 60 * 24 * 365, valid_until=NOON + timedelta(days=400))
    assert (standing(world, 1).state, standing(world, 1).calibration.id) == ("valid", fresh)
    with writer(world.engine) as session:
        invalidate(session, fresh, "moved", by="Ada", clock=world.clock)
    assert standing(world, 1).state == "withdrawn"


@pytest.mark.parametrize(("ahead_s", "state"), [(120, "valid"), (121, "future")])
def test_clocks_may_differ_by_two_minutes(world: World, ahead_s: int, state: str) -> None:
    calibrate(world, 0, measured_at=NOON + timedelta(seconds=ahead_s))
    assert standing(world, 0).state == state


def test_a_withdrawal_needs_a_reason_and_somebody_and_is_kept_as_it_was_written(world: World) -> None:
    one = calibrate(world, 0)
    for reason, who in ((" ", "Ada"), ("moved", "")):
        with pytest.raises(BadInput, match="reason, and a run or a person"), writer(world.engine) as session:
            invalidate(session, one, reason, by=who)
    with pytest.raises(BadInput, match="no such row"), writer(world.engine) as session:
        invalidate(session, 99, "moved", by="Ada")
    with writer(world.engine) as session:
        invalidate(session, one, "moved", by="Ada")
    for statement in ("UPDATE calibration_withdrawal SET reason = 'x'", "DELETE FROM calibration_withdrawal"):
        with pytest.raises(DBAPIError, match="rows are kept as they were written"), writer(world.engine) as session:
            session.execute(text(statement))


def test_a_failed_one_is_recorded_with_its_reason_and_supersedes_nothing(world: World) -> None:
    good = calibrate(world, 0, residual=0.02)
    calibrate(world, 1, verdict="fail", value={}, reason="a blob, not a disk")
    found = standing(world, 2).calibration
    assert found is not None
    assert (found.id, found.residual, found.reason) == (good, 0.02, "")
    with reader(world.engine) as session:
        told = measured_in(session, run="r20261122-204139-0001")
    assert [(one["verdict"], one["reason"]) for one in told] == [("pass", None), ("fail", "a blob, not a disk")]


def test_evidence_and_a_stale_use_that_was_accepted_are_found_again(world: World) -> None:
    files = [dataset(world, 1000 + number, f"/data/{number}.h5") for number in (0, 1)]
    one = calibrate(world, 0, evidence=files, curves={"x": [1, 2]})
    with writer(world.engine) as session:
        use_calibration(session, run_id=world.run, calibration_id=one, role="centre", accepted_stale="it was valid")
    with reader(world.engine) as session:
        assert evidence_of(session, calibration_id=one) == tuple(files)
        assert used_calibrations(session, run_id=world.run) == {"centre": one}
        (told,) = measured_in(session, run="r20261122-204139-0001")
        (used,) = show_run(session, name="r20261122-204139-0001")["calibrations"]
        assert session.scalars(select(RunCalibration.accepted_stale)).one() == "it was valid"
    assert [each["path"] for each in told["evidence"]] == ["/data/0.h5", "/data/1.h5"]
    assert told["withdrawn"] is None
    assert used["accepted_stale"] == "it was valid"


OLD_ROWS = """
INSERT INTO sample VALUES (1, 's', '2026-11-22 20:00:00.000000');
INSERT INTO area VALUES (1, 1, 'a', 100.0, '2026-11-22 20:00:00.000000');
INSERT INTO plan VALUES (1, '{sha}', 'p', '{{}}', '2026-11-22 20:00:00.000000');
INSERT INTO run (id, name, plan_id, area_id, instrument, attempt, state, started)
 VALUES (1, 'r1', 1, 1, 'i', 1, 'running', '2026-11-22 20:00:00.000000');
INSERT INTO dataset (id, run_id, pass_index, sha256, size_bytes, scan_y, scan_x, det_y, det_x, dtype, frames, complete)
 VALUES (1, 1, 0, '{sha}', 10, 2, 2, 8, 8, 'uint16', 4, {true});
INSERT INTO calibration (id, kind, mode_key, instrument, value, unit, measured_at, evidence_run_id, verdict)
 VALUES (1, 'disk', 'm', 'i', '[1.5]', 'px', '2026-11-22 20:00:00.000000', 1, 'pass');
INSERT INTO run_calibration (id, run_id, calibration_id, role) VALUES (1, 1, 1, 'disk');
"""


def test_a_database_of_the_first_release_is_upgraded_with_its_rows(empty_url: str) -> None:
    """What stood there is as it was, gets the defaults that are true of it, and is guarded as before."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = connect(empty_url)
    with engine.execution_options(nightbeam_writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001_nightbeam_0.1.0")
        true = "1" if engine.dialect.name == "sqlite" else "true"
        for statement in OLD_ROWS.format(sha="a" * 64, true=true).strip().split(";\n"):
            connection.execute(text(statement.rstrip(";\n")))
    engine.dispose()
    assert status(empty_url).state == "older"
    with pytest.raises(BadInput, match="Run `nightbeam db upgrade`"):
        open_engine(empty_url)
    assert upgrade(empty_url).found == REVISIONS[-1]
    engine = open_engine(empty_url)
    with reader(engine) as session:
        old = session.scalars(select(Calibration)).one()
        assert (old.kind, old.value, old.residual, old.reason, old.curves) == ("disk", [1.5], None, None, None)
        assert session.scalars(select(Dataset)).one().purpose == "acquisition"
        assert session.scalars(select(RunCalibration)).one().accepted_stale is None
    for statement in ("UPDATE dataset SET purpose = 'survey'", "DELETE FROM calibration"):
        with pytest.raises(DBAPIError, match="rows are kept as they were written"), writer(engine) as session:
            session.execute(text(statement))
    engine.dispose()
