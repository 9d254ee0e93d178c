"""F1: the acquisition process is killed by SIGKILL at a random frame; nothing that was flushed is lost or false."""

import multiprocessing
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devices.worker import _follow, _WorkerGoneError
from storage.write import FLUSH_FRAMES
from tests.faults.kill_world import UNWRITTEN, Kill, go_on, kill_once, nothing
from tests.faults.watched_source import KINDS, PACE_HZ, TOTAL

Record = Callable[[str, object], None]
NOTICED_S = 1.0
LOST_S = 0.25


def kills(folder: Path, number: int, seed: int) -> list[Kill]:
    """So many kills; each kind of source in turn, each at a frame of its own."""
    draw, done = random.Random(seed), []
    for turn in range(number):
        kind = KINDS[turn % len(KINDS)]
        # Paced frames take their time; one kill in sixteen finds the worker closing its file.
        last = round(PACE_HZ * 0.8) if kind == "paced" else TOTAL
        at_frame = TOTAL if turn % 16 == 5 else draw.randrange(1, last)
        each = folder / f"{turn}"
        each.mkdir()
        done.append(kill_once(each, kind, 1000 * seed + turn, at_frame))
        promised(done[-1])
    return done


def promised(kill: Kill) -> None:
    """Raise AssertionError unless the kill cost no more than is promised."""
    assert kill.noticed_s < NOTICED_S, kill
    # Of what was written at most 64 frames are not flushed; the rest is not written yet.
    assert kill.lost <= FLUSH_FRAMES + UNWRITTEN, kill
    assert kill.lost <= FLUSH_FRAMES or kill.lost_s <= LOST_S, kill


def told(done: list[Kill], how: str) -> str:
    """One line with the figures."""
    lost, dead = [kill.lost for kill in done], [kill for kill in done if not kill.finished]
    return (
        f"F1 {how}: {len(done)} kills, {len(done) - len(dead)} of them of a finished file; "
        f"{sum(kill.flushed for kill in done)} flushed frames read back, none false; "
        f"lost of those handed over: {max(lost)} at most, {sorted(lost)[len(lost) // 2]} in the median, "
        f"{max(kill.lost_s for kill in done):.3f} s at most; "
        f"noticed after {max(kill.noticed_s for kill in dead):.3f} s at most"
    )


def test_flushed_frames_survive_kills_of_workers_as_runs_start_them(tmp_path: Path, record_property: Record) -> None:
    done = kills(tmp_path, 2, seed=1)
    record_property("fault", told(done, "started as in a run"))
    assert sum(kill.flushed for kill in done) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("warm_workers")
def test_flushed_frames_survive_kills_at_random_frames(tmp_path: Path, record_property: Record) -> None:
    done = kills(tmp_path, 18, seed=2)
    record_property("fault", told(done, "forked from a warm process"))
    assert sum(kill.flushed for kill in done) > 4 * TOTAL


@pytest.mark.parametrize("left", ["nothing", "half a message", "an answer that it had not read"])
def test_a_worker_may_die_in_the_middle_of_a_word(left: str) -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours:
        if left == "half a message":
            os.write(theirs.fileno(), struct.pack("!i", 1000) + bytes(10))
        if left == "an answer that it had not read":
            ours.send(None)
        theirs.close()
        with pytest.raises(_WorkerGoneError):
            _follow(ours, nothing, go_on, silence_timeout_s=10.0)


@pytest.mark.slow
@pytest.mark.timeout(900)  # two seconds a kill alone, ten on a busy machine
def test_flushed_frames_survive_fifty_kills_as_in_runs(tmp_path: Path, record_property: Record) -> None:
    done = kills(tmp_path, 50, seed=3)
    record_property("fault", told(done, "started as in a run"))
    assert sum(kill.flushed for kill in done) > 10 * TOTAL


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("warm_workers")
def test_flushed_frames_survive_150_kills_at_random_frames(tmp_path: Path, record_property: Record) -> None:
    done = kills(tmp_path, 150, seed=4)
    record_property("fault", told(done, "forked from a warm process"))
    assert sum(kill.flushed for kill in done) > 40 * TOTAL


@pytest.mark.slow
def test_a_worker_starts_without_what_only_its_parent_needs() -> None:
    code = (
        "import sys, devices.worker, devices.simplon.stream, devices.merlin.stream; "
        "print(*{'pydantic', 'httpx', 'sqlalchemy', 'prefect'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")
