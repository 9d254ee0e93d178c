"""The demo with an emulated DECTRIS detector: processes of their own, and nothing but sockets between them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from flows.by_prefect import as_calls
from flows.cli.app import app
from flows.plans import instrument_of, shipped
from stem4d.model import canonical_json
from stem4d.plan import Plan
from stem4d.predict import predict
from storage.documents import load_model
from storage.read import open_frames
from storage.settings import Settings
from tasks.calibrated import uncalibrated
from tasks.lab import open_lab
from tasks.passes import expose
from tasks.prepare import prepare
from tasks.record import close_run, open_run

DOCUMENT = Path(__file__).parents[2] / "docs" / "simplon_emulator.md"
CLI = [sys.executable, "-m", "flows.cli"]
SIDE = 6
"""Positions along each axis of the quick test."""
FULL_SCALE = 2**16 - 1
"""What hot pixels read."""


@contextmanager
def emulated(home: Path, *arguments: str) -> Iterator[tuple[str, int]]:
    """``simulate simplon`` as a process on free ports: its REST address and its stream's port."""
    command = [*CLI, "simulate", "simplon", *arguments, "--port=0", "--stream-port=0", "--legacy-port=0"]
    environment = {**os.environ, "NIGHTBEAM_HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            base, stream = (process.stdout.readline().split()[-1] for _ in range(2))
            yield base, int(stream.rpartition(":")[2])
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code == 143


def copied(folder: Path, base: str, stream_port: int) -> Path:
    """The demo's plan, beside it its instrument with the ports that the detector took."""
    text = shipped("instruments/simplon_demo.toml").read_text()
    for line, port in (("rest_port = 8008", base.rpartition(":")[2]), ("stream_port = 31001", str(stream_port))):
        assert text.count(line) == 1
        text = text.replace(line, f"{line.partition('=')[0]}= {port}")
    (folder / "instruments").mkdir(parents=True)
    (folder / "instruments" / "simplon_demo.toml").write_text(text)
    return Path(shutil.copy(shipped("simplon_demo.yaml"), folder))


def sent(base: str) -> list[dict[str, Any]]:
    """Every series, by the emulator's own record."""
    series: list[dict[str, Any]] = httpx.get(f"{base}/emulator/truth", timeout=60).raise_for_status().json()
    return series


def test_the_instrument_of_a_plan_is_the_one_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "instruments").mkdir()
    own = tmp_path / "instruments" / "mine.toml"
    assert instrument_of(tmp_path / "mine.yaml", None) == shipped("instruments/demo.toml")
    own.touch()
    assert instrument_of(tmp_path / "mine.yaml", None) == own
    assert instrument_of(tmp_path / "other.yaml", None) == shipped("instruments/demo.toml")
    assert instrument_of(tmp_path / "mine.yaml", Path("given.toml")) == Path("given.toml")
    assert instrument_of(shipped("simplon_demo.yaml"), None) == shipped("instruments/simplon_demo.toml")


def test_what_the_simulated_column_sends_is_acquired_over_sockets(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["simulate", "simplon", "--help"], env={"COLUMNS": "200"}).output
    asked = re.search(r"curl (http://\S+)", told)
    assert asked
    with emulated(tmp_path, "--frames=simulator") as (base, stream_port):
        state = httpx.get(asked[1].replace("http://127.0.0.1:8008", base)).raise_for_status().json()
        assert state["value"] == "idle", "a run initialises nothing"
        path = copied(tmp_path / "plans", base, stream_port)
        plan = load_model(path, Plan, [f"scan.shape=[{SIDE}, {SIDE}]"])
        settings = Settings(home=tmp_path, worker="inline", prefect=False, disk_reserve_gb=0)
        with open_lab(settings, instrument_of(path, None)) as opened:
            name, geometry = opened.file.name, uncalibrated(plan)
            run = as_calls(open_run, name, canonical_json(plan), None, [])
            as_calls(prepare, name, run)
            exposed = as_calls(expose, name, run, geometry.model_dump_json())
            as_calls(close_run, name, run, "done", "", None)
        (series,) = sent(base)
    assert exposed["stopped"] == ""
    with open_frames(exposed["passes"][0]["path"]) as frames:
        recorded = np.concatenate([batch for _first, batch in frames.batches()])
    assert [frame["total"] for frame in series["frames"].values()] == recorded.sum((1, 2)).tolist()
    counted = np.where(recorded < FULL_SCALE, recorded, 0).sum((1, 2)).mean()
    # Dead pixels take a thousandth, what is scattered past the detector less; 36 frames have a noise of 0.2 %.
    assert counted == pytest.approx(predict(plan).electrons_per_pattern, rel=0.01)


def documented() -> list[list[str]]:
    """The commands of the documented sequence, one list a line."""
    section = DOCUMENT.read_text().partition("## A whole experiment")[2].partition("\n## ")[0]
    return [line.partition("#")[0].split() for line in re.findall(r"^    \.venv/bin/(\S.*)$", section, re.MULTILINE)]


@pytest.mark.slow
def test_the_documented_sequence_gives_a_whole_experiment(tmp_path: Path) -> None:
    start, run, runs, calibrate = documented()
    assert (start[1:], run[1:3]) == (
        ["simulate", "simplon", "--frames", "simulator"],
        ["run", "plans/simplon_demo.yaml"],
    )
    environment = {**os.environ, "NIGHTBEAM_HOME": str(tmp_path)}

    def command(words: list[str], plan: Path) -> subprocess.CompletedProcess[str]:
        words = [str(plan) if word == "plans/simplon_demo.yaml" else word for word in words[1:]]
        return subprocess.run([*CLI, *words], capture_output=True, text=True, timeout=600, env=environment)

    with emulated(tmp_path, *start[3:]) as (base, stream_port):
        plan = copied(tmp_path / "plans", base, stream_port)
        done = command([*run, "--json"], plan)
        # 3: a run measures what it cannot do without, and says what its analyses need besides.
        assert done.returncode == 3, done.stderr
        outcome = json.loads(done.stdout)
        assert (outcome["state"], outcome["lacking"]) == ("done", ["mrad_per_pixel", "rotation", "scan_step"])
        assert Path(outcome["report"]).stat().st_size > 0
        series = sent(base)
        assert [one["images"] for one in series] == [256, 256, 4096]
        assert all(one["order"] == list(range(one["images"])) and not one["dropped"] for one in series)
        assert "simplon_demo" in command(runs, plan).stdout
        measured = command([*calibrate, "--json"], plan)
        assert measured.returncode == 0, measured.stdout + measured.stderr
        assert len(sent(base)) > len(series)
