"""The object in the scan's frame: the scanned field cut out, its tilt and mean phase taken off."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.analyse.method import Given
from stem4d.analyse.ptychography.geometry import pixel_a, to_object_px

Floats = npt.NDArray[np.floating[Any]]


def scanned_field(
    given: Given, image: npt.NDArray[Any], first_px: Floats, size: int, scan_shape: tuple[int, int]
) -> npt.NDArray[np.complex128]:
    """The object at square pixels λ/(N δ) along the scan's axes, from the first position to the last.

    Parameters
    ----------
    given : Given
        Geometry.
    image : complex array (Y, X)
        Object in the detector's orientation.
    first_px : (2,)
        Where the first position is in it.
    size : int
        N, side of a pattern.
    scan_shape : (int, int)
        (scan_y, scan_x).
    """
    step = pixel_a(given, size)
    counts = [max(round((n - 1) * 10 * by / step) + 1, 2) for n, by in zip(scan_shape, given.scan_step_nm, strict=True)]
    at_a = np.stack(np.meshgrid(*(np.arange(n) * step for n in counts), indexing="ij"))
    at = np.einsum("ij,jyx->iyx", to_object_px(given, size), at_a) + np.asarray(first_px).reshape(2, 1, 1)
    real, imaginary = (ndimage.map_coordinates(part, at, order=3, mode="nearest") for part in (image.real, image.imag))
    return flat(real + 1j * imaginary)


def flat(field: npt.NDArray[Any]) -> npt.NDArray[np.complex128]:
    """A field without the ramp and the constant of its phase, which no pattern tells.

    The mean turn from pixel to pixel does not wrap; a plane through what is left takes off the rest.
    """
    y, x = np.indices(field.shape)
    ramp = [
        float(np.angle((field[1:] * np.conj(field[:-1])).sum())),
        float(np.angle((field[:, 1:] * np.conj(field[:, :-1])).sum())),
    ]
    level = field * np.exp(-1j * (ramp[0] * y + ramp[1] * x))
    level = level * np.exp(-1j * np.angle(level.sum()))
    terms = np.column_stack([np.ones(field.size), y.ravel() - y.mean(), x.ravel() - x.mean()])
    plane, *_ = np.linalg.lstsq(terms, np.angle(level).ravel(), rcond=None)
    return np.asarray(level * np.exp(-1j * (terms @ plane).reshape(field.shape)))
