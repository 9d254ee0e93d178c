"""The hooks: who may call them (row F20), what they take, and that everything else stays read-only."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import served

from db.engine import open_engine
from stem4d.errors import BadInput, NightbeamError
from storage.settings import Settings
from web.view import hooks
from web.view.app import make_app
from web.view.guard import Guard, guard_for
from web.view.hooks import said_of_hooks

TOKEN, WEB = "h00k-battery-staple-correct", "c0rrect-horse-battery-staple"
SHOWN = {"authorization": f"Bearer {TOKEN}"}
HOOKS: tuple[dict[str, Any], ...] = (
    {
        "name": "new-scan",
        "deployment": "reanalyse/reanalyse",
        "parameters": {"kind": "com", "path": "-"},
        "allow": ["path"],
    },
    {"name": "fixed.1", "deployment": "night/nightly"},
)
GOOD = {"key": "scan-17", "parameters": {"path": "/data/scan.h5"}}


class Desk:
    """Stands for Prefect: the same id for the same key; may be away, broken or slow."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], str, str]] = []
        self.raises: Exception | None = None
        self.waits: threading.Event | None = None
        self.entered = threading.Semaphore(0)

    def __call__(self, deployment: str, parameters: dict[str, Any], *, source: str, key: str) -> str:
        self.entered.release()
        if self.waits is not None:
            assert self.waits.wait(30)
        if self.raises is not None:
            raise self.raises
        self.asked.append((deployment, parameters, source, key))
        return f"run of {key}"


@contextmanager
def serving(home: Path, desk: Desk | None, guard: Guard | None = None, **settings: Any) -> Iterator[httpx.Client]:
    given = Settings(home=home, **{"hooks": HOOKS, "hook_token": TOKEN, **settings})
    engine = open_engine(given.database_url.get_secret_value())
    with served(make_app(given, engine, guard, hooks=desk), host="127.0.0.1:8765") as client:
        yield client
    engine.dispose()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, httpx.Client]]:
    desk = Desk()
    with serving(tmp_path_factory.mktemp("hooks"), desk, guard_for("127.0.0.1", WEB)) as client:
        yield desk, client


@pytest.fixture
def desk(made: tuple[Desk, httpx.Client], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(hooks, "MOST_A_MINUTE", 100_000)
    desk, client = made
    desk.asked, desk.raises, desk.waits, desk.entered = [], None, None, threading.Semaphore(0)
    client.cookies.clear()
    return desk


@pytest.fixture
def client(made: tuple[Desk, httpx.Client], desk: Desk) -> httpx.Client:
    return made[1]


def call(client: httpx.Client, body: Any = GOOD, name: str = "new-scan", **headers: str) -> tuple[int, Any]:
    """Status and JSON of a call with the token."""
    shown = SHOWN | {"content-type": "application/json"} | {key.replace("_", "-"): one for key, one in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(f"/hooks/{name}", content=content, headers=shown)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "Traceback" not in answer.text
    assert TOKEN not in answer.text
    return answer.status_code, answer.json()


def raw(client: httpx.Client, *lines: str, body: bytes = b"") -> int:
    """Status of a request that no honest client sends."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as wire:
        wire.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return int(wire.recv(100).split()[1])


def test_a_call_starts_the_deployment_once_for_a_key(client: httpx.Client, desk: Desk) -> None:
    first, again = call(client), call(client)
    assert first == again == (202, {"flow_run": "run of new-scan scan-17"})
    wanted = {"kind": "com", "path": "/data/scan.h5"}
    assert desk.asked == [("reanalyse/reanalyse", wanted, "webhook", "new-scan scan-17")] * 2
    assert call(client, {"parameters": {}}, idempotency_key="scan-17") == first
    assert call(client, {"key": "scan-17"}, idempotency_key="scan-17") == first
    assert call(client, {"key": "k"}, "fixed.1") == (202, {"flow_run": "run of fixed.1 k"})
    assert desk.asked[-1][:2] == ("night/nightly", {})


@pytest.mark.parametrize("wrong", ["", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN])
def test_without_the_token_of_the_hooks_nothing_is_started(client: httpx.Client, desk: Desk, wrong: str) -> None:
    for headers in ({}, {"authorization": wrong}, {"authorization": f"Bearer {WEB}"}):
        answer = client.post("/hooks/new-scan", json=GOOD, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        # Nor is told which hooks there are.
        assert client.post("/hooks/none", json=GOOD, headers=headers).json() == answer.json()
    assert desk.asked == []


def test_what_opens_the_pages_opens_no_hook_and_the_other_way_round(client: httpx.Client, desk: Desk) -> None:
    assert client.post("/login", data={"token": WEB}).status_code == 303
    assert client.get("/").status_code == 200
    assert client.post("/hooks/new-scan", json=GOOD).status_code == 401
    client.cookies.clear()
    assert client.get("/", headers=SHOWN).status_code == 401
    assert client.post("/login", data={"token": TOKEN}).status_code == 403
    assert client.post(f"/hooks/new-scan?token={TOKEN}", json=GOOD).status_code == 401
    assert client.post("/hooks/new-scan", json=GOOD, headers={"cookie": f"nightbeam={TOKEN}"}).status_code == 401
    assert desk.asked == []


@pytest.mark.parametrize(
    "site",
    [
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:8765"},
        {"origin": "null"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
    ],
)
def test_a_browser_calls_no_hook_with_the_token_or_without(
    client: httpx.Client, desk: Desk, site: dict[str, str]
) -> None:
    for shown in (SHOWN, {}):
        assert client.post("/hooks/new-scan", json=GOOD, headers=shown | site).status_code == 403
    # What a browser asks before: nothing is granted.
    wish = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    answer = client.options("/hooks/new-scan", headers=site | wish)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert desk.asked == []


def test_another_name_for_this_address_is_refused(client: httpx.Client, desk: Desk) -> None:
    for host in ("evil.example", "", "127.0.0.1.evil.example"):
        assert client.post("/hooks/new-scan", json=GOOD, headers=SHOWN | {"host": host}).status_code == 400
    assert desk.asked == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_a_hook_is_called_by_post_alone(client: httpx.Client, desk: Desk, method: str) -> None:
    assert client.request(method, "/hooks/new-scan", headers=SHOWN).status_code == 405
    assert desk.asked == []


@pytest.mark.parametrize("path", ["/", "/runs", "/hook", "/hooksx", "/hooks2/new-scan", "/live", "//hooks/new-scan"])
def test_everything_else_only_reads_for_this_token_too(client: httpx.Client, desk: Desk, path: str) -> None:
    assert raw(client, f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {TOKEN}") == 405
    assert desk.asked == []


TARGETS = [
    "/hooks", "/hooks/none", "/hooks/new-scan/", "/hooks/new-scan/x", "/hooks/./new-scan", "/hooks/%6eew-scan",
    "/hooks/../hooks/new-scan", "/%68ooks/new-scan", "/hooks/new-scan%2f", "/hooks/new-scan%00", "/hooks//new-scan",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_a_name_is_what_was_sent_and_nothing_else(client: httpx.Client, desk: Desk, target: str) -> None:
    lines = (
        "Host: 127.0.0.1",
        f"Authorization: Bearer {TOKEN}",
        "Content-Type: application/json",
        "Content-Length: 11",
    )
    assert raw(client, f"POST {target} HTTP/1.1", *lines, body=b'{"key":"k"}') == 404
    assert call(client, name="x" * 2000)[0] == 404
    assert desk.asked == []


BODY = b'{"key": "k"}'


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {TOKEN}"], 401),
        ([f"Authorization: Bearer {TOKEN}", "Authorization: Bearer x"], 401),
        ([f"Authorization: Bearer {TOKEN}", "Content-Type: text/plain"], 415),
        ([f"Authorization: Bearer {TOKEN}", "Idempotency-Key: k", "Idempotency-Key: k"], 400),
        ([f"Authorization: Bearer {TOKEN}", "Host: evil.example"], 400),
        ([f"Authorization: Bearer {TOKEN}", "Transfer-Encoding: chunked"], 400),
        ([f"Authorization: Bearer {TOKEN}", "Content-Length: 3"], 400),
        ([f"Authorization: Bearer {TOKEN}", "Content-Encoding: gzip"], 415),
        ([f"Authorization : Bearer {TOKEN}"], 400),
        ([f"X: y\r\n Authorization: Bearer {TOKEN}"], 401),
    ],
)
def test_headers_that_two_programs_read_differently(
    client: httpx.Client, desk: Desk, lines: list[str], status: int
) -> None:
    usual = ("Host: 127.0.0.1", "Content-Type: application/json", f"Content-Length: {len(BODY)}")
    assert raw(client, "POST /hooks/new-scan HTTP/1.1", *usual, *lines, body=BODY) == status
    assert desk.asked == []


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx", "application/json; charset=utf-16"],
)
def test_only_json(client: httpx.Client, desk: Desk, kind: str) -> None:
    assert call(client, content_type=kind)[0] == 415
    assert desk.asked == []


def test_json_says_its_own_encoding(client: httpx.Client) -> None:
    assert call(client, content_type='Application/JSON; charset="UTF-8"')[0] == 202


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"[]", "body"),
        (b'"x"', "body"),
        (b"{}", "key"),
        (b'{"key": null}', "key"),
        (b'{"key": 7}', "key"),
        (b'{"key": ["k"]}', "key"),
        (b'{"key": ""}', "key"),
        (b'{"key": "k", "key": "l"}', "once"),
        (b'{"key": "k", "more": 1}', "more"),
        (b'{"key": "k", "parameters": []}', "parameters"),
        (b'{"key": "k", "parameters": null}', "parameters"),
        (b'{"key": "k", "parameters": {"path": NaN}}', "finite"),
        (b'{"key": "k", "parameters": {"path": -Infinity}}', "finite"),
        (b'{"key": "k", "parameters": {"path": 1e400}}', "finite"),
        (b'{"key": "k", "parameters": {"path": 9007199254740993}}', "whole number"),
        (b'{"key": "k", "parameters": {"path": ' + b"9" * 5000 + b"}}", "body"),
        (b'{"key": "k", "parameters": {"path": "\\u0000"}}', "NUL"),
        (b'{"key": "k", "parameters": {"path": "\\ud800"}}', "Unicode"),
        (b'{"key": "k", "parameters": {"path": {"\\ud800": 1}}}', "Unicode"),
        (b'{"key": "\\ud800"}', "printable"),
        (b'{"key": "a\\nb"}', "printable"),
        (b'{"key": "' + b"k" * 201 + b'"}', "200"),
        (b'{"key": "k", "parameters": {"kind": "strain"}}', "path may"),
        (b'{"key": "k", "parameters": {"source": "person"}}', "path may"),
        (b'{"key": "k", "parameters": {"key": "x"}}', "path may"),
        (b'{"key": "k", "parameters": {"__prefect_kind": "jinja"}}', "Prefect"),
        (
            b'{"key": "k", "parameters": {"path": {"__prefect_kind": "workspace_variable", "variable_name": "x"}}}',
            "own",
        ),
        (b'{"key": "k", "parameters": {"path": [{"__prefect_kind": "jinja", "template": "{{ 1 }}"}]}}', "own"),
        (b'{"key": "k", "parameters": {"path": ' + b"[" * 30 + b"]" * 30 + b"}}", "20 levels"),
        (b'{"key": "k", "parameters": ' + b'{"path":' * 8000, "body"),
        (b"[" * 60_000, "body"),
    ],
)
def test_a_body_that_is_none(client: httpx.Client, desk: Desk, body: bytes, says: str) -> None:
    status, told = call(client, body)
    assert status == 400, told
    assert says in told["error"]
    assert {"error", "field", "value", "limit"} <= told.keys()
    assert desk.asked == []


def test_two_keys_that_differ_are_none(client: httpx.Client, desk: Desk) -> None:
    assert call(client, {"key": "a"}, idempotency_key="b")[0] == 400
    assert desk.asked == []


def test_a_hook_without_parameters_to_set_takes_none(client: httpx.Client, desk: Desk) -> None:
    status, told = call(client, name="fixed.1")
    assert (status, told["field"]) == (400, "parameters.path")
    assert desk.asked == []


def test_a_body_that_is_too_long_however_it_comes(client: httpx.Client, desk: Desk) -> None:
    long = b'{"key": "' + b"k" * hooks.LARGEST_BODY + b'"}'
    assert call(client, long)[0] == 413

    def pieces() -> Iterator[bytes]:
        yield from (long[at : at + 1000] for at in range(0, len(long), 1000))

    shown = SHOWN | {"content-type": "application/json"}
    assert client.post("/hooks/new-scan", content=pieces(), headers=shown).status_code == 413
    usual = ("Host: 127.0.0.1", "Content-Type: application/json", f"Authorization: Bearer {TOKEN}")
    assert raw(client, "POST /hooks/new-scan HTTP/1.1", *usual, "Content-Length: 999999999999999999") == 413
    assert desk.asked == []


def test_a_body_that_does_not_come(client: httpx.Client, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "BODY_WITHIN_S", 0.05)
    usual = ("Host: 127.0.0.1", "Content-Type: application/json", f"Authorization: Bearer {TOKEN}")
    assert raw(client, "POST /hooks/new-scan HTTP/1.1", *usual, "Content-Length: 20", body=b"{") == 408
    assert desk.asked == []


def test_what_goes_wrong_behind_it_is_said_in_words(client: httpx.Client, desk: Desk) -> None:
    desk.raises = BadInput(field="path", value="x", limit="has to end in .h5", remedy="Name another")
    assert call(client) == (400, {**desk.raises.as_dict(), "error": str(desk.raises)})
    desk.raises = BadInput(field="deployment", value="a/b", limit="Prefect has no such deployment")
    assert call(client)[0] == 503
    desk.raises = NightbeamError("there is no Prefect API to ask")
    assert call(client) == (503, {"error": "not now: there is no Prefect API to ask"})
    desk.raises = RuntimeError(f"secret {TOKEN}")
    assert call(client) == (500, {"error": "this hook failed; the server's log says more"})


def test_a_hook_may_be_called_so_often_and_others_all_the_same(
    client: httpx.Client, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "MOST_A_MINUTE", 3)
    app = hooks.Hooks({}, desk)
    app.clock = iter([0.0, 1.0, 2.0, 3.0, 59.9, 60.0, 60.5]).__next__
    assert [app.too_often("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert app.too_often("a") == 57.0
    assert app.too_often("a") == pytest.approx(0.1)
    assert app.too_often("a") == 0.0
    assert app.too_often("b") == 0.0
    statuses = [call(client, name="fixed.1", body={"key": "k"})[0] for _ in range(5)]
    assert statuses[-1] == 429
    assert int(client.post("/hooks/fixed.1", json=GOOD, headers=SHOWN).headers["retry-after"]) >= 1


def test_pages_do_not_wait_for_hooks_and_hooks_not_for_ever(client: httpx.Client, desk: Desk) -> None:
    desk.waits = threading.Event()
    answers: list[int] = []
    callers = [
        threading.Thread(target=lambda number=number: answers.append(call(client, {"key": f"k{number}"})[0]))
        for number in range(hooks.MOST_AT_ONCE)
    ]
    try:
        for caller in callers:
            caller.start()
        for _ in callers:
            assert desk.entered.acquire(timeout=20)
        assert client.get("/", headers={"authorization": f"Bearer {WEB}"}).status_code == 200
        assert call(client, {"key": "one more"})[0] == 503
    finally:
        desk.waits.set()
        for caller in callers:
            caller.join(20)
    assert answers == [202] * hooks.MOST_AT_ONCE
    assert call(client, {"key": "one more"})[0] == 202


@pytest.mark.parametrize("without", [{"hook_token": None}, {"hooks": ()}])
def test_without_token_or_hooks_there_are_none(tmp_path: Path, without: dict[str, Any]) -> None:
    desk = Desk()
    with serving(tmp_path, desk, **without) as client:
        assert call(client)[0] == 404
        assert client.get("/runs").status_code == 200
    assert desk.asked == []


def test_pages_that_nobody_gave_hooks_have_none(tmp_path: Path) -> None:
    with serving(tmp_path, None) as client:
        assert call(client)[0] == 404


def test_what_is_said_at_the_start(tmp_path: Path) -> None:
    assert said_of_hooks(Settings(home=tmp_path)) == ""
    assert "NIGHTBEAM_HOOK_TOKEN" in said_of_hooks(Settings(home=tmp_path, hooks=HOOKS))
    said = said_of_hooks(Settings(home=tmp_path, hooks=HOOKS, hook_token=TOKEN))
    assert "new-scan, fixed.1" in said
    assert TOKEN not in said


@pytest.mark.parametrize(("token", "says"), [("short", "at least 20"), (WEB, "another one"), ("ä" * 30, "ASCII")])
def test_a_token_that_is_no_good_is_refused_unseen(tmp_path: Path, token: str, says: str) -> None:
    settings = Settings(home=tmp_path, hooks=HOOKS, hook_token=token)
    engine = open_engine(settings.database_url.get_secret_value())
    with pytest.raises(BadInput, match=says) as refused:
        make_app(settings, engine, guard_for("127.0.0.1", WEB), hooks=Desk())
    engine.dispose()
    assert token not in str(refused.value)
    assert TOKEN not in f"{Guard(hook_token=TOKEN)!r}"
