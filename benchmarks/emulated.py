"""An emulated DECTRIS detector in a process of its own: frames of one count a pixel, as fast as they are taken."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt

from devices.simplon.emulator import start_emulator
from devices.simplon.emulator.frames import SyntheticFrames

DISTINCT = 64
"""Frames that are packed in advance and sent in turn: more than a processor's caches hold unpacked."""


@dataclass(frozen=True)
class Detector:
    """Its ports, and what its processor time has come to since it was ready [s]."""

    rest_port: int
    stream_port: int
    legacy_port: int
    processor_s: Callable[[], float]


@contextmanager
def emulated(side_px: int) -> Iterator[Detector]:
    """A detector of so many pixels each way."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_emulate, args=(theirs, side_px), daemon=True)
    process.start()

    def processor_s() -> float:
        ours.send("time")
        return float(ours.recv())

    try:
        yield Detector(*ours.recv(), processor_s)
        ours.send("end")
    finally:
        process.join(5)
        process.kill()


def _emulate(pipe: Connection, side_px: int) -> None:
    source = _source(side_px)
    with start_emulator(source=source, rate_hz=float("inf"), ring_frames=DISTINCT, patience_s=30.0) as emulator:
        began = time.process_time()
        pipe.send((emulator.rest_port, emulator.stream_port, emulator.legacy_port))
        while pipe.recv() == "time":
            pipe.send(time.process_time() - began)


def one_count_a_pixel(side_px: int) -> npt.NDArray[np.uint16]:
    """Different frames of Poisson counts, as many as are sent in turn."""
    source = _source(side_px)
    return np.stack([source.counts(number) for number in range(DISTINCT)]).astype(np.uint16)


def _source(side_px: int) -> SyntheticFrames:
    return SyntheticFrames((side_px, side_px), distinct=DISTINCT, disk_counts=1.0, background_counts=1.0)
