"""Asking for a run of a deployment, with a real server: once for a key, and in words what cannot be."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.context import refresh_global_settings_context

from flows.api import PrefectApi
from flows.reached import NoApi, reached
from stem4d.errors import BadInput
from tests.flows.trigger_world import at

UNUSED = "http://127.0.0.1:1/api"


@pytest.fixture(scope="module")
def deployed(prefect_api: PrefectApi) -> Any:
    from tests.flows.trigger_world import deploy

    return deploy("submitted")


def test_the_same_key_is_the_same_run(deployed: Any) -> None:
    from flows.submit import submit
    from tests.flows.trigger_world import deploy, runs_of

    first = submit("tiny/submitted", {"note": "a"}, source="file", key="scan.h5 1")
    assert submit("tiny/submitted", {"note": "changed"}, source="file", key="scan.h5 1") == first
    second = submit("tiny/submitted", {"note": "b"}, source="webhook", key="scan.h5 1")
    runs = runs_of(deployed)
    assert [str(run.id) for run in runs] == [first, second]
    assert [(run.parameters["note"], run.parameters["source"], run.parameters["key"]) for run in runs] == [
        ("a", "file", "scan.h5 1"),
        ("b", "webhook", "scan.h5 1"),
    ]
    assert [run.tags for run in runs] == [["trigger:file"], ["trigger:webhook"]]
    # Another deployment of the same flow is another thing.
    deploy("other")
    assert submit("tiny/other", {}, source="file", key="scan.h5 1") not in (first, second)


def test_many_at_once_with_one_key_are_one_run(deployed: Any) -> None:
    from flows.submit import submit

    came: list[str] = []
    asking = [
        threading.Thread(
            target=lambda: came.append(submit("tiny/submitted", {}, source="event", key="at once", within_s=60))
        )
        for _ in range(6)
    ]
    for one in asking:
        one.start()
    for one in asking:
        one.join(100)
    assert len(came) == 6
    assert len(set(came)) == 1


def test_an_unknown_deployment_is_answered_with_the_closest(deployed: Any) -> None:
    from flows.submit import submit

    with pytest.raises(BadInput, match=r"no such deployment. Did you mean tiny/submitted") as refused:
        submit("tiny/submited", {}, source="person", key="k")
    assert refused.value.field == "deployment"
    with pytest.raises(BadInput, match=r"There are: .*tiny/submitted"):
        submit("reanalyse/reanalyse", {}, source="person", key="k")


@pytest.mark.parametrize(
    ("parameters", "field", "value", "says"),
    [
        ({"count": "many"}, "count", "many", "is not of type 'integer'"),
        ({"note": ["a"]}, "note", ["a"], "is not of type 'string'"),
        ({"nots": "a"}, "parameters.nots", "a", "tiny/submitted has no such parameter. Did you mean note?"),
        ({"xyz": "a"}, "parameters.xyz", "a", "It has: count, .*note"),
    ],
)
def test_parameters_that_prefect_refuses(
    deployed: Any, parameters: dict[str, Any], field: str, value: object, says: str
) -> None:
    from flows.submit import submit
    from tests.flows.trigger_world import runs_of

    before = len(runs_of(deployed))
    with pytest.raises(BadInput, match=says) as refused:
        submit("tiny/submitted", parameters, source="person", key="refused")
    assert (refused.value.field, refused.value.value) == (field, value)
    assert len(runs_of(deployed)) == before


def test_a_deployment_that_could_not_be_made_once_is_refused(prefect_api: PrefectApi) -> None:
    from flows.submit import submit
    from tests.flows.trigger_world import foreign

    foreign.to_deployment("any").apply()
    with pytest.raises(BadInput, match="no parameters source and key") as refused:
        submit("foreign/any", {"note": "a"}, source="person", key="k")
    assert refused.value.field == "deployment"


def test_prefects_words_are_read_for_field_value_and_limit() -> None:
    from flows.submit import _refused

    told = _refused(
        "Error creating flow run: Validation failed. Failure reason: 'plan' is a required property", {"x": 1}
    )
    assert (told.field, told.value, told.limit) == ("parameters", "x", "'plan' is a required property")
    words = "Validation failed for field 'scan.step_nm[1]'. Failure reason: -5 is less than the minimum of 0"
    told = _refused(words, {"scan": {"step_nm": [1, -5]}})
    assert (told.field, told.value, told.unit) == ("scan.step_nm[1]", -5, "nm")


@pytest.mark.parametrize(
    ("deployment", "parameters", "key", "field"),
    [
        ("tiny", {}, "k", "deployment"),
        ("tiny/../admin", {}, "k", "deployment"),
        ("tiny/x?y", {}, "k", "deployment"),
        ("../tiny", {}, "k", "deployment"),
        ("tiny/submitted", {}, "", "key"),
        ("tiny/submitted", {}, "a\nb", "key"),
        ("tiny/submitted", {"source": "x"}, "k", "parameters.source"),
        ("tiny/submitted", {"note": float("nan")}, "k", "parameters.note"),
        ("tiny/submitted", {"note": {"__prefect_kind": "jinja", "template": "{{ 1 }}"}}, "k", "parameters.note"),
        ("tiny/submitted", {"note": Path("x")}, "k", "parameters.note"),
    ],
)
def test_what_is_never_asked(
    monkeypatch: pytest.MonkeyPatch, deployment: str, parameters: dict[str, Any], key: str, field: str
) -> None:
    from flows import submit as module

    monkeypatch.setattr(module, "ask_prefect", lambda *_rest: pytest.fail("it was asked"))
    with pytest.raises(BadInput) as refused:
        module.submit(deployment, parameters, source="person", key=key)
    assert refused.value.field == field


def test_a_template_is_text_and_reads_no_variable_of_the_server(deployed: Any) -> None:
    from flows.submit import submit
    from tests.flows.trigger_world import runs_of

    submit("tiny/submitted", {"note": "{{ prefect.variables.secret }}"}, source="file", key="template")
    assert runs_of(deployed)[-1].parameters["note"] == "{{ prefect.variables.secret }}"


def answering(status: int, body: bytes, seen: list[str]) -> HTTPServer:
    """A server in the API's place that always answers the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_rest: object) -> None:
            pass

    return HTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    status, body = request.param
    seen: list[str] = []
    with answering(status, body, seen) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with at(f"http://127.0.0.1:{server.server_port}/api"):
            yield seen
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("elsewhere", "says"),
    [
        ((401, b"{}"), "wants a password: set PREFECT_API_AUTH_STRING"),
        ((403, b'{"detail": "go away"}'), r"answers 403 \(go away\)"),
        ((200, b"<html>"), "is no Prefect API"),
        ((200, b"[]"), "is no Prefect API"),
        ((503, b"{}"), "answers 503 .*tried for 0.5 s"),
    ],
    indirect=["elsewhere"],
)
def test_an_api_that_answers_otherwise(elsewhere: list[str], says: str) -> None:
    from flows.submit import submit

    with pytest.raises(NoApi, match=says) as refused:
        submit("tiny/submitted", {}, source="person", key="k", within_s=0.5)
    assert "s3cret" not in str(refused.value)
    assert len(elsewhere) == 1


def test_it_is_asked_again_while_the_api_is_away() -> None:
    import httpx

    from flows.ask_prefect import ask_prefect

    troubles: list[Exception] = [httpx.ReadError("cut"), httpx.ConnectTimeout("late")]

    def question(_client: object) -> int:
        if troubles:
            raise troubles.pop()
        return 7

    with at(UNUSED):
        assert ask_prefect(question, 30) == 7


def test_an_api_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.submit import submit

    with at(UNUSED), pytest.raises(NoApi, match=r"127.0.0.1:1 does not answer \(ConnectError\)"):
        submit("tiny/submitted", {}, source="person", key="k", within_s=0.3)
    # A server that takes the connection and says nothing.
    monkeypatch.setattr("flows.ask_prefect.REQUEST_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with at(url), pytest.raises(NoApi, match=r"does not answer \(ReadTimeout\)"):
            submit("tiny/submitted", {}, source="person", key="k", within_s=0.3)


def test_without_any_api_no_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.submit import submit

    monkeypatch.setattr("flows.ask_prefect.get_client", lambda **_more: pytest.fail("a server would be started"))
    with at(None), pytest.raises(NoApi, match="names none"):
        submit("tiny/submitted", {}, source="person", key="k")


@pytest.mark.slow  # a process that loads Prefect
def test_a_watched_folder_asks_the_server_of_its_home(prefect_home: Path, deployed: Any, tmp_path: Path) -> None:
    from tests.flows.trigger_world import awaited, runs_of

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "old.h5").write_bytes(b"")
    watched = [{"folder": str(folder), "deployment": "tiny/submitted", "parameters": {"note": "{path}"}, "settle_s": 0}]
    kept = {key: one for key, one in os.environ.items() if not key.startswith(("PREFECT_", "NIGHTBEAM_"))}
    environment = kept | {"NIGHTBEAM_HOME": str(prefect_home), "NIGHTBEAM_WATCH": json.dumps(watched)}
    command = [sys.executable, "-m", "flows.cli", "watch"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"watching {folder}, * starts tiny/submitted")
        assert "1 files are there already and start nothing" in process.stdout.readline()
        path = folder / "new.h5"
        path.write_bytes(b"")
        (run,) = awaited(lambda: [one for one in runs_of(deployed) if one.parameters.get("note") == str(path)])
        assert (run.parameters["source"], run.tags) == ("file", ["trigger:file"])
        process.terminate()
        told, _ = process.communicate(timeout=30)
        assert process.returncode == 143
        assert f"new.h5 started tiny/submitted, flow run {run.id}" in told
    finally:
        process.kill()
        process.communicate()


def test_the_api_of_a_home_is_found(prefect_home: Path, prefect_api: PrefectApi) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL")
        with reached(prefect_home):
            assert os.environ["PREFECT_API_URL"] == prefect_api.url
            assert os.environ["PREFECT_API_AUTH_STRING"] == prefect_api.auth
    # Prefect read its settings again on the way out, while the address was not there.
    refresh_global_settings_context()


def test_a_home_without_a_server_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(NoApi, match="nightbeam serve"), reached(tmp_path):
        pass
    (tmp_path / "prefect").mkdir()
    note = tmp_path / "prefect" / "api.json"
    for text in ("", "[]", "{}", f'{{"url": "{UNUSED}", "auth": "u:p", "pid": 1}}'):
        note.write_text(text)
        with pytest.raises(NoApi, match="nightbeam serve"), reached(tmp_path):
            pass
