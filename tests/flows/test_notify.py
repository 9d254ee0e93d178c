"""Messages to people: sent once, rate limited, and no trouble with them ends or hides anything."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from flows.cli.app import app
from flows.notify import MOST_AN_HOUR, tell_people
from storage.settings import Settings

START = datetime(2026, 11, 28, 5, 0, tzinfo=UTC)


class Post:
    """Stands for Apprise; keeps what it was given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def __call__(self, _addresses: tuple[str, ...], title: str, text: str, _what: str) -> str:
        self.sent.append((title, text))
        return ""


def settings(home: Path, *addresses: str) -> Settings:
    return Settings(home=home, notify=tuple(SecretStr(one) for one in addresses))


def after(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def test_nothing_is_sent_or_written_where_nobody_wants_it(tmp_path: Path) -> None:
    post = Post()
    assert tell_people(settings(tmp_path), "ended", "t", "x", send=post) == ""
    assert (post.sent, list(tmp_path.iterdir())) == ([], [])


def test_the_same_kind_again_is_held_back_and_counted_in_the_next(tmp_path: Path) -> None:
    post, wants = Post(), settings(tmp_path, "json://there")
    assert tell_people(wants, "lost", "a", "one", send=post, now=lambda: START) == ""
    told = tell_people(wants, "lost", "a", "two", send=post, now=lambda: after(9.9))
    assert told == "held back: the same was told 10 min ago"
    assert tell_people(wants, "ended", "c", "three", send=post, now=lambda: after(9.9)) == ""
    assert tell_people(wants, "lost", "a", "four", send=post, now=lambda: after(10)) == ""
    # Another night is another thing to be told of.
    assert tell_people(wants, "ended", "d", "five", send=post, now=lambda: after(10)) == ""
    assert post.sent == [
        ("a", "one"),
        ("c", "three\n1 more messages were held back before this one."),
        ("a", "four"),
        ("d", "five"),
    ]


def test_no_more_than_so_many_go_out_in_an_hour(tmp_path: Path) -> None:
    post, wants = Post(), settings(tmp_path, "json://there")
    for number in range(30):
        tell_people(wants, "ended", str(number), "", send=post, now=lambda at=number: after(2 * at))  # type: ignore[misc]
    within = [int(title) for title, _text in post.sent]
    assert len(within) < 30
    assert all(sum(0 <= 2 * (other - one) < 60 for other in within) <= MOST_AN_HOUR for one in within)
    # A question is told all the same.
    assert tell_people(wants, "asks", "?", "", send=post, now=lambda: after(58)) == ""
    # A clock that is set back holds nothing up for good.
    assert tell_people(wants, "ended", "back", "", send=post, now=lambda: START - timedelta(days=1)) == ""


def test_whatever_a_service_raises_stays_here_and_no_address_is_told(tmp_path: Path) -> None:
    def fails(*_arguments: object) -> str:
        raise ValueError("json://user:secret@there is down")

    told = tell_people(settings(tmp_path, "json://user:secret@there"), "ended", "t", "x", send=fails)
    assert told == "the message could not be sent: ValueError"


def test_a_file_that_cannot_be_read_or_written_is_no_hindrance(tmp_path: Path) -> None:
    post = Post()
    (tmp_path / "notified.json").mkdir()
    assert tell_people(settings(tmp_path, "json://there"), "ended", "t", "x", send=post) == ""
    assert post.sent == [("t", "x")]


@pytest.fixture
def receiver() -> Iterator[tuple[int, list[dict[str, str]]]]:
    """A service on loopback that takes what Apprise posts to ``json://``."""
    got: list[dict[str, str]] = []

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Take) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, got
        server.shutdown()
        thread.join()


# Apprise asks a module of Python 3.11's library that 3.13 has no more.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_a_message_goes_through_apprise_itself(tmp_path: Path, receiver: tuple[int, list[dict[str, str]]]) -> None:
    port, got = receiver
    assert tell_people(settings(tmp_path, f"json://127.0.0.1:{port}/"), "needs_you", "night", "5 done, 1 failed") == ""
    assert [(one["title"], one["message"], one["type"]) for one in got] == [("night", "5 done, 1 failed", "warning")]
    assert "none that Apprise knows" in tell_people(settings(tmp_path, "nonsense"), "ended", "t", "x")


@pytest.mark.parametrize(("option", "told"), [("--yes", ["not_started"]), ("--json", [])])
def test_an_unattended_night_that_is_refused_is_told(
    option: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[str] = []

    def tell(_settings: object, what: str, _title: str, text: str) -> str:
        kinds.append(what)
        assert "tonight.yaml" in text
        return ""

    monkeypatch.setattr("flows.night_file.tell_people", tell)
    done = CliRunner().invoke(app, ["night", str(tmp_path / "tonight.yaml"), option])
    assert (done.exit_code, kinds) == (2, told)


def test_a_service_that_trickles_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.notify.LONGEST_S", 0.05)
    let_go = threading.Event()

    def trickles(*_arguments: object) -> str:
        let_go.wait(30)
        return ""

    told = tell_people(settings(tmp_path, "json://there"), "ended", "t", "x", send=trickles)
    let_go.set()
    assert told == "the message was not sent within 0.05 s"
