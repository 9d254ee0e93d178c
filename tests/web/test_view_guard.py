"""Who may read: this machine without a token, others with it; nothing from another site, and nothing is written."""

from pathlib import Path

import pytest

from stem4d.errors import BadInput
from tests.web.view_world import filled, pages
from web.view.guard import COOKIE, Guard, guard_for

TOKEN = "a-token-of-twenty-six-chars"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guard")
    filled(folder)
    return folder


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert not guard_for(host, None).needs_token


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "stem-pc", "8.8.8.8"])
def test_any_other_address_is_refused_without_a_token(host: str) -> None:
    with pytest.raises(BadInput, match="NIGHTBEAM_WEB_TOKEN"):
        guard_for(host, None)
    assert guard_for(host, TOKEN).needs_token


@pytest.mark.parametrize("token", ["", "short", "x" * 19, "ä" * 30, "a" * 30 + "\n"])
def test_a_token_that_could_be_guessed_or_not_be_sent_is_refused(token: str) -> None:
    with pytest.raises(BadInput) as refused:
        guard_for("127.0.0.1", token)
    assert token == "" or token not in str(refused.value)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "169.254.169.254"])
def test_another_host_name_is_refused(home: Path, host: str) -> None:
    with pages(home) as client:
        assert client.get("/", headers={"host": host}).status_code == 400


def test_a_name_that_was_given_is_a_host_name(home: Path) -> None:
    with pages(home, guard_for("127.0.0.1", None, ("STEM.example",))) as client:
        assert client.get("/", headers={"host": "stem.example"}).status_code == 200
        assert client.get("/", headers={"host": "localhost:8765"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    ],
)
def test_nothing_is_given_to_another_site(home: Path, headers: dict[str, str]) -> None:
    with pages(home) as client:
        assert client.get("/", headers=headers).status_code == 403
        assert (
            client.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200
        )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_is_written(home: Path, method: str) -> None:
    with pages(home) as client:
        assert client.request(method, "/runs").status_code == 405


def test_without_the_token_nothing_is_shown(home: Path) -> None:
    with pages(home, guard_for("127.0.0.1", TOKEN)) as client:
        for address in ("/", "/runs", "/live/part", "/static/live.js", "/nope"):
            assert client.get(address).status_code == 401
            assert client.get(address, headers={"authorization": f"Bearer {TOKEN}x"}).status_code == 401
            assert client.get(address, headers={"cookie": f"{COOKIE}={TOKEN}"}).status_code == 401
        assert client.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        led = client.get("/runs", headers={"accept": "text/html"}, follow_redirects=False)
        assert (led.status_code, led.headers["location"]) == (303, "/login")


def test_a_browser_logs_in_once_and_keeps_no_token(home: Path) -> None:
    guard = guard_for("127.0.0.1", TOKEN)
    with pages(home, guard) as client:
        assert client.post("/login", data={"token": "wrong"}).status_code == 403
        assert client.post("/login", data={"token": "x" * 5000}).status_code == 413
        assert client.post("/login", data={"token": TOKEN}, headers={"origin": "http://evil"}).status_code == 403
        answer = client.post("/login", data={"token": TOKEN}, follow_redirects=False)
        assert answer.status_code == 303
        kept = answer.headers["set-cookie"].lower()
        assert "httponly" in kept
        assert "samesite=strict" in kept
        assert TOKEN not in kept
        assert client.get("/").status_code == 200
        assert TOKEN not in repr(guard)
    assert Guard(token=TOKEN).cookie != Guard(token=TOKEN + "x").cookie


def test_every_answer_says_what_a_page_may_do(home: Path) -> None:
    with pages(home) as client:
        for address in ("/", "/nope", "/static/view.css", "/runs?before=x"):
            headers = client.get(address).headers
            assert "script-src 'self'" in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
