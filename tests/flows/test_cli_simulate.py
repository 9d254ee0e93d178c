"""The command that runs an emulated detector: its help's example works, files are played, and it ends when told."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.app import app

START = [sys.executable, "-m", "flows.cli", "simulate", "simplon", "--port=0", "--stream-port=0", "--legacy-port=0"]


@contextmanager
def running(*options: str) -> Iterator[str]:
    """The address of a detector whose process is told to end after the block."""
    with subprocess.Popen([*START, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            base = process.stdout.readline().split()[1]
            yield base
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code == 143


def test_the_example_of_the_help_works_and_a_file_is_played(tmp_path: Path) -> None:
    frames = np.arange(2 * 3 * 8 * 10, dtype=np.uint16).reshape(2, 3, 8, 10)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["data"] = frames
    told = CliRunner().invoke(app, ["simulate", "simplon", "--help"], env={"COLUMNS": "200"}).output
    found = re.search(r"curl -X PUT (http://\S+)", told)
    assert found
    address = found[1]
    with running(f"--frames={tmp_path / 'scan.h5'}", "--rate=0", "--fault=no_end") as base:
        asked = address.replace("http://127.0.0.1:8008", base)
        curl = shutil.which("curl")
        if curl:
            subprocess.run([curl, "-sSf", "-X", "PUT", asked], check=True, timeout=60)
        else:
            httpx.put(asked, content="").raise_for_status()
        api = f"{base}/detector/api/1.8.0"
        assert httpx.get(f"{api}/status/state").json()["value"] == "idle"
        assert httpx.get(f"{api}/config/y_pixels_in_detector").json()["value"] == 8
        assert [each["kind"] for each in httpx.get(f"{base}/emulator/faults").json()] == ["no_end"]
        httpx.put(f"{api}/config/nimages", json={"value": 7}).raise_for_status()
        httpx.put(f"{api}/command/arm", content="").raise_for_status()
        httpx.put(f"{api}/command/trigger", content="", timeout=60).raise_for_status()
        (series,) = httpx.get(f"{base}/emulator/truth").json()
        totals = [series["frames"][str(number)]["total"] for number in range(7)]
        sums = frames.reshape(6, -1).sum(1, dtype=np.int64).tolist()
        assert totals == [*sums, sums[0]]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--rate=-1"], "--rate"),
        (["--fault=melt"], "one of drop"),
        (["--frames=nowhere.h5"], "there is no such file"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(options: list[str], complaint: str) -> None:
    told = CliRunner().invoke(app, ["simulate", "simplon", *options])
    assert told.exit_code == 2
    assert complaint in told.stderr
