"""What of a night is left to do, and what was exposed of a target before its night broke off."""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.clock import Clock, utc_now
from db.models import Dataset, DatasetLocation, DoseEntry, ExposureIntent, Night, Plan, Remedy, Run, Target
from db.record import add_event
from db.rows import existing
from db.vocabulary import NightState, RunState, TargetState

BY_A_PERSON = "stopped by a person"
"""In the reason of a night that somebody wanted to end."""
_BEFORE_THE_END = ("pending", "running")


@dataclass(frozen=True)
class TargetLeft:
    """A target as its night left it."""

    id: int
    name: str
    state: TargetState
    reason: str
    open: bool
    """Whether it is still to be done."""
    plan_sha256: str | None
    predicted_s: float | None
    """What it was to take in the night, and what it took [s]; None where it never ran to an end."""
    actual_s: float | None
    runs: tuple[str, ...]


@dataclass(frozen=True)
class NightLeft:
    """A night with something left to do."""

    id: int
    name: str
    state: NightState
    started: datetime
    targets: tuple[TargetLeft, ...]
    """In the order of the night's file."""


@dataclass(frozen=True)
class NightBefore:
    """The last night of a name on an instrument, whatever its content and however it ended."""

    name: str
    sha256: str
    state: NightState
    started: datetime
    ended: datetime | None
    targets: tuple[TargetLeft, ...]
    """In the order of the night's file."""


@dataclass(frozen=True)
class BrokenRun:
    """The last run of a target that was broken off."""

    id: int
    name: str
    state: RunState
    area_id: int
    plan_json: str
    lit: bool
    """Whether its area received anything of a pass, or may have."""
    passes: tuple[tuple[int, str], ...]
    """Number (from 0) and path of each pass that was registered, whole or not."""
    reason: str = ""
    """Why the run ended as it did."""
    mended_by: tuple[str, ...] = ()
    """Remedies of the attempts that it followed."""
    remedies: tuple[str, ...] = ()
    """What was chosen after it; no attempt has followed."""


def night_left(session: Session, *, sha256: str, instrument: str) -> NightLeft | None:
    """The last night of this content on an instrument, where something is left to do in it."""
    wanted = select(Night).filter_by(sha256=sha256, instrument=instrument).order_by(Night.id.desc()).limit(1)
    night = session.scalars(wanted).one_or_none()
    if night is None:
        return None
    targets = _targets(session, night)
    if not any(target.open for target in targets):
        return None
    return NightLeft(night.id, night.name, night.state, night.started, targets)


def hours_left(session: Session, name: str, now: datetime) -> float:
    """Hours that are left of a night that has something left to do; not above 0 where there is nothing or no time.

    Nor where a person stopped it.
    """
    night = session.scalars(select(Night).filter_by(name=name)).one_or_none()
    if (
        night is None
        or BY_A_PERSON in (night.exit_reason or "")
        or not any(target.open for target in _targets(session, night))
    ):
        return 0.0
    return float(json.loads(night.canonical_json)["max_hours"]) - (now - night.started).total_seconds() / 3600


def night_before(session: Session, *, name: str, instrument: str) -> NightBefore | None:
    """The last night on an instrument whose file has this ``name``; None where there was none."""
    # The text narrows it down, also on many nights: a target may have that name, too.
    likely = Night.canonical_json.contains(f'"name":{json.dumps(name)}', autoescape=True)
    ids = session.scalars(select(Night.id).where(Night.instrument == instrument, likely).order_by(Night.id.desc()))
    for one in ids.all():
        night = existing(session, Night, one)
        if json.loads(night.canonical_json).get("name") == name:
            targets = _targets(session, night)
            return NightBefore(night.name, night.sha256, night.state, night.started, night.ended, targets)
    return None


def _targets(session: Session, night: Night) -> tuple[TargetLeft, ...]:
    found = session.execute(
        select(Target, Plan.sha256)
        .outerjoin(Plan, Target.plan_id == Plan.id)
        .where(Target.night_id == night.id)
        .order_by(Target.position)
    ).all()
    runs: dict[int, list[str]] = {}
    # A night may have more targets than a statement may have values.
    own = select(Run.target_id, Run.name).join(Target, Run.target_id == Target.id).where(Target.night_id == night.id)
    for target_id, name in session.execute(own.order_by(Run.id)):
        runs.setdefault(target_id or 0, []).append(name)
    return tuple(
        TargetLeft(
            id=target.id,
            name=target.name,
            state=target.state,
            reason=target.reason or "",
            open=bool(target.broken_off) or target.state in _BEFORE_THE_END,
            plan_sha256=sha,
            predicted_s=target.predicted_seconds,
            actual_s=target.actual_seconds,
            runs=tuple(runs.get(target.id, ())),
        )
        for target, sha in found
    )


def reopen_night(session: Session, *, night_id: int, clock: Clock = utc_now) -> None:
    """Let a night go on: what it had broken off is pending again, and events say what it was before."""
    night = existing(session, Night, night_id)
    for target in session.scalars(select(Target).filter_by(night_id=night_id).order_by(Target.position)):
        if not target.broken_off and target.state not in _BEFORE_THE_END:
            continue
        add_event(
            session,
            kind="target_state",
            message=f"target {target.name}: {target.state} to pending, as the night goes on",
            data={"from": target.state, "to": "pending", "reason": target.reason},
            night_id=night_id,
            target_id=target.id,
            clock=clock,
        )
        target.state, target.reason, target.broken_off = "pending", None, None
    was = f"it had {night.state}: {night.exit_reason}" if night.exit_reason else f"it was {night.state}"
    add_event(
        session, kind="night_resumed", message=f"night {night.name} goes on; {was}", night_id=night_id, clock=clock
    )
    night.state, night.exit_reason, night.ended = "running", None, None


def broken_run(session: Session, *, target_id: int) -> BrokenRun | None:
    """The last run of a target; None where it has none."""
    runs = session.scalars(select(Run).filter_by(target_id=target_id).order_by(Run.id)).all()
    if not runs:
        return None
    run = runs[-1]
    chosen: dict[int, list[str]] = {}
    own = select(Remedy.run_id, Remedy.action).join(Run, Run.id == Remedy.run_id).where(Run.target_id == target_id)
    for run_id, action in session.execute(own.order_by(Remedy.id)):
        chosen.setdefault(run_id, []).append(action)
    parents, mended_by = {one.id: one.parent_id for one in runs}, list[str]()
    before = run.parent_id
    while before is not None and before in chosen:
        mended_by[:0] = chosen[before]
        before = parents.get(before)
    given = session.execute(
        select(ExposureIntent.id, DoseEntry.delivered_e_per_a2)
        .outerjoin(DoseEntry, DoseEntry.intent_id == ExposureIntent.id)
        .where(
            ExposureIntent.run_id == run.id,
            ExposureIntent.area_id == run.area_id,
            # A survey or a reference scan spends dose, and leaves the field as it is for the passes.
            ExposureIntent.purpose == "acquisition",
        )
    ).all()
    recorded = (
        select(Dataset.pass_index, DatasetLocation.path)
        .join(DatasetLocation, DatasetLocation.dataset_id == Dataset.id)
        .where(Dataset.run_id == run.id, Dataset.purpose == "acquisition")
        .order_by(Dataset.pass_index, DatasetLocation.id)
    )
    return BrokenRun(
        id=run.id,
        name=run.name,
        state=run.state,
        area_id=run.area_id,
        plan_json=existing(session, Plan, run.plan_id).canonical_json,
        # An open intent may have delivered all of it; only one that was released delivered nothing.
        lit=any(delivered is None or delivered > 0 for _id, delivered in given),
        passes=tuple((index, path) for index, path in session.execute(recorded)),
        reason=run.exit_reason or "",
        mended_by=tuple(mended_by),
        remedies=tuple(chosen.get(run.id, ())),
    )


def time_target(session: Session, *, target_id: int, predicted_s: float, actual_s: float) -> None:
    """Write what a target was predicted to take and what it took [s]; of a resumed one, both add up."""
    target = existing(session, Target, target_id)
    target.predicted_seconds = (target.predicted_seconds or 0.0) + predicted_s
    target.actual_seconds = (target.actual_seconds or 0.0) + actual_s
