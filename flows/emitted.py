"""What flows tell Prefect as events, where there is an API: that a run or a night has ended; ids and paths alone."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from flows.flow_run import flow_run_here

if TYPE_CHECKING:
    from tasks.lab import Lab

RUN_ENDED = "nightbeam.run.ended"
NIGHT_ENDED = "nightbeam.night.ended"
OURS = UUID("6e696768-7462-4561-ad00-000000000009")
"""The name space of our events' ids: what is told twice has one id, and Prefect takes it once."""
LONGEST_REASON = 1000
MOST_SPECIMENS = 50

Labels = dict[str, str]


def run_ended(
    opened: "Lab",
    run: str,
    state: str,
    reason: str,
    exposed: Mapping[str, Any] | None = None,
    verdicts: Mapping[str, str] | None = None,
) -> None:
    """Tell that a run has ended and its page is written; of one that Prefect does not see, nothing."""
    with _never_in_the_way(RUN_ENDED):
        if flow_run_here() is not None:
            _tell_run(opened, run, state, reason, exposed, verdicts or {})


def _tell_run(
    opened: "Lab",
    run: str,
    state: str,
    reason: str,
    exposed: Mapping[str, Any] | None,
    verdicts: Mapping[str, str],
) -> None:
    plan = opened.runs[run].plan
    _queue(
        RUN_ENDED,
        {
            "prefect.resource.id": f"nightbeam.run.{run}",
            "prefect.resource.name": plan.title or plan.name,
            "nightbeam.state": state,
        },
        [_instrument(opened.file.name), _specimen(plan.sample.name)],
        {
            "area": plan.sample.area,
            "files": [one["path"] for one in exposed["passes"]] if exposed else [],
            "instrument": opened.file.name,
            "plan": plan.name,
            "reason": reason[:LONGEST_REASON],
            "run": run,
            "specimen": plan.sample.name,
            "state": state,
            "verdicts": dict(sorted(verdicts.items())),
        },
        run,
    )


def night_ended(
    opened: "Lab",
    night: str,
    title: str,
    state: str,
    reason: str,
    targets: Mapping[str, tuple[str, Sequence[str]]],
    specimens: Sequence[str],
    page: Path | None,
) -> None:
    """Tell that a night has ended; ``targets`` are state and runs of each, by name."""
    with _never_in_the_way(NIGHT_ENDED):
        resource = {
            "prefect.resource.id": f"nightbeam.night.{night}",
            "prefect.resource.name": title,
            "nightbeam.state": state,
        }
        payload = {
            "instrument": opened.file.name,
            "night": night,
            "reason": reason[:LONGEST_REASON],
            "report": str(page) if page else None,
            "runs": [run for _state, runs in targets.values() for run in runs],
            "state": state,
            "targets": {name: ended for name, (ended, _runs) in targets.items()},
        }
        related = [_instrument(opened.file.name), *map(_specimen, sorted(set(specimens))[:MOST_SPECIMENS])]
        # A night that was broken off and goes on ends twice.
        _queue(NIGHT_ENDED, resource, related, payload, f"{night} {opened.opened_at.isoformat()}")


def resource_of(instrument: str) -> str:
    """How an instrument is named in events."""
    return f"nightbeam.instrument.{instrument}"


def event_id(event: str, key: str) -> UUID:
    """The same id for the same event of the same thing."""
    return uuid5(OURS, f"{event} {key}")


def _instrument(name: str) -> Labels:
    return {"prefect.resource.id": resource_of(name), "prefect.resource.role": "instrument"}


def _specimen(name: str) -> Labels:
    return {"prefect.resource.id": f"nightbeam.specimen.{name}", "prefect.resource.role": "specimen"}


@contextmanager
def _never_in_the_way(event: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises, what ended has ended
        logging.getLogger(__name__).warning("%s was not told: %s", event, type(error).__name__)


def _queue(event: str, resource: Labels, related: list[Labels], payload: dict[str, Any], key: str) -> None:
    """Hand an event to the thread of Prefect's client that sends them: nothing here waits for it."""
    # Without an address Prefect would start a server to tell it to.
    if PREFECT_API_URL.value():
        emit_event(event, resource=resource, related=related, payload=payload, id=event_id(event, key))
