"""A run through Prefect: the same stages, seen by a real server as named tasks of a flow that completes."""

from pathlib import Path

import pytest

from flows.api import PrefectApi
from stem4d.night import TargetState
from tests.flows.night_world import small, small_lab

STAGES = [
    "open run",
    "validate plan",
    "prepare instrument",
    "calibrate",
    "validate plan",
    "expose",
    "check quality",
    "analyse",
    "close run",
    "report",
]


@pytest.mark.timeout(300)
def test_a_run_is_a_flow_of_named_stages(prefect_api: PrefectApi, tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client

    from flows.run import run_plan

    plan = small("1_overview.yaml", 16, "title=a run for the test of Prefect")
    with small_lab(tmp_path) as opened:
        outcome = run_plan(opened, plan, with_prefect=True)
    assert outcome.state is TargetState.DONE
    with get_client(sync_client=True) as client:
        (flow_run,) = (run for run in client.read_flow_runs() if run.name == plan.title)
        tasks = sorted(client.read_task_runs(), key=lambda task: task.start_time)
    assert flow_run.state.is_completed()
    assert [task.name.rsplit("-", 1)[0] for task in tasks if task.flow_run_id == flow_run.id] == STAGES
