"""Focus from repeated scans at several defoci: where the images have most fine detail.

Nothing runs it yet: the approach to a target will, where each new place has a focus of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import least_squares
from scipy.special import chdtrc

from stem4d.calibrate.shift import white_noise
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]

FEWEST_IMAGES = 7
"""A peak has five parameters: height, width, how it falls off, pedestal and place."""
PARAMETERS = 5
DETAIL_PX = 1.0
"""Blur before the slopes are taken: shot noise from pixel to pixel is no detail."""
CHANCE = 1e-3
"""Chance by which unrelated images would show such a peak."""
LEAST_NOISE = 1e-3
"""Error of a sharpness that stays however strong the images are, as a part of the peak: the model."""
PRIOR_FREEDOM = 4.0
"""Degrees of freedom that the errors from the pixels' noise count for when the scatter about the peak corrects them."""
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


def sharpness_noise(image: npt.NDArray[np.number]) -> float:
    """Standard error of an image's sharpness from its pixel noise: what is linear in it, and what is quadratic."""
    values = np.asarray(image, dtype=np.float64)
    noise = white_noise(values, np.ones(values.shape, bool))
    curved = ndimage.gaussian_filter(
        ndimage.laplace(ndimage.gaussian_filter(values, DETAIL_PX, mode="nearest")), DETAIL_PX, mode="nearest"
    )
    ky, kx = (2 * np.pi * k for k in np.meshgrid(*(np.fft.fftfreq(n) for n in values.shape), indexing="ij"))
    # Power with which white noise comes through the blur and the central differences.
    passed = np.exp(-(ky**2 + kx**2) * DETAIL_PX**2) * (np.sin(ky) ** 2 + np.sin(kx) ** 2)
    linear = 4 * noise**2 * float((curved**2).sum()) / curved.size**2
    quadratic = 2 * noise**4 * float((passed**2).sum()) / passed.size**2
    mean = float(values.mean())
    return sqrt(linear + quadratic) / mean**2 if mean != 0 else nan


def fit_focus(images: Sequence[npt.NDArray[np.number]], defocus_nm: Sequence[float]) -> FocusFit:
    """Find the sharpest defocus of a through-focus series.

    A symmetric peak on a pedestal, a Lorentzian to a free power, is fitted to the sharpness: the detail that a blur
    proportional to the defocus leaves falls off nearly so, and is symmetric where the spherical aberration is small.

    Parameters
    ----------
    images : sequence of ndarray, shape (scan_y, scan_x)
        Images of one area at equal dose.
    defocus_nm : sequence of float
        Of each [nm], in any order.

    Returns
    -------
    FocusFit
        ``ok`` false with a reason where images are fewer than 7, show no peak, or are sharpest at the end of the
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
    noise = np.array([sharpness_noise(image) for image in images])[order]
    return _peak(at, values, noise, sharp)


def _peak(at: Array, values: Array, noise: Array, sharp: Array) -> FocusFit:
    middle, reach = float(at.mean()), float(np.ptp(at)) / 2
    x, height = (at - middle) / reach, float(np.ptp(values))
    y, sigma = (values - float(values.min())) / height, np.maximum(noise / height, LEAST_NOISE)

    def model(p: Array) -> Array:
        return np.asarray(p[0] + p[1] * (1 + ((x - p[2]) / p[3]) ** 2) ** -p[4])

    top = float(x[int(np.argmax(y))])
    fits = [
        least_squares(
            lambda p: (model(p) - y) / sigma,
            [0.0, 1.0, top, width, 1.0],
            bounds=([-5.0, 0.0, -3.0, 0.5 / len(x), 0.3], [1.0, 10.0, 3.0, 10.0, 6.0]),
            x_scale=[1.0, 1.0, 0.3, 0.3, 1.0],
        )
        for width in (0.15, 0.5, 1.5)
    ]
    best = min(fits, key=lambda fit: fit.cost)
    freedom = len(x) - PARAMETERS
    chi2 = 2 * float(best.cost)
    # Scatter beyond the pixels' noise is misfit of the peak, or images that are not of one area.
    misfit = (PRIOR_FREEDOM + chi2) / (PRIOR_FREEDOM + freedom)
    inverse = np.linalg.pinv(best.jac.T @ best.jac)
    error = sqrt(max(misfit * float(inverse[2, 2]), 0.0))
    centre, width = float(best.x[2]), float(best.x[3])
    level = float((y / sigma**2).sum() / (1 / sigma**2).sum())
    gain = float((((y - level) / sigma) ** 2).sum()) - chi2
    left = float(((model(best.x) - y) ** 2).sum())
    place = int(np.argmax(y))
    reasons = []
    if chdtrc(PARAMETERS - 1, gain / misfit) > CHANCE:
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
        width_nm=width * sqrt(2 ** (1 / float(best.x[4])) - 1) * reach,
        sharpness=sharp,
        residual=sqrt(left / len(x)) / float(best.x[1]),
        ok=isfinite(error),
        reason="",
    )


def _nothing(reason: str, sharp: Array) -> FocusFit:
    return FocusFit(nan, nan, nan, sharp, nan, ok=False, reason=reason)
