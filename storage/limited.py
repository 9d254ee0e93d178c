"""Runs `storage.rescue_child` within limits: it is killed when it no longer gets on, and what it says is checked."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from storage.foreign import rebuilt

COMMAND = (sys.executable, "-m", "storage.rescue_child")
LONGEST_LINE = 64 * 2**20
COMPLAINT_BYTES = 2000
SLOWEST_BYTES_PER_CPU_S = 10e6

OnBytes = Callable[[int], None]
"""Told how many bytes were read so far."""


@dataclass(frozen=True)
class RescueLimits:
    """What the child may use before it is killed."""

    memory_bytes: int = 4 * 2**30
    silence_s: float = 60.0
    """Wall time without anything new from it; a block of frames takes a hundredth of a second."""
    cpu_s: int = 300
    """Processor time, besides a second for each 10 MB of the file."""


def run_child(
    verb: str, path: Path, others: Sequence[str], limits: RescueLimits, on_bytes: OnBytes
) -> dict[str, dict[str, Any]]:
    """What the child says of a file, by topic; under ``lost`` why it did not get to its end, where it did not.

    Raises
    ------
    BadInput
        It refused the file in words.
    """
    packages = str(Path(__file__).resolve().parents[1])
    cpu_s = limits.cpu_s + int(path.stat().st_size / SLOWEST_BYTES_PER_CPU_S)
    said: dict[str, dict[str, Any]] = {}
    with TemporaryFile() as complaints:
        child = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [*COMMAND, verb, str(path.resolve()), str(limits.memory_bytes), str(cpu_s), *others],
            stdin=subprocess.PIPE,  # held open by us alone: its end tells the child that we are gone
            stdout=subprocess.PIPE,
            stderr=complaints,
            bufsize=0,
            cwd=packages,  # where -m finds our packages and no folder of the user's can shadow them
            env={**os.environ, "PYTHONPATH": packages, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            _listen(child, limits, on_bytes, said)
            code = child.wait()
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    stream.close()
        complaints.seek(0)
        words = complaints.read()[-COMPLAINT_BYTES:].decode(errors="replace").strip().splitlines()
    if "refused" in said:
        raise rebuilt(said["refused"])
    if code != 0 and "lost" not in said:
        said["lost"] = {"why": f"its reader ended with exit code {code}" + (f": {words[-1]}" if words else "")}
    return said


def _listen(
    child: "subprocess.Popen[bytes]", limits: RescueLimits, on_bytes: OnBytes, said: dict[str, dict[str, Any]]
) -> None:
    """Take lines of JSON, each ``{topic: facts}``, until there are no more; kill a child that falls silent."""
    assert child.stdout is not None
    handle, left, deadline = child.stdout.fileno(), bytearray(), time.monotonic() + limits.silence_s
    while True:
        wait = deadline - time.monotonic()
        if wait <= 0 or not select.select([handle], [], [], wait)[0]:
            os.killpg(child.pid, signal.SIGKILL)
            said["lost"] = {"why": f"reading it did not get on for {limits.silence_s:g} s"}
            return
        part = os.read(handle, 2**20)
        if not part:
            return
        left += part
        deadline = time.monotonic() + limits.silence_s
        *lines, rest = left.split(b"\n")
        left = bytearray(rest)
        if len(left) > LONGEST_LINE:
            os.killpg(child.pid, signal.SIGKILL)
            said["lost"] = {"why": "its reader says too much"}
            return
        for line in lines:
            _note(bytes(line), on_bytes, said)


def _note(line: bytes, on_bytes: OnBytes, said: dict[str, dict[str, Any]]) -> None:
    try:
        (topic, facts), *_ = json.loads(line).items()
    except ValueError:
        said["lost"] = {"why": "what its reader says is garbled"}
        return
    if topic == "bytes":
        on_bytes(int(facts["read"]))
    else:
        said[topic] = facts
