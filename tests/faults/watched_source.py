"""A source that says from within its process how many frames it handed over; needs no more than a worker does."""

import os
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from devices.frames import FrameBatch, PackedBatch
from tests.faults.packed_world import Sent, frame, payload

SCAN = (50, 60)
TOTAL = 3000
LARGEST_BATCH = 64
NOTE = struct.Struct("<qd")
Kind = Literal["in order", "mixed", "not packed", "paced"]
KINDS: tuple[Kind, ...] = ("in order", "mixed", "not packed", "paced")
PACE_HZ = 600.0


def schedule_of(kind: Kind, seed: int) -> list[Sent]:
    """What is sent: everything in order, or with frames that overtake others, come twice, or damaged or not at all."""
    sent = [Sent(index) for index in range(TOTAL)]
    if kind != "mixed":
        return sent
    draw = random.Random(seed)
    order = sorted(range(TOTAL), key=lambda index: index + draw.choice((0, 0, 0, draw.uniform(0, 200))))
    sent = [Sent(index) for index in order]
    for at in draw.sample(range(TOTAL), 20):
        sent[at] = Sent(sent[at].index, "cut") if at % 2 else sent[draw.randrange(at + 1)]
    return sent


@dataclass(frozen=True)
class Watched:
    """A source that notes in a pipe how many frames it is about to hand over, and when, before it does."""

    notes: Path
    kind: Kind
    seed: int
    frames: int = TOTAL
    detector_shape: tuple[int, int] = (8, 12)
    dtype: str = "uint16"

    def open(self) -> "Handing":
        return Handing(self)


class Handing:
    """The open source; its first note is the number of its process."""

    def __init__(self, spec: Watched) -> None:
        self._spec = spec
        self._notes = os.open(spec.notes, os.O_WRONLY)
        self._note(os.getpid())

    def _note(self, number: int) -> None:
        os.write(self._notes, NOTE.pack(number, time.monotonic()))

    def batches(self) -> Iterator[PackedBatch | FrameBatch]:
        spec, draw = self._spec, random.Random(self._spec.seed + 1)
        schedule, largest = schedule_of(spec.kind, spec.seed), draw.choice((5, LARGEST_BATCH))
        at, began = 0, time.monotonic()
        while at < len(schedule):
            part = schedule[at : at + draw.randint(1, largest)]
            if spec.kind == "paced":
                # As frames come from a detector: what 0.05 s brought, as its receiver hands it on.
                part = schedule[at : at + round(PACE_HZ * 0.05)]
                time.sleep(max(0.0, began + (at + len(part)) / PACE_HZ - time.monotonic()))
            if spec.kind == "not packed":
                batch: PackedBatch | FrameBatch = FrameBatch(at, np.array([frame(sent.index) for sent in part]))
            else:
                batch = PackedBatch([sent.index for sent in part], [payload(sent) for sent in part])
            at += len(part)
            self._note(at)
            yield batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._notes)
