"""Events: what is told of runs and nights, what the command may tell, and what a real server starts by them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flows.api import PrefectApi
from stem4d.errors import BadInput
from tasks.lab import Lab
from tests.flows.night_world import small
from tests.flows.trigger_world import at

EXPOSED = {"passes": [{"path": "/data/r1/pass1.h5"}, {"path": "/data/r1/pass2.h5"}]}


def a_lab() -> Lab:
    """As much of a lab as an event tells of."""
    from db.clock import utc_now

    run = SimpleNamespace(plan=small("1_overview.yaml", 24, "title=an overview"))
    file = SimpleNamespace(name="demo-stem")
    return cast(Lab, SimpleNamespace(file=file, runs={"r1": run, "r2": run}, opened_at=utc_now()))


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is handed to Prefect's client."""
    from flows import emitted

    events: list[dict[str, Any]] = []
    monkeypatch.setattr(emitted, "emit_event", lambda event, **more: events.append({"event": event, **more}))
    return events


@pytest.fixture
def with_address() -> Iterator[None]:
    with at("http://127.0.0.1:1/api"):
        yield


@pytest.mark.usefixtures("with_address")
def test_what_is_told_of_a_run(queued: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import emitted

    opened = a_lab()
    emitted.run_ended(opened, "r1", "done", "")
    assert queued == []  # nothing is told of what Prefect does not see
    monkeypatch.setattr(emitted, "flow_run_here", lambda: object())
    for _ in range(2):
        emitted.run_ended(opened, "r1", "marked", "x" * 5000, EXPOSED, {"com": "pass", "bf": "fail"})
    emitted.run_ended(opened, "r2", "failed", "why")
    first, again, other = queued
    assert first == again
    assert first["id"] != other["id"]
    assert first["event"] == "nightbeam.run.ended"
    assert first["resource"] == {
        "prefect.resource.id": "nightbeam.run.r1",
        "prefect.resource.name": "an overview",
        "nightbeam.state": "marked",
    }
    roles = {one["prefect.resource.role"]: one["prefect.resource.id"] for one in first["related"]}
    assert roles == {"instrument": "nightbeam.instrument.demo-stem", "specimen": "nightbeam.specimen.demo-crystal"}
    payload = first["payload"]
    assert (payload["run"], payload["state"], payload["plan"]) == ("r1", "marked", "overview")
    assert payload["files"] == ["/data/r1/pass1.h5", "/data/r1/pass2.h5"]
    assert payload["verdicts"] == {"bf": "fail", "com": "pass"}
    assert len(payload["reason"]) == 1000
    assert list(payload) == sorted(payload)
    assert (other["payload"]["files"], other["payload"]["verdicts"]) == ([], {})


@pytest.mark.usefixtures("with_address")
def test_what_is_told_of_a_night(queued: list[dict[str, Any]], tmp_path: Path) -> None:
    from flows import emitted

    targets = {"a": ("mended", ("r1", "r2")), "b": ("skipped", ())}
    for page in (tmp_path / "n1.html", None):
        emitted.night_ended(a_lab(), "n1", "a night", "stopped", "why", targets, ["au", "si", "au"], page)
    told, without = queued
    assert told["resource"]["prefect.resource.id"] == "nightbeam.night.n1"
    assert told["resource"]["nightbeam.state"] == "stopped"
    assert [one["prefect.resource.id"].rpartition(".")[2] for one in told["related"]] == ["demo-stem", "au", "si"]
    assert told["payload"]["runs"] == ["r1", "r2"]
    assert told["payload"]["targets"] == {"a": "mended", "b": "skipped"}
    assert told["payload"]["report"] == str(tmp_path / "n1.html")
    assert without["payload"]["report"] is None


def test_without_an_address_nothing_is_told_and_no_server_started(queued: list[dict[str, Any]]) -> None:
    from flows import emitted

    with at(None):
        emitted.night_ended(a_lab(), "n1", "a night", "done", "", {}, [], None)
    assert queued == []


@pytest.mark.usefixtures("with_address")
def test_whatever_prefect_raises_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from flows import emitted

    def broken(*_rest: object, **_more: object) -> None:
        raise RuntimeError("s3cret")

    monkeypatch.setattr(emitted, "emit_event", broken)
    emitted.night_ended(a_lab(), "n1", "a night", "done", "", {}, [], None)
    assert "nightbeam.night.ended was not told: RuntimeError" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("event", "instrument", "facts", "says"),
    [
        ("sample.unloaded", "demo-stem", (), "Did you mean sample.loaded"),
        ("prefect.flow-run.Crashed", "demo-stem", (), "one of"),
        ("nightbeam.run.ended", "demo-stem", (), "one of"),
        ("beam.ready", "../x", (), "name of an instrument"),
        ("beam.ready", "demo-stem", ("sample",), "NAME=TEXT"),
        ("beam.ready", "demo-stem", ("A=b",), "NAME=TEXT"),
        ("beam.ready", "demo-stem", ("a=b\n",), "printable"),
        ("beam.ready", "demo-stem", ("a=" + "b" * 1001,), "at most 1000"),
        ("beam.ready", "demo-stem", ("a=b", "a=c"), "said already"),
        ("beam.ready", "demo-stem", ("instrument=x",), "said already"),
        ("beam.ready", "demo-stem", tuple(f"a{n}=b" for n in range(21)), "at most 20"),
    ],
)
def test_what_the_command_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, event: str, instrument: str, facts: tuple[str, ...], says: str
) -> None:
    from flows import emit

    monkeypatch.setattr(emit, "ask_prefect", lambda *_rest: pytest.fail("it was told"))
    with pytest.raises(BadInput, match=says):
        emit.emit(event, instrument, facts)


def test_the_triggers_of_the_page_start_what_they_say_once(prefect_api: PrefectApi) -> None:
    """Each event with its templates, against the server; told twice with one id it starts one run."""
    from prefect.events import emit_event

    from flows.emit import emit
    from flows.emitted import event_id
    from tests.flows.trigger_world import awaited, deploy, runs_of, shown_triggers

    shown = shown_triggers()
    assert set(shown) == {"file-written", "sample-loaded", "run-ended"}
    loaded = for_tiny(shown["sample-loaded"], sample=SAMPLE)
    # Another deployment that waits for the same event: a key of its own.
    second = for_tiny(shown["sample-loaded"], sample=SAMPLE, key="night {{ event.id }}")
    written, ended = for_tiny(shown["file-written"]), for_tiny(shown["run-ended"])
    by_other = deploy("by-other", second)
    by_sample, by_file, by_run = deploy("by-sample", loaded), deploy("by-file", written), deploy("by-run", ended)

    told = [emit("sample.loaded", "demo-stem", ("sample=au {{ 7 * 7 }}", NIGHT), key="holder 3") for _ in range(2)]
    assert told[0] == told[1]
    emit("sample.loaded", "other-stem", ("sample=si", NIGHT))
    emit("beam.ready", "demo-stem")
    emit("file.written", "demo-stem", ("path=/data/scan.h5",))
    for state in ("done", "failed"):
        emit_event(
            "nightbeam.run.ended",
            resource={"prefect.resource.id": f"nightbeam.run.{state}", "nightbeam.state": state},
            payload={"run": f"r-{state}"},
            id=event_id("nightbeam.run.ended", f"r-{state}"),
        )
    last_told = [emit("sample.loaded", "demo-stem", ("sample=last", NIGHT), key="holder 4") for _ in range(2)]
    (last,) = {one["id"] for one in last_told}
    for deployment, key in ((by_sample, "{}"), (by_other, "night {}")):
        assert awaited(lambda deployment=deployment: len(runs_of(deployment)) >= 2)
        came = [run.parameters for run in runs_of(deployment)]
        assert {one["sample"]: one["key"] for one in came} == {
            "au {{ 7 * 7 }}": key.format(told[0]["id"]),
            "last": key.format(last),
        }
        assert [one["source"] for one in came] == ["event"] * 2
    assert [run.parameters["note"] for run in awaited(lambda: runs_of(by_file))] == ["/data/scan.h5"]
    (run,) = awaited(lambda: runs_of(by_run))
    assert run.parameters["note"] == "r-done"
    assert (run.parameters["source"], run.parameters["key"]) == (
        "run",
        str(event_id("nightbeam.run.ended", "r-done")),
    )


SAMPLE = "{{ event.payload.sample }}"
NIGHT = "night=tonight.yaml"
"""What the page's trigger hands on."""


def for_tiny(trigger: dict[str, Any], **own: str) -> dict[str, Any]:
    """A trigger of the page for the tiny flow, what it hands on as its note; under a name of its own."""
    handed = dict(trigger["parameters"])
    reserved = {name: handed.pop(name) for name in ("source", "key")}
    return {
        **trigger,
        "name": str(own or handed),
        "parameters": {"note": next(iter(handed.values())), **reserved, **own},
    }


@pytest.mark.slow  # a process that loads Prefect
def test_the_command(prefect_home: Path, prefect_api: PrefectApi) -> None:
    kept = {key: one for key, one in os.environ.items() if not key.startswith(("PREFECT_", "NIGHTBEAM_"))}
    command = [sys.executable, "-m", "flows.cli", "emit", "beam.ready", "-i", "demo-stem", "--key", "k", "--json"]
    environment = kept | {"NIGHTBEAM_HOME": str(prefect_home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    from flows.emitted import event_id

    event = "nightbeam.beam.ready"
    assert json.loads(done.stdout) == {"event": event, "id": str(event_id(event, "k"))}


@pytest.mark.slow  # a runner, and a process for each run
def test_a_served_deployment_runs_by_an_event(prefect_api: PrefectApi, tmp_path: Path) -> None:
    from flows.emit import emit
    from tests.flows.trigger_world import awaited, runs_of, shown_triggers

    trigger = for_tiny(shown_triggers()["sample-loaded"], sample=SAMPLE)
    told = tmp_path / "told.jsonl"
    command = [sys.executable, "-m", "tests.flows.trigger_world", json.dumps(trigger), str(told)]
    environment = os.environ | {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with (tmp_path / "log").open("wb") as log:
        runner = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=Path(__file__).parents[2])
    try:
        from prefect.client.orchestration import get_client
        from prefect.exceptions import ObjectNotFound

        def deployed() -> Any:
            with get_client(sync_client=True) as client:
                try:
                    found = client.read_deployment_by_name("tiny/served").id
                except ObjectNotFound:
                    return None
                # Its trigger comes a moment later.
                return client.read_resource_related_automations(f"prefect.deployment.{found}") and found

        deployment = awaited(deployed, 60)
        for _ in range(2):
            emit("sample.loaded", "demo-stem", ("sample=au", NIGHT), key="holder 5")
        assert awaited(lambda: told.exists() and told.read_text(), 60), (tmp_path / "log").read_text()
        (line,) = told.read_text().splitlines()
        ran = json.loads(line)
        assert (ran["sample"], ran["source"]) == ("au", "event")
        assert len(runs_of(deployment)) == 1
    finally:
        runner.terminate()
        runner.wait(30)
