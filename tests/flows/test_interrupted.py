"""Ctrl+C, SIGTERM and a dying acquisition process: the beam is off, the run is closed, the exit code says which."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.calibrate import calibrate_kinds
from flows.cli.app import app
from stem4d.plan import Plan
from storage.documents import load_model
from tests.flows.night_world import INSTRUMENT, PLANS, column_log, small_lab

LONG = PLANS / "demo" / "1_overview.yaml"
AREA = "lamella-1"
CALIBRATED = ("pixel_mask", "centre", "descan", "current")


class Killed(NamedTuple):
    """What a run that was killed left, and what the session after it made of that."""

    home: Path
    state: str
    """Of its run, when it was dead."""
    again: Result
    rows: list[tuple[str, str]]
    events: list[str]
    """Of the column, all of them."""
    heard: int
    """How many of them there were when it was dead."""


def long_plan(home: Path) -> Path:
    """A plan whose exposure takes many seconds."""
    text = LONG.read_text().replace("[64, 64]", "[512, 512]").replace("step_nm: 0.04", "step_nm: 0.005")
    path = home.parent / "long.yaml"
    path.write_text(text.replace("2.0e+5", "1.0e+9"))
    return path


def long_run(home: Path) -> subprocess.Popen[str]:
    """A run of it in a process of its own."""
    plan = long_plan(home)
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", str(plan), "-i", str(INSTRUMENT), "--yes", "--no-prefect"],
        env={**os.environ, "NIGHTBEAM_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def short_run(home: Path, *options: str) -> Result:
    """The same command in this process, of a plan that takes a second."""
    plan = home.parent / "short.yaml"
    # The budget is that of the long run, which registered the area.
    plan.write_text(LONG.read_text().replace("2.0e+5", "1.0e+9"))
    arguments = ["run", str(plan), "-i", str(INSTRUMENT), "--yes", "--no-prefect", *options]
    return CliRunner().invoke(app, arguments, env={"NIGHTBEAM_HOME": str(home)})


@contextmanager
def exposing(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A long run whose beam is on the specimen."""
    seen = len(column_log(home))
    with long_run(home) as process:
        try:
            deadline = time.monotonic() + 90
            while not any(one["event"] == "unblank" and one["area"] == AREA for one in column_log(home)[seen:]):
                assert time.monotonic() < deadline, "the specimen was never exposed"
                assert process.poll() is None, f"the run ended by itself: {process.communicate()}"
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def run_rows(home: Path) -> list[tuple[str, str]]:
    """State and reason of every run, the newest last."""
    with sqlite3.connect(home / "nightbeam.db") as connection:
        rows = connection.execute("SELECT state, exit_reason FROM run ORDER BY id").fetchall()
    connection.close()
    return rows


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """The calibrations of its home are measured here, so that none of the runs has to."""
    home = tmp_path_factory.mktemp("interrupted") / "home"
    with small_lab(home) as opened:
        assert calibrate_kinds(opened, load_model(long_plan(home), Plan), CALIBRATED).complete
    with exposing(home) as process:
        process.kill()
        process.communicate(timeout=30)
    state, _reason = run_rows(home)[-1]
    events = [one["event"] for one in column_log(home)]
    heard = len(events) - events[::-1].index("scan")
    again = short_run(home)
    return Killed(home, state, again, run_rows(home), [one["event"] for one in column_log(home)], heard)


def test_the_session_after_a_kill_closes_what_was_left_and_stops_what_ran(killed: Killed) -> None:
    assert killed.state == "running"
    assert "was left open by a process that died" in killed.again.stderr
    (state, reason), (of_the_next, _why) = killed.rows[1:]
    assert of_the_next == "done"
    assert state == "crashed"
    assert reason.startswith("the process that ran it (")
    assert reason.endswith(") ended without closing it")
    # The scan that was running is stopped, and the beam blanked, before anything else is done.
    assert killed.events[killed.heard - 1] == "scan"
    assert {"blank", "stop"} <= set(killed.events[killed.heard : killed.heard + 3])


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_leaves_the_instrument_safe_and_the_run_closed(number: int, code: int, killed: Killed) -> None:
    with exposing(killed.home) as process:
        # A second one who wants the instrument is told at once who has it.
        second = short_run(killed.home, "--json")
        assert second.exit_code == 2
        assert str(process.pid) in json.loads(second.stdout)["error"]
        process.send_signal(number)
        _out, told = process.communicate(timeout=30)
    assert process.returncode == code, told
    assert told.splitlines()[-1] in ("interrupted", "terminated")
    assert "Traceback" not in told
    assert beam(killed.home)[-1] == "blank"
    state, reason = run_rows(killed.home)[-1]
    assert state == "stopped"
    assert reason


def beam(home: Path) -> list[str]:
    return [one["event"] for one in column_log(home) if one["event"] in ("blank", "unblank")]


def test_a_killed_acquisition_process_fails_the_run_and_blanks_the_beam(killed: Killed) -> None:
    with exposing(killed.home) as process:
        children = psutil.Process(process.pid).children()
        (worker,) = (child for child in children if "spawn_main" in " ".join(child.cmdline()))
        worker.kill()
        _out, told = process.communicate(timeout=60)
    assert process.returncode == 1, told
    assert "Traceback" not in told
    assert beam(killed.home)[-1] == "blank"
    state, reason = run_rows(killed.home)[-1]
    assert state == "failed"
    assert "exit code -9" in reason
    with sqlite3.connect(killed.home / "nightbeam.db") as connection:
        exposures = connection.execute(
            "SELECT i.fluence_e_per_a2, d.delivered_e_per_a2 FROM exposure_intent i LEFT JOIN dose_entry d"
            " ON d.intent_id = i.id WHERE i.purpose = 'acquisition' AND i.run_id = (SELECT max(id) FROM run)"
        ).fetchall()
    connection.close()
    # What the dead process had counted is not known; the beam is known to be off: all that was booked is charged.
    ((booked, charged),) = exposures
    assert charged >= booked > 0
