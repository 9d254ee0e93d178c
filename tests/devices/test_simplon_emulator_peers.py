"""Other people's clients at the emulated detector: they accept it, and see the frames that were sent."""

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from devices.simplon.emulator import start_emulator
from devices.simplon.emulator.frames import SyntheticFrames
from tests.peer_environments import python_of

PEERS = Path(__file__).parent / "peers"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_libertem_live_takes_scans_over_the_legacy_stream() -> None:
    python = python_of(PEERS / "libertem_live.txt")
    with start_emulator(source=SyntheticFrames((64, 64), distinct=5), rate_hz=1000.0) as emulator:
        # It neither initialises the detector nor enables the stream before its first arm.
        httpx.put(f"{emulator.base}/detector/api/1.8.0/command/initialize", content="").raise_for_status()
        httpx.put(f"{emulator.base}/stream/api/1.8.0/config/mode", json={"value": "enabled"}).raise_for_status()
        ports = [str(emulator.rest_port), str(emulator.legacy_port)]
        done = subprocess.run(
            [python, PEERS / "read_libertem_live.py", *ports], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        seen = [json.loads(line) for line in done.stdout.splitlines()]
        sent = emulator.truth.series()
    assert len(sent) == 2
    assert seen == [[each.frames[number].total for number in range(72)] for each in sent]
    assert [each.order for each in sent] == [list(range(72))] * 2
