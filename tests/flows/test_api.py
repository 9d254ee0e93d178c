"""The life of Prefect's server as our child: private files, clear failures, and no survivor after kill -9."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flows.api import ApiUnavailable, client_of, start

# A thread starts the server and ends once the child is past its first imports, and so under the kernel's eye.
STARTER = """
import sys, threading, time
from pathlib import Path
from flows.api import start
kept = []
def begin():
    kept.append(start(Path(sys.argv[1])))
    maps = Path(f"/proc/{kept[0].pid}/maps")
    while "pydantic_core" not in maps.read_text():
        time.sleep(0.02)
thread = threading.Thread(target=begin)
thread.start()
thread.join()
print(kept[0].pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int, within_s: float) -> bool:
    """Whether a process ends in time."""
    deadline = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_kill_9_of_the_parent_leaves_no_server(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            server = int(parent.stdout.readline())
            # The thread that called start() is over: a server tied to that thread would be dead or dying now.
            outlived_thread = not gone(server, within_s=0.3)
        finally:
            parent.kill()
    outlived_parent = not gone(server, within_s=5)
    if outlived_parent:
        os.kill(server, signal.SIGKILL)
    assert (outlived_thread, outlived_parent) == (True, False)


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let something else run in the server's place."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_a_server_that_ends_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo the disk is on fire; exit 3")
    with start(tmp_path) as server, pytest.raises(ApiUnavailable, match=r"code 3.*\n.*on fire"):
        server.ready()
    stand_in(tmp_path, monkeypatch, "exit 4")
    with start(tmp_path) as server, pytest.raises(ApiUnavailable, match=r"code 4.*says nothing"):
        server.ready()  # an older start's words are not taken for this one's


def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "echo still migrating; exec sleep 600")
    with start(tmp_path) as server:
        with pytest.raises(ApiUnavailable, match=r"did not answer in 0.2 s.*\n.*still migrating"):
            server.ready(within_s=0.2)
        server.stop()
        assert not alive(server.pid)


def test_one_that_died_comes_back_at_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exec sleep 600")
    with start(tmp_path, lasting=True) as server:
        assert not server.revive()
        first, where = server.pid, server.api
        os.kill(first, signal.SIGKILL)
        assert gone(first, within_s=5)
        deadline = time.monotonic() + 5
        while not server.revive():  # its keeper hears of the end a moment later
            assert time.monotonic() < deadline
        assert server.pid != first
        assert (server.api, json.loads((tmp_path / "prefect" / "api.json").read_text())["pid"]) == (where, server.pid)
    assert not alive(server.pid)
    # A browser that knows the password is not asked again.
    with start(tmp_path, lasting=True) as later:
        assert later.api.auth == where.auth
    assert (tmp_path / "prefect" / "password.json").stat().st_mode & 0o777 == 0o600


def test_no_python_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError, match="missing"):
        start(tmp_path)


def test_the_password_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exec sleep 600")
    home = tmp_path / "home"
    with start(home) as server:
        note = home / "prefect" / "api.json"
        assert json.loads(note.read_text()) == {
            "url": server.api.url,
            "auth": server.api.auth,
            "pid": server.pid,
            "lasting": False,
        }
        assert note.stat().st_mode & 0o777 == 0o600
        assert (home / "prefect").stat().st_mode & 0o777 == 0o700
        assert (home / "logs" / "prefect-api.log").stat().st_mode & 0o777 == 0o600
        assert server.api.auth not in repr(server.api)
        with start(home) as second:
            assert second.api.auth != server.api.auth
            assert second.api.url != server.api.url
        assert not note.exists()
    server.stop()  # idempotent
    assert [path.name for path in (home / "prefect").iterdir()] == []


def test_the_log_is_put_aside_when_it_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exec sleep 600")
    monkeypatch.setattr("flows.api.LOG_CAP_BYTES", 10)
    log = tmp_path / "logs" / "prefect-api.log"
    log.parent.mkdir()
    log.write_text("a long story")
    with start(tmp_path):
        assert log.read_text() == ""
        assert log.with_suffix(".log.1").read_text() == "a long story"


@pytest.fixture
def users_prefect(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of somebody who works with a Prefect server elsewhere."""
    monkeypatch.setenv("PREFECT_API_URL", "https://somewhere.example/api")
    monkeypatch.setenv("PREFECT_UI_URL", "https://somewhere.example")
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    yield
    monkeypatch.undo()
    if context := sys.modules.get("prefect.context"):  # another test may have imported it into this process
        context.refresh_global_settings_context()


@pytest.mark.usefixtures("users_prefect")
def test_the_client_environment_is_ours_and_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "exec sleep 600")
    before = dict(os.environ)
    with start(tmp_path) as server, client_of(server):
        assert os.environ["PREFECT_API_URL"] == server.api.url
        assert os.environ["PREFECT_API_AUTH_STRING"] == server.api.auth
        assert os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
        assert os.environ["PREFECT_LOGGING_LEVEL"] == "DEBUG"
        assert "PREFECT_UI_URL" not in os.environ
    assert dict(os.environ) == before


def test_prefect_imported_before_follows_in_every_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import get_current_settings

    def seen_elsewhere() -> str | None:
        seen: list[str | None] = []
        thread = threading.Thread(target=lambda: seen.append(get_current_settings().api.url))
        thread.start()
        thread.join()
        return seen[0]

    before = seen_elsewhere()
    stand_in(tmp_path, monkeypatch, "exec sleep 600")
    with start(tmp_path) as server, client_of(server):
        assert seen_elsewhere() == server.api.url
        with start(tmp_path) as other, client_of(other):
            assert seen_elsewhere() == other.api.url
        assert seen_elsewhere() == server.api.url
    assert seen_elsewhere() == before


# A quick flow leaves more events than the server has written when it is told to stop.
BURST = """
import sys
from pathlib import Path
from flows.api import serving
with serving(Path(sys.argv[1])):
    from prefect import flow, task
    @task
    def point(i): return i
    @flow
    def burst(): return sum(point(i) for i in range(100))
    assert burst() == 4950
"""


@pytest.mark.slow  # half a minute: a server of its own, with its own schema
def test_a_server_that_is_stopped_forgets_nothing(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", BURST, str(tmp_path)], check=True, timeout=200)
    with closing(sqlite3.connect(tmp_path / "prefect" / "prefect.db")) as record:
        states = record.execute("SELECT state_type, count(*) FROM task_run GROUP BY 1").fetchall()
    assert states == [("COMPLETED", 100)]
