"""A Merlin's driver on an emulated detector, and what comes of an exposure."""

from contextlib import closing
from threading import Thread
from typing import Any, NamedTuple

import numpy as np

from devices.merlin.control import Merlin
from devices.merlin.driver import MerlinDetector
from devices.merlin.stream import MerlinFrames
from devices.protocols import ExposureRequest
from stem4d.detector import DetectorFacts
from storage.codec import bitshuffle_lz4
from tests.devices.merlin_emulator import MerlinEmulator

SHAPE, FRAMES = (16, 64), 40
FACTS = DetectorFacts(
    name="merlin",
    shape=SHAPE,
    pixel_pitch_um=55.0,
    bit_depths=(1, 6, 12, 24),
    max_frame_rate_hz=1e4,
    max_count_rate_per_px_hz=1e6,
)
REQUEST = ExposureRequest(detector="merlin", shape=SHAPE, bit_depth=12, exposure_time_us=500.0, frames=FRAMES)


def asked(**changes: Any) -> ExposureRequest:
    """The usual exposure with changes."""
    return REQUEST.model_copy(update=changes)


def detector_of(emulator: MerlinEmulator, facts: DetectorFacts = FACTS, **changes: Any) -> MerlinDetector:
    """The driver of an emulated detector."""
    settings = {"data_port": emulator.data_port, "first_frame_timeout_s": 5.0, "gap_timeout_s": 5.0, **changes}
    return MerlinDetector(Merlin("127.0.0.1", emulator.control_port), facts, **settings)


class Received(NamedTuple):
    """What a stream gave."""

    numbers: list[int]
    frames: dict[int, np.ndarray]
    """The last whole frame of each number."""
    damaged: dict[int, bytes]
    strays: int


def followed(frames: MerlinFrames) -> Received:
    """Everything to the stream's end, unpacked."""
    codec = bitshuffle_lz4()
    assert codec is not None
    got = Received([], {}, {}, 0)
    for batch in frames.batches():
        got.numbers.extend(batch.indices)
        got = got._replace(strays=got.strays + batch.strays)
        for index, chunk in zip(batch.indices, batch.chunks, strict=True):
            frame = np.empty((1, *frames.spec.detector_shape), frames.spec.dtype)
            try:
                codec.unpack([chunk], frame)
                got.frames[index] = frame[0]
            except ValueError:
                got.damaged[index] = chunk
    return got


def exposed(emulator: MerlinEmulator, detector: MerlinDetector, request: ExposureRequest = REQUEST) -> Received:
    """One exposure: prepared, armed, triggered, followed, stopped."""
    pulses = {"software": 0, "scan": 1, "position": request.frames}[detector.trigger_by]
    with closing(detector.control):
        assert detector.prepare(request) == request
        with detector.source().open() as frames:
            detector.arm()
            pulsing = Thread(target=emulator.pulse, args=(pulses,))
            pulsing.start()
            if not pulses:
                detector.trigger()
            got = followed(frames)
            pulsing.join()
        detector.ensure_stopped()
    return got
