"""How stages and flows are shown to Prefect, and how they go on where its API goes away: it sees, and never decides."""

from collections.abc import Callable
from typing import Any, TypeVar

from prefect import Task, flow

from devices.interrupts import listening
from tasks.lab import Lab

Call = Callable[..., Any]
Came = TypeVar("Came")


def as_tasks(stage: "Task[..., Any]", *args: Any) -> Any:
    """Run a stage as a Prefect task."""
    return stage(*args)


def as_calls(stage: "Task[..., Any]", *args: Any) -> Any:
    """Run a stage as the plain function that it is: no Prefect API needed."""
    return stage.fn(*args)


def seen_by_prefect(
    opened: Lab, name: str, title: str, body: Callable[[Call], Came], shown: Callable[[Came], Any]
) -> tuple[Came, str]:
    """Run a body as a flow of this name; gives what came of it, and why Prefect is lost, empty where it is not.

    What the body did is never done again: where Prefect is lost before it, the body runs by plain calls; after it, its
    result stands. ``shown`` is what Prefect keeps of the result.
    """
    came: list[Came] = []
    own: list[BaseException] = []

    @flow(name=name, flow_run_name=lambda: title, persist_result=False, log_prints=False)
    def seen() -> Any:
        try:
            with listening():
                came.append(body(as_tasks))
        except BaseException as error:
            own.append(error)
            raise
        return shown(came[0])

    try:
        seen()
    except Exception as error:  # noqa: BLE001 - whatever Prefect or its client raises, it only looks on
        if own:
            raise own[0] from None
        words = f"Prefect does not answer any more ({type(error).__name__}); everything goes on without it"
        opened.warn("prefect", words)
        return (came[0] if came else body(as_calls)), words
    return came[0], ""
