"""F9, F10, F22, F28 with the emulated detector: whatever its connections do, the run ends, and its ledger is true."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from devices.acquire import AcquisitionResult, Progress, acquire
from devices.simplon import emulator
from devices.simplon import rest as rest_module
from devices.simplon.driver import SimplonDetector
from devices.simplon.emulator.frames import SyntheticFrames
from devices.simplon.rest import Simplon
from devices.simplon.stream import SimplonStream
from stem4d.errors import DeviceFault
from storage import write
from storage.layout import FRAMES, LEDGER_STATE, OK
from tests.devices.emulator_world import EXPOSURE, SMALL
from tests.faults.packed_world import job
from tests.faults.wire_world import FAILURES, Failure, proxy_to

SHAPE, SCAN = SMALL.shape, (15, 20)
TOTAL = SCAN[0] * SCAN[1]
SOURCE = SyntheticFrames(SHAPE, distinct=31)
GAP_S = 0.5


class Rig:
    """An emulated detector and its driver."""

    def __init__(self, running: emulator.Emulator, detector: SimplonDetector, rest: Simplon) -> None:
        self.running, self.detector, self.rest = running, detector, rest

    def prepared(self, faults: list[dict[str, Any]]) -> SimplonStream:
        """The source of an exposure that is prepared, with faults set."""
        self.running.faults.set(())
        self.detector.ensure_stopped()
        self.detector.prepare(EXPOSURE)
        self.running.faults.set(emulator.faults.read_faults(faults))
        return self.detector.source()

    def acquired(self, source: SimplonStream, path: Path, on_progress: Any = lambda _: None) -> AcquisitionResult:
        """Arm, trigger and receive."""
        wanted = job(path, source, SCAN)
        triggering = threading.Thread(target=self.detector.trigger)

        def on_listening() -> None:
            self.detector.arm()
            triggering.start()

        try:
            return acquire(wanted, on_listening, on_progress)
        finally:
            if triggering.ident:
                triggering.join()


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    patch = pytest.MonkeyPatch()
    # An end that overtakes frames is waited for so long: none does here.
    patch.setattr("devices.simplon.stream.OVERTAKEN_S", 0.2)
    with emulator.start_emulator(source=SOURCE, pulses="free") as running:
        rest = Simplon("127.0.0.1", running.rest_port)
        detector = SimplonDetector(
            rest, SMALL, "software", running.stream_port, first_frame_timeout_s=5.0, gap_timeout_s=GAP_S
        )
        detector.recover()
        yield Rig(running, detector, rest)
        running.faults.set(())
        detector.ensure_stopped()
        rest.close()
    patch.undo()


def held(path: Path, false: int = 0) -> npt.NDArray[np.uint8]:
    """States of a file's ledger; each of its frames is compared with what the detector counted."""
    with h5py.File(path) as file:
        states: npt.NDArray[np.uint8] = file[LEDGER_STATE][:]
        frames = file[FRAMES][:].reshape(TOTAL, *SHAPE)
    kept = np.flatnonzero(states == OK).tolist()
    unlike = [at for at in kept if not np.array_equal(frames[at], SOURCE.counts(at % SOURCE.distinct))]
    assert len(unlike) <= false, unlike
    return states


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(each, marks=() if each in ("black hole", "reset", "half closed") else pytest.mark.slow)
        for each in FAILURES
    ],
)
def test_a_stream_that_fails_ends_the_run_with_a_true_ledger(rig: Rig, failure: Failure, tmp_path: Path) -> None:
    source = rig.prepared([])
    # A frame on a wire has no checksum: a bit of its payload may come through.
    false = int(failure == "flipped bit")
    with proxy_to(source.port, failure, after_bytes=100_000) as proxy:
        began, told = time.monotonic(), ""
        try:
            path = rig.acquired(replace(source, port=proxy.port), tmp_path / "pass1.h5").receipt.path
        except DeviceFault as fault:
            told, path = str(fault), tmp_path / "pass1.incomplete.h5"
        came = int((held(path, false) == OK).sum())
        if told:
            assert failure not in ("none", "slow")
            assert f"sent {came} of {TOTAL} frames" in told
            assert came > 0
        else:
            assert failure != "black hole"
            assert came >= TOTAL - TOTAL // 100
        # The gap that is allowed, and much longer for a busy machine; not the minute of a parent that hears nothing.
        assert time.monotonic() - began < 30.0
        assert proxy.happened.is_set() is (failure != "none")


def test_a_detector_that_is_armed_and_sends_nothing_is_told(rig: Rig, tmp_path: Path) -> None:
    source = replace(rig.prepared([{"kind": "silent"}]), first_frame_timeout_s=0.5)
    with pytest.raises(DeviceFault, match=r"within 0\.\d s"):
        rig.acquired(source, tmp_path / "pass1.h5")
    assert [each.name for each in tmp_path.iterdir()] == ["pass1.incomplete.h5"]


def test_a_detector_that_does_not_stop_is_left(rig: Rig, tmp_path: Path) -> None:
    result = rig.acquired(rig.prepared([{"kind": "overrun", "count": 100 * TOTAL}]), tmp_path / "pass1.h5")
    assert (held(result.receipt.path) == OK).all()
    # A hundredth more is 3; it is seen by the batch.
    assert 3 < result.frames.outside < 2 * TOTAL


def test_a_slow_disk_holds_the_detector_up_and_loses_nothing(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of a second for every 32 frames, while the detector sends them within 16 ms."""
    as_fast, shares = write.FrameWriter.write_chunks, list[float]()

    def slowly(*arguments: Any) -> None:
        time.sleep(0.25)
        as_fast(*arguments)

    monkeypatch.setattr(write.FrameWriter, "write_chunks", slowly)
    # Asked with every batch, however long the answers take.
    monkeypatch.setattr("devices.acquire.PROGRESS_EVERY_S", 0.0)
    monkeypatch.setattr("devices.acquire.ANSWER_SHARE", 1.0)
    source = replace(rig.prepared([]), queue_bytes=2**16)

    def on_progress(progress: Progress) -> None:
        shares.append(progress.queue_share)

    result = rig.acquired(source, tmp_path / "pass1.h5", on_progress)
    assert (held(result.receipt.path) == OK).all()
    assert result.frames.ok == TOTAL
    # Bounded, seen to be full (the bar says so from 75 % on), and the time for which nothing was read is counted.
    assert 0.75 <= max(shares) <= 1.0
    assert result.held_up_s > 0.1


UNANSWERED: dict[str, dict[str, Any]] = {
    "400": {"kind": "http_error", "status": 400},
    "500": {"kind": "http_error", "status": 500},
    "html": {"kind": "html"},
    "huge body": {"kind": "huge_body"},
    "reset": {"kind": "reset"},
    "cut": {"kind": "cut"},
    "stalled": {"kind": "slow", "seconds": 2.0},
}
ANSWERED = tuple(what for what in UNANSWERED if what != "stalled")
"""An arm may take two minutes: test_simplon_driver.py has one that stalls, on a clock of its own."""
READS_AGAIN = ("500", "reset", "cut", "stalled")


@pytest.mark.parametrize("what", UNANSWERED)
def test_a_read_that_fails_once_is_asked_again_only_where_that_can_help(
    rig: Rig, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.prepared([])
    monkeypatch.setattr(rest_module, "READ_TIMEOUT_S", 0.3)
    fault = {**UNANSWERED[what], "path": "config/count_time", "method": "GET"}
    rig.running.faults.set(emulator.faults.read_faults([fault]))
    if what in READS_AGAIN:
        assert rig.rest.get("count_time").value == pytest.approx(500e-6, rel=0.1)
    else:
        with pytest.raises(DeviceFault, match=r"GET /detector/api/1\.8\.0/config/count_time") as told:
            rig.rest.get("count_time")
        assert {"400": "answered 400", "html": "not in JSON", "huge body": "more than 1 MiB"}[what] in str(told.value)
    assert rig.running.faults.all() == ()


@pytest.mark.parametrize(
    ("what", "after"),
    [
        # The state of a detector that was not armed is read for 5 s: it may only be slow.
        pytest.param(what, after, marks=pytest.mark.slow if what in ("reset", "cut") and not after else ())
        for what, after in itertools.product(ANSWERED, (False, True))
    ],
)
def test_an_arm_that_is_not_answered_is_never_given_twice(rig: Rig, what: str, after: bool) -> None:
    """Where it was carried out the state says so, and the exposure goes on; where not, it is a fault."""
    rig.prepared([{**UNANSWERED[what], "path": "command/arm", "after": after}])
    before = len(rig.running.truth.series())
    told = ""
    try:
        rig.detector.arm()
    except DeviceFault as fault:
        told = str(fault)
    given = len(rig.running.truth.series()) - before
    rig.detector.ensure_stopped()
    assert given <= 1
    # No answer at all says nothing of what was done: then the detector's state is read.
    assert bool(told) is not (what in ("reset", "cut") and after)
    assert not told or "command/arm" in told
