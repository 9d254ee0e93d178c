"""The acquisition, in this process and in one of its own: the same file, the same figures, the same errors."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from devices.acquire import AcquisitionJob, AcquisitionResult, Progress, _Pace, acquire
from devices.worker import HUNG_S, _ask, _follow, _Line, acquire_in_child
from stem4d.accumulate import AccumulatorSpec, Annulus
from stem4d.errors import DeviceFault
from stem4d.maps import maps_from_arrays
from storage.read import open_frames
from storage.spec import FileSpec
from tests.devices.source_world import KnownFrames

Receive = Callable[..., AcquisitionResult]

both = pytest.mark.parametrize("receive", [acquire, acquire_in_child], ids=["inline", "child"])
# One child is started as in a run; the others are forked from a process that has imported what they need.


def job(tmp_path: Path, source: KnownFrames) -> AcquisitionJob:
    ring = Annulus(name="ring", centre_px=(7.5, 5.5), inner_px=2.0, outer_px=5.0)
    return AcquisitionJob(
        source=source,
        file=FileSpec(
            path=tmp_path / "pass1.h5",
            scan_shape=source.scan_shape,
            detector_shape=source.detector_shape,
            dtype=source.dtype,
            scan_step_nm=0.1,
            mrad_per_pixel=1.0,
            full_scale=4095,
            virtual_detectors=("ring",),
            reserve_bytes=0,
        ),
        accumulator=AccumulatorSpec(
            detector_shape=source.detector_shape, dtype=source.dtype, detectors=(ring,), full_scale=4095
        ),
    )


def nothing() -> None:
    """An instrument that needs no arming."""


def go_on(_progress: Progress) -> None:
    """A parent that is content."""


@both
def test_listening_is_said_first_and_frames_and_maps_are_in_the_file(receive: Receive, tmp_path: Path) -> None:
    source = KnownFrames((5, 9))
    said: list[str] = []
    result = receive(
        job(tmp_path, source), lambda: said.append("listening"), lambda _p: said.append("progress") or None
    )
    # Listening is said before the first frame, and once.
    assert (said[0], said.count("listening")) == ("listening", 1)
    assert "progress" in said
    truth = source.all_frames()
    assert result.frames_received == 45
    assert result.total_counts == truth.sum()
    assert result.stopped == ""
    assert result.receipt.complete
    with open_frames(result.receipt.path) as frames:
        read = np.concatenate([batch for _first, batch in frames.batches()])
        maps = maps_from_arrays(frames.online(), frames.full_scale)
    np.testing.assert_array_equal(read, truth)
    np.testing.assert_array_equal(maps.total.ravel(), truth.sum(axis=(1, 2)))
    np.testing.assert_array_equal(maps.sum_pattern, truth.sum(axis=0))
    np.testing.assert_array_equal(maps.max_pattern, truth.max(axis=0))
    rows = (truth.sum(axis=2) * np.arange(16)).sum(axis=1) / truth.sum(axis=(1, 2))
    np.testing.assert_allclose(maps.com_y_px.ravel(), rows, rtol=1e-6)  # stored as float32
    assert maps.virtual["ring"].shape == (5, 9)


@pytest.mark.usefixtures("warm_workers")
@both
def test_a_stop_in_the_first_row_keeps_what_came(receive: Receive, tmp_path: Path) -> None:
    source = KnownFrames((20, 7))
    result = receive(job(tmp_path, source), nothing, lambda p: "the beam is gone" if p.frames_done < 140 else None)
    assert result.stopped == "the beam is gone"
    assert result.frames_received == 7
    assert not result.receipt.complete
    with open_frames(result.receipt.path) as frames:
        assert frames.recorded.sum() == 7
        (_first, read), *_more = frames.batches()
    np.testing.assert_array_equal(read, source.all_frames()[:7])


@pytest.mark.usefixtures("warm_workers")
@both
def test_a_source_that_ends_early_is_a_fault_that_names_the_file(receive: Receive, tmp_path: Path) -> None:
    with pytest.raises(DeviceFault, match=r"21 of 70 frames.*incomplete"):
        receive(job(tmp_path, KnownFrames((10, 7), ends_after=21)), nothing, go_on)
    assert (tmp_path / "pass1.incomplete.h5").exists()


@pytest.mark.usefixtures("warm_workers")
@both
def test_a_frame_out_of_its_place_is_a_fault(receive: Receive, tmp_path: Path) -> None:
    with pytest.raises(DeviceFault, match="frames 8 to 14 came where 7 of 70 was next"):
        receive(job(tmp_path, KnownFrames((10, 7), out_of_place=True)), nothing, go_on)


@pytest.mark.usefixtures("warm_workers")
@both
@pytest.mark.parametrize("how", ["whole", "stopped", "cut short", "out of place"])
def test_the_end_of_the_frames_is_told_once_and_before_the_file_is_closed(
    receive: Receive, how: str, tmp_path: Path
) -> None:
    source = KnownFrames((10, 7), ends_after=21 if how == "cut short" else None, out_of_place=how == "out of place")
    ended: list[bool] = []

    def on_progress(progress: Progress) -> str | None:
        ended.append(progress.ended)
        assert [each.name for each in tmp_path.glob("pass1*")] == ["pass1.h5.partial"]
        return "enough" if how == "stopped" else None

    with suppress(DeviceFault):
        receive(job(tmp_path, source), nothing, on_progress)
    assert ended[-1]
    assert ended.count(True) == 1
    assert not (tmp_path / "pass1.h5.partial").exists()


def test_a_child_may_be_silent_while_it_finishes_its_file(tmp_path: Path) -> None:
    told: list[Progress] = []
    result = acquire(job(tmp_path, KnownFrames((3, 7))), nothing, told.append)
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        theirs.send(("listening", None))
        theirs.send(("progress", told[-1]))
        done = threading.Timer(0.3, theirs.send, [("done", result)])
        done.start()
        # No silence is borne with but that of the finish, which takes 0.3 s.
        assert _follow(ours, nothing, go_on, silence_timeout_s=0.0).receipt == result.receipt
        done.join()


def test_a_child_that_waits_for_the_arm_in_vain_says_so_to_a_late_parent() -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours:
        with theirs:
            with pytest.raises(DeviceFault, match=r"has not answered 'listening' for 0\.01 s") as fault:
                _ask(theirs, _Line(theirs), "listening", None, 0.01)
            theirs.send(("error", fault.value))
        # The child has gone: nobody takes the answer to its "listening" any more.
        with pytest.raises(DeviceFault, match="has not answered 'listening'"):
            _follow(ours, nothing, go_on, silence_timeout_s=0.0)


@pytest.mark.usefixtures("warm_workers")
def test_a_dead_child_is_a_fault_with_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(DeviceFault, match=r"died \(exit code 11\).*partial"):
        acquire_in_child(job(tmp_path, KnownFrames((40, 7), dies_after=140)), nothing, go_on)


@pytest.mark.usefixtures("warm_workers")
def test_an_error_of_the_caller_ends_the_child(tmp_path: Path) -> None:
    def refuse(_progress: Progress) -> None:
        raise RuntimeError("the caller failed")

    with pytest.raises(RuntimeError, match="the caller failed"):
        acquire_in_child(job(tmp_path, KnownFrames((40, 7))), nothing, refuse)


def test_answers_that_take_long_are_asked_for_less_often() -> None:
    now, took = 0.0, 0.0

    def asked(answer_s: float) -> int:
        """Questions in 10 s of ten rows each millisecond."""
        nonlocal now, took
        now, took, questions = 0.0, 0.0, 0
        pace = _Pace(10, lambda: now)
        received = 0
        while now < 10:
            received += 100
            if pace.due(received):
                questions += 1
                now, took = now + answer_s, took + answer_s
                pace.answered()
            now += 1e-3
        return questions

    # 5 a second, and one each of the 17 times that the frames have doubled, from 10 to a million.
    assert 50 <= asked(0.0) <= 50 + 17
    assert asked(0.11) >= 5
    assert took <= 1.1 + 0.11  # a tenth of the time, and one answer more


@pytest.mark.usefixtures("warm_workers")
def test_a_child_that_is_stopped_is_a_fault_within_seconds(tmp_path: Path) -> None:
    pids: list[int] = []

    def stop(_progress: Progress) -> None:
        if pids:
            os.kill(pids.pop(), signal.SIGSTOP)

    began_s = time.monotonic()
    with pytest.raises(DeviceFault, match="has said nothing for 5 s"):
        acquire_in_child(job(tmp_path, KnownFrames((400, 7))), nothing, stop, on_started=pids.append)
    # It is ended by a kill after 2 s of patience; a busy machine takes a few more.
    assert time.monotonic() - began_s < HUNG_S + 20
