"""A home whose record is hostile: what no validator of ours would take, as another program or a device may write it."""

from pathlib import Path

from db import calibrations, dose, record, results
from db.engine import open_engine, writer
from storage.settings import Settings
from tests.db.db_world import Ticking
from tests.hostile import NAMES

TEXTS = tuple(name for name in NAMES.values() if name.strip() and len(name) < 1000)
RUNS = tuple(f"r20261122-204139-{number:04x}" for number in range(len(TEXTS)))


def filled(home: Path) -> None:
    """A night with a target and a run for each hostile name, which is also all that is said of them."""
    engine = open_engine(Settings(home=home).database_url.get_secret_value())
    clock = Ticking()
    with writer(engine) as session:
        night = record.start_night(
            session, name="n20261122-204139-0001", canonical_json='{"title": "<b>x</b>\\u202e"}', clock=clock
        )
        for position, name in enumerate(NAMES.values()):
            if name not in TEXTS:
                plan = record.register_plan(session, name="plain", canonical_json="{}", clock=clock)
                record.add_target(session, night_id=night, position=position, name=name, plan_id=plan)
        parent = None
        for position, (name, run_name) in enumerate(zip(TEXTS, RUNS, strict=True)):
            document = f'{{"name": "x", "title": "t{position}"}}'
            plan = record.register_plan(session, name=name, canonical_json=document, clock=clock)
            sample = record.register_sample(session, name=name, clock=clock)
            area = record.register_area(session, sample_id=sample, name=name, fluence_budget_e_per_a2=9.0, clock=clock)
            target = record.add_target(session, night_id=night, position=len(NAMES) + position, name=name, plan_id=plan)
            run = record.start_run(
                session, name=run_name, plan_id=plan, area_id=area, instrument=name, target_id=target,
                attempt=1 if parent is None else 2, parent_id=parent, predicted=record.Cost(60.0, 2**20, 4.0),
                environment_id=record.register_environment(
                    session, python=name, packages={name: name}, code_revision=name
                ),
                clock=clock,
            )  # fmt: skip
            intent = dose.open_intent(
                session, run_id=run, area_id=area, purpose="acquisition", token=f"{position}{name}",
                fluence_e_per_a2=1.0, clock=clock,
            )  # fmt: skip
            dose.close_intent(session, intent_id=intent, delivered_e_per_a2=1.0, reason=name, clock=clock)
            number = calibrations.add_calibration(
                session, kind=name, mode_key=name, instrument=name, value={name: 1.0}, unit=name,
                measured_at=clock(), verdict="pass", reason=name, evidence_run_id=run,
            )  # fmt: skip
            calibrations.use_calibration(session, run_id=run, calibration_id=number, role=name)
            results.add_quality(
                session, run_id=run, stage="final", metric=name, verdict="fail", message=name, value=1.0, limit=0.5,
                unit=name, analysis=name,
            )  # fmt: skip
            record.add_event(session, kind=name, message=name, run_id=run, data={"text": name}, clock=clock)
            record.finish_run(session, run_id=run, state="stopped", exit_reason=name, clock=clock)
            record.set_target_state(session, target_id=target, state="marked", reason=name, clock=clock)
            parent = run
        record.add_event(session, kind=NAMES["html"], message=NAMES["escape"], night_id=night, clock=clock)
        record.finish_night(session, night_id=night, state="stopped", exit_reason=NAMES["closing"])
    engine.dispose()
