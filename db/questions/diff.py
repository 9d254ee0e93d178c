"""What is different between two runs? Settings, calibrations, software, plan, and what was judged."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Row, bindparam, select
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
from db.questions.planning import plan_once
from db.questions.software import software_of
from db.rows import unknown
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
    plan_once(session)
    runs = [_found(session, name) for name in (a, b)]
    parts = {
        "run": _of_run,
        "settings": _settings,
        "calibrations": _calibrations,
        "software": _software,
        "plan": _plan,
    }
    told = {part: _differing(*(values(session, run) for run in runs)) for part, values in parts.items()}
    return {"a": a, "b": b, **told, "quality": _quality(*(_figures(session, run) for run in runs))}


# Statements are put together once: that takes longer than to execute them.
_RUN = (
    select(Run, Area.name.label("area"), Sample.name.label("sample"), SoftwareEnvironment, Plan.canonical_json)
    .join(Area, Run.area_id == Area.id)
    .join(Sample, Area.sample_id == Sample.id)
    .join(Plan, Run.plan_id == Plan.id)
    .outerjoin(SoftwareEnvironment, Run.environment_id == SoftwareEnvironment.id)
    .where(Run.name == bindparam("name", type_=Run.name.type))
)


def _found(session: Session, name: str) -> Row[Any]:
    """A run with its area, specimen, software and plan."""
    row = session.execute(_RUN, {"name": name}).one_or_none()
    if row is None:
        raise unknown(session, Run, name, "`nightbeam runs` lists them")
    return row


def _differing(a: Valued, b: Valued) -> list[dict[str, Any]]:
    names = [*a, *(name for name in b if name not in a)]
    return [
        {"name": name, "a": a.get(name, ABSENT)[0], "b": b.get(name, ABSENT)[0], "unit": (a.get(name) or b[name])[1]}
        for name in names
        if a.get(name, ABSENT)[0] != b.get(name, ABSENT)[0]
    ]


def _of_run(_session: Session, one: Row[Any]) -> Valued:
    facts = {
        "sample": one.sample,
        "area": one.area,
        "instrument": one.Run.instrument,
        "attempt": one.Run.attempt,
        "state": one.Run.state,
        "exit_reason": one.Run.exit_reason,
        "verdict": one.Run.verdict,
        "actual_fluence_e_per_a2": one.Run.actual_fluence_e_per_a2,
    }
    return {name: (value, unit_of(name)) for name, value in facts.items()}


_reading, _snapshot = DeviceReading.__table__.c, DeviceSnapshot.__table__.c
_SETTINGS = (
    select(_reading.name, _reading.number, _reading.text, _reading.unit)
    .join(DeviceSnapshot.__table__, _reading.snapshot_id == _snapshot.id)
    .where(_snapshot.run_id == bindparam("run"), _snapshot.phase == "before")
    .order_by(_reading.name)
)


def _settings(session: Session, one: Row[Any]) -> Valued:
    found = session.execute(_SETTINGS, {"run": one.Run.id})
    return {name: (text if number is None else number, unit) for name, number, text, unit in found}


_used, _measured = RunCalibration.__table__.c, Calibration.__table__.c
_CALIBRATIONS = (
    select(_used.role, _measured.id, _measured.measured_at)
    .join(Calibration.__table__, _used.calibration_id == _measured.id)
    .where(_used.run_id == bindparam("run"))
    .order_by(_used.role, _measured.id)
)


def _calibrations(session: Session, one: Row[Any]) -> Valued:
    found = session.execute(_CALIBRATIONS, {"run": one.Run.id})
    return {role: ({"id": number, "measured_at": plain_value(at)}, "") for role, number, at in found}


def _software(_session: Session, one: Row[Any]) -> Valued:
    if one.SoftwareEnvironment is None:
        return {}
    return {name: (value, "") for name, value in software_of(one.SoftwareEnvironment).items()}


def _plan(_session: Session, one: Row[Any]) -> Valued:
    return {path: (value, unit_of(path)) for path, value in _leaves("", json.loads(one.canonical_json))}


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


Figures = Mapping[tuple[str, str | None], Row[Any]]
_figure = QualityResult.__table__.c
_FIGURES = (
    select(_figure.metric, _figure.analysis, _figure.value, _figure.unit, _figure.verdict)
    .where(_figure.run_id == bindparam("run"), _figure.stage == "final")
    .order_by(_figure.id)
)


def _figures(session: Session, one: Row[Any]) -> Figures:
    return {(row.metric, row.analysis): row for row in session.execute(_FIGURES, {"run": one.Run.id})}


def _quality(a: Figures, b: Figures) -> list[dict[str, Any]]:
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
