"""Packed frames on a schedule of faults, and what the ledger has to say of it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from devices.acquire import AcquisitionJob
from devices.protocols import PackedBatch
from stem4d.accumulate import AccumulatorSpec
from storage.layout import CORRUPT, DUPLICATE, MISSING, OK
from storage.spec import FileSpec
from tests.packing import bitshuffle

SHAPE = (8, 12)
Damage = Literal["", "cut", "empty", "length", "block", "wrong size", "rubbish"]


@dataclass(frozen=True)
class Sent:
    """One message of the detector: the frame's number, and what was done to its payload."""

    index: int
    damage: Damage = ""


def frame(index: int) -> npt.NDArray[np.uint16]:
    """Frame of a number; no two alike."""
    values = np.arange(SHAPE[0] * SHAPE[1]) * (index + 1) % 251
    return values.reshape(SHAPE).astype(np.uint16)


@cache
def payload(sent: Sent) -> bytes:
    """What is sent for a frame."""
    codec = bitshuffle()
    (chunk,) = codec.pack(frame(sent.index)[None])
    match sent.damage:
        case "cut":
            return chunk[: len(chunk) // 2]
        case "empty":
            return b""
        case "length":
            return bytes([chunk[0], *(byte ^ 0x40 for byte in chunk[1:2]), *chunk[2:]])
        case "block":
            return chunk[:12] + b"\xff\xff\xff\xff" + chunk[16:]
        case "wrong size":
            return codec.pack(np.zeros((1, 3, 3), np.uint16))[0]
        case "rubbish":
            return b"<html>" * 20
    return chunk


def expected_states(schedule: list[Sent], total: int) -> npt.NDArray[np.uint8]:
    """The ledger's states: how often a frame came whole decides, and where it never did, whether it came at all."""
    whole = Counter(sent.index for sent in schedule if not sent.damage)
    came = {sent.index for sent in schedule}
    states = np.full(total, MISSING, np.uint8)
    for index in range(total):
        if whole[index]:
            states[index] = OK if whole[index] == 1 else DUPLICATE
        elif index in came:
            states[index] = CORRUPT
    return states


@dataclass(frozen=True)
class Scheduled:
    """A source that sends what its schedule says, in batches of the given sizes, over and over."""

    frames: int
    schedule: list[Sent]
    sizes: list[int] = field(default_factory=lambda: [64])
    detector_shape: tuple[int, int] = SHAPE
    dtype: str = "uint16"

    def open(self) -> Self:
        return self

    def batches(self) -> Iterator[PackedBatch]:
        at, turn = 0, 0
        while at < len(self.schedule):
            size = self.sizes[turn % len(self.sizes)]
            part = self.schedule[at : at + size]
            yield PackedBatch([sent.index for sent in part], [payload(sent) for sent in part])
            at, turn = at + size, turn + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


def job(path: Path, source: Scheduled, scan: tuple[int, int]) -> AcquisitionJob:
    """An acquisition of that source."""
    return AcquisitionJob(
        source=source,
        file=FileSpec(
            path=path,
            scan_shape=scan,
            detector_shape=SHAPE,
            dtype="uint16",
            scan_step_nm=None,
            mrad_per_pixel=None,
            full_scale=65535,
            reserve_bytes=0,
        ),
        accumulator=AccumulatorSpec(detector_shape=SHAPE, dtype="uint16", detectors=(), full_scale=65535, threads=1),
    )
