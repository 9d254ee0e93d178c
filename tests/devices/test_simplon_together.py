"""The driver and the emulated detector, which know nothing of each other but the protocol, over real sockets."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import numpy as np
import pytest

from devices.simplon import emulator
from devices.simplon.configure import Trigger
from devices.simplon.driver import SimplonDetector
from devices.simplon.rest import Simplon
from stem4d.detector import DetectorFacts
from stem4d.errors import DeviceFault
from storage.read import open_frames
from tests.devices.emulator_world import EXPOSURE, SMALL, wait_for
from tests.devices.simplon_world import scanned
from tests.packing import bitshuffle

SHAPE, FRAMES = SMALL.shape, EXPOSURE.frames


@contextmanager
def exposure(
    trigger_by: Trigger = "software", pulses: Literal["free", "asked"] = "free", facts: DetectorFacts = SMALL
) -> Iterator[tuple[emulator.Emulator, SimplonDetector]]:
    """An emulated detector, initialised, and its driver."""
    with emulator.start_emulator(source=emulator.SyntheticFrames(facts.shape), pulses=pulses) as running:
        rest = Simplon("127.0.0.1", running.rest_port)
        detector = SimplonDetector(
            rest, facts, trigger_by, running.stream_port, first_frame_timeout_s=10.0, gap_timeout_s=10.0
        )
        try:
            detector.recover()
            yield running, detector
            detector.ensure_stopped()
        finally:
            rest.close()


def counted(
    running: emulator.Emulator, detector: SimplonDetector, faults: list[dict[str, Any]]
) -> tuple[list[int], int, int, int]:
    """Frame numbers as they came, the sum of all pixels, frames that could not be unpacked, and strays."""
    codec = bitshuffle()
    detector.prepare(EXPOSURE)
    running.faults.set(emulator.faults.read_faults(faults))
    source = detector.source()
    frame = np.empty((1, *source.detector_shape), source.dtype)
    numbers: list[int] = []
    total = damaged = strays = 0
    with source.open() as frames:
        detector.arm()
        triggering = Thread(target=detector.trigger)
        if detector.trigger_by == "software":
            triggering.start()
        else:
            running.state.pulse(FRAMES)
        for batch in frames.batches():
            numbers += batch.indices
            strays += batch.strays
            for chunk in batch.chunks:
                try:
                    codec.unpack([chunk], frame)
                    total += int(frame.sum())
                except ValueError:
                    damaged += 1
        if detector.trigger_by == "software":
            triggering.join()
    return numbers, total, damaged, strays


def sent(running: emulator.Emulator) -> int:
    """Sum of all pixels of the last series, by the emulator's own record."""
    return sum(frame.total * frame.sent for frame in running.truth.series()[-1].frames.values())


@pytest.mark.parametrize("trigger", ["software", "position", "scan"])
def test_every_count_arrives(trigger: Trigger) -> None:
    with exposure(trigger, pulses="free" if trigger == "software" else "asked") as (running, detector):
        numbers, total, damaged, strays = counted(running, detector, [])
        assert total == sent(running) > 0
    assert (numbers, damaged, strays) == (list(range(FRAMES)), 0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("trigger", ["software", "position", "scan"])
def test_a_full_scan_is_in_the_file_as_it_was_sent(tmp_path: Path, trigger: Trigger, bit_depth: int) -> None:
    scan, facts = (128, 96), SMALL.model_copy(update={"shape": (192, 192)})
    frames = scan[0] * scan[1]
    request = EXPOSURE.model_copy(update={"shape": facts.shape, "bit_depth": bit_depth, "frames": frames})
    with exposure(trigger, pulses="asked", facts=facts) as (running, detector):
        pulse = None if trigger == "software" else lambda: running.state.pulse(frames)
        result = scanned(detector, request, scan, tmp_path / "pass1.h5", pulse)
        wait_for(lambda: running.truth.series()[-1].finished)
        (series,) = running.truth.series()
    assert (result.frames.ok, result.frames.strays, result.stopped) == (frames, 0, "")
    assert (series.images, series.order, series.starts, series.ends) == (frames, list(range(frames)), 1, 1)
    with open_frames(result.receipt.path) as file:
        recorded = np.concatenate([batch.sum((1, 2), dtype=np.uint64) for _first, batch in file.batches()])
    truth = [series.frames[number].total for number in range(frames)]
    assert len(set(truth)) > 1
    assert recorded.tolist() == truth


def test_strays_a_late_start_and_an_overrun_lose_nothing() -> None:
    faults = [
        {"kind": "stray_series", "count": 20},
        {"kind": "late_start", "frame": 5},
        {"kind": "overrun", "count": 3},
    ]
    with exposure() as (running, detector):
        numbers, total, _damaged, strays = counted(running, detector, faults)
        assert total == sent(running)
    assert (numbers, strays) == (list(range(FRAMES + 3)), 20)


def test_frames_lost_twice_late_and_damaged_are_told_apart() -> None:
    faults = [
        {"kind": "duplicate", "frame": 3, "count": 2},
        {"kind": "truncate", "frame": 9},
        {"kind": "drop", "frame": 12},
        {"kind": "reorder", "frame": 100, "by": 3},
    ]
    with exposure() as (running, detector):
        numbers, _total, damaged, _strays = counted(running, detector, faults)
    assert sorted(numbers) == sorted([*range(12), *range(13, FRAMES), 3, 4])
    assert numbers.index(100) > numbers.index(103)
    assert damaged == 1


def test_an_arm_whose_answer_is_lost_is_found_to_have_worked() -> None:
    with exposure() as (running, detector):
        numbers, *_ = counted(running, detector, [{"kind": "reset", "path": "command/arm", "after": True}])
        assert len(running.truth.series()) == 1
    assert numbers == list(range(FRAMES))


def test_a_detector_that_fails_is_seen_and_recovered() -> None:
    with exposure(trigger_by="scan", pulses="asked") as (running, detector):
        detector.gap_timeout_s = 1.0
        assert counted(running, detector, [{"kind": "fail", "frame": 50}])[0] == list(range(50))
        detector.ensure_stopped()
        with pytest.raises(DeviceFault, match=r"state error.*recovery"):
            detector.prepare(EXPOSURE)
        running.faults.set(())
        detector.recover()
        detector.gap_timeout_s = 10.0
        assert counted(running, detector, [])[0] == list(range(FRAMES))
