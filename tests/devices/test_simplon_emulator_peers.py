"""Other people's clients at the emulated detector: they accept it, and see the frames that were sent."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from devices.simplon.emulator import Emulator, start_emulator
from devices.simplon.emulator.frames import SyntheticFrames
from devices.simplon.emulator.truth import SeriesTruth
from tests.devices.emulator_world import wait_for
from tests.peer_environments import python_of

PEERS = Path(__file__).parent / "peers"
POSITIONS = 72
"""Of the scripts' scans."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@contextmanager
def emulated() -> Iterator[tuple[Emulator, httpx.Client]]:
    """An emulated detector, initialised and its stream enabled: LiberTEM-live does neither before its first arm."""
    with (
        # A start message waits for whoever connects to the stream, however late.
        start_emulator(source=SyntheticFrames((64, 64), distinct=5), rate_hz=1000.0, patience_s=120.0) as emulator,
        httpx.Client(base_url=emulator.base, timeout=60) as client,
    ):
        client.put("/detector/api/1.8.0/command/initialize", content="").raise_for_status()
        client.put("/stream/api/1.8.0/config/mode", json={"value": "enabled"}).raise_for_status()
        yield emulator, client


def sums(series: SeriesTruth) -> list[int]:
    """Of each frame, by the emulator's own record."""
    assert series.order == list(range(POSITIONS))
    return [series.frames[number].total for number in range(POSITIONS)]


def test_libertem_live_takes_scans_over_the_legacy_stream() -> None:
    python = python_of(PEERS / "libertem_live.txt")
    with emulated() as (emulator, _client):
        ports = [str(emulator.rest_port), str(emulator.legacy_port)]
        done = subprocess.run(
            [python, PEERS / "read_libertem_live.py", *ports], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        seen = [json.loads(line) for line in done.stdout.splitlines()]
        sent = emulator.truth.series()
    assert len(sent) == 2
    assert seen == [sums(each) for each in sent]


def test_libertem_live_watches_scans_that_somebody_else_runs() -> None:
    python = python_of(PEERS / "libertem_live.txt")
    modes = [
        {"trigger_mode": "ints", "ntrigger": 1, "nimages": POSITIONS},
        {"trigger_mode": "exte", "ntrigger": POSITIONS},
        {"trigger_mode": "exts", "ntrigger": 8, "nimages": POSITIONS // 8},
    ]
    with emulated() as (emulator, client):
        ports = [str(emulator.rest_port), str(emulator.legacy_port)]
        with subprocess.Popen(
            [python, PEERS / "watch_libertem_live.py", *ports, str(len(modes))], stdout=subprocess.PIPE, text=True
        ) as watching:
            try:
                assert watching.stdout is not None
                for mode in modes:
                    assert watching.stdout.readline() == "listening\n"
                    for key, value in mode.items():
                        client.put(f"/detector/api/1.8.0/config/{key}", json={"value": value}).raise_for_status()
                    client.put("/detector/api/1.8.0/command/arm", content="").raise_for_status()
                    if mode["trigger_mode"] == "ints":
                        client.put("/detector/api/1.8.0/command/trigger", content="").raise_for_status()
                    seen = json.loads(watching.stdout.readline())
                    wait_for(lambda: emulator.truth.series()[-1].finished)
                    assert seen == sums(emulator.truth.series()[-1])
                assert watching.wait(60) == 0
            finally:
                watching.kill()
        assert len(emulator.truth.series()) == len(modes)
