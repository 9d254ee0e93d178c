"""A run that saturated, and a second attempt that went well: a database with one of everything in it."""

from sqlalchemy.orm import Session

from db import calibrations, dose, record, results
from db.engine import writer
from tests.db.db_world import World

FIRST = "r20261122-204139-0001"
SECOND = "r20261122-204139-0002"


def mended_once(world: World) -> World:
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
