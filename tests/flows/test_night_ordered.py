"""The commands to a night that runs in a process of its own: status, pause, skip, resume, stop, each answered."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli.app import app
from tests.flows.night_world import column_log
from tests.flows.test_night_killed import start, targets, write_night


def nightbeam(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"NIGHTBEAM_HOME": str(home)})


def awaited(home: Path, process: subprocess.Popen[str], good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first status that is as it is wanted."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        told = nightbeam(home, "status", "--json")
        if told.exit_code == 0:
            facts: dict[str, Any] = json.loads(told.stdout)
            if good(facts):
                return facts
        time.sleep(0.05)
    raise AssertionError("the night never came to that")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_night_answers_while_it_runs(tmp_path: Path) -> None:
    night, home = write_night(tmp_path / "night"), tmp_path / "home"
    with start(night, home) as process:
        try:
            seen = awaited(home, process, lambda facts: bool(facts.get("scan")) and facts["stage"] == "expose")
            assert (seen["instrument"], seen["targets"], seen["target"]["number"]) == ("demo-stem", 6, 1)
            assert seen["scan"]["frames_total"] == 32 * 32
            assert seen["dose"]["budget_e_per_a2"] == 1e6
            # What is being exposed is booked before it begins.
            assert seen["dose"]["delivered_e_per_a2"] + seen["dose"]["reserved_e_per_a2"] > 0
            line = nightbeam(home, "status").stdout
            assert len(line.splitlines()) == 1
            for words in (seen["night"], "target 1 of 6", "predicted end", "e/Å²"):
                assert words in line

            paused = nightbeam(home, "pause", "--wait", "60", "--json")
            assert (paused.exit_code, json.loads(paused.stdout)["answered"]) == (0, True)
            awaited(home, process, lambda facts: facts["state"] == "paused")
            first = seen["target"]["name"]
            last = next(name for name in reversed(seen["open"]) if name != first)
            assert nightbeam(home, "skip", last, "--wait", "60").exit_code == 0
            assert nightbeam(home, "skip", "nobody", "--wait", "60").exit_code == 2
            assert nightbeam(home, "resume", "--wait", "60").exit_code == 0
            awaited(home, process, lambda facts: facts["state"] == "running")
            assert nightbeam(home, "stop", "--wait", "60").exit_code == 0
            out, told = process.communicate(timeout=200)
        finally:
            process.kill()
    assert process.returncode == 3, told
    ended = targets(home)
    assert ended[last] == ("skipped", "skipped by a person")
    assert {state for name, (state, _reason) in ended.items() if name != first} == {"skipped"}
    assert json.loads(out)["night"] == seen["night"]
    assert [one["event"] for one in column_log(home) if one["event"] in ("blank", "unblank")][-1] == "blank"
    assert nightbeam(home, "status").exit_code == 2
    # What the stop left is still to be had; what a person did not want is not.
    asked = subprocess.run(
        [sys.executable, "-m", "flows.cli", "night", str(night), "--no-prefect"],
        env={**os.environ, "NIGHTBEAM_HOME": str(home)},
        input="n\n",
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "goes on (--new starts afresh)" in asked.stderr
    assert f" {last}:" not in asked.stderr
