"""What a run tells of itself while it goes on: whole, in order, about once a second, and at the cost of nothing."""

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from devices.acquire import GLIMPSE_EVERY_S, Progress, _Pace
from devices.intake import FrameCounts
from flows import status as told
from flows.status import EVERY_S, StatusFile
from stem4d.verdict import QualityResult, Verdict
from storage.glimpse import SIDE_PX, read_glimpse, small_grey, write_glimpse
from storage.orders import read_status
from tasks.lab import Told

NOTHING = np.zeros((2, 2), np.uint64)
GOING = Progress(
    frames_done=100,
    frames_total=400,
    elapsed_s=2.0,
    sum_pattern=NOTHING,
    max_pattern=NOTHING.astype(np.uint32),
    frames=FrameCounts(ok=100, missing=300),
    queue_share=0.25,
    held_up_s=0.0,
    glimpse=np.full((3, 4), 7, np.uint8),
)


class Clock:
    """Goes when it is told to."""

    at_s = 0.0

    def __call__(self) -> float:
        return self.at_s


def nothing(*_: object) -> None:
    """Nobody listens."""


def a_lab() -> Any:
    """As much of a lab as is listened to."""
    return SimpleNamespace(
        on_told=nothing, on_progress=nothing, on_stage=nothing, on_judged=nothing, on_watched=nothing
    )


def followed(folder: Path) -> tuple[Any, StatusFile, Clock]:
    clock = Clock()
    lab, status = a_lab(), StatusFile(folder, clock=clock)
    status.follow(lab)
    return lab, status, clock


def written(status: StatusFile) -> dict[str, Any]:
    """What is in the file once the writing that has begun is over."""
    if status._beside is not None:
        status._beside.join(10)
    facts = read_status(status.folder)
    assert facts is not None
    return facts


def judged(metric: str, verdict: Verdict) -> QualityResult:
    return QualityResult(metric=metric, analysis=None, verdict=verdict, value=1.0, limit=2.0, unit="", message="words")


def test_a_scan_is_told_with_its_rate_its_queue_what_is_left_and_its_picture(tmp_path: Path) -> None:
    lab, status, _clock = followed(tmp_path)
    lab.on_progress("p pass 1/1", GOING)
    lab.on_watched(100)
    assert written(status)["scan"] == {
        "name": "p pass 1/1",
        "frames_done": 100,
        "frames_total": 400,
        "frames_per_s": 50.0,
        "losses": "",
        "queue_share": 0.25,
        "seconds_left": 6.0,
    }
    assert read_glimpse(tmp_path) is not None
    lab.on_progress("p pass 1/1", replace(GOING, frames_done=200))
    assert written(status)["nothing_amiss_to_frame"] == 100
    # Another scan was not yet watched.
    lab.on_progress("p pass 2/2", GOING)
    assert written(status)["nothing_amiss_to_frame"] is None


def test_frames_alone_write_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    lab, status, clock = followed(tmp_path)
    monkeypatch.setattr(told, "write_status", lambda *_: times.append(clock.at_s))
    for tick in range(41):
        clock.at_s = tick / 8  # exact in binary
        lab.on_progress("p", replace(GOING, glimpse=None))
        assert status._beside is not None
        status._beside.join(10)
    assert EVERY_S == 1.0
    assert times == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_the_picture_is_made_once_a_second_whatever_the_rate_of_progress() -> None:
    clock = Clock()
    pace = _Pace(1, clock)
    seen = []
    for tick in range(1, 41):
        clock.at_s = tick / 4
        if pace.due(2**tick) and pace.looks():
            seen.append(clock.at_s)
        pace.answered()
    assert GLIMPSE_EVERY_S == 1.0
    assert seen == [0.25 + second for second in range(10)]


def test_a_disk_that_hangs_holds_up_no_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first write never comes back before the frames are through; later ones are left out meanwhile."""
    goes_on, begun = threading.Event(), []

    def hangs(*_: object) -> None:
        begun.append(1)
        assert goes_on.wait(30)

    lab, status, clock = followed(tmp_path)
    monkeypatch.setattr(told, "write_status", hangs)
    for tick in range(1000):
        clock.at_s = float(tick)
        lab.on_progress("p", GOING)
    assert len(begun) <= 1
    goes_on.set()
    assert status._beside is not None
    status._beside.join(10)
    assert len(begun) == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("nan")])
def test_what_cannot_be_written_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object) -> None:
        raise error

    lab, status, _clock = followed(tmp_path)
    for name in ("write_status", "write_glimpse"):
        monkeypatch.setattr(told, name, refuse)
    lab.on_progress("p", GOING)
    status.set(state="running")


def test_an_older_status_never_replaces_a_newer_one(tmp_path: Path) -> None:
    status = StatusFile(tmp_path)
    older, newer = status._snapshot(), status._snapshot()
    status._write(newer[0], {"which": "newer"})
    status._write(older[0], {"which": "older"})
    assert read_status(tmp_path) == {"which": "newer"}


def test_quality_so_far_is_told_worst_first_and_ends_with_the_run(tmp_path: Path) -> None:
    lab, status, _clock = followed(tmp_path)
    verdicts = (Verdict.PASS, Verdict.NOT_MEASURABLE, Verdict.FAIL, Verdict.WARN)
    lab.on_judged("r1", tuple(judged(one.value, one) for one in verdicts))
    assert [one["verdict"] for one in written(status)["quality"]] == ["fail", "warn", "pass"]
    lab.on_told(Told("run started", "again", "r2"))
    assert (written(status)["run"], written(status)["quality"]) == ("r2", [])


def test_who_listened_before_is_told_first_and_alone_again_at_the_end(tmp_path: Path) -> None:
    heard: list[object] = []
    lab = a_lab()
    lab.on_stage = heard.append
    leave = StatusFile(tmp_path).follow(lab)
    lab.on_stage("expose")
    leave()
    assert heard == ["expose"]
    assert lab.on_stage == heard.append


def test_greys_of_an_image_that_is_coming(tmp_path: Path) -> None:
    image = np.arange(12, dtype=np.uint64).reshape(3, 4)
    recorded = image < 8
    grey = small_grey(image, recorded)
    assert (grey[~recorded] == 0).all()
    assert (grey[0, 0], grey[1, 3]) == (1, 255)
    assert small_grey(image, np.zeros((3, 4), np.bool_)).max() == 0
    assert set(small_grey(np.full((3, 4), 9, np.uint64), recorded)[recorded]) == {1}
    write_glimpse(tmp_path, grey)
    found = read_glimpse(tmp_path)
    assert found is not None
    assert (found == grey).all()
    assert [path.name for path in tmp_path.iterdir()] == ["glimpse.npy"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (128, 128), (129, 128), (4096, 3), (300, 2000)])
def test_a_glimpse_is_small_and_can_be_read_back(shape: tuple[int, int], tmp_path: Path) -> None:
    grey = small_grey(np.ones(shape, np.uint64), np.ones(shape, np.bool_))
    assert max(grey.shape) <= SIDE_PX
    write_glimpse(tmp_path, grey)
    assert read_glimpse(tmp_path) is not None


def test_what_is_no_glimpse_is_none(tmp_path: Path) -> None:
    path = tmp_path / "glimpse.npy"
    assert read_glimpse(tmp_path) is None
    for content in (b"", b"\x93NUMPY", b"x" * 100, bytes(10_000_000)):
        path.write_bytes(content)
        assert read_glimpse(tmp_path) is None
    for wrong in (np.zeros((2, 2), np.float64), np.zeros(4, np.uint8), np.zeros((0, 0), np.uint8)):
        np.save(path, wrong)
        assert read_glimpse(tmp_path) is None
    np.save(path, np.array([{}], object), allow_pickle=True)
    assert read_glimpse(tmp_path) is None
