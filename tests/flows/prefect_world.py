"""What Prefect's server has of a flow run, asked as an operator's page asks it."""

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID


def flow_run_named(name: str) -> Any:
    """The flow run of that name; there is one."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        (found,) = (run for run in client.read_flow_runs() if run.name == name)
    return found


def artifacts_of(flow_run: UUID) -> dict[str, Any]:
    """Its artifacts by key, tables read."""
    import json

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run])))
    for one in found:
        if one.type == "table" and isinstance(one.data, str):
            one.data = json.loads(one.data)
    return {one.key: one for one in found}


def log_of(flow_run: UUID) -> list[Any]:
    """The lines of its log, once all that was said has arrived."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.client.schemas.sorting import LogSort
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=30)
    with get_client(sync_client=True) as client:
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run]))
        return list(client.read_logs(wanted, limit=200, sort=LogSort.TIMESTAMP_ASC))


def until(found: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What is found, as soon as it is."""
    end = time.monotonic() + seconds
    while not (there := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return there
