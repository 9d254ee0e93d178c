"""A night killed in the middle of a pass: the same command goes on, and repeats no pass that was recorded whole."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.flows.night_world import INSTRUMENT, PLANS, column_log

AREAS = ("lamella-1", "flake-1", "grain-2", "hole-1")
PASSES = 3
ENOUGH_BYTES = 50_000
"""Of a file, more than one flush of 64 frames."""


def write_night(folder: Path) -> Path:
    """Six targets on specimens of their own, three passes each; the third has a spare area."""
    folder.mkdir()
    text = (PLANS / "demo" / "1_overview.yaml").read_text()
    # The truth moves nothing and damages nothing: the passes are alike, and each takes seconds to be made.
    text = text.replace("shape: [64, 64]", "shape: [32, 32]").replace("step_nm: 0.04", "step_nm: 0.08")
    text = text.replace("dwell_time_us: 50", f"dwell_time_us: 50\n  passes: {PASSES}").replace("2.0e+5", "1.0e+6")
    text += "quality: {stop_early: false, remedies: []}\n"
    targets = []
    for number in range(6):
        plan = text.replace("name: demo-crystal", f"name: crystal-{number}")
        plan = plan.replace("area: lamella-1", f"area: {AREAS[number % 3]}")
        (folder / f"p{number}.yaml").write_text(plan)
        spares = {"spare_areas": ["hole-1"]} if number in (2, 3) else {}
        targets.append({"name": f"t{number}", "plan": f"p{number}.yaml", **spares})
    (folder / "i.toml").write_text(INSTRUMENT.read_text())
    path = folder / "night.json"
    path.write_text(json.dumps({"format_version": 1, "name": "six", "instrument": "i.toml", "targets": targets}))
    return path


def start(night: Path, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "night", str(night), "--yes", "--no-prefect", "--json"],
        env={**os.environ, "NIGHTBEAM_HOME": str(home), "NIGHTBEAM_DISK_RESERVE_GB": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(home: Path, statement: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(home / "nightbeam.db") as connection:
        found = connection.execute(statement).fetchall()
    connection.close()
    return found


def targets(home: Path) -> dict[str, tuple[str, str]]:
    return {name: (state, reason) for name, state, reason in rows(home, "SELECT name, state, reason FROM target")}


WHOLE = """
SELECT target.name, run.name, dataset.pass_index, area.name FROM dataset JOIN run ON dataset.run_id = run.id
JOIN target ON run.target_id = target.id JOIN area ON run.area_id = area.id
WHERE dataset.purpose = 'acquisition' AND dataset.complete
"""


def await_frames(home: Path, process: subprocess.Popen[str], target: str) -> Path:
    """The file of a later pass of a target, once frames have been written to it since it was first seen."""
    deadline, seen = time.monotonic() + 400, dict[Path, int]()
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        for path in (home / "data").glob("*/pass[23].h5.partial"):
            with suppress(FileNotFoundError):
                size = path.stat().st_size
                begun = seen.setdefault(path, size)
                if size > begun + ENOUGH_BYTES and target_of(home, path.parent.name) == target:
                    return path
        time.sleep(0.005)
    raise AssertionError(f"{target} was never exposed")


def target_of(home: Path, run: str) -> str:
    found = f"SELECT target.name FROM run JOIN target ON run.target_id = target.id WHERE run.name = '{run}'"
    ((name,),) = rows(home, found)
    return str(name)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_night_goes_on_by_the_same_command_and_repeats_no_finished_pass(tmp_path: Path) -> None:
    night, home = write_night(tmp_path / "night"), tmp_path / "home"
    with start(night, home) as process:
        written = await_frames(home, process, "t2")
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    before = rows(home, WHOLE)
    done = [index for target, _run, index, _area in before if target == "t2"]
    assert done == list(range(len(done)))
    # A first pass is recorded at least, and what is written is the one after the last of them.
    assert written.name == f"pass{len(done) + 1}.h5.partial"
    with start(night, home) as process:
        out, told = process.communicate(timeout=400)
    assert process.returncode in (0, 3), told
    assert "goes on (--new starts afresh)" in told
    result = json.loads(out)

    # One night, all of whose targets have ended.
    ((night_name, state),) = rows(home, "SELECT name, state FROM night")
    assert (result["night"], state) == (night_name, "done")
    ended = targets(home)
    assert all(state in ("done", "marked") for state, _reason in ended.values()), ended

    # No pass that was recorded before the kill is repeated, and all passes of every target are there.
    whole = rows(home, WHOLE)
    assert set(before) <= set(whole)
    of_target: dict[str, list[tuple[str, int, str]]] = {}
    for target, run, index, area in whole:
        of_target.setdefault(target, []).append((run, index, area))
    assert {target: len(passes) for target, passes in of_target.items()} == {f"t{i}": PASSES for i in range(6)}
    finished = {target for target, _run, _index, _area in before} - {"t2"}
    for target in finished:
        assert len({run for run, _index, _area in of_target[target]}) == 1

    # The broken pass is closed with what came of it; the rest is its child, on the spare area.
    (broken,) = rows(home, "SELECT id, name, state FROM run WHERE state = 'crashed'")
    of_broken = f"FROM run JOIN area ON run.area_id = area.id WHERE parent_id = {broken[0]}"
    ((child, attempt, area),) = rows(home, f"SELECT run.name, attempt, area.name {of_broken}")
    assert (attempt, area) == (2, "hole-1")
    assert sorted(index for run, index, _area in of_target["t2"] if run == child) == list(range(PASSES - len(done)))
    assert written.parent.name == broken[1]
    messages = [text for (text,) in rows(home, "SELECT message FROM event")]
    assert any(f"whole rows of {written.name} are kept in" in text for text in messages)
    assert written.with_name(written.name.replace(".h5.partial", ".recovered.h5")).exists()

    # What may have been given is booked: no area is over its budget, and the beam is off.
    for given, budget in rows(
        home,
        "SELECT sum(coalesce(dose_entry.delivered_e_per_a2, exposure_intent.fluence_e_per_a2)),"
        " area.fluence_budget_e_per_a2 FROM exposure_intent JOIN area ON exposure_intent.area_id = area.id"
        " LEFT JOIN dose_entry ON dose_entry.intent_id = exposure_intent.id GROUP BY area.id",
    ):
        assert given <= budget * 1.01  # the tolerance of a budget
    assert [one["event"] for one in column_log(home) if one["event"] in ("blank", "unblank")][-1] == "blank"

    # A night that is done is not gone on with.
    third = subprocess.run(
        [sys.executable, "-m", "flows.cli", "night", str(night), "--yes", "--no-prefect", "--resume"],
        env={**os.environ, "NIGHTBEAM_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (third.returncode, "anything left to do" in third.stderr) == (2, True)
