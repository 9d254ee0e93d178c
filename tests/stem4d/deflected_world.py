"""Scans of a disk that a known smooth phase deflects, on a detector that lies anyhow to the scan."""

from dataclasses import dataclass, replace

import numpy as np
from quality_world import disk

from stem4d import optics
from stem4d.analyse.geometry import angles_per_px
from stem4d.analyse.method import Given

ENERGY_KEV, ALPHA_MRAD, MRAD_PER_PX, SIDE = 200.0, 8.0, 1.0, 32
STEP_NM = (0.3, 0.2)


@dataclass(frozen=True)
class Deflecting:
    """Truth (scan_y, scan_x) in the scan's frame, and frames of it."""

    given: Given
    phase_rad: np.ndarray
    y_mrad: np.ndarray
    x_mrad: np.ndarray
    frames: np.ndarray


def given(scan: tuple[int, int] = (24, 28), descan_px: float = 0.0, **more: object) -> Given:
    """Geometry; the origin moves by up to ``descan_px`` over the scan, or stands at 15.7, 15.2."""
    origin: np.ndarray = np.array([15.7, 15.2])
    if descan_px:
        y, x = np.meshgrid(np.linspace(-1, 1, scan[0]), np.linspace(-1, 1, scan[1]), indexing="ij")
        origin = np.stack([15.7 + descan_px * (0.6 * y - 0.3 * x), 15.2 + descan_px * (0.2 * y + 0.7 * x)])
    made = Given(ENERGY_KEV, ALPHA_MRAD, MRAD_PER_PX, STEP_NM, origin, np.zeros((SIDE, SIDE), bool), 0.0)
    return replace(made, **more)


def deflecting(
    known: Given, scan: tuple[int, int] = (24, 28), electrons: float = 4000.0, seed: int = 0, height_rad: float = 12.0
) -> Deflecting:
    """Two Gaussian hills of phase; electrons go up the slope: θ = λ/2π ∇φ."""
    steps = known.scan_step_nm
    y, x = np.meshgrid(*((np.arange(n) + 0.5) * step for n, step in zip(scan, steps, strict=True)), indexing="ij")
    phase, slope_y, slope_x = np.zeros(scan), np.zeros(scan), np.zeros(scan)
    for at, size, part in (((2.6, 1.9), 0.9, 1.0), ((4.9, 4.1), 0.8, 0.7)):
        hill = part * height_rad * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * size**2))
        phase += hill
        slope_y -= hill * (y - at[0]) / size**2
        slope_x -= hill * (x - at[1]) / size**2
    per_slope = optics.wavelength_a(ENERGY_KEV) / 10 / (2 * np.pi) * 1e3
    theta = np.stack([slope_y, slope_x]) * per_slope
    moved = np.einsum("ab,byx->ayx", np.linalg.inv(angles_per_px(known)), theta) + known.origin_at(scan)
    rng = np.random.default_rng(seed)
    radius = ALPHA_MRAD / MRAD_PER_PX
    frames = np.empty((*scan, SIDE, SIDE), np.uint16)
    for i, j in np.ndindex(scan):
        shape = disk((SIDE, SIDE), (moved[0, i, j], moved[1, i, j]), radius)
        frames[i, j] = rng.poisson(electrons / (np.pi * radius**2) * shape)
    return Deflecting(known, phase - phase.mean(), theta[0], theta[1], frames)
