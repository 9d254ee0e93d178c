"""One analysis of one file in three steps: prepared once, looked at by ranges of rows, and finished.

A range of rows is a plain function of a path, so that any process that has nightbeam installed can do it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stem4d.analyse.method import Array, Given, Outcome, Parts
from stem4d.analyse.methods import METHODS
from stem4d.analyse.seen import doubts_of, look, with_doubts
from storage.frames import BATCH_BYTES
from storage.read import open_frames
from storage.rows import FrameRows

RANGE_BYTES = 4 * BATCH_BYTES
"""Frames of one range on a cluster: four batches, so that opening the file is a small part of it."""

Ranges = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Job:
    """What is analysed and how: a value that travels to other processes."""

    path: str
    method: str
    given: Given
    options: Any


Everywhere = Callable[[Job, Parts, Ranges], list[Parts]]
"""Does all ranges of a job and gives them in order."""


def analysed(job: Job, everywhere: Everywhere | None = None) -> Outcome:
    """The outcome of a job: here, in bounded memory, or wherever ``everywhere`` has its ranges done.

    Raises
    ------
    NotPossible
        The data cannot carry the analysis.
    BadInput
        The file, options or geometry are wrong.
    """
    method = METHODS[job.method]
    with open_frames(Path(job.path)) as frames:
        rows = FrameRows(frames)
        prepared = method.prepare(job.given, job.options, rows)
        doubts = doubts_of(job.given, look(job.given, rows))
        if everywhere is None:
            # One range: frames come by batches anyway, and a foreign file is read from its beginning once.
            parts = method.part(job.given, job.options, rows, prepared, 0, frames.scan_shape[0])
            return with_doubts(method.finish(job.given, job.options, prepared, parts), doubts)
        ranges = ranges_of(frames.scan_shape, frames.detector_shape, frames.dtype.itemsize)
    done = everywhere(job, prepared, ranges)
    joined = {name: np.concatenate([part[name] for part in done]) for name in done[0]}
    return with_doubts(method.finish(job.given, job.options, prepared, joined), doubts)


def part_of(job: Job, prepared: Parts, first: int, stop: int) -> dict[str, Array]:
    """Rows first to stop - 1 of a job."""
    with open_frames(Path(job.path)) as frames:
        return dict(METHODS[job.method].part(job.given, job.options, FrameRows(frames), prepared, first, stop))


def ranges_of(scan_shape: tuple[int, int], detector_shape: tuple[int, int], itemsize: int) -> Ranges:
    """Ranges of whole rows, each of at most ``RANGE_BYTES`` where a row has no more."""
    row_bytes = scan_shape[1] * detector_shape[0] * detector_shape[1] * itemsize
    rows = max(1, RANGE_BYTES // row_bytes)
    return [(first, min(first + rows, scan_shape[0])) for first in range(0, scan_shape[0], rows)]
