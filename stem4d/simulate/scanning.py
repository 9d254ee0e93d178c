"""Where a scan engine really puts the probe, against where it was told to: scale, shear, lag, hum and jitter.

Positions are (y, x) in nm from the middle of the field. Everything is a function of the position's own place and time
and of a seed, so a row gives the same positions however it is asked for.
"""

from dataclasses import dataclass
from math import cos, pi, radians, sin, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Raster:
    """What the scan engine was told."""

    shape: tuple[int, int]
    """(scan_y, scan_x)"""
    step_nm: float
    dwell_time_us: float
    flyback_us: float
    offset_nm: tuple[float, float] = (0.0, 0.0)
    """Beam shift of the whole field (y, x)."""
    follow_nm_per_min: tuple[float, float] = (0.0, 0.0)
    """How it goes on from there during the scan (y, x)."""


@dataclass(frozen=True)
class ScanErrors:
    """What it makes of it. The rotation is that of the scan's axes to the specimen's, from x towards y."""

    rotation_deg: float = 0.0
    step_ratio: tuple[float, float] = (1.0, 1.0)
    """True over commanded step along (y, x)."""
    shear: float = 0.0
    """x gained per y: the angle by which the scan's axes are not square [rad]."""
    barrel_per_um2: float = 0.0
    """A position at r lands at r (1 + barrel r²) [1/µm²]."""
    flyback_nm: float = 0.0
    """How far behind the probe is where a line begins [nm]; it settles exponentially."""
    flyback_settle_us: float = 100.0
    hum_a_rms: float = 0.0
    """Mains interference, rms per axis [Å]."""
    hum_hz: float = 50.0
    jitter_a_rms: float = 0.0
    """White noise of every position, rms per axis [Å]."""


def times_s(raster: Raster, frames: npt.NDArray[np.int64]) -> Floats:
    """When positions begin, from the start of the scan [s]."""
    row, column = np.divmod(frames, raster.shape[1])
    row_us = raster.shape[1] * raster.dwell_time_us + raster.flyback_us
    times: Floats = (row * row_us + column * raster.dwell_time_us) * 1e-6
    return times


def commanded_nm(raster: Raster, frames: npt.NDArray[np.int64]) -> Floats:
    """Positions (n, 2) as commanded, along the scan's axes, the beam shift included [nm]."""
    middle = (np.array(raster.shape) - 1) / 2
    placed: Floats = (np.stack(np.divmod(frames, raster.shape[1]), axis=1) - middle) * raster.step_nm
    if any(raster.offset_nm) or any(raster.follow_nm_per_min):
        minutes = times_s(raster, frames)[:, None] / 60
        placed = placed + np.array(raster.offset_nm) + minutes * np.array(raster.follow_nm_per_min)
    return placed


def turn(rotation_deg: float) -> Floats:
    """The 2 x 2 matrix on (y, x) that turns x towards y."""
    angle = radians(rotation_deg)
    return np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])


def true_nm(
    raster: Raster, errors: ScanErrors, frames: npt.NDArray[np.int64], start_s: float, seed: int, run: int
) -> Floats:
    """Positions as they come out.

    Parameters
    ----------
    raster : Raster
        What was commanded.
    errors : ScanErrors
        What becomes of it.
    frames : int array (n,)
        Scan positions, counted along the fast axis.
    start_s : float
        The instrument's time at which the scan started [s]: the hum goes on between scans.
    seed, run : int
        What the jitter is drawn from.

    Returns
    -------
    float array (n, 2)
        (y, x) along the specimen's axes from the field's middle, without the specimen's drift [nm].
    """
    placed = commanded_nm(raster, frames)
    if errors.flyback_nm:
        since_us = (frames % raster.shape[1]) * raster.dwell_time_us
        placed[:, 1] -= errors.flyback_nm * np.exp(-since_us / errors.flyback_settle_us)
    placed = placed * errors.step_ratio
    placed[:, 1] += errors.shear * placed[:, 0]
    if errors.barrel_per_um2:
        placed *= 1 + errors.barrel_per_um2 * 1e-6 * (placed**2).sum(axis=1, keepdims=True)
    if errors.hum_a_rms:
        phases = 2 * pi * np.random.default_rng((seed, 50)).random(2)
        turns = 2 * pi * errors.hum_hz * (start_s + times_s(raster, frames))
        placed += 0.1 * sqrt(2) * errors.hum_a_rms * np.sin(turns[:, None] + phases)
    if errors.jitter_a_rms:
        placed += 0.1 * errors.jitter_a_rms * _jitter(raster, frames, seed, run)
    turned: Floats = placed @ turn(errors.rotation_deg).T
    return turned


def _jitter(raster: Raster, frames: npt.NDArray[np.int64], seed: int, run: int) -> Floats:
    """Unit normal numbers (n, 2) that belong to their rows."""
    rows, columns = np.divmod(frames, raster.shape[1])
    drawn = np.empty((len(frames), 2))
    for row in np.unique(rows):
        whole = np.random.default_rng((seed, run, int(row), 51)).standard_normal((raster.shape[1], 2))
        drawn[rows == row] = whole[columns[rows == row]]
    return drawn
