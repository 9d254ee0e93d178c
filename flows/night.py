"""A night: its targets in order, each a subflow, none of which can take the others down with it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow

from db.clock import new_night_name
from db.engine import writer
from db.operations import FinishNight, SetTarget
from db.record import add_target, register_plan, start_night
from db.vocabulary import NightState
from flows.queue import Queued
from flows.report import write_night
from flows.run import Outcome, as_calls, run_target, target_flow
from stem4d.errors import InstrumentTaken
from stem4d.model import canonical_json
from stem4d.night import Night, Target, TargetState
from tasks.lab import Lab, lab
from tasks.record import learn_areas, not_hiding


@dataclass(frozen=True)
class NightResult:
    """How a night ended."""

    name: str
    outcomes: tuple[tuple[Target, Outcome], ...]
    reason: str
    report: Path | None
    """None where the page could not be written."""


def run_night(opened: Lab, night: Night, queued: tuple[Queued, ...], *, with_prefect: bool) -> NightResult:
    """Run every target; each ends in the database with its state and reason, and the night with its own."""
    opened.watched_anew()
    opened.calibrate_always = night.calibrate == "always"
    name = new_night_name()
    text = canonical_json(night)
    with writer(opened.engine) as session:
        night_id = start_night(session, name=name, canonical_json=text)
        ids = [_register(session, night_id, position, one) for position, one in enumerate(queued)]
    opened.night_id = night_id
    learn_areas(opened, (one.plan for one in queued))
    opened.show("night started", f"{night.title or night.name}: {len(queued)} targets")
    outcomes: list[tuple[Target, Outcome]] = []
    try:
        if with_prefect:
            _night_flow(opened, night.name, queued, ids, outcomes)
        else:
            _each(opened, queued, ids, outcomes, with_prefect=False)
    except BaseException as error:
        state = "failed" if isinstance(error, Exception) else "stopped"
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        with not_hiding(opened, name):
            _skip_rest(opened, queued[len(outcomes) :], ids[len(outcomes) :], reason)
            _end(opened, night_id, name, state, reason)
        opened.night_id = None
        raise
    reason = _summary(outcomes)
    stopper = next((target.name for target, outcome in outcomes if outcome.ends_night), None)
    if stopper is not None:
        reason = f"{reason}; the policy of {stopper} ended the night"
    report = _end(opened, night_id, name, "done" if stopper is None else "stopped", reason)
    opened.night_id = None
    return NightResult(name, tuple(outcomes), reason, report)


def _end(opened: Lab, night_id: int, name: str, state: NightState, reason: str) -> Path | None:
    """Close a night in the database, and write its page."""
    opened.recorder.record(FinishNight(night=night_id, state=state, reason=reason))
    opened.show("night ended", reason)
    return write_night(opened, name)


def _night_flow(
    opened: Lab, title: str, queued: tuple[Queued, ...], ids: list[int], outcomes: list[tuple[Target, Outcome]]
) -> None:
    @flow(name="night", flow_run_name=title, persist_result=False, validate_parameters=False)
    def night(instrument: str, targets: list[str]) -> list[dict[str, Any]]:
        _each(lab(instrument), queued, ids, outcomes, with_prefect=True)
        return [outcome.as_dict() for _target, outcome in outcomes]

    night(opened.file.name, [one.target.name for one in queued])


def _each(
    opened: Lab,
    queued: tuple[Queued, ...],
    ids: list[int],
    outcomes: list[tuple[Target, Outcome]],
    *,
    with_prefect: bool,
) -> None:
    for one, target_id in zip(queued, ids, strict=True):
        _set(opened, target_id, TargetState.RUNNING, "")
        outcome = _run_one(opened, one, target_id, with_prefect=with_prefect)
        _set(opened, target_id, outcome.state, outcome.reason)
        outcomes.append((one.target, outcome))
        if outcome.ends_night:
            _leave_rest(opened, queued, ids, outcomes)
            return


def _leave_rest(
    opened: Lab, queued: tuple[Queued, ...], ids: list[int], outcomes: list[tuple[Target, Outcome]]
) -> None:
    """What has not begun when a target's policy ends the night was skipped."""
    target, outcome = outcomes[-1]
    done = len(outcomes)
    for one, target_id in zip(queued[done:], ids[done:], strict=True):
        left = Outcome(TargetState.SKIPPED, f"{target.name} ended the night: {outcome.reason}", ())
        _set(opened, target_id, left.state, left.reason)
        outcomes.append((one.target, left))


def _run_one(opened: Lab, one: Queued, target_id: int, *, with_prefect: bool) -> Outcome:
    plan_json = canonical_json(one.plan)
    instrument = opened.file.name
    try:
        if with_prefect:
            return Outcome.from_dict(target_flow(one.target.title or one.target.name, instrument, plan_json, target_id))
        return run_target(as_calls, instrument, plan_json, target_id)
    except InstrumentTaken:
        raise  # for the targets after this one it is somebody else's, too
    except Exception as error:
        logging.getLogger(__name__).exception("target %s failed", one.target.name)
        return Outcome(TargetState.FAILED, f"{type(error).__name__}: {error}", ())


def _register(session: Any, night_id: int, position: int, one: Queued) -> int:
    text = canonical_json(one.plan)
    plan_id = register_plan(session, canonical_json=text, name=one.plan.name)
    return add_target(
        session,
        night_id=night_id,
        position=position,
        name=one.target.name,
        plan_id=plan_id,
        expected_state=one.target.expect,
    )


def _set(opened: Lab, target_id: int, state: TargetState, reason: str) -> None:
    opened.recorder.record(SetTarget(target=target_id, state=state.value, reason=reason))


def _skip_rest(opened: Lab, queued: tuple[Queued, ...], ids: list[int], reason: str) -> None:
    """What was running when the night broke off failed; what had not begun was skipped."""
    for place, (one, target_id) in enumerate(zip(queued, ids, strict=True)):
        if place == 0:
            _set(opened, target_id, TargetState.FAILED, f"the night broke off in {one.target.name}: {reason}")
        else:
            _set(opened, target_id, TargetState.SKIPPED, f"the night ended before {one.target.name}: {reason}")


def _summary(outcomes: list[tuple[Target, Outcome]]) -> str:
    states = [outcome.state for _target, outcome in outcomes]
    return ", ".join(f"{states.count(state)} {state.value}" for state in TargetState if state in states)
