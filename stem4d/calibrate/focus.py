"""Focus from repeated scans at several defoci: where the images have most fine detail."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import least_squares
from scipy.stats import f as f_distribution

from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]

FEWEST_IMAGES = 6
"""A peak has four parameters: height, width, pedestal and place."""
DETAIL_PX = 1.0
"""Blur before the slopes are taken: shot noise from pixel to pixel is no detail."""
CHANCE = 1e-4
"""Chance by which unrelated images would show such a peak."""
LARGEST_ERROR = 0.5
"""Error of the optimum, as a part of the series' range, from which on there is no optimum."""


@dataclass(frozen=True)
class FocusFit:
    """Where the images are sharpest; NaN where nothing was found."""

    defocus_nm: float
    """Setting at which the sharpness is largest [nm]; what to add to it for a focused probe is its negative."""
    defocus_uncertainty_nm: float
    width_nm: float
    """Half width of the peak at half height [nm]."""
    sharpness: Array
    """(n,) of each image: mean square slope over mean square level."""
    residual: float
    """Rms of the sharpness about the peak, as a part of its height."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def sharpness(image: npt.NDArray[np.number]) -> float:
    """Mean square slope of an image blurred by a pixel, over its squared mean: unchanged by current and gain.

    Shot noise adds the same to every image of equal dose, which moves no peak.
    """
    smooth = ndimage.gaussian_filter(np.asarray(image, dtype=np.float64), DETAIL_PX, mode="nearest")
    slopes = np.gradient(smooth)
    mean = float(smooth.mean())
    return float(np.mean(slopes[0] ** 2 + slopes[1] ** 2)) / mean**2 if mean != 0 else nan


def fit_focus(images: Sequence[npt.NDArray[np.number]], defocus_nm: Sequence[float]) -> FocusFit:
    """Find the sharpest defocus of a through-focus series.

    A Lorentzian peak on a pedestal is fitted to the sharpness: the detail that a blur proportional to the defocus
    leaves falls off as one. It is symmetric, as sharpness is where the spherical aberration is small.

    Parameters
    ----------
    images : sequence of ndarray, shape (scan_y, scan_x)
        Images of one area at equal dose.
    defocus_nm : sequence of float
        Of each [nm], in any order.

    Returns
    -------
    FocusFit
        ``ok`` false with a reason where images are fewer than 6, show no peak, or are sharpest at the end of the
        series: the optimum then lies beyond, and in which direction is said.

    Raises
    ------
    BadInput
        If there is not one defocus an image, or one is not finite.
    """
    if len(images) != len(defocus_nm) or not np.isfinite(defocus_nm).all():
        raise BadInput(field="defocus_nm", value=list(defocus_nm), limit=f"must be {len(images)} figures", unit="nm")
    if any(image.ndim != 2 or min(image.shape) < 4 for image in images):
        raise BadInput(field="images", value=[image.shape for image in images], limit="must be (scan_y, scan_x)")
    sharp = np.array([sharpness(image) for image in images])
    order = np.argsort(defocus_nm)
    at, values = np.asarray(defocus_nm, dtype=np.float64)[order], sharp[order]
    if len(np.unique(at)) < FEWEST_IMAGES:
        return _nothing(f"{len(np.unique(at))} defoci are too few; it takes {FEWEST_IMAGES}", sharp)
    if not np.isfinite(values).all() or float(np.ptp(values)) <= 0:
        return _nothing("the images show nothing", sharp)
    return _peak(at, values, sharp)


def _peak(at: Array, values: Array, sharp: Array) -> FocusFit:
    middle, reach = float(at.mean()), float(np.ptp(at)) / 2
    x, height = (at - middle) / reach, float(np.ptp(values))
    y = (values - float(values.min())) / height

    def model(p: Array) -> Array:
        return np.asarray(p[0] + p[1] / (1 + ((x - p[2]) / p[3]) ** 2))

    top = float(x[int(np.argmax(y))])
    fits = [
        least_squares(
            lambda p: model(p) - y,
            [0.0, 1.0, top, width],
            bounds=([-5.0, 0.0, -3.0, 0.5 / len(x)], [1.0, 10.0, 3.0, 10.0]),
            x_scale=[1.0, 1.0, 0.3, 0.3],
        )
        for width in (0.15, 0.5, 1.5)
    ]
    best = min(fits, key=lambda fit: fit.cost)
    freedom = len(x) - 4
    left = 2 * float(best.cost)
    variance = left / freedom
    inverse = np.linalg.pinv(best.jac.T @ best.jac)
    error = sqrt(max(variance * float(inverse[2, 2]), 0.0))
    centre, width = float(best.x[2]), float(best.x[3])
    against = float(((y - y.mean()) ** 2).sum())
    ratio = (against - left) / 3 / max(variance, 1e-300)
    place = int(np.argmax(y))
    reasons = []
    if f_distribution.sf(ratio, 3, freedom) > CHANCE:
        reasons.append("no defocus is sharper than the others by more than their scatter")
    elif place in (0, len(x) - 1) or not x[1] <= centre <= x[-2]:
        side = "smaller" if (centre if abs(centre) > 0.5 else x[place]) < 0 else "larger"
        reasons.append(f"the images are sharpest at the end of the series: look at {side} defoci")
    elif not error < LARGEST_ERROR:
        reasons.append("the peak is too flat to have a place")
    if reasons:
        return _nothing("; ".join(reasons), sharp)
    return FocusFit(
        defocus_nm=middle + centre * reach,
        defocus_uncertainty_nm=error * reach,
        width_nm=width * reach,
        sharpness=sharp,
        residual=sqrt(left / len(x)) / float(best.x[1]),
        ok=isfinite(error),
        reason="",
    )


def _nothing(reason: str, sharp: Array) -> FocusFit:
    return FocusFit(nan, nan, nan, sharp, nan, ok=False, reason=reason)
