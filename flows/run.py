"""One target from its plan to its verdict: the stages in order, and again with a remedy where one is allowed."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from prefect import Task
from prefect.states import State

from flows.approach import approach, is_wanted
from flows.artifacts import show_figures
from flows.by_prefect import Call, as_calls, seen_by_prefect, within_flow
from flows.emitted import run_ended
from flows.flow_run import flow_run_here
from flows.questions import before_remedy
from flows.report import report_run
from flows.shown import target_state
from flows.status import single_run
from flows.story import tags_of, target_name
from stem4d.errors import BadInput, BrokenOff, DoseRefused, LimitViolation, NightbeamError
from stem4d.model import canonical_json
from stem4d.night import TargetState
from stem4d.plan import Plan
from tasks.analyse import analyse
from tasks.calibrate import calibrate, lacking_in
from tasks.check import check_quality
from tasks.lab import Lab, lab
from tasks.mend import mend
from tasks.passes import expose
from tasks.prepare import prepare
from tasks.record import close_run, not_hiding, open_run
from tasks.settle import settle
from tasks.validate import validate


@dataclass(frozen=True)
class Outcome:
    """How a target ended."""

    state: TargetState
    reason: str
    runs: tuple[str, ...]
    lacking: tuple[str, ...] = ()
    """Kinds of calibration that its analyses need and that it had to do without."""
    ends_night: bool = False
    """Whether the plan's policy ends the night here."""
    broken_off: bool = False
    """Whether a person ended it before its end: a stop or a skip."""
    short: str = ""
    """Results that are not good, of one that ended well."""
    fault: bool = False
    """Whether it failed by a fault of the machines, and not by what was asked of them."""

    def as_dict(self) -> dict[str, Any]:
        """For a flow's result and for ``--json``."""
        return {
            "state": self.state.value,
            "reason": self.reason,
            "runs": list(self.runs),
            "lacking": list(self.lacking),
            "ends_night": self.ends_night,
            "broken_off": self.broken_off,
            "short": self.short,
            "fault": self.fault,
        }


def run_plan(opened: Lab, plan: Plan, *, with_prefect: bool) -> Outcome:
    """One experiment outside of any night."""
    plan_json = canonical_json(plan)
    with single_run(opened, plan=plan.name):
        if not with_prefect:
            return run_target(as_calls, opened.file.name, plan_json, None)
        if flow_run_here() is not None:
            labels = tags_of("run", opened.file.name, [plan.sample.name])
            return within_flow(opened, lambda call: run_target(call, opened.file.name, plan_json, None), labels)
        outcome, _lost = target_flow(opened, plan.title or plan.name, plan, None)
        return outcome


def target_flow(
    opened: Lab, title: str, plan: Plan, target_id: int | None, earlier: tuple[str, ...] = ()
) -> tuple[Outcome, str]:
    """One target of a night, or one run, as a Prefect flow; gives also why Prefect is lost, empty where it is not."""
    plan_json = canonical_json(plan)

    def body(call: Call) -> Outcome:
        return run_target(call, opened.file.name, plan_json, target_id, earlier)

    tags = tags_of("run" if target_id is None else "target", opened.file.name, [plan.sample.name])
    return seen_by_prefect(opened, "target", target_name(title, plan), body, _shown, tags)


def _shown(outcome: Outcome) -> "State[None]":
    return target_state(outcome.state, outcome.reason)


def run_target(
    call: Call, instrument: str, plan_json: str, target_id: int | None, earlier: tuple[str, ...] = ()
) -> Outcome:
    """Expose a plan's area until the data are good, nothing more can be mended, or dose and time are spent.

    ``earlier`` are runs of the target that were broken off; the lab knows the last of them.
    """
    opened = lab(instrument)

    def stage(one: "Task[..., Any]", *args: Any) -> Any:
        opened.on_stage(getattr(one, "name", ""))
        return call(one, *args)

    return _run_target(stage, instrument, plan_json, target_id, list(earlier))


def _run_target(call: Call, instrument: str, plan_json: str, target_id: int | None, runs: list[str]) -> Outcome:
    remedies: list[str] = []
    wait: dict[str, float] | None = None
    while True:
        run = call(open_run, instrument, plan_json, target_id, runs)
        runs.append(run)
        try:
            attempt = _attempt(call, instrument, runs, wait)
        except DoseRefused as error:
            attempt = Attempt("refused", str(error))
        except BrokenOff as error:
            attempt = Attempt("stopped", str(error), asked=True)
        except NightbeamError as error:
            with not_hiding(lab(instrument), run):
                call(close_run, instrument, run, "failed", str(error), None)
            _report_all(call, instrument, runs)
            run_ended(lab(instrument), run, "failed", str(error))
            fault = not isinstance(error, BadInput | LimitViolation)
            return Outcome(TargetState.FAILED, str(error), tuple(runs), fault=fault)
        except BaseException as error:
            # A bug or Ctrl+C: close the run in the database with nothing in between.
            state = "failed" if isinstance(error, Exception) else "stopped"
            with not_hiding(lab(instrument), run):
                as_calls(close_run, instrument, run, state, f"{type(error).__name__}: {error}".rstrip(": "), None)
            raise
        call(close_run, instrument, run, attempt.state, attempt.reason.rstrip("; "), attempt.exposed)
        if attempt.next_plan_json is None:
            _report_all(call, instrument, runs)
            _tell_ended(instrument, run, attempt)
            return _ended(attempt, tuple(runs), remedies)
        if asked := lab(instrument).between():
            _report_all(call, instrument, runs)
            _tell_ended(instrument, run, attempt)
            reason = f"{attempt.reason.rstrip('; ')} ({attempt.remedy} not tried: {asked})"
            return Outcome(TargetState.MARKED, reason, tuple(runs))
        call(report_run, instrument, run)
        _tell_ended(instrument, run, attempt)
        show_figures(lab(instrument), run)
        decision = before_remedy(lab(instrument), run, attempt.reason, attempt.remedy, attempt.next_plan_json)
        if decision.then != "go_on":
            _report_all(call, instrument, runs)
            reason = f"{attempt.reason.rstrip('; ')} ({attempt.remedy} not tried: {decision.words})"
            return Outcome(TargetState.MARKED, reason, tuple(runs), ends_night=decision.then == "stop")
        remedies.append(attempt.remedy)
        plan_json, wait = attempt.next_plan_json, attempt.wait


def _report_all(call: Call, instrument: str, runs: list[str]) -> None:
    """Write the last attempt's page, and those of the others again: what came of them stands on each."""
    for run in reversed(runs):
        call(report_run, instrument, run)
    show_figures(lab(instrument), runs[-1])


class Attempt(NamedTuple):
    """How one run ended, and what to try next where it can be mended."""

    state: str
    reason: str
    exposed: dict[str, Any] | None = None
    remedy: str = ""
    next_plan_json: str | None = None
    wait: dict[str, float] | None = None
    """The drift that the next attempt waits for."""
    lacking: tuple[str, ...] = ()
    asked: bool = False
    """Whether a person ended it."""
    leave: str = ""
    """What the policy gives up: "skip" this target, or "end_night"."""
    verdicts: dict[str, str] | None = None
    """Of each analysis, where it was judged."""
    short: str = ""
    """Results that are not good."""


def _tell_ended(instrument: str, run: str, attempt: Attempt) -> None:
    reason = attempt.reason.rstrip("; ")
    run_ended(lab(instrument), run, attempt.state, reason, attempt.exposed, attempt.verdicts)


def _ended(attempt: Attempt, runs: tuple[str, ...], remedies: list[str]) -> Outcome:
    """What a target came to, by its last attempt."""
    reason = attempt.reason.rstrip("; ")
    if attempt.asked:
        return Outcome(TargetState.SKIPPED, reason, runs, attempt.lacking, broken_off=True)
    if attempt.leave == "skip":
        return Outcome(TargetState.SKIPPED, reason, runs, attempt.lacking)
    if attempt.state == "done" and remedies:
        reason = f"{attempt.reason}after {'; '.join(remedies)}"
        return Outcome(TargetState.MENDED, reason, runs, attempt.lacking, short=attempt.short)
    ends = attempt.leave == "end_night"
    return Outcome(TargetState(attempt.state), reason, runs, attempt.lacking, ends, short=attempt.short)


def _attempt(call: Call, instrument: str, runs: list[str], wait: dict[str, float] | None) -> Attempt:
    """One run's stages in order; ``runs`` are the attempts so far, this one the last."""
    run = runs[-1]
    verdict = call(validate, instrument, run, None)
    if verdict["hard"]:
        return Attempt("refused", verdict["reason"])
    call(prepare, instrument, run)
    calibrated = call(calibrate, instrument, run)
    lacking = lacking_in(lab(instrument), run, calibrated)
    if missing := [kind for kind in lacking if kind in lab(instrument).needs]:
        return Attempt("refused", f"not exposed without {', '.join(missing)}, which could not be had", lacking=lacking)
    verdict = call(validate, instrument, run, calibrated)
    if verdict["hard"]:
        return Attempt("refused", verdict["reason"])
    if asked := lab(instrument).between():
        return Attempt("stopped", f"{asked}, before it was exposed", asked=True)
    if approached := is_wanted(lab(instrument), runs):
        calibrated, lost = approach(call, instrument, run, calibrated)
        if lost:
            return Attempt("marked", lost, lacking=lacking, leave="skip")
    if wait is not None:
        waited = call(settle, instrument, run, calibrated, wait, runs)
        if not waited["settled"]:
            return Attempt("marked", waited["reason"], lacking=lacking)
    if (approached or wait is not None) and (asked := lab(instrument).between()):
        return Attempt("stopped", f"{asked}, before it was exposed", asked=True)
    exposed = call(expose, instrument, run, calibrated)
    if exposed["asked"]:
        return Attempt("stopped", exposed["asked"], exposed, asked=True)
    quality = call(check_quality, instrument, run, calibrated, exposed)
    verdicts = quality["verdicts"]
    ended_early = bool(exposed["stopped"] or exposed["failing"])
    if ended_early or quality["fails"]:
        between = " ".join(dict.fromkeys(one["message"] for one in exposed["failing"]))
        reason = exposed["stopped"] or between or quality["reason"]
        remedy = call(mend, instrument, run, calibrated, exposed, quality, runs)
        if remedy["plan_json"] is not None:
            state = "stopped" if ended_early else "marked"
            mending = (remedy["words"], remedy["plan_json"], remedy["wait"])
            return Attempt(state, reason, exposed, *mending, verdicts=verdicts)
        if not exposed["stopped"] and remedy["leave"] != "skip":
            call(analyse, instrument, run, calibrated, exposed, quality)
        reason = f"{reason} ({remedy['words']})"
        return Attempt("marked", reason, exposed, lacking=lacking, leave=remedy["leave"], verdicts=verdicts)
    results = call(analyse, instrument, run, calibrated, exposed, quality)
    warned = sorted(name for name, verdict in verdicts.items() if verdict == "warn")
    reason = f"with a warning for {', '.join(warned)}; " if warned else ""
    if lacking:
        reason += f"without {', '.join(lacking)}, which its analyses need; "
    not_good = {method: verdict.replace("_", " ") for method, verdict in results.items() if verdict != "good"}
    if short := ", ".join(f"{method} {words}" for method, words in not_good.items()):
        reason += f"results: {short}; "
    return Attempt("done", reason, exposed, lacking=lacking, verdicts=verdicts, short=short)
