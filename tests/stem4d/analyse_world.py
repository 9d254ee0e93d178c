"""What tests of analyses share: a data set in memory that is read by rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.analyse.method import Given, Method, Outcome, Picture
from stem4d.model import Strict


class InMemory:
    """`Rows` over an array (scan_y, scan_x, det_y, det_x); all frames are recorded unless it is said."""

    def __init__(self, data: npt.NDArray[Any], recorded: npt.NDArray[np.bool_] | None = None) -> None:
        self.data = data
        self.recorded = np.ones(data.shape[:2], bool) if recorded is None else recorded
        self.scan_shape = (data.shape[0], data.shape[1])
        self.detector_shape = (data.shape[2], data.shape[3])
        self.dtype = data.dtype

    def read(self, first: int, stop: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
        """Row by row."""
        for row in range(first, stop):
            here = np.flatnonzero(self.recorded[row])
            if here.size:
                yield row * self.scan_shape[1] + here, self.data[row, here]


def run(method: Method, given: Given, options: Strict, rows: InMemory, at_once: int = 7) -> Outcome:
    """A method over all rows, some at once."""
    prepared = method.prepare(given, options, rows)
    last = rows.scan_shape[0]
    parts = [method.part(given, options, rows, prepared, k, min(k + at_once, last)) for k in range(0, last, at_once)]
    joined = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    return method.finish(given, options, prepared, joined)


def picture(outcome: Outcome, name: str) -> Picture:
    """One of an outcome's pictures."""
    return next(one for one in outcome.pictures if one.name == name)
