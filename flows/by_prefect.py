"""How stages and flows are shown to Prefect, and how they go on where its API goes away: it sees, and never decides."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from prefect import Task, flow, tags
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import State

from devices.interrupts import listening
from flows.artifacts import tag_flow_run
from flows.flow_run import flow_run_here
from flows.story import in_its_log
from tasks.lab import Lab

Call = Callable[..., Any]
Came = TypeVar("Came")


def as_tasks(stage: "Task[..., Any]", *args: Any) -> Any:
    """Run a stage as a Prefect task."""
    return stage(*args)


def as_calls(stage: "Task[..., Any]", *args: Any) -> Any:
    """Run a stage as the plain function that it is: no Prefect API needed."""
    return stage.fn(*args)


def within_flow(opened: Lab, body: Callable[[Call], Came], labels: Iterable[str] = ()) -> Came:
    """Run a body as what the flow that runs here is for: a deployment's is that of its night or run."""
    opened.prefect_away = ""
    tag_flow_run(opened, labels)
    with listening(), in_its_log(opened):
        return body(as_tasks)


def _one_heartbeat() -> AbstractContextManager[object]:
    """A flow within another leaves the heartbeat to that one: Prefect waits up to a second for the end of each."""
    within = flow_run_here() is not None
    return temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}) if within else nullcontext()


def seen_by_prefect(
    opened: Lab,
    name: str,
    title: str,
    body: Callable[[Call], Came],
    shown: Callable[[Came], "State[None] | None"],
    labels: Iterable[str] = (),
) -> tuple[Came, str]:
    """Run a body as a flow of this name; gives what came of it, and why Prefect is lost, empty where it is not.

    What the body did is never done again: where Prefect is lost before it, the body runs by plain calls; after it, its
    result stands. ``shown`` is the state that the flow run ends in, ``labels`` are its tags.
    """
    came: list[Came] = []
    own: list[BaseException] = []

    @flow(name=name, flow_run_name=lambda: title, persist_result=False, log_prints=False)
    def seen() -> Any:
        opened.prefect_away = ""
        try:
            with listening(), in_its_log(opened):
                came.append(body(as_tasks))
        except BaseException as error:
            own.append(error)
            raise
        return shown(came[0])

    lost = ""
    try:
        with tags(*labels), _one_heartbeat():
            # A state that is to be shown red is no error here.
            seen(return_state=True)
    except Exception as error:  # noqa: BLE001 - whatever Prefect or its client raises, it only looks on
        lost = type(error).__name__
    if own:
        raise own[0] from None
    if lost or not came:
        words = f"Prefect does not answer any more ({lost or 'it began nothing'}); everything goes on without it"
        opened.prefect_away = words
        opened.warn("prefect", words)
        return (came[0] if came else body(as_calls)), words
    return came[0], ""
