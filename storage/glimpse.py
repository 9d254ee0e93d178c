"""The running virtual image of an instrument: one small grey picture beside its status, replaced at once."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.disk import ordinary_bytes

FILE = "glimpse.npy"
SIDE_PX = 128
"""Longest side; more positions than that are left out."""
_LARGEST_BYTES = SIDE_PX * SIDE_PX + 4096

Grey = npt.NDArray[np.uint8]


def small_grey(image: npt.NDArray[np.generic], recorded: npt.NDArray[np.bool_]) -> Grey:
    """An image per position as greys 1 to 255 between its lowest and highest recorded value; 0 is not recorded yet."""
    every = max(1, -(-max(image.shape) // SIDE_PX))
    values, known = image[::every, ::every].astype(np.float64), recorded[::every, ::every]
    grey: Grey = np.zeros(values.shape, np.uint8)
    if known.any():
        low, high = values[known].min(), values[known].max()
        grey[known] = 1 + np.round(254 * (values[known] - low) / max(high - low, 1e-300)).astype(np.uint8)
    return grey


def write_glimpse(folder: Path, grey: Grey) -> None:
    """Replace what can be seen of the running scan."""
    partial = folder / f"{FILE}.{os.getpid()}.partial"
    with partial.open("wb") as file:
        np.save(file, grey, allow_pickle=False)
    os.replace(partial, folder / FILE)


def read_glimpse(folder: Path) -> Grey | None:
    """What can be seen of the running scan; None where there is nothing, or it cannot be read."""
    try:
        data = ordinary_bytes(folder / FILE, _LARGEST_BYTES + 1)
        grey = np.load(BytesIO(data), allow_pickle=False) if len(data) <= _LARGEST_BYTES else None
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(grey, np.ndarray):
        return None
    return grey if grey.dtype == np.uint8 and grey.ndim == 2 and 0 < max(grey.shape) <= SIDE_PX else None
