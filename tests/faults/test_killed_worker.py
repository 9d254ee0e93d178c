"""F1: the acquisition process is killed by SIGKILL at a random frame; nothing that was flushed is lost or false."""

import multiprocessing
import random
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import pytest

from devices import worker
from storage.write import FLUSH_FRAMES
from tests.faults.kill_world import KINDS, PACE_HZ, TOTAL, UNWRITTEN, Kill, kill_once

NOTICED_S = 1.0
LOST_S = 0.25


@contextmanager
def warm_start(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers are forked from a process that has imported all they need, in the place of 2 s of start for each.

    What runs in them, what they are told and how they are followed is as in a run; they differ in who their parent is.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.warm"])
    forkserver.ensure_running()
    server: int = forkserver._forkserver._forkserver_pid
    patch.setattr(worker, "multiprocessing", SimpleNamespace(get_context=lambda _: context))
    patch.setattr(worker, "os", SimpleNamespace(getpid=lambda: server))
    yield
    forkserver._forkserver._stop()


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


def told(done: list[Kill], how: str) -> None:
    """One line with the figures, to be seen with ``-s``."""
    lost, dead = [kill.lost for kill in done], [kill for kill in done if not kill.finished]
    print(
        f"\nF1 {how}: {len(done)} kills, {len(done) - len(dead)} of them of a finished file; "
        f"{sum(kill.flushed for kill in done)} flushed frames read back, none false; "
        f"lost of those handed over: {max(lost)} at most, {sorted(lost)[len(lost) // 2]} in the median, "
        f"{max(kill.lost_s for kill in done):.3f} s at most; "
        f"noticed after {max(kill.noticed_s for kill in dead):.3f} s at most"
    )


def test_flushed_frames_survive_kills_of_workers_as_runs_start_them(tmp_path: Path) -> None:
    done = kills(tmp_path, 4, seed=1)
    told(done, "started as in a run")
    assert sum(kill.flushed for kill in done) > TOTAL // 4


def test_flushed_frames_survive_kills_at_random_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warm_start(monkeypatch):
        done = kills(tmp_path, 16, seed=2)
    told(done, "forked from a warm process")
    assert sum(kill.flushed for kill in done) > 4 * TOTAL


@pytest.mark.slow
def test_flushed_frames_survive_two_hundred_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_in_runs, warm = tmp_path / "runs", tmp_path / "warm"
    as_in_runs.mkdir()
    warm.mkdir()
    done = kills(as_in_runs, 50, seed=3)
    told(done, "started as in a run")
    with warm_start(monkeypatch):
        forked = kills(warm, 150, seed=4)
    told(forked, "forked from a warm process")
    assert sum(kill.flushed for kill in (*done, *forked)) > 50 * TOTAL
