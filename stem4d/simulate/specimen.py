"""Specimens as atoms, and their transmission function on a periodic tile of bounded size.

Atoms stand at the same places whatever the sampling: each is drawn from (seed, cell), cell (0, 0) being at the
tile's origin, which is the field's centre. A tile holds whole cells, so a lattice has no seam.
"""

from dataclasses import dataclass
from math import exp, pi, sqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.special import exp1

from stem4d import optics
from stem4d.errors import BadInput

Floats = npt.NDArray[np.floating[Any]]
Kind = Literal["vacuum", "random", "square", "hexagonal"]

TILE_PIXELS = 1024
"""Most pixels along a side of the tile, whatever the scan: memory does not grow with it."""
SCREENING_A = 0.35
"""Screening length of an atom's potential [Å]; a typical Thomas-Fermi radius."""
THERMAL_A = 0.08
"""Rms thermal displacement per axis [Å]; typical at room temperature."""
PHASE_ENERGY_KEV = 200.0
"""Energy at which ``atom_phase_rad`` holds; it scales with the interaction constant."""
MODULATION_WAVES_A = (17.0, 23.0, 31.0, 43.0)
"""Periods of the slow modulation [Å]: a few over a typical atomic-resolution field."""


@dataclass(frozen=True)
class Specimen:
    """What is under the beam."""

    kind: Kind
    seed: int = 0
    spacing_a: float = 4.0
    """Lattice constant, or side of the cell that holds one random atom [Å]."""
    atom_phase_rad: float = 0.6
    """Phase at the centre of a heavy atom at 200 kV, before any band limit [rad]."""
    modulation: float = 0.0
    """Amplitude of the slow modulation of the atoms' strength, as a fraction."""
    vacancy_fraction: float = 0.0
    """Part of the light sites that are empty."""


@dataclass(frozen=True)
class Tile:
    """A transmission function t = exp(iφ), band limited, on a periodic grid.

    ``values`` is complex64 (y + margin, x + margin): the first ``margin`` rows and columns are repeated at the end,
    so that a window that starts inside ``shape`` is one slice. Pixel (0, 0) is the field's centre.
    """

    values: npt.NDArray[np.complex64]
    shape: tuple[int, int]


def _uniform(seed: int, y: npt.NDArray[np.int64], x: npt.NDArray[np.int64], channel: int) -> Floats:
    """Numbers in [0, 1) that depend on seed, cell and channel alone (SplitMix64's finaliser, applied per word)."""
    state = np.full(y.shape, seed % 2**64, np.uint64)
    with np.errstate(over="ignore"):
        for word in (y, x, np.full(y.shape, channel, np.int64)):
            state = (state ^ word.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)) * 2.0**-53


def cell_a(specimen: Specimen) -> tuple[float, float]:
    """Sides of the specimen's rectangular cell (y, x) [Å]; a honeycomb's holds two primitive cells."""
    return (specimen.spacing_a * (sqrt(3) if specimen.kind == "hexagonal" else 1), specimen.spacing_a)


_SITES: dict[Kind, tuple[tuple[float, float, float], ...]] = {
    "vacuum": (),
    "random": ((0.0, 0.0, 1.0),),
    "square": ((0.0, 0.0, 1.0), (0.5, 0.5, 0.6)),
    "hexagonal": ((0.0, 0.0, 1.0), (0.5, 0.5, 1.0), (1 / 3, 0.0, 0.6), (5 / 6, 0.5, 0.6)),
}
"""Sites of a cell: fractional (y, x) and strength. Those below 1 are the light ones, which vacancies empty."""


def atoms(specimen: Specimen, cells: tuple[int, int]) -> Floats:
    """Atoms of a tile of whole cells.

    Parameters
    ----------
    specimen : Specimen
        What to build.
    cells : (int, int)
        Cells along (y, x), counted from -cells//2.

    Returns
    -------
    float array (n, 3)
        Position (y, x) in cells and strength (1 for a heavy atom).
    """
    grid_y, grid_x = np.mgrid[-(cells[0] // 2) : cells[0] - cells[0] // 2, -(cells[1] // 2) : cells[1] - cells[1] // 2]
    cell_y, cell_x = grid_y.ravel(), grid_x.ravel()
    side_y, side_x = cell_a(specimen)
    found = []
    for number, (site_y, site_x, strength) in enumerate(_SITES[specimen.kind]):
        y, x = cell_y + site_y, cell_x + site_x
        weight = np.full(y.shape, strength)
        if specimen.kind == "random":
            y = cell_y + _uniform(specimen.seed, cell_y, cell_x, 1)
            x = cell_x + _uniform(specimen.seed, cell_y, cell_x, 2)
            weight = 0.4 + 1.2 * _uniform(specimen.seed, cell_y, cell_x, 3)
        elif strength < 1:
            weight = weight * (_uniform(specimen.seed, cell_y, cell_x, 10 + number) >= specimen.vacancy_fraction)
        weight = weight * (1 + specimen.modulation * _slow(specimen.seed, y * side_y, x * side_x))
        found.append(np.stack([y, x, weight], axis=1))
    return np.concatenate(found) if found else np.empty((0, 3))


def _slow(seed: int, y_a: Floats, x_a: Floats) -> Floats:
    """A smooth function of position within [-1, 1]: a few plane waves, directions and phases out of the seed."""
    total = np.zeros_like(y_a)
    draws = np.random.default_rng(seed).uniform(0, 2 * pi, (len(MODULATION_WAVES_A), 2))
    for period_a, (direction, phase) in zip(MODULATION_WAVES_A, draws, strict=True):
        total += np.sin(2 * pi / period_a * (y_a * np.sin(direction) + x_a * np.cos(direction)) + phase)
    return total / len(MODULATION_WAVES_A)


def whole_cells(side_a: float, pixel_a: float, least: int, most: int) -> tuple[int, int]:
    """Number of pixels from ``least`` to ``most`` that holds whole cells best, and how many cells.

    The lattice is strained by the remainder, which is 1e-4 or less for a lattice constant of a few tens of pixels.
    """
    pixels = np.arange(least, most + 1)
    cells = np.maximum(np.rint(pixels * pixel_a / side_a), 1)
    best = int(np.argmin(np.abs(pixels * pixel_a / (cells * side_a) - 1)))
    return int(pixels[best]), int(cells[best])


def tile(
    specimen: Specimen,
    beam_energy_kev: float,
    pixel_a: tuple[float, float],
    margin: tuple[int, int],
    limit_per_a: float,
) -> Tile:
    """Transmission function of a specimen.

    Parameters
    ----------
    specimen : Specimen
        Not vacuum.
    beam_energy_kev : float
        Beam energy [keV].
    pixel_a : (float, float)
        Size of a wave pixel (y, x) [Å].
    margin : (int, int)
        Pixels repeated at the end of each axis: the window that will be cut out.
    limit_per_a : float
        Band limit of the transmission function [1/Å].

    Returns
    -------
    Tile
        At most ``TILE_PIXELS`` (1.5 windows, if that is more) along each side, besides the margin.

    Raises
    ------
    BadInput
        Where the largest tile does not hold one cell.

    Notes
    -----
    φ is a sum of screened Coulomb (Wentzel) atoms, transform ∝ exp(-2π²u²k²)/(k² + 1/(2πR)²), R the screening
    length and u the thermal displacement. Atoms are spread with a cubic B-spline on a grid twice as fine and the
    spline is divided out, which leaves 1e-2 of aliasing at the tile's Nyquist frequency and 1e-3 at 2/3 of it.
    """
    sides = cell_a(specimen)
    fits = []
    for side_a, step_a, window in zip(sides, pixel_a, margin, strict=True):
        most = max(TILE_PIXELS, 3 * window // 2)
        if most * step_a < side_a:
            limit = f"at most {most * step_a:.4g}, the largest tile at this camera length"
            raise BadInput(field="specimen.spacing_a", value=side_a, limit=limit, unit="Å")
        fits.append(whole_cells(side_a, step_a, max(5 * most // 8, window), most))
    (rows, cells_y), (columns, cells_x) = fits
    placed = atoms(specimen, (cells_y, cells_x))
    fine = (2 * rows, 2 * columns)
    density = _spread(placed[:, 0] * fine[0] / cells_y, placed[:, 1] * fine[1] / cells_x, placed[:, 2], fine)
    k_y = scipy.fft.fftfreq(rows, pixel_a[0])[:, None]
    k_x = scipy.fft.rfftfreq(columns, pixel_a[1])[None, :]
    spectrum = scipy.fft.rfft2(density)
    kept = np.concatenate([spectrum[: (rows + 1) // 2], spectrum[-(rows // 2) :]])[:, : columns // 2 + 1]
    # A cubic B-spline's transform is sinc⁴; fine pixels are half of pixel_a.
    spline = (np.sinc(k_y * pixel_a[0] / 2) * np.sinc(k_x * pixel_a[1] / 2)) ** 4
    k2 = k_y**2 + k_x**2
    atom = np.exp(-2 * pi**2 * THERMAL_A**2 * k2) / (k2 + (2 * pi * SCREENING_A) ** -2)
    phase = scipy.fft.irfft2(kept / spline * atom, s=(rows, columns))
    # The inverse transform has divided by the pixels; a sum over k times dk² is what gives the phase at a point.
    energy = optics.interaction_rad_per_v_a(beam_energy_kev) / optics.interaction_rad_per_v_a(PHASE_ENERGY_KEV)
    phase *= energy * specimen.atom_phase_rad / _atom_peak() / (pixel_a[0] * pixel_a[1])
    wave = scipy.fft.fft2(np.exp(1j * (phase - phase.mean())).astype(np.complex64), overwrite_x=True)
    wave[k_y**2 + scipy.fft.fftfreq(columns, pixel_a[1])[None, :] ** 2 > limit_per_a**2] = 0
    wave = scipy.fft.ifft2(wave, overwrite_x=True)
    return Tile(np.pad(wave, [(0, margin[0]), (0, margin[1])], mode="wrap"), (rows, columns))


def _atom_peak() -> float:
    """Integral over k of the atom's transform: ∫ exp(-2π²u²k²)/(k² + q²) d²k = π exp(z) E1(z), z = 2π²u²q²."""
    z = 2 * pi**2 * THERMAL_A**2 * (2 * pi * SCREENING_A) ** -2
    return float(pi * exp(z) * exp1(z))


def _spread(y: Floats, x: Floats, weight: Floats, shape: tuple[int, int]) -> Floats:
    """Cubic B-spline deposition of weights at positions [px] on a periodic grid."""
    grid = np.zeros(shape[0] * shape[1])
    base_y, base_x = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    parts_y, parts_x = _cubic(y - base_y), _cubic(x - base_x)
    for i, part_y in enumerate(parts_y):
        row = (base_y + i - 1) % shape[0] * shape[1]
        for j, part_x in enumerate(parts_x):
            np.add.at(grid, row + (base_x + j - 1) % shape[1], part_y * part_x * weight)
    return grid.reshape(shape)


def _cubic(part: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Weights of a cubic B-spline on the four pixels around a point, ``part`` beyond the second."""
    rest = 1 - part
    return (
        rest**3 / 6,
        (3 * part**3 - 6 * part**2 + 4) / 6,
        (3 * rest**3 - 6 * rest**2 + 4) / 6,
        part**3 / 6,
    )
