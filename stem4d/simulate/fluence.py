"""How much dose every place of a specimen has received: a map in the specimen's own frame, which outlives any tile.

A tile belongs to one set of optics and one field; the fluence belongs to the specimen. `add` takes in a batch of
probe positions, `on_tile` gives what a tile's pixels have received, for `stem4d.simulate.damage`.
"""

from dataclasses import dataclass
from math import ceil, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage

from stem4d import optics
from stem4d.errors import BadInput
from stem4d.simulate.damage import expose, no_fluence
from stem4d.simulate.patterns import Illumination
from stem4d.simulate.probe import chi_rad
from stem4d.simulate.transmission import Layout, View

Floats = npt.NDArray[np.floating[Any]]
Singles = npt.NDArray[np.float32]

PIXEL_A = 2.0
"""Size of a map's pixel [Å]: an ionisation does its damage that far from the electron (Egerton, Ultramicroscopy
2007), so nothing finer is there to be known."""
LARGEST_SIDE = 16384
"""Most pixels along a side of a map, 3.3 µm: 1 GB."""
_GRID = View((1, 1), PIXEL_A, ((1.0, 0.0), (0.0, 1.0)))


@dataclass(frozen=True)
class Fluence:
    """Fluence of places: pixel (i, j) of ``values`` [e/Å²] is at (``origin`` + (i, j)) `PIXEL_A`; 0 beyond it."""

    values: Singles
    origin: tuple[int, int]


def untouched() -> Fluence:
    """Of a specimen that no beam has met."""
    return Fluence(np.zeros((0, 0), np.float32), (0, 0))


def add(fluence: Fluence, positions_nm: Floats, electrons: Floats, radius_a: float) -> Fluence:
    """Fluence after a batch of probe positions.

    Parameters
    ----------
    fluence : Fluence
        So far; not changed.
    positions_nm : float array (n, 2)
        Where the probe stood, (y, x) in the specimen's frame [nm].
    electrons : float array (n,)
        Electrons at each, of the whole dwell time.
    radius_a : float
        Rms radius of the illuminated patch [Å], from `probe_radius_a`.

    Raises
    ------
    BadInput
        Where the places lie further apart than a map may be wide.
    """
    if not len(positions_nm):
        return fluence
    at = np.asarray(positions_nm, np.float64) * 10 / PIXEL_A
    # Five standard deviations along an axis, beyond which the transform's own rounding is larger.
    margin = ceil(5 / sqrt(2) * radius_a / PIXEL_A) + 2
    low, high = np.floor(at.min(axis=0)).astype(int) - margin, np.ceil(at.max(axis=0)).astype(int) + margin + 1
    shape = tuple(int(scipy.fft.next_fast_len(int(n), real=True)) for n in high - low)
    grid = _grown(fluence, (int(low[0]), int(low[1])), (shape[0], shape[1]))
    (yy, yx), (xy, xx) = _GRID.to_px.tolist()
    patch = Layout(_GRID, (shape[0], shape[1]), (int(low[0]), int(low[1])), ((yy, yx), (xy, xx)), repeats=False)
    top, left = int(low[0]) - grid.origin[0], int(low[1]) - grid.origin[1]
    grid.values[top : top + shape[0], left : left + shape[1]] += expose(
        no_fluence(patch), patch, positions_nm, electrons, radius_a
    )
    return grid


def _grown(fluence: Fluence, first: tuple[int, int], shape: tuple[int, int]) -> Fluence:
    """A copy that holds a patch too."""
    if not fluence.values.size:
        return Fluence(np.zeros(shape, np.float32), first)
    old = np.array(fluence.origin)
    low = np.minimum(old, first)
    high = np.maximum(old + fluence.values.shape, np.array(first) + shape)
    side = int((high - low).max())
    if side > LARGEST_SIDE:
        limit = f"places with a dose must lie within {LARGEST_SIDE * PIXEL_A / 10:g} nm"
        raise BadInput(field="scan region", value=side * PIXEL_A / 10, limit=limit, unit="nm")
    values = np.zeros(high - low, np.float32)
    top, left = (old - low).tolist()
    rows, columns = fluence.values.shape
    values[top : top + rows, left : left + columns] = fluence.values
    return Fluence(values, (int(low[0]), int(low[1])))


def on_tile(fluence: Fluence, layout: Layout) -> Singles:
    """Fluence (y, x) of a tile's pixels [e/Å²], linear between the map's; of a tile that does not repeat."""
    if not fluence.values.size:
        return no_fluence(layout)
    to_map = np.linalg.inv(np.array(layout.to_px)) / PIXEL_A
    offset = to_map @ np.array(layout.origin, np.float64) - fluence.origin
    tile: Singles = ndimage.affine_transform(fluence.values, to_map, offset, layout.shape, order=1, output=np.float32)
    return tile


def mean_at(fluence: Fluence, positions_nm: Floats) -> float:
    """Mean fluence of places (n, 2), (y, x) in the specimen's frame [nm]."""
    if not fluence.values.size:
        return 0.0
    at = np.asarray(positions_nm, np.float64).T * 10 / PIXEL_A - np.array(fluence.origin)[:, None]
    return float(ndimage.map_coordinates(fluence.values, at, order=1).mean())


def probe_radius_a(light: Illumination) -> float:
    """Rms radius of what a probe illuminates [Å].

    Notes
    -----
    Squares add: rays displaced by aberrations, (λ/2π) |∇χ| over the aperture; diffraction, taken as the Gaussian with
    the Airy disk's width 0.51 λ/α; the source's image; and the reach of damage, `PIXEL_A`.
    """
    alpha = light.convergence_semi_angle_mrad
    axis = np.linspace(-alpha, alpha, 65)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    chi = chi_rad(y, x, light.beam_energy_kev, light.aberrations)
    slope_y, slope_x = np.gradient(chi, axis[1] - axis[0])
    inside = np.hypot(y, x) <= alpha
    wavelength_a = optics.wavelength_a(light.beam_energy_kev)
    steepness = np.mean(slope_y**2 + slope_x**2, where=inside)
    rays = (wavelength_a / (2 * np.pi) * 1e3) ** 2 * float(steepness)
    # A Gaussian of a width w (FWHM) has the radial mean square w²/(4 log 2).
    widths = optics.diffraction_fwhm_a(light.beam_energy_kev, alpha) ** 2 + light.source_fwhm_a**2
    return sqrt(rays + widths / (4 * log(2)) + PIXEL_A**2)
