"""Asks a person in Prefect, beam blanked, and takes a safe answer where nobody gives one in time."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from prefect import pause_flow_run
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import SetStateStatus
from prefect.input import RunInput
from pydantic import Field

from devices.safety import SafeLevel, make_safe
from flows.artifacts import away
from flows.flow_run import flow_run_here
from flows.markdown import escaped
from flows.notify import tell_people
from stem4d.night import Approval, Unanswered
from stem4d.schedule import in_words
from tasks.lab import Lab
from tasks.within import beside, within
from web.report.text import number

LOOK_S = 1.0
"""How often it is looked for an answer and for orders [s]."""
ANSWERS_WITHIN_S = 5.0
"""How long Prefect has to take back a question."""
PREFECT_WAITS_S = 7 * 86400
"""How long Prefect would wait by itself: never less than we do, which makes a failure of the flow run."""
FOLLOWS = {"go_on": "it goes on", "skip": "it is not done", "stop": "the night stops"}


class Answer(RunInput):  # type: ignore[misc]
    """What a person answers; Prefect makes its form of this, and refuses what does not fit."""

    approve: bool = Field(False, title="Go on", description="Yes: do what is suggested. No: do not expose for it.")
    comment: str = Field(default="", max_length=500, description="Why, for the record.")
    who: str = Field(default="", max_length=100, description="Your name, for the record.")


@dataclass(frozen=True)
class Question:
    """What is asked, and what it would cost."""

    before: str
    """``night`` or ``remedy``."""
    asked: str
    suggestion: str
    dose_cost_e_per_a2: float
    """Highest fluence on any area."""
    time_cost_s: float
    run: str | None = None

    @property
    def cost(self) -> str:
        """What it takes of specimen and night."""
        return f"up to {number(self.dose_cost_e_per_a2, 3)} e/Å² on an area, {in_words(self.time_cost_s)} of beam"


@dataclass(frozen=True)
class Decision:
    """What is to be done, and who decided that."""

    then: Unanswered
    words: str
    by_person: bool = False


def ask_person(
    opened: Lab, question: Question, policy: Approval, clock: Callable[[], float] = time.monotonic
) -> Decision:
    """Ask, and wait for an answer as long as the policy says; orders to the night are obeyed meanwhile.

    Without Prefect, or where it does not answer, the policy's own answer is taken at once. The instrument stays in the
    hands of this process, with its watchdog, while it waits.
    """
    decision = _decided(opened, question, policy, clock)
    words = f"{question.asked} {question.suggestion}? {decision.words}; {FOLLOWS[decision.then]}"
    opened.tell("approval", words, question.run, then=decision.then, by="person" if decision.by_person else "policy")
    return decision


def _decided(opened: Lab, question: Question, policy: Approval, clock: Callable[[], float]) -> Decision:
    otherwise = policy.unanswered(question.before)
    flow_run = flow_run_here()
    if opened.prefect_away or flow_run is None:
        why = opened.prefect_away or "this runs without Prefect"
        return Decision(otherwise, f"nobody could be asked: {why}")
    report = make_safe(opened.instrument, SafeLevel.HOLD, "a person is asked")
    if not report.beam_off:
        opened.warn("safety", report.words, question.run)
        return Decision("stop", f"nobody was waited for: {report.words}")
    asked = _pause(question, policy)
    until = clock() + 60 * policy.wait_min
    opened.show(
        "approval", f"{question.asked} {question.suggestion}? Waits {in_words(60 * policy.wait_min)} for an answer"
    )
    _tell(opened, question, policy, str(flow_run.name))
    order = ""
    while not asked.done() and clock() < until and not order:
        time.sleep(min(LOOK_S, max(0.0, until - clock())))
        order = opened.between()
    taken_back = not asked.done() and _taken_back(flow_run.id, order or "nobody answered in time")
    if order:
        # Whatever was answered meanwhile: who wants the night or the target to end does not want more of it.
        return Decision(_none_of_it(question), order)
    if taken_back:
        return Decision(otherwise, f"nobody answered within {in_words(60 * policy.wait_min)}")
    return _answered(opened, asked, question)


def _none_of_it(question: Question) -> Unanswered:
    return "stop" if question.before == "night" else "skip"


def _pause(question: Question, policy: Approval) -> "Future[Any]":
    """The flow run pauses, in a thread: it waits without looking at anything else."""
    words = (
        f"**{escaped(question.asked)}**\n\n"
        f"Suggested: {escaped(question.suggestion)}. Cost: {escaped(question.cost)}.\n\n"
        f"Without an answer within {in_words(60 * policy.wait_min)}: "
        f"{FOLLOWS[policy.unanswered(question.before)]}. The beam is blanked."
    )
    form = Answer.with_initial_data(description=words)
    here = copy_context()
    return beside(
        "nightbeam-approval",
        lambda: here.run(pause_flow_run, wait_for_input=form, timeout=PREFECT_WAITS_S, poll_interval=1),
    )


def _tell(opened: Lab, question: Question, policy: Approval, flow_run: str) -> None:
    title = f"nightbeam, {opened.file.name}: {question.suggestion}? ({question.run or flow_run})"
    otherwise = FOLLOWS[policy.unanswered(question.before)]
    text = (
        f"{question.asked}\nCost: {question.cost}\nAnswer in Prefect (flow run {flow_run}) within "
        f"{in_words(60 * policy.wait_min)}; without an answer {otherwise}."
    )
    if trouble := tell_people(opened.settings, "asks", title, text):
        opened.show("message", trouble)


def _taken_back(flow_run: Any, why: str) -> bool:
    """Whether the flow run goes on by our own hand; not where somebody answered in the last moment."""

    def resume() -> Any:
        with get_client(sync_client=True) as client:
            return client.resume_flow_run(flow_run, run_input={"approve": False, "comment": why, "who": "nightbeam"})

    try:
        return bool(within(ANSWERS_WITHIN_S, "nightbeam-approval", resume).status == SetStateStatus.ACCEPT)
    except Exception:  # noqa: BLE001 - whatever Prefect or its client raises; then the question's own thread says it
        return False


def _answered(opened: Lab, asked: "Future[Any]", question: Question) -> Decision:
    try:
        answer = asked.result(ANSWERS_WITHIN_S)
    except Exception as error:  # noqa: BLE001 - no API, a run that was cancelled, an answer that cannot be read
        away(opened, f"Prefect did not answer ({type(error).__name__})")
        # Not what was to follow silence: nobody had the time to answer.
        return Decision(_none_of_it(question), f"nobody could be asked: {opened.prefect_away}")
    who, why = answer.who.strip() or "somebody in Prefect", f": {answer.comment.strip()}" if answer.comment else ""
    if answer.approve:
        return Decision("go_on", f"allowed by {who}{why}", by_person=True)
    return Decision(_none_of_it(question), f"refused by {who}{why}", by_person=True)
