"""A person in the loop: asked in Prefect's own flow run, heard, and never waited for beyond what the night allows."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db.engine import reader
from db.questions.night import night_story
from devices.safety import BLANK, SafeLevel, SafeReport, SafeStep
from flows.api import PrefectApi, client_of, start
from flows.approval import Decision, Question, ask_person
from flows.by_prefect import seen_by_prefect
from flows.night import run_night
from flows.run import run_plan
from stem4d.night import Approval, TargetState
from tasks.lab import Lab, Told
from tests.flows.going_world import Played, a_night, states
from tests.flows.night_world import small_lab
from tests.flows.prefect_world import flow_run_named, until
from tests.flows.remedy_world import saturating, without_pages

PLENTY = Approval(before=("night", "remedy"), wait_min=2.0)
SHORT = Approval(before=("night", "remedy"), wait_min=0.05)
QUESTION = Question("remedy", "Saturated *in* 3 %.", "Once more: a third of the dwell time", 12.5, 90.0)

Answers = Callable[[Any], None]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with small_lab(tmp_path_factory.mktemp("asked")) as lab:
        yield lab


def asked(opened: Lab, name: str, policy: Approval, answers: Answers | None = None) -> Decision:
    """Ask in a flow run of that name; somebody answers when it is paused."""
    trouble: list[BaseException] = []

    def answer() -> None:
        try:
            assert answers is not None
            answers(until(lambda: paused(name)))
        except Exception as error:  # noqa: BLE001 - it is raised by the thread that waits
            trouble.append(error)

    between = opened.between
    # Whoever cannot answer is not waited for.
    opened.between = lambda: str(trouble or between())
    somebody = threading.Thread(target=answer) if answers else None
    if somebody:
        somebody.start()
    came, lost = seen_by_prefect(
        opened, "target", name, lambda _call: ask_person(opened, QUESTION, policy), lambda _: None
    )
    opened.between = between
    if somebody:
        somebody.join()
    assert (trouble, lost) == ([], "")
    assert flow_run_named(name).state.is_completed()
    return came


def paused(name: str) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_flow_runs() if run.name == name and run.state.is_paused()]
        # Its form is there a moment later than its state.
        return runs and form_of(client, runs[0]) and runs[0]


def form_of(client: Any, run: Any) -> Any:
    from prefect.exceptions import PrefectHTTPStatusError

    key = run.state.state_details.run_input_keyset["description"]
    try:
        return client._client.get(f"/flow_runs/{run.id}/input/{key}", follow_redirects=True).json()
    except PrefectHTTPStatusError as error:
        assert error.response.status_code == 404  # noqa: PT017 - not there yet
        return None


def says(**answer: Any) -> Answers:
    from prefect.client.orchestration import get_client

    def resume(run: Any) -> None:
        with get_client(sync_client=True) as client:
            assert client.resume_flow_run(run.id, run_input=answer).status == "ACCEPT"

    return resume


def last_event(opened: Lab) -> str:
    from sqlalchemy import text

    with reader(opened.engine) as session:
        found = session.execute(
            text("select message from event where kind = 'approval' order by sequence desc limit 1")
        )
        return str(found.scalar_one())


def test_a_yes_goes_on_and_says_whose_it_was(
    prefect_api: PrefectApi, opened: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[tuple[str, str]] = []

    def post(_settings: object, what: str, _title: str, text: str) -> str:
        messages.append((what, text))
        return ""

    monkeypatch.setattr("flows.approval.tell_people", post)
    decision = asked(opened, "yes", PLENTY, says(approve=True, who="Anna", comment="the crystal bears it"))
    assert decision == Decision("go_on", "allowed by Anna: the crystal bears it", by_person=True)
    assert last_event(opened) == (
        "Saturated *in* 3 %. Once more: a third of the dwell time? allowed by Anna: the crystal bears it; it goes on"
    )
    ((what, text),) = messages
    assert what == "asks"
    assert "up to 12.5 e/Å² on an area, 1.5 min of beam" in text
    assert "flow run yes" in text


def test_a_no_leaves_it_out(prefect_api: PrefectApi, opened: Lab) -> None:
    decision = asked(opened, "no", PLENTY, says(approve=False))
    assert decision == Decision("skip", "refused by somebody in Prefect", by_person=True)


def test_what_does_not_fit_the_form_is_refused_and_the_question_stands(prefect_api: PrefectApi, opened: Lab) -> None:
    from prefect.client.orchestration import get_client

    refused = []

    def badly_first(run: Any) -> None:
        with get_client(sync_client=True) as client:
            shown = form_of(client, run)
            assert "12.5 e/Å²" in shown.replace("\\", "")
            assert "\\*in\\*" in shown
            for bad in ({"approve": "perhaps"}, {"approve": True, "dose": 1}, {"approve": True, "who": "x" * 101}):
                refused.append(client.resume_flow_run(run.id, run_input=bad).status)
        says(approve=True, who="Ben")(run)

    decision = asked(opened, "badly", PLENTY, badly_first)
    assert [str(one.value) for one in refused] == ["REJECT"] * 3
    assert decision.words == "allowed by Ben"


def test_nobody_answers_and_the_flow_run_does_not_fail(prefect_api: PrefectApi, opened: Lab) -> None:
    decision = asked(opened, "nobody", SHORT)
    assert decision == Decision("skip", "nobody answered within 3 s")
    assert last_event(opened).endswith("nobody answered within 3 s; it is not done")


def test_a_beam_that_may_be_on_is_no_time_to_wait(
    prefect_api: PrefectApi, opened: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lit = SafeReport(SafeLevel.HOLD, "", (SafeStep(BLANK, "it is stuck"),))
    monkeypatch.setattr("flows.approval.make_safe", lambda *_: lit)
    go_on = PLENTY.model_copy(update={"otherwise": "go_on"})
    decision = asked(opened, "lit", go_on)
    assert decision.then == "stop"
    assert "THE BEAM MAY STILL BE ON" in decision.words


def test_an_order_ends_the_wait(prefect_api: PrefectApi, opened: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "between", lambda: "stopped by a person")
    go_on = PLENTY.model_copy(update={"otherwise": "go_on"})
    assert asked(opened, "ordered", go_on) == Decision("skip", "stopped by a person")


def test_without_prefect_the_safe_answer_is_taken_at_once(opened: Lab) -> None:
    told: list[Told] = []
    opened.on_told = told.append
    decision = ask_person(opened, QUESTION, PLENTY)
    assert decision == Decision("skip", "nobody could be asked: this runs without Prefect")
    assert [one.kind for one in told] == ["approval"]


@pytest.mark.parametrize(
    ("otherwise", "night", "remedy"),
    [(None, "stop", "skip"), ("go_on", "go_on", "go_on"), ("skip", "stop", "skip"), ("stop", "stop", "stop")],
)
def test_what_becomes_of_a_question_without_an_answer(otherwise: Any, night: str, remedy: str) -> None:
    policy = Approval(before=("night",), otherwise=otherwise)
    assert (policy.unanswered("night"), policy.unanswered("remedy")) == (night, remedy)


def test_a_night_that_nobody_allows_exposes_nothing_and_waits_for_the_same_command(
    opened: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    night, queued = a_night({}, {}, approval={"before": ["night"], "wait_min": 1.0})
    played = Played(opened)
    monkeypatch.setattr("flows.night.run_target", played)
    result = run_night(opened, night, queued, with_prefect=False)
    assert played.ran == []
    assert "it was not begun: nobody could be asked" in result.reason
    with reader(opened.engine) as session:
        story = night_story(session)
    assert (story["state"], {one["broken_off"] for one in story["targets"]}) == ("stopped", {True})
    assert {state for state, _why in states(opened).values()} == {"skipped"}
    assert opened.approval is None


@pytest.mark.parametrize(
    ("otherwise", "state", "runs"),
    [("stop", TargetState.MARKED, 1), ("go_on", TargetState.MENDED, 2)],
)
def test_a_remedy_is_tried_where_it_may_be(
    otherwise: Any, state: TargetState, runs: int, opened: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pages(monkeypatch)
    monkeypatch.setattr(opened, "approval", PLENTY.model_copy(update={"otherwise": otherwise}))
    outcome = run_plan(opened, saturating(f"asked-{otherwise}"), with_prefect=False)
    assert (outcome.state, len(outcome.runs), outcome.ends_night) == (state, runs, otherwise == "stop")
    if state is TargetState.MARKED:
        assert "not tried: nobody could be asked" in outcome.reason
    assert f"{outcome.runs[0]} on area" in last_event(opened)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_api_that_goes_away_while_it_asks_is_no_yes_and_holds_nobody_up_for_long(
    opened: Lab, tmp_path: Path
) -> None:
    with start(tmp_path) as server, client_of(server):
        server.ready()
        told: list[Told] = []
        opened.on_told = told.append

        def ends() -> None:
            until(lambda: paused("lost"))
            server.stop()

        gone = threading.Thread(target=ends)
        gone.start()
        policy = PLENTY.model_copy(update={"otherwise": "go_on"})

        def body(_call: object) -> tuple[Decision, float]:
            began_s = time.monotonic()
            return ask_person(opened, QUESTION, policy), time.monotonic() - began_s

        (came, took_s), lost = seen_by_prefect(opened, "target", "lost", body, lambda _: None)
        gone.join()
    assert came.then == "go_on"
    assert came.words.startswith("nobody could be asked: Prefect did not answer")
    assert lost
    # Prefect's client gives up after half a minute at the latest, and the question stands for two.
    assert took_s < 90
    assert "prefect" in [one.kind for one in told]
