"""How alike two images of one field are, ring by ring of spatial frequency."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

Array = npt.NDArray[np.float64]

FIXED = 0.143
"""What two halves have where the whole correlates with the truth by 0.5 (Rosenthal and Henderson, J. Mol. Biol. 333,
2003): 1/7."""


def edge_window(shape: tuple[int, ...]) -> Array:
    """(y, x): falls to nothing just beyond the border, against the cross that edges make."""
    window: Array = np.hanning(shape[0] + 2)[1:-1, None] * np.hanning(shape[1] + 2)[None, 1:-1]
    return window


def correlation_by_ring(
    one: npt.NDArray[Any], other: npt.NDArray[Any], width: int, number: int
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Correlation of two real or complex images (y, x), and the frequencies that fell into each ring, (number,) both.

    Parameters
    ----------
    width : int
        Of a ring, in units of one over the shorter side; ring n has its middle at n times that.
    number : int
        Rings from frequency 0 on; what lies beyond is left out.
    """
    window = edge_window(one.shape)
    first, second = (fft.fft2((each - np.average(each, weights=window)) * window) for each in (one, other))
    k = np.hypot(fft.fftfreq(one.shape[0])[:, None], fft.fftfreq(one.shape[1])[None, :])
    ring = np.rint(k * (min(one.shape) / width)).astype(int)
    inside = ring < number
    which = ring[inside]

    def total(values: npt.NDArray[Any]) -> Array:
        return np.asarray(np.bincount(which, weights=values[inside], minlength=number), dtype=np.float64)

    cross, left, right = total((first * np.conj(second)).real), total(np.abs(first) ** 2), total(np.abs(second) ** 2)
    return cross / np.maximum(np.sqrt(left * right), 1e-150), np.bincount(which, minlength=number)
