"""Prefect with the versions installed beside it, against a real server (row F30 of the fault matrix).

Two faults of such pairs pass ``pip check``, ``import prefect`` and every test that calls ``task.fn``: with a newer
FastAPI each flow fails at its start, and with a newer SQLAlchemy no schedule ever fires.
"""

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.api import PrefectApi

ELSEWHERE = "http://example.org"


def call(api: PrefectApi, path: str, body: Any = None, *, method: str = "POST", **headers: str) -> tuple[int, Any, Any]:
    """Status, headers and JSON answer of a request to the server, past Prefect's own client."""
    request = urllib.request.Request(
        f"{api.url}{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Content-Type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return answer.status, answer.headers, json.loads(text) if text.startswith((b"{", b"[")) else text
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def asked(api: PrefectApi, path: str, body: Any) -> Any:
    """The answer to a request with the password."""
    deadline = time.monotonic() + 30
    while True:
        status, _headers, answer = call(api, path, body, Authorization=basic(api.auth))
        # 503 is Prefect's word for its SQLite being locked by its own services just now; its client tries again, too.
        if status != 503 or time.monotonic() > deadline:
            assert status in (200, 201), answer
            return answer
        time.sleep(0.2)


def basic(auth: str) -> str:
    """The header that carries a password."""
    return "Basic " + base64.b64encode(auth.encode()).decode()


def awaited(question: Callable[[], Any], within_s: float) -> Any:
    """The first answer of a real server that is not empty."""
    deadline = time.monotonic() + within_s
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def test_a_flow_with_a_task_completes_and_is_listed(prefect_api: PrefectApi) -> None:
    from prefect import flow, task

    @task(name="count electrons", persist_result=False)
    def count(current_pa: float) -> float:
        return current_pa * 1e-12 / 1.602176634e-19

    @flow(name="smoke", flow_run_name="smoke", persist_result=False)
    def smoke(current_pa: float) -> float:
        return count(current_pa)

    assert smoke(30.0) == pytest.approx(1.8725e8, rel=1e-4)

    named = {"flow_runs": {"name": {"any_": ["smoke"]}}}
    (run,) = asked(prefect_api, "/flow_runs/filter", named)
    assert run["state_type"] == "COMPLETED"
    assert run["parameters"] == {"current_pa": 30.0}
    # Task states travel as events: the recorder writes them a moment later.
    completed = named | {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    done = awaited(lambda: asked(prefect_api, "/task_runs/filter", completed), within_s=15)
    assert [one["name"].startswith("count electrons") for one in done] == [True]


def test_an_interval_schedule_gets_runs(prefect_api: PrefectApi) -> None:
    flow_id = asked(prefect_api, "/flows/", {"name": "nightly"})["id"]
    schedule = {"schedule": {"interval": 3600}, "active": True}
    deployment = asked(prefect_api, "/deployments/", {"name": "hourly", "flow_id": flow_id, "schedules": [schedule]})
    scheduled = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    planned = {"deployments": {"id": {"any_": [deployment["id"]]}}, "flow_runs": scheduled}
    # The scheduler looks at new deployments every 5 s.
    runs = awaited(lambda: asked(prefect_api, "/flow_runs/filter", planned), within_s=25)
    assert len(runs) >= 3
    assert all(run["auto_scheduled"] for run in runs)


@pytest.mark.parametrize("authorization", [None, "Basic", basic("nightbeam:guess"), "Bearer x"])
def test_without_the_password_nothing_is_answered(prefect_api: PrefectApi, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    assert call(prefect_api, "/flow_runs/filter", {}, **headers)[0] == 401
    assert call(prefect_api, "/flows/", {"name": "intruder"}, **headers)[0] == 401
    assert call(prefect_api, "/admin/settings", method="GET", **headers)[0] == 401


def test_another_origin_is_granted_nothing(prefect_api: PrefectApi) -> None:
    own = prefect_api.url.removesuffix("/api")
    wish = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization,content-type"}
    granted, headers, _ = call(prefect_api, "/flows/", method="OPTIONS", Origin=own, **wish)
    assert (granted, headers["Access-Control-Allow-Origin"]) == (200, own)

    refused, headers, _ = call(prefect_api, "/flows/", method="OPTIONS", Origin=ELSEWHERE, **wish)
    assert refused == 400
    assert headers["Access-Control-Allow-Origin"] is None

    # What a web page can send without asking first: a form's content type, and no password.
    status, headers, _ = call(prefect_api, "/flows/", {"name": "csrf"}, Origin=ELSEWHERE, Content_Type="text/plain")
    assert status == 403
    assert headers["Access-Control-Allow-Origin"] is None
    assert asked(prefect_api, "/flows/filter", {"flows": {"name": {"any_": ["csrf", "intruder"]}}}) == []


@pytest.mark.parametrize("origin", [ELSEWHERE, "null", "", "http://127.0.0.1", "http://localhost:4200"])
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_page_of_another_site_posts_nothing_with_the_password_or_without(
    prefect_api: PrefectApi, origin: str, kind: str
) -> None:
    """Row F20: a browser that has kept the password sends it along with whatever another site's form posts."""
    body = {"name": "csrf"}
    for shown in ({}, {"Authorization": basic(prefect_api.auth)}):
        status, headers, _ = call(prefect_api, "/flows/", body, Origin=origin, Content_Type=kind, **shown)
        assert status == 403
        assert headers["Access-Control-Allow-Origin"] is None
    assert asked(prefect_api, "/flows/filter", {"flows": {"name": {"any_": ["csrf"]}}}) == []


def test_its_own_pages_may_post(prefect_api: PrefectApi) -> None:
    own, shown = prefect_api.url.removesuffix("/api"), {"Authorization": basic(prefect_api.auth)}
    assert call(prefect_api, "/flows/", {"name": "own page"}, Origin=own, **shown)[0] in (200, 201)
    assert call(prefect_api, "/flows/", {"name": "own page"}, Origin=own)[0] == 401
    assert call(prefect_api, "/health", method="GET", Origin=ELSEWHERE)[0] == 403


def test_the_server_listens_on_loopback_only(prefect_api: PrefectApi, prefect_home: Path) -> None:
    pid = json.loads((prefect_home / "prefect" / "api.json").read_text())["pid"]
    server = psutil.Process(pid)
    listening = {one.laddr.ip for one in server.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
