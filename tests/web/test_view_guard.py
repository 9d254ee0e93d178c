"""Who may read the pages (row F20): names, tokens, other sites, methods, and what a browser is told."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from served import served

from db.engine import open_engine
from stem4d.errors import BadInput
from storage.settings import Settings
from web.view.app import make_app
from web.view.guard import LEAST_TOKEN, Guard, guard_for, token_of

TOKEN = "c0rrect-horse-battery-staple"
HTML = {"accept": "text/html"}
Site = dict[str, str]


@contextmanager
def client_of(folder: Path, guard: Guard, **headers: str) -> Iterator[httpx.Client]:
    settings = Settings(home=folder)
    engine = open_engine(settings.database_url.get_secret_value())
    with served(make_app(settings, engine, guard), **headers) as client:
        yield client
    engine.dispose()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server for this machine alone."""
    with client_of(tmp_path_factory.mktemp("ours"), guard_for("127.0.0.1", None), host="127.0.0.1:8765") as client:
        yield client


@pytest.fixture(scope="module")
def of_shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with client_of(tmp_path_factory.mktemp("shared"), guard_for("192.0.2.7", TOKEN), host="192.0.2.7:8765") as client:
        yield client


@pytest.fixture
def shared(of_shared: httpx.Client) -> httpx.Client:
    """A server that other machines reach, and a browser that was never there."""
    of_shared.cookies.clear()
    return of_shared


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8765", "localhost:9", "LOCALHOST:8765", "[::1]:8765", "[::1]"]
)
def test_this_machine_is_served_by_its_names(ours: httpx.Client, host: str) -> None:
    assert ours.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8765",
        "192.0.2.7",
        "127.0.0.1:8765:8765",
        "127.0.0.1:",
        "127.0.0.1:123456",
        "user@127.0.0.1",
        "127.0.0.1/x",
        "[::1",
        "::1",
        "testserver",
        "localhost, evil.example",
    ],
)
@pytest.mark.parametrize("path", ["/", "/static/view.css", "/none"])
def test_another_name_for_this_address_is_refused(ours: httpx.Client, host: str, path: str) -> None:
    """A page elsewhere that makes its own name lead here is not to read what is here."""
    answer = ours.get(path, headers={"host": host})
    assert answer.status_code == 400
    assert "--name" in answer.text


def test_two_hosts_are_none(ours: httpx.Client) -> None:
    with socket.create_connection((ours.base_url.host, ours.base_url.port), timeout=30) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n")
        assert raw.recv(100).split()[1] == b"400"


def test_names_that_the_user_allows(tmp_path: Path) -> None:
    guard = guard_for("127.0.0.1", None, ("stem.lab.example",))
    with client_of(tmp_path, guard) as client:
        assert client.get("/", headers={"host": "Stem.lab.example:443"}).status_code == 200
        assert client.get("/", headers={"host": "other.lab.example"}).status_code == 400


def test_a_server_on_every_address_is_asked_by_the_one_that_was_reached() -> None:
    for host in ("0.0.0.0", "::", ""):
        guard = guard_for(host, TOKEN)
        assert guard.is_called("192.0.2.7:8765", "192.0.2.7")
        assert guard.is_called("192.0.2.7:8765", "::ffff:192.0.2.7")
        assert guard.is_called("[2001:db8::1]:8765", "2001:db8::1")
        assert not guard.is_called("192.0.2.8:8765", "192.0.2.7")
        assert not guard.is_called("evil.example", "192.0.2.7")
        assert not guard.is_called("", "192.0.2.7")
    assert not guard_for("192.0.2.7", TOKEN).is_called("192.0.2.9", "192.0.2.9")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/runs", "/live", "/static/view.css"])
def test_nothing_but_reading(ours: httpx.Client, method: str, path: str) -> None:
    answer = ours.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("site", [{}, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}])
@pytest.mark.parametrize(
    "shown", [{}, {"authorization": f"Bearer {TOKEN}"}, {"cookie": f"nightbeam={Guard(token=TOKEN).cookie}"}]
)
@pytest.mark.parametrize("path", ["/", "/runs", "/live"])
def test_nothing_is_posted_from_anywhere_with_credentials_or_without(
    shared: httpx.Client, path: str, shown: Site, site: Site
) -> None:
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        answer = shared.post(path, content=b'{"key": "k"}', headers={**shown, **site, "content-type": kind})
        assert answer.status_code == (404 if path.startswith("/hooks") else 405)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_head_is_a_get_without_its_body(ours: httpx.Client) -> None:
    assert ours.head("/runs").status_code == 200


def test_a_websocket_is_refused(ours: httpx.Client) -> None:
    with socket.create_connection((ours.base_url.host, ours.base_url.port), timeout=30) as raw:
        raw.sendall(
            b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert raw.recv(100).startswith(b"HTTP/1.1 403")


def test_a_request_of_old_without_any_host(ours: httpx.Client) -> None:
    with socket.create_connection((ours.base_url.host, ours.base_url.port), timeout=30) as raw:
        raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert raw.recv(100).split()[1] == b"400"


@pytest.mark.parametrize(
    ("site", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8765"}, 200),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
        ({"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),
        # A person follows a link from elsewhere.
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "http://127.0.0.1:8765.evil.example"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, 403),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "object"}, 403),
    ],
)
def test_other_sites_load_nothing(ours: httpx.Client, site: Site, status: int) -> None:
    assert ours.get("/live/part", headers=site).status_code == status


def test_without_the_token_nothing_is_told(shared: httpx.Client) -> None:
    for path in ("/", "/runs", "/runs/r20261122-204139-7f3a", "/live/part", "/static/live.js", "/no/such/page"):
        answer = shared.get(path)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.text == "Show the token."
        led = shared.get(path, headers=HTML)
        assert (led.status_code, led.headers["location"]) == (303, "/login")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "Bearer",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xe4\xf6",
    ],
)
def test_a_wrong_header_is_no_token(shared: httpx.Client, wrong: str) -> None:
    assert shared.get("/", headers=[(b"authorization", wrong.encode("latin-1"))]).status_code == 401


def test_the_header_with_the_token(shared: httpx.Client) -> None:
    assert shared.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert shared.get("/", headers={"authorization": f"bearer  {TOKEN}"}).status_code == 200


def test_a_token_in_the_address_is_none(shared: httpx.Client) -> None:
    for query in (f"token={TOKEN}", f"access_token={TOKEN}", f"nightbeam={TOKEN}"):
        assert shared.get(f"/?{query}").status_code == 401


def test_the_form_gives_a_cookie_in_place_of_the_token(shared: httpx.Client) -> None:
    page = shared.get("/login")
    assert page.status_code == 200
    assert 'type="password"' in page.text
    entered = shared.post("/login", data={"token": TOKEN})
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert TOKEN not in cookie
    assert shared.get("/").status_code == 200


def test_the_cookie_is_sent_only_encrypted_where_the_form_was(shared: httpx.Client) -> None:
    """A proxy of this machine says so."""
    answer = shared.post("/login", data={"token": TOKEN}, headers={"x-forwarded-proto": "https"})
    assert "secure" in answer.headers["set-cookie"].lower()


@pytest.mark.parametrize("given", ["", TOKEN[:-1], f"{TOKEN}{TOKEN}"])
def test_a_wrong_token_in_the_form_gives_none(shared: httpx.Client, given: str) -> None:
    answer = shared.post("/login", data={"token": given})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert "not the token" in answer.text


def test_a_form_that_is_none(shared: httpx.Client) -> None:
    assert shared.post("/login", content=b"\xff%zz&&&==token").status_code == 403
    assert shared.post("/login", content=b"token=" + b"x" * 100_000).status_code == 413


def test_another_site_does_not_log_anybody_in(shared: httpx.Client) -> None:
    for site in (
        {"origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    ):
        assert shared.post("/login", data={"token": TOKEN}, headers=site).status_code == 403


def test_a_cookie_of_another_token_is_none(shared: httpx.Client) -> None:
    for cookie in (Guard(token=f"{TOKEN}2").cookie, Guard().cookie, "", "x", "\xe4"):
        headers = [(b"cookie", f"nightbeam={cookie}".encode("latin-1"))]
        assert shared.get("/", headers=headers).status_code == 401


def test_the_form_of_a_server_without_token_lets_nobody_be_led_on(ours: httpx.Client) -> None:
    assert ours.post("/login", data={"token": ""}).status_code == 403


def test_every_answer_says_what_a_page_may_do(shared: httpx.Client, ours: httpx.Client) -> None:
    let_in = {"authorization": f"Bearer {TOKEN}"}
    answers = [
        shared.get("/", headers=let_in),
        shared.get("/no/such", headers=let_in),
        shared.get("/runs?limit=x", headers=let_in),
        shared.get("/static/view.css"),
        shared.get("/"),
        shared.get("/", headers={"host": "evil.example"}),
        shared.delete("/"),
        ours.get("/", headers={"origin": "null"}),
    ]
    for answer in answers:
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-frame-options"] == "DENY"


def test_a_bug_of_ours_tells_nothing_and_still_has_the_headers(
    shared: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_rest: object) -> None:
        raise RuntimeError(f"secret {TOKEN}")

    monkeypatch.setattr("web.view.live.standing", broken)
    answer = shared.get("/live", headers={"authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.text) == (500, "This page failed.")
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7", "stem.lab.example", "2001:db8::1", "128.0.0.1"])
def test_beyond_this_machine_only_with_a_token(host: str) -> None:
    with pytest.raises(BadInput, match=r"--host: .*only this machine.*NIGHTBEAM_WEB_TOKEN"):
        guard_for(host, None)
    assert guard_for(host, TOKEN).needs_token


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "::ffff:127.0.0.1"])
def test_this_machine_needs_none(host: str) -> None:
    assert not guard_for(host, None).needs_token
    assert guard_for(host, TOKEN).needs_token


@pytest.mark.parametrize("token", ["", "x" * (LEAST_TOKEN - 1), "ä" * 30, "a b\n" * 10])
def test_a_token_that_could_be_guessed_or_not_typed(token: str) -> None:
    with pytest.raises(BadInput, match="web_token") as refused:
        guard_for("127.0.0.1", token)
    assert not token or token not in str(refused.value)


@pytest.mark.parametrize("name", ["", "a b", "http://x", "x:80", "x/y", "*", "ä.example"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(BadInput, match="--name"):
        guard_for("127.0.0.1", None, (name,))


def test_a_guard_does_not_show_its_token() -> None:
    assert TOKEN not in f"{guard_for('0.0.0.0', TOKEN)!r} {guard_for('0.0.0.0', TOKEN)}"
    assert TOKEN not in f"{Settings(web_token=TOKEN)!r} {Settings(web_token=TOKEN)}"


def test_a_token_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    assert token_of(path) == TOKEN
    path.chmod(0o640)
    with pytest.raises(BadInput, match=r"other users can read it.*chmod 600"):
        token_of(path)
    path.write_bytes(b"x" * 5000)
    path.chmod(0o600)
    with pytest.raises(BadInput, match="4096 bytes") as refused:
        token_of(path)
    assert "xxx" not in str(refused.value)
    for wrong in (tmp_path / "none", tmp_path):
        with pytest.raises(BadInput, match="cannot be read"):
            token_of(wrong)
