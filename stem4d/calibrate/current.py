"""Beam current from the counts in vacuum: lost counts and masked pixels are put back before electrons are counted."""

from dataclasses import dataclass
from math import isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.disk_model import disk_profile, expected_pattern
from stem4d.calibrate.stability import FEWEST_FRAMES, Stability, stability
from stem4d.calibrate.vacuum import not_vacuum
from stem4d.errors import BadInput
from stem4d.optics import ELEMENTARY_CHARGE_C

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LARGEST_LOSS = 0.3
"""Part of the counts lost, beyond which no correction is to be trusted (Knoll, Radiation Detection, 4th ed., ch. 4)."""
LARGEST_HIDDEN = 0.3
"""Part of the counts that may be put back behind masked pixels."""
HIDDEN_ERROR = 0.03
"""Relative error of what is put back behind one group of masked pixels: a disk in vacuum is even to a few percent."""
LARGEST_BESIDE = 0.02
"""Part of the disk that may lie beside the detector."""
MOST_DROPOUTS = 0.2
LOSS_ERROR = 0.1
"""Error of the correction for the detector's being neither model, as a part of the squared loss; the two models differ
by half of that square."""
INSIDE = 0.5
"""Level of the disk's model above which a pixel's rate is held against the largest loss."""
BRIGHT = 0.95
"""Part of those pixels that must lose less."""
FEWEST_SHOTS = 0.25
"""Variance of the frames' totals over that of shot noise, below which counts are missing that were never counted: what
30 % of loss leaves is 0.49, a full counter nearly nothing."""
DISAGREES = 0.02
"""Totals and pattern must be of one scan: their sums agree to this part."""


@dataclass(frozen=True)
class CurrentFit:
    """The beam current; NaN where nothing was found."""

    current_pa: float
    """Mean over the scan, dropouts left out."""
    current_uncertainty_pa: float
    """With the slow changes during the scan: how well the current is known at any time of it."""
    electrons_per_frame: float
    loss_part: float
    """Counts lost to the rate, as a part of those that should have been, that were put back."""
    hidden_part: float
    """Counts put back behind masked pixels, as a part of all."""
    stability: Stability | None
    residual: float
    """Scatter from frame to frame beyond shot noise, as a part of the counts."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def corrected_rate(observed_hz: npt.NDArray[np.floating] | float, dead_time_s: float) -> Array:
    """Rate of electrons from the rate of counts of a pixel, non-paralysable: n = m / (1 - m τ).

    Parameters
    ----------
    observed_hz : ndarray or float
        Counts per second [1/s].
    dead_time_s : float
        Time after a count in which no other is counted [s]. For a detector whose loss is stated as 10 % at a rate
        of counts r, 0.1/r.

    Raises
    ------
    BadInput
        If the dead time is negative, or a rate loses more than 30 %: that cannot be corrected.
    """
    if not dead_time_s >= 0 or not isfinite(dead_time_s):
        raise BadInput(field="dead_time_s", value=dead_time_s, limit="must not be negative", unit="s")
    observed = np.asarray(observed_hz, dtype=np.float64)
    blind = observed * dead_time_s
    # 1e-9 for the rounding of a rate that stands at the limit.
    if not float(np.max(blind, initial=0.0)) <= LARGEST_LOSS * (1 + 1e-9):
        raise BadInput(
            field="observed_hz",
            value=float(np.max(observed)),
            limit=f"must not exceed {LARGEST_LOSS / dead_time_s:.4g}: more than {LARGEST_LOSS:.0%} is lost",
            unit="1/s",
            remedy="Use less current, a longer camera length or a larger disk.",
        )
    return np.asarray(observed / (1 - blind))


def fit_current(
    mean_pattern: npt.NDArray[np.number],
    totals: npt.NDArray[np.number],
    exposure_s: float,
    disk: DiskFit,
    *,
    counts_per_electron: float = 1.0,
    counts_per_electron_uncertainty: float = 0.0,
    dead_time_s: float = 0.0,
    dead_time_uncertainty_s: float = 0.0,
    bad_pixels: Mask | None = None,
) -> CurrentFit:
    """Beam current from a scan in vacuum.

    Parameters
    ----------
    mean_pattern : ndarray, shape (det_y, det_x)
        Mean counts per pixel and frame, an integrating detector's offset taken off.
    totals : ndarray, any shape
        Counts of each frame over all good pixels, in order of time when flattened.
    exposure_s : float
        Time in which a frame counts [s].
    disk : DiskFit
        The disk in that pattern.
    counts_per_electron, counts_per_electron_uncertainty : float
        From `stem4d.calibrate.gain.fit_gain`; for a counting detector the part of the electrons that it counts.
    dead_time_s, dead_time_uncertainty_s : float
        See `corrected_rate`; 0 for a detector that loses nothing.
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels that do not count, gaps included. They are not in ``totals``.

    Returns
    -------
    CurrentFit
        ``ok`` false with a reason where there is no disk, part of it lies beside the detector, it is saturated, more
        than 30 % is lost or masked, there is a specimen in the beam, the beam was missing too often, or pattern and
        totals contradict each other.

    Raises
    ------
    BadInput
        If shapes disagree or a figure is not positive.
    """
    bad = _check(mean_pattern, bad_pixels, exposure_s, counts_per_electron, counts_per_electron_uncertainty)
    if not disk.ok:
        return _nothing(f"no disk in vacuum: {disk.reason}")
    if np.isfinite(totals).sum() < FEWEST_FRAMES:
        return _nothing(f"fewer than {FEWEST_FRAMES} frames")
    beside = _beside(disk, (mean_pattern.shape[0], mean_pattern.shape[1]))
    if beside > LARGEST_BESIDE:
        return _nothing(f"{beside:.0%} of the disk lies beside the detector")
    beam = stability(totals, counts_per_electron)
    if not beam.mean_counts > 0 or not isfinite(beam.mean_uncertainty) or beam.dropouts.mean() > MOST_DROPOUTS:
        return _nothing(f"the beam was missing in {beam.dropouts.mean():.0%} of the frames", beam)
    counted = np.where(bad, 0.0, mean_pattern).astype(np.float64)
    sum_all = float(np.asarray(totals, dtype=np.float64)[np.isfinite(totals)].mean())
    if abs(float(counted.sum()) - sum_all) > DISAGREES * sum_all:
        return _nothing("totals and mean pattern are not of the same frames and pixels", beam)
    if reason := not_vacuum(mean_pattern, disk, bad):
        return _nothing(reason, beam)
    # The pattern holds the frames of the dropouts too; the rate that counts is the one with the beam on.
    scaled = counted * (beam.mean_counts / sum_all)
    whole = np.where(bad, expected_pattern(scaled, bad, disk), scaled)
    inside = disk_profile((bad.shape[0], bad.shape[1]), disk.centre_px, disk.radius_px, disk.edge_width_px) > INSIDE
    worst = float(np.quantile(whole[inside], BRIGHT)) / exposure_s * dead_time_s
    if worst > LARGEST_LOSS:
        return _nothing(f"more than {LARGEST_LOSS:.0%} of the counts are lost to the rate: not to be corrected", beam)
    # The few pixels left above the limit by shot noise count as standing at it.
    rate = np.minimum(np.maximum(whole, 0.0) / exposure_s, LARGEST_LOSS / dead_time_s if dead_time_s > 0 else np.inf)
    true = corrected_rate(rate, dead_time_s) * exposure_s
    true = np.where(whole < 0, whole, true)
    hidden, loss = float(true[bad].sum()) / float(true.sum()), 1 - float(whole.sum()) / float(true.sum())
    if hidden > LARGEST_HIDDEN:
        return _nothing(f"{hidden:.0%} of the beam falls on masked pixels", beam)
    if beam.noise_part**2 * beam.mean_counts < FEWEST_SHOTS * counts_per_electron:
        return _nothing("the counts vary far less from frame to frame than electrons do: saturated", beam)
    electrons = float(true.sum()) / counts_per_electron
    dead_time_part = dead_time_uncertainty_s / dead_time_s if dead_time_s > 0 else 0.0
    # The loss changes with the dead time as loss / (1 - loss) does.
    part = sqrt(
        (beam.mean_uncertainty / beam.mean_counts) ** 2
        + beam.slow_part**2
        + (counts_per_electron_uncertainty / counts_per_electron) ** 2
        + (loss / (1 - loss) * dead_time_part) ** 2
        + (LOSS_ERROR * loss**2) ** 2
        + (HIDDEN_ERROR * hidden) ** 2 / _groups(bad & inside)
    )
    current = electrons * ELEMENTARY_CHARGE_C / exposure_s * 1e12
    return CurrentFit(current, part * current, electrons, loss, hidden, beam, beam.excess_part, ok=True, reason="")


def _groups(hidden: Mask) -> int:
    """Separate groups of pixels: what is wrong behind one says nothing about the next, so that errors average."""
    return max(int(ndimage.label(hidden, np.ones((3, 3)))[1]), 1)


def _check(
    mean_pattern: npt.NDArray[np.number], bad_pixels: Mask | None, exposure_s: float, gain: float, gain_error: float
) -> Mask:
    if mean_pattern.ndim != 2:
        raise BadInput(field="mean_pattern", value=mean_pattern.shape, limit="must have the shape (det_y, det_x)")
    bad = np.zeros(mean_pattern.shape, bool) if bad_pixels is None else bad_pixels.astype(bool)
    if bad.shape != mean_pattern.shape:
        raise BadInput(field="bad_pixels", value=bad.shape, limit=f"must have the shape {mean_pattern.shape}")
    if not exposure_s > 0:
        raise BadInput(field="exposure_s", value=exposure_s, limit="must be positive", unit="s")
    if not gain > 0:
        raise BadInput(field="counts_per_electron", value=gain, limit="must be positive")
    if not gain_error >= 0:
        raise BadInput(field="counts_per_electron_uncertainty", value=gain_error, limit="must not be negative")
    left_out: Mask = bad | ~np.isfinite(mean_pattern)
    return left_out


def _beside(disk: DiskFit, shape: tuple[int, int]) -> float:
    """Part of the disk that lies beside the detector."""
    reach = int(disk.radius_px + 4 * disk.edge_width_px) + 2
    start = [int(np.floor(c)) - reach for c in disk.centre_px]
    local = (disk.centre_px[0] - start[0], disk.centre_px[1] - start[1])
    whole = disk_profile((2 * reach + 2, 2 * reach + 2), local, disk.radius_px, disk.edge_width_px)
    y, x = (np.arange(2 * reach + 2) + each for each in start)
    on = ((y >= 0) & (y < shape[0]))[:, None] & ((x >= 0) & (x < shape[1]))[None, :]
    return float(whole[~on].sum()) / float(whole.sum())


def _nothing(reason: str, beam: Stability | None = None) -> CurrentFit:
    return CurrentFit(nan, nan, nan, nan, nan, beam, nan, ok=False, reason=reason)
