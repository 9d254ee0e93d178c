"""Small ptychographic data sets from a sum over real space, of any geometry, and how phases compare with the truth."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d import optics
from stem4d.analyse.geometry import angles_per_px
from stem4d.analyse.method import Given, Outcome
from stem4d.analyse.ptychography.method import PTYCHOGRAPHY
from stem4d.analyse.ptychography.options import PtychographyOptions
from stem4d.simulate.probe import Aberrations, spectrum
from tests.stem4d.analyse_world import InMemory

Array = npt.NDArray[Any]

SIDE, SCAN, STEP_NM, DELTA_MRAD = 32, 12, 0.1, 3.0
GRID = 64
"""Points of the sum over a window along each axis: twice the detector's angle."""
ATOM_WIDTH_A, ATOM_RAD = 0.45, 0.5


def known(**changed: Any) -> Given:
    """Geometry of the small set: 12 x 12 positions of 1 Å, 32 x 32 pixels of 3 mrad, 80 kV, 20 mrad, 10 nm."""
    plain = Given(
        beam_energy_kev=80.0,
        convergence_semi_angle_mrad=20.0,
        mrad_per_pixel=DELTA_MRAD,
        scan_step_nm=(STEP_NM, STEP_NM),
        origin_px=np.array([SIDE / 2, SIDE / 2]),
        bad_pixels=np.zeros((SIDE, SIDE), bool),
        scan_rotation_deg=0.0,
        defocus_nm=10.0,
    )
    return replace(plain, **changed)


def atoms_a(seed: int = 1) -> Array:
    """Places (n, 2) [Å] from the first position, in the scan's frame."""
    return np.random.default_rng(seed).uniform(-8, 19, (110, 2))


@lru_cache(maxsize=2)
def _grid() -> Array:
    window = optics.window_a(80.0, DELTA_MRAD)
    line = (np.arange(GRID) - GRID // 2) * window / GRID
    return np.stack(np.meshgrid(line, line, indexing="ij")).reshape(2, -1)


def _probe(given: Given, at_a: Array) -> Array:
    window = optics.window_a(given.beam_energy_kev, DELTA_MRAD)
    k = np.arange(-8, 9) / window
    angle = 1e3 * optics.wavelength_a(given.beam_energy_kev) * k
    wave = spectrum(
        angle[:, None],
        angle[None, :],
        given.beam_energy_kev,
        given.convergence_semi_angle_mrad,
        Aberrations(defocus_nm=given.defocus_nm or 0.0),
        DELTA_MRAD,
    )
    up, along = (np.exp(2j * np.pi * np.outer(at, k)) for at in at_a)
    return np.einsum("pi,ij,pj->p", up, wave, along)


def exact(given: Given, positions_a: Array, shift_a: Array | None = None, away_px: Array | None = None) -> Array:
    """Patterns (n, det_y, det_x) of unit sum before the detector cuts, for probes at positions (n, 2) [Å].

    A sum over points around the probe, ψ(θ) = Σ P(x) T(r + x) exp(-2πi θ·x/λ), θ = A (pixel - origin): nothing of it is
    shared with the reconstruction but A. ``shift_a`` moves every probe without telling, ``away_px`` (n, 2) each
    pattern's origin.
    """
    at = _grid()
    beam = _probe(given, at if shift_a is None else at - np.reshape(shift_a, (2, 1)))
    beam = beam / np.sqrt(np.sum(np.abs(beam) ** 2))
    index = np.indices((SIDE, SIDE)).reshape(2, -1) - np.asarray(given.origin_px, float).reshape(2, -1)
    k = 1e-3 * angles_per_px(given) @ index / optics.wavelength_a(given.beam_energy_kev)
    kernel = np.exp(-2j * np.pi * (k.T @ at)).astype(np.complex64)
    line = at[0].reshape(GRID, GRID)[:, 0]
    windows = np.empty((len(positions_a), GRID * GRID), np.complex64)
    for number, (y, x) in enumerate(positions_a):
        windows[number] = (beam.reshape(GRID, GRID) * np.exp(1j * object_phase(y + line, x + line))).reshape(-1)
    if away_px is not None:
        turned = 1e-3 * away_px @ angles_per_px(given).T / optics.wavelength_a(given.beam_energy_kev) @ at
        windows *= np.exp(2j * np.pi * turned)
    waves = windows @ kernel.T / GRID
    return (np.abs(waves) ** 2).reshape(-1, SIDE, SIDE).astype(np.float64)


def object_phase(y_a: Array, x_a: Array) -> Array:
    """Phase of the object [rad] on a grid (y, x): a sum of Gaussians that repeats nowhere."""
    places = atoms_a()
    down = np.exp(-((y_a[:, None] - places[:, 0]) ** 2) / (2 * ATOM_WIDTH_A**2))
    across = np.exp(-((x_a[:, None] - places[:, 1]) ** 2) / (2 * ATOM_WIDTH_A**2))
    return ATOM_RAD * down @ across.T


def raster_a(scan: tuple[int, int] = (SCAN, SCAN), step_nm: tuple[float, float] = (STEP_NM, STEP_NM)) -> Array:
    """Positions (n, 2) [Å] in the scan's frame."""
    return np.indices(scan).reshape(2, -1).T * 10 * np.array(step_nm)


@lru_cache(maxsize=4)
def plain_patterns() -> Array:
    """Of the small set."""
    return exact(known(), raster_a())


def counted(patterns: Array, electrons: float = 2e4, seed: int = 3, scan: tuple[int, int] = (SCAN, SCAN)) -> Array:
    """Counts (scan_y, scan_x, det_y, det_x)."""
    drawn = np.random.default_rng(seed).poisson(patterns * electrons)
    return drawn.reshape(*scan, SIDE, SIDE).astype(np.uint16)


def analysed(given: Given, data: Array, recorded: Array | None = None, **options: Any) -> Outcome:
    """The method from prepare to finish, in two parts."""
    wanted, rows = PtychographyOptions(**options), InMemory(data, recorded)
    prepared = PTYCHOGRAPHY.prepare(given, wanted, rows)
    middle = rows.scan_shape[0] // 2
    parts = [
        PTYCHOGRAPHY.part(given, wanted, rows, prepared, first, stop)
        for first, stop in ((0, middle), (middle, rows.scan_shape[0]))
        if stop > first
    ]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return PTYCHOGRAPHY.finish(given, wanted, prepared, joined)


def picture(outcome: Outcome, name: str) -> Array:
    """Values of a picture."""
    return next(each.values for each in outcome.pictures if each.name == name)


def likeness(found: Array, truth: Array) -> tuple[float, float]:
    """Correlation, and slope of what was found over the truth, planes taken off both."""
    y, x = np.indices(found.shape)
    terms = np.column_stack([np.ones(found.size), y.ravel(), x.ravel()])
    a, b = (each.ravel() - terms @ np.linalg.lstsq(terms, each.ravel(), rcond=None)[0] for each in (found, truth))
    return float(a @ b / np.sqrt((a @ a) * (b @ b))), float(a @ b / (b @ b))


def true_phase(outcome: Outcome) -> Array:
    """Of the small set's object, on the pixels of an outcome."""
    found = next(each for each in outcome.pictures if each.name == "phase")
    y, x = (np.arange(n) * 10 * pixel for n, pixel in zip(found.values.shape, found.pixel_nm, strict=True))
    return object_phase(y, x)
