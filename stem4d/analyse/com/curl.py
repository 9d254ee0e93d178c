"""Whether deflections are those of a field: curl against its own noise, and the rotation that would take it away."""

from dataclasses import dataclass
from math import atan2, degrees, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.analyse.com.grid import Differential, Slopes, curl_of, divergence_of, slopes

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SIGNIFICANT = 5.0
"""Sigmas above its noise from which on curl is believed."""
MOST_SHARE = 0.05
"""Curl beyond noise as a part of the divergence beyond noise, rms: 3 deg of rotation. Less harms nothing."""
BORDER = 3
"""Positions about a hole and along the border whose slopes are not judged: splines end there."""


WIDTHS = (0.0, 1.0, 2.0, 4.0)
"""Smoothing [positions] among which the one with the clearest divergence is judged: what is smooth hides in white
noise, whose slopes are steep."""
ROUGHEST = 8
"""Widths that a field must hold."""
MOST_TURN_DEG = 1.5
"""Rotation that is left from which on it harms."""
ANY_TURN_DEG = 26.0
"""Standard deviation of an angle of which no more is known than that it lies within 45 deg."""
SURE = 4.0
"""Of its standard errors that it must exceed."""


@dataclass(frozen=True)
class CurlCheck:
    """Curl and divergence of a deflection map [mrad/nm]; NaN figures where too few positions were judged."""

    curl: Differential
    divergence: Differential
    smoothed_positions: float
    """Over which the figures below are smoothed."""
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
    plain = slopes(y.shape, step_nm)
    curl, divergence = curl_of(y, x, plain, noise), divergence_of(y, x, plain, noise)
    judged = _judged(known)
    nan = float("nan")
    if judged.sum() < 9:
        return CurlCheck(curl, divergence, 0.0, nan, nan, nan, nan, nan, nan, nan, "")
    scales = [
        _Scale(width, y, x, judged, step_nm, noise) for width in WIDTHS if width * ROUGHEST <= min(y.shape) or not width
    ]
    one = max(scales, key=lambda each: each.clearness)
    drift, error = float(one.drift), one.drift_error
    cc, dd, cd = one.cc, one.dd, one.cd
    share = sqrt(max(cc - one.expected, 0.0) / max(dd - one.expected_divergence, 1e-300))
    turn = degrees(0.5 * atan2(2 * cd, dd - cc))
    uncertainty = min(degrees(sqrt(one.expected * dd * one.kin / one.number) / max(dd - cc, 1e-300)), ANY_TURN_DEG)
    sigmas = (cc - one.expected) / one.spread if one.spread > 0 else 0.0
    doubt = ""
    if abs(turn) > max(MOST_TURN_DEG, SURE * uncertainty) and dd - cc > SIGNIFICANT * one.spread:
        doubt = f"the scan's rotation looks off by {turn:.1f} ± {uncertainty:.1f} deg: turned so, the curl is least"
    elif sigmas > SIGNIFICANT and share > MOST_SHARE:
        doubt = (
            f"curl stands {sigmas:.0f} sigmas above its noise, {share:.0%} of the divergence: the handedness may be "
            "wrong, drift may shear the scan, or the sampling be too coarse"
        )
    elif abs(drift) > SIGNIFICANT * error and abs(drift) > MOST_SHARE * sqrt(dd):
        doubt = f"the deflections turn by {drift:.3g} mrad/nm over the whole scan, as descan that is left over does"
    return CurlCheck(
        curl=curl,
        divergence=divergence,
        smoothed_positions=one.width,
        rms=sqrt(cc),
        noise=sqrt(one.expected),
        sigmas=sigmas,
        share=share,
        divergence_rms=sqrt(dd),
        rotation_deg=turn,
        rotation_uncertainty_deg=uncertainty,
        doubt=doubt,
    )


class _Scale:
    """Mean squares of curl and divergence smoothed over a width, and of their noise."""

    def __init__(
        self, width: float, y: Array, x: Array, judged: Mask, step_nm: tuple[float, float], noise: tuple[float, float]
    ) -> None:
        axes = slopes(y.shape, step_nm, width)
        curl, divergence = curl_of(y, x, axes, noise), divergence_of(y, x, axes, noise)
        c, d = curl.values[judged], divergence.values[judged]
        self.width, self.number = width, c.size
        self.drift = float(c.mean())
        c, d = c - self.drift, d - d.mean()
        self.cc, self.dd, self.cd = (float(np.mean(one)) for one in (c * c, d * d, c * d))
        self.expected = float(np.mean(curl.sigma[judged] ** 2))
        self.expected_divergence = float(np.mean(divergence.sigma[judged] ** 2))
        self.spread = _spread(axes, noise) * sqrt(y.size / c.size)
        # Positions that share their noise: 1 where it is white.
        self.kin = max(self.spread**2 * c.size / max(2 * self.expected**2, 1e-300), 1.0)
        self.drift_error = sqrt(self.expected * self.kin / c.size)
        self.clearness = (self.dd - self.expected_divergence) / self.spread if self.spread > 0 else 0.0


def _judged(known: Mask) -> Mask:
    judged: Mask = ~ndimage.binary_dilation(~known, iterations=BORDER) if not known.all() else known.copy()
    rows, columns = (min(BORDER, (n - 1) // 4) for n in known.shape)
    inside = np.zeros_like(judged)
    inside[rows : known.shape[0] - rows, columns : known.shape[1] - columns] = True
    return judged & inside


def _spread(axes: tuple[Slopes, Slopes], noise: tuple[float, float]) -> float:
    """Standard deviation of the mean square of the curl of white noise, sqrt(2 tr C²)/N with its covariance C."""
    (down, over), (y2, x2) = axes, (noise[0] ** 2, noise[1] ** 2)
    a, b, c, d = (one @ one.T for one in (down.along, over.across, down.across, over.along))
    trace = x2**2 * float((a**2).sum()) * float((b**2).sum()) + y2**2 * float((c**2).sum()) * float((d**2).sum())
    trace += 2 * x2 * y2 * float((a * c).sum()) * float((b * d).sum())
    return sqrt(2 * trace) / (len(a) * len(b))
