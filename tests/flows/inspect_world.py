"""Files that an inspection must not stumble over: each one bad input, on a recording that is good otherwise."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from storage.write import FrameWriter
from tests.storage.storage_world import spec_at

SCAN, SIDE, CENTRE, RADIUS = (12, 16), 32, 15.5, 7.0
LEVEL = 20.0
"""Counts of a pixel of the disk."""
ADU, READ_NOISE = 120.0, 15.0
"""Of the integrating detector: what an electron adds, and what is added without one."""
Array = npt.NDArray[np.generic]


def pattern(level: float = LEVEL, background: float = 0.05) -> npt.NDArray[np.float64]:
    """Mean counts of a disk in the middle of the detector."""
    y, x = np.indices((SIDE, SIDE)) - CENTRE
    return np.where(np.hypot(y, x) < RADIUS, level, background)


def counts(scan: tuple[int, int] = SCAN, level: float = LEVEL, background: float = 0.05) -> npt.NDArray[np.uint16]:
    """Frames (scan_y, scan_x, SIDE, SIDE) of single electrons."""
    random = np.random.default_rng((6, 50))
    return random.poisson(pattern(level, background), (*scan, SIDE, SIDE)).astype(np.uint16)


def integrated() -> npt.NDArray[np.float32]:
    """The same on an integrating detector, its dark level subtracted: fractions, and values below zero."""
    values = counts() * ADU
    return (values + np.random.default_rng((6, 51)).normal(0, READ_NOISE, values.shape)).astype(np.float32)


def with_nan() -> npt.NDArray[np.float32]:
    """A dead pixel, one position wholly lost, and single values that are no numbers."""
    frames = integrated()
    frames[:, :, 3, 4] = np.nan
    frames[5, 6] = np.nan
    frames[2, 3, 20, 20], frames[7, 1, 2, 2] = np.inf, -np.inf
    return frames


def wrapped() -> npt.NDArray[np.uint8]:
    """An eight-bit counter that began again at 0."""
    return (counts(level=300.0) % 256).astype(np.uint8)


def write(path: Path, frames: Array) -> Path:
    """An HDF5 file of another make: frames and nothing else."""
    with h5py.File(path, "w") as file:
        file["frames"] = frames
    return path


def write_ours(path: Path, missing: tuple[int, ...]) -> Path:
    """A file of our own, whose ledger knows that some positions never got a frame."""
    spec = spec_at(path, SCAN, (SIDE, SIDE))
    frames = counts().reshape(-1, SIDE, SIDE).astype(spec.dtype)
    with FrameWriter(spec) as writer:
        for position in sorted(set(range(len(frames))) - set(missing)):
            writer.write(position, frames[position : position + 1])
        writer.finish({})
    return path


def mask_over_the_disk() -> npt.NDArray[np.bool_]:
    """Every pixel that the disk and its blur reach."""
    return pattern(1.0, 0.0) > 0


FILES: dict[str, Callable[[], Array]] = {
    "no calibration": counts,
    "one pattern": lambda: counts((1, 1)),
    "one row": lambda: counts((1, 64)),
    "empty beam": lambda: np.zeros((*SCAN, SIDE, SIDE), np.uint16),
    "noise only": lambda: counts(level=0.3, background=0.3),
    "wrap-around": wrapped,
    "integrating": integrated,
    "NaN": with_nan,
    "all NaN": lambda: np.full((*SCAN, SIDE, SIDE), np.nan, np.float32),
    "fractions of one": lambda: (integrated() / 1e5).astype(np.float32),
    "disk without numbers": lambda: np.where(pattern() > 1, np.nan, integrated()).astype(np.float32),
}
