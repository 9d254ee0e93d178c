"""A child that is kept up: started again when it ends, ended with its parent, also by kill -9."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.serving import kept_up
from flows.serving.kept_up import KeptUp
from storage.processes import lives, mark_of

PARENT = """
import sys, time
from pathlib import Path
from flows.serving.kept_up import KeptUp
child = KeptUp("child", [sys.executable, "-c", "import time; time.sleep(600)"], Path(sys.argv[1]), Path("."), print, {})
while not child.pid:
    time.sleep(0.01)
print(child.pid, flush=True)
time.sleep(600)
"""


def until(what: Callable[[], object], within_s: float = 20.0) -> None:
    """Wait for what other processes do."""
    give_up = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_up, "AGAIN_S", 0.01)


def test_it_is_started_again_with_its_environment_and_ended_for_good(tmp_path: Path) -> None:
    said: list[str] = []
    command = [sys.executable, "-c", "import os, time; print(os.environ['WHOSE'], flush=True); time.sleep(600)"]
    log = tmp_path / "logs" / "child.log"
    child = KeptUp("child", command, log, tmp_path, said.append, {"WHOSE": "ours"})
    until(lambda: log.exists() and log.read_text().count("ours") == 1)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: log.read_text().count("ours") == 2)
    second = child.pid
    assert second not in (None, first)
    assert said == [f"child ended with code -9, and is started again; see {log}"]
    child.stop()
    assert child.pid is None
    assert lives(mark_of(second)) is not True


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    log = tmp_path / "child.log"
    child = KeptUp("child", [sys.executable, "-c", stubborn], log, tmp_path, lambda _line: None, {})
    until(lambda: log.exists() and "deaf" in log.read_text())
    child.stop(within_s=0.1)
    assert child.pid is None


def test_kill_9_of_its_parent_ends_it(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "child.log")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = mark_of(int(parent.stdout.readline()))
    # It is ours to look at only when it has become the command: the kernel's signal is asked for before.
    until(lambda: b"tied" not in Path(f"/proc/{child.pid}/cmdline").read_bytes())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not lives(child))


def test_a_child_whose_parent_has_gone_already_does_not_begin() -> None:
    tied = Path(kept_up.__file__).with_name("tied.py")
    done = subprocess.run([sys.executable, str(tied), "1", sys.executable, "-c", "print('began')"], capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")
