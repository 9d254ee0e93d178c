"""A crystal that diffracts: patterns, maps and motion of known geometry for the reports to show."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stem4d.plan import VirtualDetector
from web.report.figures.patterns import PatternGeometry

STEP_NM = 0.04
SCAN = (96, 160)
DETECTOR = (96, 96)
MRAD_PER_PIXEL = 1.1
CENTRE_PX = (46.0, 49.5)


@dataclass(frozen=True)
class Crystal:
    """Recorded quantities of a square lattice of 0.39 nm; the centre of mass is a gradient, so free of vortices."""

    geometry: PatternGeometry
    mean: NDArray[np.float64]
    maximum: NDArray[np.uint16]
    bright: NDArray[np.float64]
    dark: NDArray[np.float64]
    com_y_mrad: NDArray[np.float64]
    com_x_mrad: NDArray[np.float64]
    disk_px: NDArray[np.float64]


def make_crystal() -> Crystal:
    """Potential of the lattice, its gradient as centre of mass, and disks that overlap in the pattern."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: SCAN[0], : SCAN[1]] * STEP_NM
    lattice_nm, width_nm = 0.39, 0.07
    dy, dx = ((v + lattice_nm / 2) % lattice_nm - lattice_nm / 2 for v in (y + 0.03 * x, x))
    light = np.exp(-((abs(dy) - lattice_nm / 2) ** 2 + (abs(dx) - lattice_nm / 2) ** 2) / (2 * width_nm**2)) * 0.5
    potential = np.exp(-(dy**2 + dx**2) / (2 * width_nm**2)) + light
    pull_y, pull_x = np.gradient(potential, STEP_NM)
    angles = [(np.arange(n) - c) * MRAD_PER_PIXEL for n, c in zip(DETECTOR, CENTRE_PX, strict=True)]
    ky, kx = np.meshgrid(*angles, indexing="ij")
    pattern = np.zeros(DETECTOR)
    for order_y in range(-2, 3):
        for order_x in range(-2, 3):
            r = np.hypot(ky - 14 * order_y, kx - 14 * order_x)
            pattern += 40 * 0.16 ** (abs(order_y) + abs(order_x)) / (1 + np.exp((r - 18) / 0.6))
    pattern += 1.5 * np.exp(-np.hypot(ky, kx) / 22)
    maximum = np.minimum(rng.poisson(pattern * 2.2 + 3 * np.sqrt(pattern)), 255).astype(np.uint16)
    scan_y, scan_x = np.mgrid[-0.5 : 0.5 : SCAN[0] * 1j, -0.5 : 0.5 : SCAN[1] * 1j]
    disk = np.stack([1.5 + 0.5 * scan_y + 0.2 * scan_x, 2.0 - 0.3 * scan_y + 0.7 * scan_x], axis=-1)
    return Crystal(
        PatternGeometry(
            MRAD_PER_PIXEL,
            CENTRE_PX,
            18.0,
            (
                VirtualDetector(name="BF", inner_mrad=0, outer_mrad=18),
                VirtualDetector(name="ADF", inner_mrad=24, outer_mrad=46),
            ),
        ),
        pattern,
        maximum,
        rng.poisson(9000 - 2500 * potential).astype(np.float64),
        rng.poisson(300 + 900 * potential).astype(np.float64),
        0.12 * pull_y + rng.normal(0, 0.06, SCAN),
        0.12 * pull_x + rng.normal(0, 0.06, SCAN),
        disk + rng.normal(0, 0.3, (*SCAN, 2)),
    )
