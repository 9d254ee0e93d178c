"""A flow run as a microscopist knows it: its name, its tags, and in its log the story of the run and nothing else."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from prefect.context import TagsContext
from prefect.logging.handlers import APILogHandler

from flows.flow_run import flow_run_here
from stem4d.names import plainly
from stem4d.night import Night
from stem4d.plan import Plan
from tasks.lab import Lab, Told
from tasks.stage import worth_reading

MOST_SPECIMENS = 10
"""Tags of a night for its specimens."""
BAD = frozenset(
    {
        "calibration failed",
        "calibration missing",
        "frames lost",
        "no remedy",
        "not recorded",
        "report failed",
        "stale calibration",
        "stopped early",
    }
)
"""Kinds of events that are warnings however they are told."""

# Not below Prefect's loggers: what goes there is printed as well, and the screen has it already.
_LOG = logging.getLogger("nightbeam.story")
_LOG.propagate = False
_LOG.setLevel(logging.INFO)
_LOG.addHandler(APILogHandler())
logging.getLogger("prefect.flow_runs").addFilter(worth_reading)


def night_name(night: Night, started: datetime) -> str:
    """What the flow run of a night is called: its title and date."""
    return plainly(f"{night.title or night.name}, {started:%Y-%m-%d}")


def target_name(title: str, plan: Plan) -> str:
    """What that of a target or a single run is called: its title, specimen and area."""
    return plainly(f"{title}: {plan.sample.name}, area {plan.sample.area}")


def tags_of(kind: str, instrument: str, specimens: Iterable[str]) -> tuple[str, ...]:
    """What flow runs are found by."""
    named = list(dict.fromkeys(specimens))[:MOST_SPECIMENS]
    return (f"kind:{kind}", f"instrument:{instrument}", *(f"specimen:{name}" for name in named))


@contextmanager
def in_its_log(opened: Lab) -> Iterator[None]:
    """What a lab tells goes to the log of the flow run that this is called in; there is none, and it goes nowhere.

    The story of a target stands in its own log and in that of its night.
    """
    run = flow_run_here()
    if run is None:
        yield
        return
    told = opened.on_told
    where = {"flow_run_id": str(run.id), "flow_run_name": run.name, "send_to_api": True}

    def on_told(one: Told) -> None:
        told(one)
        if not opened.prefect_away:
            level = logging.WARNING if one.warning or one.kind in BAD else logging.INFO
            # It is put in a queue: nothing waits for Prefect here.
            _LOG.log(level, "%s: %s", one.kind, plainly(one.message), extra=where)

    opened.on_told = on_told
    try:
        # A tag of the flow run is none of each of its tasks.
        with TagsContext(current_tags=set()):
            yield
    finally:
        opened.on_told = told
