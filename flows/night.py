"""A night: its targets, each a subflow, none of which can take the others down with it, in an order that is kept up."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect.states import State

from db.clock import new_night_name, utc_now
from db.engine import writer
from db.operations import FinishNight, SetTarget
from db.record import add_target, register_plan, start_night
from db.resume import NightLeft
from db.vocabulary import LaunchState, NightState
from flows.artifact_text import TargetEnd
from flows.artifacts import show_night
from flows.by_prefect import Call, as_calls, as_tasks, seen_by_prefect, within_flow
from flows.emitted import night_ended
from flows.flow_run import flow_run_here
from flows.going import Going
from flows.notify import What, tell_people
from flows.progress import progress_shown
from flows.questions import before_night
from flows.queue import Queued
from flows.report import write_night
from flows.resume import again, resume
from flows.run import Outcome, run_target, target_flow
from flows.shown import launch_state
from flows.story import night_name, tags_of
from stem4d.errors import BadInput, InstrumentTaken, LimitViolation, NightbeamError
from stem4d.model import canonical_json
from stem4d.night import BY_A_PERSON, NOT_NEEDED, Night, Target, TargetState
from stem4d.plan import Plan
from tasks.lab import Lab
from tasks.record import learn_areas, not_hiding


@dataclass(frozen=True)
class NightResult:
    """How a night ended."""

    name: str
    outcomes: tuple[tuple[Target, Outcome], ...]
    """In the order in which they ended; of a night that went on, those of before come first."""
    reason: str
    report: Path | None
    """None where the page could not be written."""
    asked_to_stop: bool = False
    """Whether a person ended it."""


def run_night(
    opened: Lab,
    night: Night,
    queued: tuple[Queued, ...],
    *,
    with_prefect: bool,
    left: NightLeft | None = None,
    on_named: Callable[[str], None] = lambda _name: None,
) -> NightResult:
    """Run every target; each ends in the database with its state and reason, and the night with its own.

    ``left`` is a night of the same content that was broken off: it goes on. ``on_named`` is called with the name of the
    night before its first target.
    """
    opened.watched_anew()
    opened.calibrate_always = night.calibrate == "always"
    going = _going(opened, night, queued, left)
    opened.night_id, opened.approval = going.night_id, night.approval
    on_named(going.name)
    learn_areas(opened, (one.plan for one in queued))
    state: NightState
    try:
        with going.heard():
            how = "goes on" if left else "started"
            opened.show(f"night {how}", f"{night.title or night.name}: {len(going.open)} targets")
            if with_prefect:
                _night_flow(going)
            else:
                _each(going, with_prefect=False)
    except BaseException as error:
        state = "failed" if isinstance(error, Exception) else "stopped"
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        with not_hiding(opened, going.name):
            _skip_rest(going, reason)
        _end(going, state, reason, with_prefect=with_prefect)
        opened.night_id = opened.approval = None
        raise
    reason = _summary(going)
    stopper = next((target.name for target, outcome in going.outcomes if outcome.ends_night), None)
    if stopper is not None:
        reason = f"{reason}; the policy of {stopper} ended the night"
    elif going.control.stopped:
        reason = f"{reason}; {going.control.stopped}"
    state = "stopped" if stopper or going.control.stopped else "done"
    report = _end(going, state, reason, with_prefect=with_prefect)
    opened.night_id = opened.approval = None
    return NightResult(going.name, tuple(going.outcomes), reason, report, going.control.asked)


def _going(opened: Lab, night: Night, queued: tuple[Queued, ...], left: NightLeft | None) -> Going:
    """A new night in the database, or the one that goes on."""
    if left is not None:
        resumed = resume(opened, left)
        opened.night_id = left.id
        return Going(
            opened,
            night,
            queued,
            left.id,
            left.name,
            resumed.ids,
            left.started,
            ended=resumed.ended,
            broken=resumed.broken,
            measured=resumed.measured,
        )
    name = new_night_name()
    with writer(opened.engine) as session:
        night_id = start_night(session, name=name, canonical_json=canonical_json(night), instrument=opened.file.name)
        ids = {one.target.name: _register(session, night_id, position, one) for position, one in enumerate(queued)}
    return Going(opened, night, queued, night_id, name, ids, utc_now())


def _end(going: Going, state: NightState, reason: str, *, with_prefect: bool) -> Path | None:
    """Close a night in the database, and write its page."""
    with not_hiding(going.opened, going.name):
        going.opened.recorder.record(FinishNight(night=going.night_id, state=state, reason=reason))
    going.opened.show("night ended", reason)
    going.status.set(state=state, reason=reason)
    page = write_night(going.opened, going.name)
    if going.flow_run is not None:
        ended = [TargetEnd(it.title or it.name, one.state.value, one.reason) for it, one in going.outcomes]
        title = going.night.title or going.night.name
        show_night(going.opened, going.flow_run, going.name, title, f"{state}: {reason}", ended, page)
    if with_prefect and not going.prefect_lost:
        _tell_prefect(going, state, reason, page)
    lost = [] if going.control.asked else not_as_wanted(going.outcomes)
    asked = going.control.asked or (state == "done" and not lost)
    short = [f"{target.name}: {outcome.short}" for target, outcome in going.outcomes if outcome.short]
    _tell_people(going, "ended" if asked else "needs_you", "\n".join((f"{state}: {reason}", *lost, *short)), page)
    return page


def not_as_wanted(outcomes: Iterable[tuple[Target, Outcome]]) -> list[str]:
    """What became of targets that gave no data and were not meant to end so, a line each."""
    return [
        f"{target.name}: {outcome.state.value}. {outcome.reason}"
        for target, outcome in outcomes
        if outcome.state not in (TargetState.DONE, TargetState.MENDED)
        and outcome.state.value != target.expect
        and not outcome.reason.startswith((BY_A_PERSON, NOT_NEEDED))
    ]


def _tell_people(going: Going, what: What, words: str, page: Path | None) -> None:
    text = f"{words}\nReport: {page or 'it could not be written'}"
    first = words.partition("\n")[0]
    title = f"nightbeam, {going.night.title or going.night.name} ({going.name}): {first}"
    if trouble := tell_people(going.opened.settings, what, title, text):
        going.opened.show("message", trouble)


def _tell_prefect(going: Going, state: NightState, reason: str, page: Path | None) -> None:
    title = going.night.title or going.night.name
    ended = {target.name: (outcome.state.value, outcome.runs) for target, outcome in going.outcomes}
    specimens = [one.plan.sample.name for one in going.listed]
    night_ended(going.opened, going.name, title, state, reason, ended, specimens, page)


def _night_flow(going: Going) -> None:
    def body(_call: Call) -> None:
        here = flow_run_here()
        going.flow_run = here.id if here else None
        with progress_shown(going):
            # Without an API for the night's flow there is none for those of its targets.
            _each(going, with_prefect=_call is as_tasks)

    def shown(_none: None) -> "State[None] | None":
        lost = not_as_wanted(going.outcomes)
        how: LaunchState = "stopped" if going.control.stopped else "warned" if lost else "done"
        return launch_state(how, "; ".join((f"{going.name}: {_summary(going)}", *lost)))

    specimens = (going.queued[name].plan.sample.name for name in going.open)
    tags = tags_of("night", going.opened.file.name, specimens)
    if flow_run_here() is not None:
        within_flow(going.opened, body, tags)
        return
    seen_by_prefect(going.opened, "night", night_name(going.night, going.started), body, shown, tags)


def _each(going: Going, *, with_prefect: bool) -> None:
    """One target after the other, the next chosen anew each time."""
    if going.open and (why := _not_allowed(going)):
        going.control.stopped = going.control.stopped or why
    while going.open:
        going.control.look()
        if not going.control.stopped:
            going.events.take_place()
            going.wait()
        # Before a stop: what a person does not want is not for the same command to take up again.
        for name, why in going.asked_to_skip():
            _ended(going, name, Outcome(TargetState.SKIPPED, why, going.runs_of(name)))
        if going.control.stopped:
            _leave_rest(going, going.control.stopped)
            return
        chosen = going.choose(lambda name, why, again: _left_out(going, name, why, again=again))
        if chosen is None:
            continue
        outcome = _tried(going, chosen, with_prefect=with_prefect)
        going.stop_after_faults()
        if outcome.ends_night:
            _leave_rest(going, f"{chosen} ended the night: {outcome.reason}")
            return
    for name in going.held_back():
        _ended(going, name, Outcome(TargetState.SKIPPED, NOT_NEEDED, ()))


def _not_allowed(going: Going) -> str:
    """Why nothing is exposed tonight, where a person was to be asked first; empty where it is."""
    plans = [going.queued[name].plan for name in going.open]
    decision = before_night(going.opened, going.night.title or going.night.name, plans)
    going.control.asked = going.control.asked or (decision.by_person and decision.then != "go_on")
    return "" if decision.then == "go_on" else f"it was not begun: {decision.words}"


def _tried(going: Going, name: str, *, with_prefect: bool) -> Outcome:
    """Run one target, or what is left of it."""
    _set(going, name, TargetState.RUNNING, "")
    todo = _todo(going, name)
    if isinstance(todo, Outcome):
        return _ended(going, name, todo, broken_off=todo.broken_off)
    plan, earlier = todo
    with going.timed(name):
        outcome = _run_one(going, Queued(going.queued[name].target, plan), earlier, with_prefect=with_prefect)
    if plan.sample.area != going.queued[name].plan.sample.area:
        words = (outcome.reason.rstrip("; "), f"the rest of its passes lies on area {plan.sample.area}")
        outcome = replace(outcome, reason="; ".join(part for part in words if part))
    if outcome.fault and name not in going.faults and not going.control.stopped and name not in going.control.skipped:
        return _once_more(going, name, outcome)
    # One that a person does not want is not taken up again.
    return _ended(going, name, outcome, broken_off=outcome.broken_off and name not in going.control.skipped)


def _todo(going: Going, name: str) -> tuple[Plan, tuple[str, ...]] | Outcome:
    """The plan of a target, or of what is left of one that was broken off with its runs; its end, if nothing is."""
    fault = going.faults.get(name)
    before = f"{fault.reason}; " if fault else ""
    try:
        broken = going.broken_off(name)
        if broken is None:
            return going.queued[name].plan, ()
        if broken.ended is not None:
            return replace(broken.ended, reason=f"{before}{broken.ended.reason}")
        rest = again(going.opened, going.ids[name], broken)
    except NightbeamError as error:
        # The database or the instrument is away: the same command finds out later.
        words = f"{before}what is left of it could not be found out: {error}"
        return Outcome(TargetState.FAILED, words, going.runs_of(name), broken_off=True, fault=True)
    if rest.plan is not None:
        return rest.plan, broken.runs
    if rest.whole:
        return Outcome(TargetState.MARKED, f"{before}{rest.reason}; they were not judged together", broken.runs)
    return Outcome(TargetState.SKIPPED, f"{before}{rest.reason}", broken.runs, fault=fault is not None)


def _once_more(going: Going, name: str, outcome: Outcome) -> Outcome:
    """A target that a fault of the machines ended is tried once more, when conditions are good and its turn comes."""
    _set(going, name, TargetState.PENDING, f"to be tried once more: {outcome.reason}")
    going.put_back(name, outcome)
    return outcome


def _run_one(going: Going, one: Queued, earlier: tuple[str, ...], *, with_prefect: bool) -> Outcome:
    target_id = going.ids[one.target.name]
    try:
        if with_prefect and not going.prefect_lost:
            title = one.target.title or one.target.name
            outcome, going.prefect_lost = target_flow(going.opened, title, one.plan, target_id, earlier)
            return outcome
        return run_target(as_calls, going.opened.file.name, canonical_json(one.plan), target_id, earlier)
    except InstrumentTaken:
        raise  # for the targets after this one it is somebody else's, too
    except (BadInput, LimitViolation) as error:
        # Before its first run was open: what was asked cannot be had, and nothing was exposed.
        return Outcome(TargetState.REFUSED, str(error), ())
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
        priority=one.target.priority,
    )


def _ended(going: Going, name: str, outcome: Outcome, *, broken_off: bool = False) -> Outcome:
    """A target has ended: in the database, and in the order."""
    _set(going, name, outcome.state, outcome.reason, broken_off=broken_off)
    going.end(name, outcome)
    return outcome


def _left_out(going: Going, name: str, why: str, *, again: bool) -> None:
    """There is no time for a target any more; ``again`` says that another night may have it."""
    _ended(going, name, Outcome(TargetState.SKIPPED, why, going.runs_of(name)), broken_off=again)


def _leave_rest(going: Going, why: str) -> None:
    """What has not begun when the night is ended was skipped, and waits for the same command."""
    for name in (*going.open, *going.held_back()):
        _ended(going, name, Outcome(TargetState.SKIPPED, why, going.runs_of(name)), broken_off=True)


def _set(going: Going, name: str, state: TargetState, reason: str, *, broken_off: bool = False) -> None:
    predicted_s, actual_s = going.took(name) or (None, None)
    going.opened.recorder.record(
        SetTarget(
            target=going.ids[name],
            state=state.value,
            reason=reason,
            broken_off=broken_off,
            predicted_s=predicted_s,
            actual_s=actual_s,
            owner_token=going.opened.ownership.token if state is TargetState.RUNNING else None,
        )
    )


def _skip_rest(going: Going, reason: str) -> None:
    """What was running when the night broke off failed; what had not begun was skipped."""
    running, skipped = going.control.running, going.control.skipped
    for name in (*going.open, *going.held_back()):
        if name in skipped and name != running:
            _set(going, name, TargetState.SKIPPED, skipped[name])
        elif name == running:
            words = f"the night broke off in {name}: {reason}"
            _set(going, name, TargetState.FAILED, words, broken_off=True)
        else:
            words = f"the night ended before {name}: {reason}"
            _set(going, name, TargetState.SKIPPED, words, broken_off=True)


def _summary(going: Going) -> str:
    states = [outcome.state for _target, outcome in going.outcomes]
    return ", ".join(f"{states.count(state)} {state.value}" for state in TargetState if state in states)
