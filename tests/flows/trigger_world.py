"""A tiny deployed flow, the triggers that docs/triggers.md shows, and what Prefect's API knows of its runs."""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from prefect import flow

PAGE = Path(__file__).parents[2] / "docs" / "triggers.md"


@flow(name="tiny", persist_result=False)
def tiny(
    note: str = "",
    files: str = "",
    sample: str = "",
    count: int = 1,
    to: str = "",
    source: str = "person",
    key: str = "",
) -> None:
    """Leaves its parameters where it is told to."""
    if to:
        with open(to, "a", encoding="utf-8") as file:
            file.write(json.dumps({"note": note, "sample": sample, "source": source, "key": key}) + "\n")


@flow(name="foreign", persist_result=False)
def foreign(note: str = "") -> None:
    """One of somebody else's, which claims nothing."""


def shown_triggers() -> dict[str, dict[str, Any]]:
    """What the page shows of a prefect.yaml, by the name of the trigger."""
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    deployments = yaml.safe_load(text)["deployments"]
    return {trigger["name"]: trigger for one in deployments for trigger in one["triggers"]}


def deploy(name: str, *triggers: dict[str, Any]) -> Any:
    """Register the flow with triggers as in a prefect.yaml; gives the deployment's id."""
    from prefect.events import DeploymentTriggerTypes
    from pydantic import TypeAdapter

    read = TypeAdapter(DeploymentTriggerTypes).validate_python
    return tiny.to_deployment(name, triggers=[read(one) for one in triggers], concurrency_limit=None).apply()


def runs_of(deployment: Any) -> list[Any]:
    """Flow runs of a deployment, oldest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    with get_client(sync_client=True) as client:
        mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        return sorted(client.read_flow_runs(deployment_filter=mine), key=lambda run: run.created)


@contextmanager
def at(url: str | None) -> Iterator[None]:
    """Another API than the session's, for this thread; none, and Prefect free to start one, where ``url`` is None."""
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        temporary_settings,
    )

    given = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: "u:s3cret", PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: True}
    with temporary_settings(given):
        yield


def awaited(question: Callable[[], Any], within_s: float = 90) -> Any:
    """The first answer of a real server that is not empty."""
    deadline = time.monotonic() + within_s
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


if __name__ == "__main__":
    from prefect import serve
    from prefect.events import DeploymentTriggerTypes
    from pydantic import TypeAdapter

    trigger = json.loads(sys.argv[1])
    trigger["parameters"]["to"] = sys.argv[2]
    read = TypeAdapter(DeploymentTriggerTypes).validate_python(trigger)
    serve(tiny.to_deployment("served", triggers=[read]), limit=1)
