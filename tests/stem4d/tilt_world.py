"""Scans of known rotation, handedness, defocus and astigmatism, simulated or from the reference simulations."""

from dataclasses import dataclass
from math import cos, radians, sin
from pathlib import Path

import numpy as np

from stem4d.calibrate.angles import TiltImages, add_frames, empty_images, group_angles
from stem4d.calibrate.tilt import TiltFit, fit_tilts
from stem4d.simulate.patterns import Illumination, isotropic, patterns, prepare
from stem4d.simulate.probe import Aberrations
from stem4d.simulate.specimen import Specimen


@dataclass(frozen=True)
class Scan:
    """Counts (scan_y, scan_x, det_y, det_x) and what they were made with."""

    frames: np.ndarray
    step_nm: float
    mrad_per_pixel: float
    alpha_mrad: float
    energy_kev: float
    middle_px: tuple[float, float]
    """Where the undeflected beam lands."""


def turn(angle_deg: float) -> np.ndarray:
    """Scan frame to specimen frame on (y, x)."""
    a = radians(angle_deg)
    return np.array([[cos(a), sin(a)], [-sin(a), cos(a)]])


def simulate(
    specimen: Specimen,
    electrons: float,
    rotation_deg: float = 0.0,
    mirrored: bool = False,
    aberrations: Aberrations | None = None,
    scan: tuple[int, int] = (32, 32),
    step_nm: float = 0.05,
    detector: int = 64,
    mrad_per_pixel: float = 1.4,
    alpha_mrad: float = 21.4,
    energy_kev: float = 80.0,
    seed: int = 0,
    distorted: np.ndarray | None = None,
    descan_mrad_per_nm: np.ndarray | None = None,
    ellipse: np.ndarray | None = None,
) -> Scan:
    """A scan with Poisson noise; 0 electrons are fractions of the beam without noise.

    ``distorted`` (2, 2) takes the positions (y, x) that were meant to those that were scanned, in the scan's frame;
    ``descan_mrad_per_nm`` (2, 2) moves the disk with them. ``ellipse`` is E of docs/conventions.md: P = δ M E.
    """
    projection = isotropic(mrad_per_pixel)
    if ellipse is not None:
        # The mirror comes last here, as rows of the pattern that are turned over: what it leaves has to be M E M.
        mirror = np.diag([-1.0, 1.0]) if mirrored else np.eye(2)
        (a, b), (c, d) = (mrad_per_pixel * mirror @ ellipse @ mirror).tolist()
        projection = ((a, b), (c, d))
    light = Illumination(energy_kev, alpha_mrad, aberrations or Aberrations(), (detector, detector), projection)
    y, x = (np.arange(n) - (n - 1) / 2 for n in scan)
    grid = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2) * step_nm
    at = grid if distorted is None else grid @ distorted.T
    shifts = np.zeros_like(grid) if descan_mrad_per_nm is None else grid @ descan_mrad_per_nm.T / mrad_per_pixel
    fractions = patterns(prepare(light, specimen), at @ turn(rotation_deg).T, shifts)
    if mirrored:
        fractions = fractions[:, ::-1]
    middle = (detector - 1) / 2
    frames = np.random.default_rng(seed).poisson(fractions * electrons).astype(np.uint16) if electrons else fractions
    frames = frames.reshape(*scan, detector, detector)
    return Scan(frames, step_nm, mrad_per_pixel, alpha_mrad, energy_kev, (middle, middle))


def reference(folder: Path, name: str) -> Scan:
    """A reference simulation in our order of axes: its x, on the first axis, becomes x on the second."""
    with np.load(folder / "reference_abtem" / f"{name}.npz") as data:
        frames = data["counts"].transpose(1, 0, 3, 2)
        binning = int(data["binning"]) if "binning" in data else 0
        numbers = [float(data[key]) for key in ("step_A", "mrad_per_px", "semiangle_mrad", "energy_eV")]
    # The zero beam is at index n//2, half a fine pixel further where an even number of them was binned.
    middle = frames.shape[-1] // 2 + (0.5 / binning if binning else 0.0)
    step_a, delta, alpha, energy_ev = numbers
    return Scan(np.ascontiguousarray(frames), step_a / 10, delta, alpha, energy_ev / 1e3, (middle, middle))


def centre_of_mass(scan: Scan, radius_px: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Centres of mass (y, x) [px], over all of the detector or within a radius of its middle."""
    y, x = (np.arange(n, dtype=np.float64) for n in scan.frames.shape[2:])
    weight = np.ones(scan.frames.shape[2:])
    if radius_px is not None:
        weight = np.hypot(y[:, None] - scan.middle_px[0], x[None, :] - scan.middle_px[1]) <= radius_px
    frames = scan.frames * weight
    total = frames.sum((2, 3), dtype=np.float64)
    return (frames.sum(3) @ y) / total, (frames.sum(2) @ x) / total


def dark_field(scan: Scan, inner: float = 1.15) -> np.ndarray:
    """Counts beyond ``inner`` times the disk's radius."""
    y, x = (np.arange(n, dtype=np.float64) for n in scan.frames.shape[2:])
    angle = np.hypot(y[:, None] - scan.middle_px[0], x[None, :] - scan.middle_px[1]) * scan.mrad_per_pixel
    return np.asarray((scan.frames * (angle > inner * scan.alpha_mrad)).sum((2, 3), dtype=np.float64))


def tilt_images(scan: Scan, bad: np.ndarray | None = None, full_scale: int | None = None) -> TiltImages:
    """Virtual images of a scan, gathered in a few batches."""
    shape = scan.frames.shape
    groups = group_angles(shape[2:], scan.middle_px, scan.alpha_mrad / scan.mrad_per_pixel, bad)
    images = empty_images(groups, shape[:2])
    frames = scan.frames.reshape(-1, *shape[2:])
    for first in range(0, len(frames), 300):
        add_frames(images, frames[first : first + 300], first, full_scale)
    return images


def tilts(scan: Scan, nominal_defocus_nm: float, bad: np.ndarray | None = None, **options: object) -> TiltFit:
    """`fit_tilts` of a scan."""
    images = tilt_images(scan, bad)
    return fit_tilts(
        images, scan.step_nm, scan.mrad_per_pixel, scan.alpha_mrad, scan.energy_kev, nominal_defocus_nm, **options
    )
