"""Applies operations: each as a whole, in order, and none of them twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from db import calibrations, dose, record, results, resume
from db.clock import utc_now
from db.models import Area, Calibration, Dataset, ExposureIntent, Landed, Run, Sample
from db.operations import (
    AddAnalysis,
    AddCalibration,
    AddDataset,
    AddEvent,
    AddQuality,
    AddRemedy,
    AddSnapshot,
    AreaKey,
    CalibrationKey,
    CloseIntent,
    CostFacts,
    DatasetKey,
    FinishNight,
    FinishRun,
    OpenIntent,
    OpenRun,
    Operation,
    RegisterArea,
    SetTarget,
    UseCalibrations,
    Withdraw,
)
from db.questions.attempts import TOOK
from stem4d.errors import BadInput


@dataclass
class Applying:
    """One session at work, and the numbers that it has looked up."""

    session: Session
    late: bool = False
    """What is applied has happened already: no budget and no state of a run can refuse it any more."""
    runs: dict[str, int] = field(default_factory=dict)
    areas: dict[tuple[str, str], int] = field(default_factory=dict)


def apply(session: Session, operation: Operation) -> int | None:
    """Apply an operation that is about to happen; gives the row that came of it, also where it was applied before.

    Raises
    ------
    DoseRefused, BadInput
        As the functions of `db.record`, `db.dose` and `db.results`; nothing is to be committed then.
    """
    found = session.get(Landed, operation.key)
    if found is not None:
        return found.row_id
    row_id = _APPLY[type(operation)](Applying(session), operation)
    session.execute(insert(Landed), [_landed(operation, row_id)])
    return row_id


def apply_late(session: Session, operations: Sequence[Operation]) -> None:
    """Apply operations that have happened meanwhile; what they booked is booked, whatever the budget says."""
    known = set(session.scalars(select(Landed.key).where(Landed.key.in_([one.key for one in operations]))))
    at_work = Applying(session, late=True)
    landed = [_landed(one, _APPLY[type(one)](at_work, one)) for one in operations if one.key not in known]
    if landed:
        session.execute(insert(Landed), landed)


def _landed(operation: Operation, row_id: int | None) -> dict[str, Any]:
    return {"key": operation.key, "row_id": row_id, "landed": utc_now()}


def _run(at_work: Applying, name: str) -> int:
    if name not in at_work.runs:
        found = at_work.session.scalars(select(Run.id).filter_by(name=name)).one_or_none()
        if found is None:
            raise BadInput(field="run", value=name, limit="not in this database")
        at_work.runs[name] = found
    return at_work.runs[name]


def _area(at_work: Applying, key: AreaKey, operation: Operation) -> int:
    names = (key.sample, key.name)
    if names not in at_work.areas:
        wanted = select(Area.id).join(Sample).where(Sample.name == key.sample, Area.name == key.name)
        found = at_work.session.scalars(wanted).one_or_none()
        at_work.areas[names] = found if found is not None else _register(at_work, key, operation)
    return at_work.areas[names]


def _register(at_work: Applying, key: AreaKey, operation: Operation) -> int:
    sample = record.register_sample(at_work.session, name=key.sample, clock=lambda: operation.at)
    return record.register_area(
        at_work.session,
        sample_id=sample,
        name=key.name,
        fluence_budget_e_per_a2=key.fluence_budget_e_per_a2,
        clock=lambda: operation.at,
    )


def _register_area(at_work: Applying, one: RegisterArea) -> int:
    # Of what has happened meanwhile the names count: another budget would refuse what was exposed.
    area_id = _area(at_work, one.area, one) if at_work.late else _register(at_work, one.area, one)
    if one.pose is not None or one.thumbnail is not None:
        record.place_area(at_work.session, area_id=area_id, pose=one.pose, thumbnail=one.thumbnail)
    return area_id


def _open_run(at_work: Applying, one: OpenRun) -> int:
    session = at_work.session
    found = session.execute(select(Run.id, Run.instrument).filter_by(name=one.run)).one_or_none()
    if found is not None and found.instrument != one.instrument:
        # Two sessions drew the same name in the same second: what one records must not become part of the other.
        limit = f"a run of {found.instrument} has this name"
        raise BadInput(field="run", value=one.run, limit=limit, remedy="Start it again: it gets another name")
    if found is not None:
        return int(found.id)
    return record.start_run(
        session,
        name=one.run,
        area_id=_area(at_work, one.area, one) if at_work.late else _register(at_work, one.area, one),
        plan_id=record.register_plan(session, name=one.plan_name, canonical_json=one.plan_json, clock=lambda: one.at),
        instrument=one.instrument,
        target_id=one.target,
        attempt=one.attempt,
        parent_id=None if one.parent is None else _run(at_work, one.parent),
        flow_run_id=one.flow_run_id,
        environment_id=record.register_environment(
            session,
            python=one.environment.python,
            packages=one.environment.packages,
            code_revision=one.environment.code_revision,
            drivers=one.environment.drivers,
        ),
        session_id=None
        if one.session is None
        else record.register_session(
            session,
            instrument=one.instrument,
            owner_token=one.session.owner_token,
            owner=one.session.owner,
            host=one.session.host,
            began=one.session.began,
        ),
        predicted=_cost(one.predicted),
        clock=lambda: one.at,
    )


def _cost(facts: CostFacts | None) -> record.Cost | None:
    return None if facts is None else record.Cost(facts.seconds, facts.size_bytes, facts.fluence_e_per_a2)


def _finish_run(at_work: Applying, one: FinishRun) -> None:
    run_id = _run(at_work, one.run)
    record.finish_run(
        at_work.session,
        run_id=run_id,
        state=one.state,
        exit_reason=one.reason,
        actual=_cost(one.actual),
        clock=lambda: one.at,
    )
    if one.took_s:
        message = f"{one.took_s:.3g} s of the instrument's time, waiting and calibrating included"
        data = {"seconds": one.took_s}
        record.add_event(at_work.session, kind=TOOK, message=message, data=data, run_id=run_id, clock=lambda: one.at)


def _add_event(at_work: Applying, one: AddEvent) -> int | None:
    return record.add_event(
        at_work.session,
        kind=one.event,
        message=one.message,
        data=one.data,
        run_id=None if one.run is None else _run(at_work, one.run),
        target_id=one.target,
        night_id=one.night,
        # Of what waited most are events, which nobody asks the number of: many go in one statement.
        later=at_work.late,
        clock=lambda: one.at,
    )


def _open_intent(at_work: Applying, one: OpenIntent) -> int:
    return dose.open_intent(
        at_work.session,
        run_id=_run(at_work, one.run),
        area_id=_area(at_work, one.area, one),
        purpose=one.purpose,
        token=one.token,
        fluence_e_per_a2=one.fluence_e_per_a2,
        budget_tolerance=one.budget_tolerance,
        happened=at_work.late,
        owner_token=one.owner_token,
        clock=lambda: one.at,
    )


def _close_intent(at_work: Applying, one: CloseIntent) -> int:
    found = at_work.session.scalars(select(ExposureIntent.id).filter_by(token=one.token)).one_or_none()
    if found is None:
        raise BadInput(field="token", value=one.token, limit="no such exposure in this database")
    dose.close_intent(
        at_work.session,
        intent_id=found,
        delivered_e_per_a2=one.delivered_e_per_a2,
        electrons=one.electrons,
        reason=one.reason,
        clock=lambda: one.at,
    )
    return found


def _add_dataset(at_work: Applying, one: AddDataset) -> int:
    return results.add_dataset(
        at_work.session,
        run_id=_run(at_work, one.dataset.run),
        pass_index=one.dataset.pass_index,
        sha256=one.sha256,
        size_bytes=one.size_bytes,
        scan_shape=one.scan_shape,
        detector_shape=one.detector_shape,
        dtype=one.dtype,
        frames=one.frames,
        complete=one.complete,
        purpose=one.purpose,
        path=one.path,
        host=one.host,
    )


def _add_snapshot(at_work: Applying, one: AddSnapshot) -> int:
    readings = [results.Reading(each.name, each.value, each.unit, each.source, each.read_at) for each in one.readings]
    return results.add_snapshot(
        at_work.session, run_id=_run(at_work, one.run), phase=one.phase, readings=readings, clock=lambda: one.at
    )


def _add_quality(at_work: Applying, one: AddQuality) -> None:
    figures = [results.Figure(**_fields(each)) for each in one.figures]
    results.add_figures(at_work.session, run_id=_run(at_work, one.run), stage=one.stage, figures=figures)


def _add_remedy(at_work: Applying, one: AddRemedy) -> int:
    return results.add_remedy(at_work.session, run_id=_run(at_work, one.run), **_fields(one, "run"))


def _add_analysis(at_work: Applying, one: AddAnalysis) -> int:
    return results.add_analysis(at_work.session, run_id=_run(at_work, one.run), **_fields(one, "run"))


def _fields(one: Any, *without: str) -> dict[str, Any]:
    """A model's fields as arguments; its values as they are."""
    left_out = {*Operation.model_fields, "kind", *without}
    return {name: getattr(one, name) for name in type(one).model_fields if name not in left_out}


def _add_calibration(at_work: Applying, one: AddCalibration) -> int:
    key, value = one.calibration, one.value
    if one.of:
        value = {**value, "of": [_calibration(at_work, each) for each in one.of]}
    return calibrations.add_calibration(
        at_work.session,
        kind=key.kind,
        mode_key=one.mode_key,
        instrument=one.instrument,
        value=value,
        uncertainty=one.uncertainty,
        residual=one.residual,
        reason=one.reason,
        curves=one.curves,
        unit=one.unit,
        measured_at=key.measured_at,
        valid_until=one.valid_until,
        evidence_run_id=_run(at_work, key.run),
        evidence=[_dataset(at_work, each) for each in one.evidence],
        rests_on=None if one.rests_on is None else [_calibration(at_work, each) for each in one.rests_on],
        verdict=one.verdict,
    )


def _dataset(at_work: Applying, key: DatasetKey | int) -> int:
    if isinstance(key, int):
        return key
    wanted = select(Dataset.id).filter_by(run_id=_run(at_work, key.run), pass_index=key.pass_index)
    found = at_work.session.scalars(wanted).one_or_none()
    if found is None:
        raise BadInput(field=f"data set of {key.run}", value=key.pass_index, limit="not in this database")
    return found


def _calibration(at_work: Applying, key: CalibrationKey | int) -> int:
    if isinstance(key, int):
        return key
    wanted = select(Calibration.id).filter_by(
        evidence_run_id=_run(at_work, key.run), kind=key.kind, measured_at=key.measured_at
    )
    found = at_work.session.scalars(wanted).one_or_none()
    if found is None:
        raise BadInput(field=f"calibration {key.kind}", value=key.run, limit="no such measurement in this database")
    return found


def _use(at_work: Applying, one: UseCalibrations) -> None:
    uses = [
        calibrations.Use(_calibration(at_work, each.calibration), each.role, each.accepted_stale) for each in one.uses
    ]
    calibrations.use_calibrations(at_work.session, run_id=_run(at_work, one.run), uses=uses)


def _withdraw(at_work: Applying, one: Withdraw) -> None:
    run_id = _run(at_work, one.run)
    used = calibrations.used_calibrations(at_work.session, run_id=run_id)
    for role in one.roles:
        if role in used:
            calibrations.invalidate(at_work.session, used[role], one.reason, run_id, by=one.run, clock=lambda: one.at)


def _set_target(at_work: Applying, one: SetTarget) -> None:
    record.set_target_state(
        at_work.session,
        target_id=one.target,
        state=one.state,
        reason=one.reason,
        broken_off=one.broken_off,
        owner_token=one.owner_token,
        clock=lambda: one.at,
    )
    if one.predicted_s is not None and one.actual_s is not None:
        resume.time_target(at_work.session, target_id=one.target, predicted_s=one.predicted_s, actual_s=one.actual_s)


def _finish_night(at_work: Applying, one: FinishNight) -> None:
    record.finish_night(
        at_work.session, night_id=one.night, state=one.state, exit_reason=one.reason, clock=lambda: one.at
    )


_APPLY: dict[type[Operation], Callable[[Applying, Any], int | None]] = {
    RegisterArea: _register_area,
    OpenRun: _open_run,
    FinishRun: _finish_run,
    AddEvent: _add_event,
    OpenIntent: _open_intent,
    CloseIntent: _close_intent,
    AddDataset: _add_dataset,
    AddSnapshot: _add_snapshot,
    AddQuality: _add_quality,
    AddRemedy: _add_remedy,
    AddAnalysis: _add_analysis,
    AddCalibration: _add_calibration,
    UseCalibrations: _use,
    Withdraw: _withdraw,
    SetTarget: _set_target,
    FinishNight: _finish_night,
}
