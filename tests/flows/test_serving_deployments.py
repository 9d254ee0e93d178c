"""The file of deployments: the shipped one is whole, and each mistake is told with its place and what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.serving.deployments import FLOWS, read_deployments
from stem4d.errors import BadInput

ROOT = Path(__file__).parents[2]
GOOD: dict[str, Any] = {
    "name": "nightly",
    "entrypoint": "flows.deployed.night.night",
    "parameters": {"night_file": "night.yaml"},
    "schedules": [{"cron": "0 20 * * *", "timezone": "Europe/Vienna"}],
    "work_pool": {"name": "instrument-demo"},
}


def written(folder: Path, *deployments: Any) -> Path:
    (folder / "night.yaml").touch()
    path = folder / "prefect.yaml"
    path.write_text(json.dumps({"deployments": list(deployments)}))  # JSON is YAML, and has no anchors
    return path


def test_the_shipped_file_names_every_flow_and_nothing_in_it_starts_by_itself() -> None:
    found = read_deployments(ROOT / "prefect.yaml")
    assert {name.partition("/")[0] for name in found.names} == set(FLOWS)
    assert found.pools == ("instrument-demo", "analysis")
    for one in yaml.safe_load(found.path.read_text())["deployments"]:
        assert all(schedule["active"] is False for schedule in one.get("schedules", ()))


def test_every_flow_is_where_the_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import import_module

    from prefect.events import DeploymentTriggerTypes
    from pydantic import TypeAdapter

    for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        module, _, name = one["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), name)
        assert set(one.get("parameters", {})) <= set(flow.parameters.properties)
        for trigger in one.get("triggers", ()):
            TypeAdapter(DeploymentTriggerTypes).validate_python(trigger)
            assert set(trigger.get("parameters", {})) <= set(flow.parameters.properties)


def test_an_entrypoint_may_be_written_as_a_path(tmp_path: Path) -> None:
    found = read_deployments(written(tmp_path, {**GOOD, "entrypoint": "flows/deployed/night.py:night"}))
    assert found.names == ("night/nightly",)


@pytest.mark.parametrize(
    ("changed", "field", "limit"),
    [
        ({"name": ""}, "deployments[0].name", "is required"),
        ({"entrypoint": "mine.flow"}, "deployments[0].entrypoint", "is no flow of nightbeam"),
        ({"work_pool": None}, "deployments[0].work_pool.name", "is required"),
        ({"schedules": [{"cron": "0 20 * * *"}]}, "deployments[0].schedules[0].timezone", "of which place"),
        ({"parameters": {"night_file": "nothing.yaml"}}, "deployments[0].parameters.night_file", "is not there"),
        ({"schedules": ["0 20 * * *"]}, "deployments[0].schedules[0]", "has to be a mapping"),
        ({"schedules": 3}, "deployments[0].schedules", "has to be a list"),
        ({"schedules": [{"rrule": "FREQ=DAILY"}]}, "deployments[0].schedules[0].timezone", "of which place"),
        ({"schedule": {"cron": "0 20 * * *"}}, "deployments[0].schedule", "is no word of this file"),
        ({"entrypoint": "os.path.night"}, "deployments[0].entrypoint", "is no flow of nightbeam"),
        ({"parameters": {"key": "abc"}}, "deployments[0].parameters.key", "never again"),
        ({"parameters": ["night.yaml"]}, "deployments[0].parameters", "has to be a mapping"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, changed: dict[str, Any], field: str, limit: str) -> None:
    with pytest.raises(BadInput) as told:
        read_deployments(written(tmp_path, {**GOOD, **changed}))
    assert told.value.field == f"prefect.yaml: {field}"
    assert limit in told.value.limit


def test_one_name_stands_for_one_deployment_of_a_flow(tmp_path: Path) -> None:
    other = {**GOOD, "name": "other"}
    assert len(read_deployments(written(tmp_path, GOOD, other)).names) == 2
    with pytest.raises(BadInput, match="stands twice"):
        read_deployments(written(tmp_path, GOOD, GOOD))


@pytest.mark.parametrize("text", ["", "[]", "deployments: none", "deployments: []", "deployments: [x]"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prefect.yaml"
    path.write_text(text)
    with pytest.raises(BadInput):
        read_deployments(path)


def test_parameters_that_prefect_fills_in_are_left_to_it(tmp_path: Path) -> None:
    filled = {**GOOD, "parameters": {"night_file": "{{ event.payload.night }}"}}
    assert read_deployments(written(tmp_path, filled)).names == ("night/nightly",)
