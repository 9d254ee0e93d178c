"""The transmission function of a specimen on a tile of bounded size, in the detector's own coordinates.

A pixel p from the pattern's centre sees the angle P p, so a wave pixel stands at u = Pᵀ r / δ: with u the detector's
lattice is a square one whatever P is, and only what depends on a true angle (form factors, aberrations,
propagation) has to know P. r is the place in the specimen, δ = sqrt|det P|.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, floor, pi
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit
from scipy.special import exp1

from stem4d import optics
from stem4d.errors import BadInput
from stem4d.scattering import debye_waller, potential_v_a3
from stem4d.simulate.atoms import GLOBULE_PARTS, GLOBULE_RADIUS, atoms, check, depth_a, lattice_a, unit_cell
from stem4d.simulate.crystals import Cell
from stem4d.simulate.multislice import band_limit
from stem4d.simulate.specimen import Specimen

Floats = npt.NDArray[np.floating[Any]]
Singles = npt.NDArray[np.float32]
Pair = tuple[tuple[float, float], tuple[float, float]]

LARGEST_TILE = 2048
"""Most pixels along a side of a tile of one slice: 34 MB, and 200 MB while it is made."""
TILE_PIXELS = 1024
"""Most pixels along a side of a tile of several slices, or of one that repeats because no region was named."""
LARGEST_FACTOR = 47
"""Largest prime factor of a repeating tile's sides: small ones leave too few sides to fit cells into."""
SCREENING_A = 0.35
"""Screening length of a model atom's potential [Å]; a typical Thomas-Fermi radius."""
MODEL_B_A2 = 8 * pi**2 * 0.08**2
"""Thermal B of a model atom [Å²]: 0.08 Å rms per axis is typical at room temperature."""
FILM_B_A2 = 0.6
"""Thermal B of amorphous carbon [Å²], about that of diamond and graphite across their planes."""
PART_A = 2.0
"""Standard deviation of a Gaussian part of a globule [Å], about the size of an amino acid's side chain."""
PHASE_ENERGY_KEV = 200.0
"""Energy at which stated phases hold; they scale with the interaction constant."""


@dataclass(frozen=True)
class View:
    """The grid of a wave: pixels (y, x), the window λ/δ that they cover [Å], and P/δ."""

    pixels: tuple[int, int]
    window_a: float
    unit_projection: Pair

    @property
    def to_px(self) -> Floats:
        """Matrix (2, 2) from a place in the specimen (y, x) [Å] to wave pixels."""
        matrix: Floats = np.diag(np.array(self.pixels) / self.window_a) @ np.array(self.unit_projection).T
        return matrix

    @property
    def pixel_a(self) -> tuple[float, float]:
        """Size of a wave pixel in the detector's coordinates (y, x) [Å]."""
        return self.window_a / self.pixels[0], self.window_a / self.pixels[1]

    def k_per_a(self, q_y: Floats, q_x: Floats) -> Floats:
        """True spatial frequency |P q|/δ [1/Å] of frequencies in the detector's coordinates."""
        (yy, yx), (xy, xx) = self.unit_projection
        k: Floats = np.hypot(yy * q_y + yx * q_x, xy * q_y + xx * q_x)
        return k


@dataclass(frozen=True)
class Layout:
    """Where a tile lies: shape and first pixel (y, x), and the matrix from places [Å] to pixels that it holds to.

    The matrix differs from the view's only for a lattice on a tile that repeats: whole cells are fitted into it.
    """

    view: View
    shape: tuple[int, int]
    origin: tuple[int, int]
    to_px: Pair
    repeats: bool


@dataclass(frozen=True)
class Tile:
    """Transmission functions t = exp(iφ), band limited.

    ``values`` is complex64 (slices, y + margin, x + margin): the first rows and columns are repeated at the end, so
    that a window that starts inside ``shape`` is one slice. Pixel (0, 0) stands at ``origin`` [px] from the
    specimen's origin; places beyond the tile find it repeated.
    """

    values: npt.NDArray[np.complex64]
    shape: tuple[int, int]
    origin: tuple[int, int] = (0, 0)


def lay_out(specimen: Specimen, view: View, region_a: Floats | None = None) -> Layout:
    """Find the tile for a region.

    Parameters
    ----------
    specimen : Specimen
        What will be on it.
    view : View
        The grid.
    region_a : float array (n, 2), optional
        Places whose hull the probe will stay in, (y, x) [Å].

    Returns
    -------
    Layout
        The region and a window around it where that fits into `LARGEST_TILE` (`TILE_PIXELS` for several slices)
        along each side; else a tile that repeats.

    Raises
    ------
    BadInput
        For a strained specimen on a field that does not fit, and where no tile holds a lattice's cell.
    """
    most = LARGEST_TILE if specimen.slices == 1 else TILE_PIXELS
    if region_a is not None:
        at = np.asarray(region_a, np.float64) @ view.to_px.T
        first = [floor(at[:, i].min()) - view.pixels[i] // 2 - 2 for i in (0, 1)]
        sides = [ceil(at[:, i].max()) + view.pixels[i] // 2 + 2 - first[i] for i in (0, 1)]
        shape = [max(scipy.fft.next_fast_len(side), view.pixels[i]) for i, side in enumerate(sides)]
        if max(sides) <= most:
            return Layout(view, (shape[0], shape[1]), (first[0], first[1]), _pair(view.to_px), False)
    if specimen.kind == "strained":
        limit = (
            f"must be known and fit into {most} pixels of {max(view.pixel_a):.3g} Å: a strained field repeats nowhere"
        )
        raise BadInput(field="scan region", value="none" if region_a is None else max(sides), limit=limit, unit="px")
    most = max(most if region_a is not None else TILE_PIXELS, 3 * max(view.pixels) // 2)
    lattice = lattice_a(specimen)
    if lattice is None:
        shape = [scipy.fft.next_fast_len(max(7 * most // 8, pixels)) for pixels in view.pixels]
        to_px = view.to_px
    else:
        shape, to_px = whole_cells(view.to_px @ lattice, most, view)
        to_px = to_px @ view.to_px
    return Layout(view, (shape[0], shape[1]), (-(shape[0] // 2), -(shape[1] // 2)), _pair(to_px), True)


def _pair(matrix: Floats) -> Pair:
    (yy, yx), (xy, xx) = matrix.tolist()
    return ((yy, yx), (xy, xx))


def whole_cells(cell_px: Floats, most: int, view: View) -> tuple[list[int], Floats]:
    """Numbers of pixels (y, x) that hold whole cells best, and the small distortion that makes them fit.

    Parameters
    ----------
    cell_px : float array (2, 2)
        Vectors of the cell as columns [px].
    most : int
        Most pixels along a side.
    view : View
        The smallest tile is its wave.

    Returns
    -------
    (list of int, float array (2, 2))
        Pixels, and the matrix that takes places [px] to those on the tile. It differs from 1 by half a cell's
        side over the tile's at most, and by 2e-4 or less where axes and cells are parallel.
    """
    longest = float(np.linalg.norm(cell_px, axis=0).max())
    if longest > most:
        raise BadInput(
            field="specimen.spacing_a",
            value=longest * max(view.pixel_a),
            limit=f"at most {most * max(view.pixel_a):.4g}, the largest tile at this camera length",
            unit="Å",
        )
    shape, vectors = [], np.empty((2, 2))
    for axis, window in enumerate(view.pixels):
        sides = _quick(max(5 * most // 8, window), most)
        whole = np.rint(np.outer(np.linalg.inv(cell_px)[:, axis], sides))
        ends = cell_px @ whole
        off = ends.copy()
        off[axis] -= sides
        error = np.where(np.any(whole != 0, axis=0), np.linalg.norm(off, axis=0) / sides, np.inf)
        best = int(np.argmin(error))
        shape.append(int(sides[best]))
        vectors[:, axis] = ends[:, best]
    return shape, np.diag(shape) @ np.linalg.inv(vectors)


def _quick(least: int, most: int) -> npt.NDArray[np.int64]:
    """Lengths without a large prime factor, which would make their transform slow."""
    sides = np.arange(least, most + 1)
    rest = sides.copy()
    for factor in range(2, LARGEST_FACTOR + 1):
        while np.any(divides := rest % factor == 0):
            rest[divides] //= factor
    quick: npt.NDArray[np.int64] = sides[rest == 1]
    return quick


def phase_rad(specimen: Specimen, layout: Layout, beam_energy_kev: float) -> Singles:
    """Phase of every slice, σ times its projected potential, before any band limit.

    Parameters
    ----------
    specimen : Specimen
        Not vacuum.
    layout : Layout
        From `lay_out`.
    beam_energy_kev : float
        Beam energy [keV].

    Returns
    -------
    float32 array (slices, y, x)
        Mean phase taken off every slice [rad].

    Notes
    -----
    Atoms are spread with a cubic B-spline on a grid twice as fine and the spline is divided out, which leaves 1e-2 of
    aliasing at the tile's Nyquist frequency and 1e-3 at 2/3 of it.
    """
    check(specimen)
    rows, columns = layout.shape
    q_y, q_x = scipy.fft.fftfreq(rows)[:, None], scipy.fft.rfftfreq(columns)[None, :]
    # A cubic B-spline's transform is sinc⁴; fine pixels are half of the tile's.
    spline = ((np.sinc(q_y / 2) * np.sinc(q_x / 2)) ** 4).astype(np.float32)
    step_y, step_x = layout.view.pixel_a
    k = layout.view.k_per_a(q_y / step_y, q_x / step_x)
    to_fine = 2 * np.array(layout.to_px)
    corners = np.array([[y, x] for y in (-1, rows + 1) for x in (-1, columns + 1)]) + layout.origin
    corners = corners @ np.linalg.inv(np.array(layout.to_px)).T
    box = ((corners[:, 0].min(), corners[:, 0].max()), (corners[:, 1].min(), corners[:, 1].max()))
    # Atoms on the tile's edge must be on it once: no lattice has atoms on a line this far off its own.
    start = 2 * np.array(layout.origin, np.float64) - 0.0137
    slices = np.zeros((specimen.slices, rows, columns), np.float32)
    edges = np.linspace(0, depth_a(specimen), specimen.slices + 1)
    edges[0], edges[-1] = -np.inf, np.inf
    for number in range(specimen.slices):
        fine: dict[str, Singles] = {}
        for group in atoms(specimen, box, (edges[number], edges[number + 1])):
            if group.species not in fine:
                fine[group.species] = np.zeros((2 * rows, 2 * columns), np.float32)
            _spread(group.y_a, group.x_a, group.weight, to_fine, start, -0.0137, fine[group.species])
        total = np.zeros(k.shape, np.complex64)
        for species, grid in fine.items():
            spectrum = scipy.fft.rfft2(grid, overwrite_x=True)
            half = spectrum[: (rows + 1) // 2, : columns // 2 + 1], spectrum[-(rows // 2) :, : columns // 2 + 1]
            transform = _transform_rad_a2(specimen, species, k, beam_energy_kev)
            total += np.concatenate(half) * (transform / spline).astype(np.float32)
        total[0, 0] = 0
        # The inverse transform has divided by the pixels; a sum over k times dk² is what gives the phase at a point.
        slices[number] = scipy.fft.irfft2(total, s=(rows, columns), overwrite_x=True) / (step_y * step_x)
    return slices


def transmit(phase: Singles, layout: Layout, limit_per_a: float | None) -> Tile:
    """Transmission functions of slices.

    Parameters
    ----------
    phase : float32 array (slices, y, x)
        From `phase_rad` [rad].
    layout : Layout
        The tile it is on.
    limit_per_a : float, optional
        Band limit in the detector's coordinates [1/Å], a sharp one; None for that of the multislice.
    """
    step_y, step_x = layout.view.pixel_a
    rows, columns = layout.shape
    if limit_per_a is None:
        keep: Floats = band_limit(layout.shape, layout.view.pixel_a).astype(np.float32)
    else:
        q2 = scipy.fft.fftfreq(rows, step_y)[:, None] ** 2 + scipy.fft.fftfreq(columns, step_x)[None, :] ** 2
        keep = (q2 <= limit_per_a**2).astype(np.float32)
    margin = layout.view.pixels
    values = np.empty((len(phase), rows + margin[0], columns + margin[1]), np.complex64)
    for one, out in zip(phase, values, strict=True):
        wave = np.empty(one.shape, np.complex64)
        np.cos(one, out=wave.real)
        np.sin(one, out=wave.imag)
        wave = scipy.fft.fft2(wave, overwrite_x=True)
        wave *= keep
        out[:rows, :columns] = scipy.fft.ifft2(wave, overwrite_x=True)
        out[rows:, :columns] = out[: margin[0], :columns]
        out[:, columns:] = out[:, : margin[1]]
    return Tile(values, layout.shape, layout.origin)


def _transform_rad_a2(specimen: Specimen, species: str, k: Floats, beam_energy_kev: float) -> Floats:
    """Transform of one atom's phase [rad Å²]."""
    sigma = optics.interaction_rad_per_v_a(beam_energy_kev)
    stated = sigma / optics.interaction_rad_per_v_a(PHASE_ENERGY_KEV)
    if species == "model":
        # A screened Coulomb (Wentzel) atom; its integral over k is the phase at its centre.
        atom = debye_waller(k, MODEL_B_A2) / (k**2 + (2 * pi * SCREENING_A) ** -2)
        return stated * specimen.atom_phase_rad / _model_peak() * atom
    if species == "part":
        return stated * specimen.rms_rad / _globules_rms(specimen.globule_nm) * _part(k)
    cell: Cell | None = unit_cell(specimen)
    return sigma * potential_v_a3(species, k, cell.thermal_b_a2[species] if cell else FILM_B_A2)


def _model_peak() -> float:
    """Integral over k of a model atom's transform: ∫ exp(-2π²u²k²)/(k² + q²) d²k = π exp(z) E1(z), z = 2π²u²q²."""
    z = MODEL_B_A2 / 4 * (2 * pi * SCREENING_A) ** -2
    return float(pi * exp(z) * exp1(z))


def _part(k: Floats) -> Floats:
    part: Floats = np.exp(-2 * (pi * PART_A * k) ** 2)
    return part


@lru_cache
def _globules_rms(globule_nm: float) -> float:
    """Rms of a film of globules whose parts integrate to 1 [1/Å²], from its power spectrum.

    One ball of n parts anywhere in each cell: per cell g² (n + n (n-1) F² - n² F² J²), with g, F and J the transforms
    of a part, a uniform ball seen from above, and the cell.
    """
    side = 10 * globule_nm
    axis = (np.arange(-400, 400) + 0.5) * (1.2 / PART_A / 800)
    k_y, k_x = axis[:, None], axis[None, :]
    x = 2 * pi * GLOBULE_RADIUS * side * np.hypot(k_y, k_x)
    ball = 3 * (np.sin(x) - x * np.cos(x)) / x**3
    cell = np.sinc(k_y * side) * np.sinc(k_x * side)
    n = GLOBULE_PARTS
    power = _part(np.hypot(k_y, k_x)) ** 2 * (n + n * (n - 1) * ball**2 - (n * ball * cell) ** 2) / side**2
    return float(np.sqrt(power.sum()) * (axis[1] - axis[0]))


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _spread(y: Any, x: Any, weight: Any, matrix: Any, start: Any, first: Any, grid: Any) -> None:
    """Cubic B-spline deposition of weights on a periodic grid; those that are not on it are left out.

    ``matrix`` takes places to pixels, ``start`` is where the grid's own begin, ``first`` their coordinate there.
    """
    rows, columns = grid.shape
    part_y, part_x = np.empty(4), np.empty(4)
    for i in range(y.shape[0]):
        at_y = matrix[0, 0] * y[i] + matrix[0, 1] * x[i] - start[0]
        at_x = matrix[1, 0] * y[i] + matrix[1, 1] * x[i] - start[1]
        if not (0 <= at_y < rows and 0 <= at_x < columns):
            continue
        at_y, at_x = at_y + first, at_x + first
        base_y, base_x = int(np.floor(at_y)), int(np.floor(at_x))
        _cubic(at_y - base_y, part_y)
        _cubic(at_x - base_x, part_x)
        for a in range(4):
            row = (base_y + a - 1) % rows
            for b in range(4):
                grid[row, (base_x + b - 1) % columns] += weight[i] * part_y[a] * part_x[b]


@njit(inline="always")  # type: ignore[untyped-decorator]
def _cubic(part: Any, weights: Any) -> None:
    """Weights of a cubic B-spline on the four pixels around a point, ``part`` beyond the second."""
    rest = 1 - part
    weights[0] = rest**3 / 6
    weights[1] = (3 * part**3 - 6 * part**2 + 4) / 6
    weights[2] = (3 * rest**3 - 6 * rest**2 + 4) / 6
    weights[3] = part**3 / 6
