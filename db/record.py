"""What is written of specimens, plans, nights, targets, runs and events."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from db.clock import Clock, utc_now
from db.models import (
    Area,
    Event,
    InstrumentSession,
    Night,
    Plan,
    QualityResult,
    Run,
    Sample,
    SoftwareEnvironment,
    Target,
)
from db.rows import added, existing, find_or_add, inserted
from db.vocabulary import WORST_FIRST, JsonValue, NightState, RunState, TargetState, Verdict
from stem4d.errors import BadInput
from stem4d.model import sha256_of
from stem4d.names import NAME_PATTERN

_FINAL_TARGET = ("done", "mended", "marked", "refused", "skipped", "failed")


@dataclass(frozen=True)
class Cost:
    """What a run takes, predicted or actual; None where it is not known."""

    seconds: float | None = None
    size_bytes: int | None = None
    fluence_e_per_a2: float | None = None


def register_sample(session: Session, *, name: str, clock: Clock = utc_now) -> int:
    """Id of the sample with this name, added if new."""
    return int(find_or_add(session, Sample, {"name": name}, {"registered": clock()}).id)


def register_area(
    session: Session, *, sample_id: int, name: str, fluence_budget_e_per_a2: float, clock: Clock = utc_now
) -> int:
    """Id of an area of a sample, added if new; raises `BadInput` if it is known with another budget."""
    if not fluence_budget_e_per_a2 > 0:
        raise BadInput(field="fluence_budget_e_per_a2", value=fluence_budget_e_per_a2, limit="> 0", unit="e/Å²")
    rest = {"fluence_budget_e_per_a2": fluence_budget_e_per_a2, "registered": clock()}
    area = find_or_add(session, Area, {"sample_id": sample_id, "name": name}, rest)
    if area.fluence_budget_e_per_a2 != fluence_budget_e_per_a2:
        raise BadInput(
            field=f"fluence budget of area {name}",
            value=fluence_budget_e_per_a2,
            limit=f"this area was registered with {area.fluence_budget_e_per_a2:g} e/Å², and a budget is not changed "
            "by a plan",
            unit="e/Å²",
            remedy="Keep that budget, or name another area",
        )
    return int(area.id)


def place_area(
    session: Session, *, area_id: int, pose: Mapping[str, float] | None = None, thumbnail: str | None = None
) -> None:
    """Keep where an area lies on the stage [um, degree by axis] and its survey; what is None stays as it was."""
    area = existing(session, Area, area_id)
    area.pose = area.pose if pose is None else dict(pose)
    area.thumbnail = area.thumbnail if thumbnail is None else thumbnail


def register_plan(session: Session, *, name: str, canonical_json: str, clock: Clock = utc_now) -> int:
    """Id of the plan with this content, added if new; the name is that of its first registration."""
    rest = {"name": name, "canonical_json": canonical_json, "registered": clock()}
    return int(find_or_add(session, Plan, {"sha256": sha256_of(canonical_json)}, rest).id)


def register_environment(
    session: Session,
    *,
    python: str,
    packages: Mapping[str, str],
    code_revision: str,
    drivers: Mapping[str, str] | None = None,
) -> int:
    """Id of a software environment (package name to version, driver to release), added if new."""
    facts: dict[str, object] = {"python": python, "packages": dict(packages), "code_revision": code_revision}
    if drivers is not None:
        facts["drivers"] = dict(drivers)
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return int(find_or_add(session, SoftwareEnvironment, {"sha256": sha256_of(text)}, facts).id)


def register_session(
    session: Session, *, instrument: str, owner_token: int, owner: str, host: str, began: datetime
) -> int:
    """Id of the session that holds an instrument under a token, added if new."""
    rest = {"owner": owner, "host": host, "began": began}
    return int(find_or_add(session, InstrumentSession, {"instrument": instrument, "owner_token": owner_token}, rest).id)


def start_night(
    session: Session, *, name: str, canonical_json: str, instrument: str | None = None, clock: Clock = utc_now
) -> int:
    """Begin a night under a new public name (`db.clock.new_night_name`); gives its id."""
    _check_name("night", name)
    night = added(
        session,
        Night(
            name=name,
            sha256=sha256_of(canonical_json),
            canonical_json=canonical_json,
            instrument=instrument,
            state="running",
            started=clock(),
        ),
    )
    add_event(session, kind="night_started", message=f"night {name} started", night_id=night.id, clock=clock)
    return night.id


def add_target(
    session: Session,
    *,
    night_id: int,
    position: int,
    name: str,
    plan_id: int | None = None,
    expected_state: TargetState | None = None,
    priority: int | None = None,
) -> int:
    """Add a pending target to a night; `plan_id` is None only if its plan could not be read."""
    target = Target(
        night_id=night_id,
        position=position,
        name=name,
        plan_id=plan_id,
        state="pending",
        expected_state=expected_state,
        priority=priority,
    )
    return added(session, target).id


def set_target_state(
    session: Session,
    *,
    target_id: int,
    state: TargetState,
    reason: str = "",
    broken_off: bool = False,
    owner_token: int | None = None,
    clock: Clock = utc_now,
) -> None:
    """Move a target on and leave an event; raises `BadInput` if it has already ended.

    ``broken_off`` says that it was the night that ended, and not this target: `db.resume` may go on with it.
    ``owner_token`` is that of the lease under which it is taken up.
    """
    target = existing(session, Target, target_id)
    if target.state in _FINAL_TARGET:
        raise _ended("target", target.name, target.state, state)
    before, target.state, target.reason, target.broken_off = target.state, state, reason or None, broken_off
    target.owner_token = target.owner_token if owner_token is None else owner_token
    add_event(
        session,
        kind="target_state",
        message=f"target {target.name}: {before} to {state}" + (f": {reason}" if reason else ""),
        data={"from": before, "to": state},
        night_id=target.night_id,
        target_id=target_id,
        clock=clock,
    )


def finish_night(
    session: Session, *, night_id: int, state: NightState, exit_reason: str = "", clock: Clock = utc_now
) -> None:
    """End a running night."""
    night = existing(session, Night, night_id)
    if night.state != "running" or state == "running":
        raise _ended("night", night.name, night.state, state)
    night.state, night.exit_reason, night.ended = state, exit_reason or None, clock()
    message = f"night {night.name}: {state}" + (f": {exit_reason}" if exit_reason else "")
    add_event(session, kind="night_ended", message=message, night_id=night_id, clock=clock)


def start_run(
    session: Session,
    *,
    name: str,
    plan_id: int,
    area_id: int,
    instrument: str,
    target_id: int | None = None,
    attempt: int = 1,
    parent_id: int | None = None,
    environment_id: int | None = None,
    predicted: Cost | None = None,
    flow_run_id: str | None = None,
    session_id: int | None = None,
    clock: Clock = utc_now,
) -> int:
    """Begin a run under a new public name (`db.clock.new_run_name`); gives its id."""
    _check_name("run", name)
    cost = predicted or Cost()
    run_id = inserted(
        session,
        Run,
        name=name,
        plan_id=plan_id,
        target_id=target_id,
        area_id=area_id,
        environment_id=environment_id,
        instrument=instrument,
        attempt=attempt,
        parent_id=parent_id,
        state="running",
        started=clock(),
        predicted_seconds=cost.seconds,
        predicted_bytes=cost.size_bytes,
        predicted_fluence_e_per_a2=cost.fluence_e_per_a2,
        flow_run_id=flow_run_id,
        session_id=session_id,
    )
    _run_event(session, run_id, target_id, "run_started", f"run {name} started, attempt {attempt}", clock)
    return run_id


_VERDICTS = (
    select(QualityResult.verdict, QualityResult.analysis.is_(None))
    .where(QualityResult.run_id == bindparam("run"), QualityResult.stage == "final")
    .distinct()
)


def finish_run(
    session: Session,
    *,
    run_id: int,
    state: RunState,
    exit_reason: str = "",
    actual: Cost | None = None,
    clock: Clock = utc_now,
) -> Verdict | None:
    """End a running run; gives its verdict, the worst of its final quality results, None if there are none.

    What concerns the whole recording and could not be measured lowers no verdict beside others, as in
    `stem4d.quality.judge.verdict_by_analysis`: it would be the verdict of every run.
    """
    run = existing(session, Run, run_id)
    if run.state != "running" or state == "running":
        raise _ended("run", run.name, run.state, state)
    cost = actual or Cost()
    run.state, run.exit_reason, run.ended = state, exit_reason or None, clock()
    run.actual_seconds, run.actual_bytes, run.actual_fluence_e_per_a2 = (
        cost.seconds,
        cost.size_bytes,
        cost.fluence_e_per_a2,
    )
    found = session.execute(_VERDICTS, {"run": run_id}).all()
    telling = {verdict for verdict, whole in found if not (whole and verdict == "not_measurable")}
    verdicts = telling or {verdict for verdict, _ in found}
    run.verdict = next((verdict for verdict in WORST_FIRST if verdict in verdicts), None)
    message = f"run {run.name}: {state}" + (f": {exit_reason}" if exit_reason else "")
    _run_event(session, run_id, run.target_id, "run_ended", message, clock)
    return run.verdict


def add_event(
    session: Session,
    *,
    kind: str,
    message: str,
    data: JsonValue = None,
    night_id: int | None = None,
    target_id: int | None = None,
    run_id: int | None = None,
    later: bool = False,
    clock: Clock = utc_now,
) -> int | None:
    """Record that something happened; gives its sequence number, which orders events whatever the clock does.

    One that is added ``later`` goes to the database with the next that asks it anything, and has no number yet.
    """
    facts: dict[str, Any] = {"time": clock(), "kind": kind, "message": message, "data": data}
    facts |= {"night_id": night_id, "target_id": target_id, "run_id": run_id}
    if later:
        session.add(Event(**facts))
        return None
    return inserted(session, Event, **facts)


def _run_event(session: Session, run_id: int, target_id: int | None, kind: str, message: str, clock: Clock) -> None:
    night_id = None if target_id is None else existing(session, Target, target_id).night_id
    add_event(session, kind=kind, message=message, night_id=night_id, target_id=target_id, run_id=run_id, clock=clock)


def _check_name(field: str, name: str) -> None:
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise BadInput(field=f"{field} name", value=name, limit="at most 64 letters, digits, dots, dashes, underscores")


def _ended(kind: str, name: str, is_now: str, asked: str) -> BadInput:
    return BadInput(field=f"{kind} {name}", value=asked, limit=f"it is {is_now}, which is not followed by that")
