"""What is different between two runs? Settings, calibrations, software, plan, and what was judged."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import (
    Area,
    Calibration,
    DeviceReading,
    DeviceSnapshot,
    Plan,
    QualityResult,
    Run,
    RunCalibration,
    Sample,
    SoftwareEnvironment,
)
from db.questions.plain import plain_value
from db.questions.software import software_of
from db.rows import existing, named
from storage.units import unit_of

Valued = Mapping[str, tuple[Any, str]]
"""Value and unit by name."""
ABSENT = (None, "")


def diff_runs(session: Session, *, a: str, b: str) -> dict[str, Any]:
    """What differs between two runs by their public names; what is the same is left out.

    Returns
    -------
    dict
        The names of both as `a` and `b`, and lists of ``{"name", "a", "b", "unit"}``, None where one has no such thing:
        `run` (specimen, area, instrument, how it ended), `settings` (as they were read before the exposure),
        `calibrations` (numbers by role), `software` (packages and revision), `plan` (fields by their path) and
        `quality` (final figures, with `verdict_a` and `verdict_b`; those whose verdicts differ come first).

    Raises
    ------
    BadInput
        For an unknown run.
    """
    runs = [named(session, Run, name, "`nightbeam runs` lists them") for name in (a, b)]
    parts = {
        "run": _of_run,
        "settings": _settings,
        "calibrations": _calibrations,
        "software": _software,
        "plan": _plan,
    }
    told = {part: _differing(*(values(session, run) for run in runs)) for part, values in parts.items()}
    return {"a": a, "b": b, **told, "quality": _quality(*(_figures(session, run) for run in runs))}


def _differing(a: Valued, b: Valued) -> list[dict[str, Any]]:
    names = [*a, *(name for name in b if name not in a)]
    return [
        {"name": name, "a": a.get(name, ABSENT)[0], "b": b.get(name, ABSENT)[0], "unit": (a.get(name) or b[name])[1]}
        for name in names
        if a.get(name, ABSENT)[0] != b.get(name, ABSENT)[0]
    ]


def _of_run(session: Session, run: Run) -> Valued:
    area = existing(session, Area, run.area_id)
    facts = {
        "sample": existing(session, Sample, area.sample_id).name,
        "area": area.name,
        "instrument": run.instrument,
        "attempt": run.attempt,
        "state": run.state,
        "exit_reason": run.exit_reason,
        "verdict": run.verdict,
        "actual_fluence_e_per_a2": run.actual_fluence_e_per_a2,
    }
    return {name: (value, unit_of(name)) for name, value in facts.items()}


def _settings(session: Session, run: Run) -> Valued:
    found = session.execute(
        select(DeviceReading.name, DeviceReading.number, DeviceReading.text, DeviceReading.unit)
        .join(DeviceSnapshot, DeviceReading.snapshot_id == DeviceSnapshot.id)
        .where(DeviceSnapshot.run_id == run.id, DeviceSnapshot.phase == "before")
        .order_by(DeviceReading.name)
    )
    return {name: (text if number is None else number, unit) for name, number, text, unit in found}


def _calibrations(session: Session, run: Run) -> Valued:
    found = session.execute(
        select(RunCalibration.role, Calibration.id, Calibration.measured_at)
        .join(Calibration, RunCalibration.calibration_id == Calibration.id)
        .where(RunCalibration.run_id == run.id)
        .order_by(RunCalibration.role, Calibration.id)
    )
    return {role: ({"id": number, "measured_at": plain_value(at)}, "") for role, number, at in found}


def _software(session: Session, run: Run) -> Valued:
    if run.environment_id is None:
        return {}
    environment = existing(session, SoftwareEnvironment, run.environment_id)
    return {name: (value, "") for name, value in software_of(environment).items()}


def _plan(session: Session, run: Run) -> Valued:
    plan = existing(session, Plan, run.plan_id)
    return {path: (value, unit_of(path)) for path, value in _leaves("", json.loads(plan.canonical_json))}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every value of a document with its path; a list of plain values is one value."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), part)
    elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
        for index, part in enumerate(value):
            yield from _leaves(f"{path}[{index}]", part)
    else:
        yield path, value


def _figures(session: Session, run: Run) -> dict[tuple[str, str | None], QualityResult]:
    found = session.scalars(select(QualityResult).filter_by(run_id=run.id, stage="final").order_by(QualityResult.id))
    return {(one.metric, one.analysis): one for one in found}


def _quality(
    a: Mapping[tuple[str, str | None], QualityResult], b: Mapping[tuple[str, str | None], QualityResult]
) -> list[dict[str, Any]]:
    told = []
    for key in [*a, *(one for one in b if one not in a)]:
        first, second = a.get(key), b.get(key)
        values = [None if one is None else one.value for one in (first, second)]
        verdicts = [None if one is None else one.verdict for one in (first, second)]
        if values[0] != values[1] or verdicts[0] != verdicts[1]:
            metric, analysis = key
            told.append(
                {
                    "name": metric if analysis is None else f"{metric} for {analysis}",
                    "a": values[0],
                    "b": values[1],
                    "unit": (first or b[key]).unit,
                    "verdict_a": verdicts[0],
                    "verdict_b": verdicts[1],
                }
            )
    return sorted(told, key=lambda one: one["verdict_a"] == one["verdict_b"])
