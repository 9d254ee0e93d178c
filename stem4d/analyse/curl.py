"""Whether deflections are those of a field: curl against its own noise, and the rotation that would take it away."""

from dataclasses import dataclass
from math import atan2, degrees, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.analyse.grid import Differential, curl_of, derivative, divergence_of

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SIGNIFICANT = 5.0
"""Sigmas above its noise from which on curl is believed."""
MOST_SHARE = 0.05
"""Curl beyond noise as a part of the divergence beyond noise, rms: 3 deg of rotation. Less harms nothing."""
BORDER = 3
"""Positions about a hole and along the border whose slopes are not judged: splines end there."""


@dataclass(frozen=True)
class CurlCheck:
    """Curl and divergence of a deflection map [mrad/nm]; NaN figures where too few positions were judged."""

    curl: Differential
    divergence: Differential
    rms: float
    noise: float
    """What counting makes the curl's rms."""
    sigmas: float
    """By which the mean square of the curl exceeds that of its noise."""
    share: float
    """Curl over divergence, rms, both beyond noise."""
    divergence_rms: float
    rotation_deg: float
    """That would leave the least curl, to be added to the scan's rotation, within 45 deg."""
    rotation_uncertainty_deg: float
    doubt: str
    """Empty where the curl is no more than noise, or little."""


def check_curl(y: Array, x: Array, known: Mask, step_nm: tuple[float, float], noise: tuple[float, float]) -> CurlCheck:
    """Curl of deflections (scan_y, scan_x) [mrad] with white noise (y, x) [mrad] against what that noise makes.

    A phase has no curl, whether electric or magnetic fields made it. Means are taken out before: a constant curl is
    descan left over.
    """
    curl, divergence = curl_of(y, x, step_nm, noise), divergence_of(y, x, step_nm, noise)
    judged = ~ndimage.binary_dilation(~known, iterations=BORDER) if not known.all() else known.copy()
    edge = [min(BORDER, (n - 1) // 4) for n in y.shape]
    judged[: edge[0]], judged[y.shape[0] - edge[0] :] = False, False
    judged[:, : edge[1]], judged[:, y.shape[1] - edge[1] :] = False, False
    if judged.sum() < 9:
        nan = float("nan")
        return CurlCheck(curl, divergence, nan, nan, nan, nan, nan, nan, nan, "")
    c, d = curl.values[judged], divergence.values[judged]
    drift, error = float(c.mean()), float(curl.sigma[judged].mean()) / sqrt(c.size)
    c, d = c - drift, d - d.mean()
    expected = float(np.mean(curl.sigma[judged] ** 2))
    spread = _spread(y.shape, step_nm, noise) * sqrt(y.size / c.size)
    sigmas = (float(np.mean(c**2)) - expected) / spread if spread > 0 else 0.0
    cc, dd, cd = (float(np.mean(one)) for one in (c * c, d * d, c * d))
    share = sqrt(max(cc - expected, 0.0) / max(dd - float(np.mean(divergence.sigma[judged] ** 2)), 1e-300))
    turn = degrees(0.5 * atan2(-2 * cd, dd - cc))
    uncertainty = degrees(sqrt(expected / c.size / max(dd - cc, 1e-300)))
    doubt = ""
    if sigmas > SIGNIFICANT and share > MOST_SHARE:
        remedy = (
            f"the scan's rotation looks off by {turn:.1f} deg"
            if abs(turn) > 3 * uncertainty and share < 1
            else "the handedness may be wrong, drift may shear the scan, or the sampling be too coarse"
        )
        doubt = f"curl stands {sigmas:.0f} sigmas above its noise, {share:.0%} of the divergence: {remedy}"
    elif abs(drift) > SIGNIFICANT * error and abs(drift) > MOST_SHARE * sqrt(dd):
        doubt = f"the deflections turn by {drift:.3g} mrad/nm over the whole scan, as descan that is left over does"
    return CurlCheck(
        curl=curl,
        divergence=divergence,
        rms=sqrt(cc),
        noise=sqrt(expected),
        sigmas=sigmas,
        share=share,
        divergence_rms=sqrt(dd),
        rotation_deg=turn,
        rotation_uncertainty_deg=uncertainty,
        doubt=doubt,
    )


def _spread(shape: tuple[int, ...], step_nm: tuple[float, float], noise: tuple[float, float]) -> float:
    """Standard deviation of the mean square of the curl of white noise, sqrt(2 tr C²)/N with its covariance C."""
    down, across = (derivative(n, step) for n, step in zip(shape, step_nm, strict=True))
    dd, aa = down @ down.T, across @ across.T
    y2, x2 = noise[0] ** 2, noise[1] ** 2
    trace = x2**2 * shape[1] * float((dd**2).sum()) + y2**2 * shape[0] * float((aa**2).sum())
    trace += 2 * x2 * y2 * float(np.trace(dd)) * float(np.trace(aa))
    return sqrt(2 * trace) / (shape[0] * shape[1])
