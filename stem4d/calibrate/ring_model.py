"""Rings of a powder as they lie on a detector, elliptic and uneven in azimuth on a smooth background.

Amplitudes and a smooth background are solved for linearly for every trial of centre, ellipse, scale and shape of the
grains (variable projection, Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973) 413).
"""

from dataclasses import dataclass
from math import exp

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from stem4d.calibrate.ring_profile import GRID_PX, LEAST_WIDTH_PX, Powder, powder_profiles
from stem4d.calibrate.scale_fit import circle_matrix

Array = npt.NDArray[np.float64]

SLIMNESS = 6
"""Its place among the parameters."""
SLIMMEST = 2.5
"""Largest logarithm of the slimness, either way: a factor of twelve."""
STRETCH, WIDER = 5e-4, 0.02
"""Steps of the derivatives, either way, as parts of radius, spread and slimness."""
WIDEST = 4.0
"""Widest spread by grains, as a part of the disk's radius plus 1 px."""
OWN_HARMONICS = 4
"""So many of the inner rings have an unevenness in azimuth of their own, the others one for all."""
POWERS = (-4, -3, -2, -1, 0, 1)
"""Powers of the radius that the background is made of."""
SLOPE_POWERS = (-2, -1)
"""Powers of the radius that the background's first and second harmonics in azimuth are made of."""


@dataclass(frozen=True)
class Annulus:
    """The pixels that are fitted, with what does not change from trial to trial."""

    dy: Array
    dx: Array
    """From the centre the fit starts at [px]."""
    counts: Array
    radius: Array
    harmonics: Array
    """(4, n): cos φ, sin φ, cos 2φ, sin 2φ."""
    background: Array
    """(n, terms)"""
    sector: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Trial:
    """A fit: parameters (centre y, x off the start; ellipse's components; logarithms of the spread by grains [px], of
    px per mrad, and of the slimness of grains)."""

    parameters: Array
    amplitudes: Array
    design: Array
    """(n, linear terms), weighted."""
    jacobian: Array
    """(n, 7), weighted, the amplitudes held."""
    per_ring: Array
    """(n, rings), weighted: derivative by the logarithm of each ring's radius."""
    residuals: Array
    """Weighted: counts less model."""
    model: Array
    background: Array
    rho: Array
    """Distance from the centre, the ellipse taken out [px]."""
    width_px: float
    """Spread by grains as it was drawn, within its limits."""


def annulus(
    counts: Array, good: npt.NDArray[np.bool_], centre: tuple[float, float], inner: float, outer: float, sectors: int
) -> Annulus:
    """The good pixels between two radii about a centre."""
    grid = np.indices(counts.shape, dtype=np.float64)
    dy, dx = grid[0] - centre[0], grid[1] - centre[1]
    radius = np.hypot(dy, dx)
    use = good & (radius > inner) & (radius < outer)
    dy, dx, radius = dy[use], dx[use], radius[use]
    phi = np.arctan2(dy, dx)
    harmonics = np.stack([np.cos(phi), np.sin(phi), np.cos(2 * phi), np.sin(2 * phi)])
    relative = radius / outer
    terms = [relative**power for power in POWERS]
    terms += [relative**power * each for power in SLOPE_POWERS for each in harmonics]
    sector = np.minimum((phi % np.pi) / np.pi * sectors, sectors - 1).astype(np.intp)
    return Annulus(dy, dx, counts[use], radius, harmonics, np.stack(terms, axis=1), sector)


def evaluate(area: Annulus, parameters: Array, powder: Powder, weight: Array) -> Trial:
    """The best amplitudes for a trial and how the residuals change with it (Kaufman's form of the projection)."""
    widest = WIDEST * (powder.disk_radius_px + 1)
    width = min(max(exp(min(parameters[4], 10.0)), LEAST_WIDTH_PX), widest)
    dy, dx = area.dy - parameters[0], area.dx - parameters[1]
    matrix = circle_matrix(parameters[2:4])
    uy, ux = matrix[0, 0] * dy + matrix[0, 1] * dx, matrix[1, 0] * dy + matrix[1, 1] * dx
    rho = np.hypot(uy, ux)
    # Light from rings beyond the annulus reaches into it.
    farthest = max(float(rho.max()), exp(parameters[5]) * float(powder.mrad.max()) * (1 + WIDER))
    grid = np.arange(0.0, farthest + powder.disk_radius_px + 2, GRID_PX)
    slimness = exp(min(max(parameters[6], -SLIMMEST), SLIMMEST))

    def profiles(stretch: float = 1.0, wider: float = 1.0, slimmer: float = 1.0) -> Array:
        return powder_profiles(grid, powder, exp(parameters[5]) * stretch, width * wider, slimness * slimmer)

    table = profiles()
    by_radius = (profiles(stretch=1 + STRETCH) - profiles(stretch=1 - STRETCH)) / (2 * STRETCH)
    by_width = (profiles(wider=1 + WIDER) - profiles(wider=1 - WIDER)) / (2 * WIDER)
    by_slimness = (profiles(slimmer=1 + WIDER) - profiles(slimmer=1 - WIDER)) / (2 * WIDER)
    at = rho / GRID_PX
    low = at.astype(np.intp)
    part = at - low

    def look(values: Array) -> Array:
        return np.asarray(values[:, low] * (1 - part) + values[:, low + 1] * part)

    rings = look(table).T
    # Grains make each ring uneven in azimuth in its own way; where rings overlap that would look like an ellipse.
    groups = [
        *rings.T[:OWN_HARMONICS],
        *([rings.T[OWN_HARMONICS:].sum(axis=0)] if len(powder.mrad) > OWN_HARMONICS else []),
    ]
    uneven = np.concatenate([area.harmonics * group for group in groups]).T
    design = np.concatenate([rings, area.background, uneven], axis=1) * weight[:, None]
    normal = design.T @ design
    size = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    normal = normal / size / size[:, None]
    normal[np.diag_indices_from(normal)] += 1e-10
    amplitudes = np.linalg.solve(normal, design.T @ (area.counts * weight) / size) / size
    number = len(powder.mrad)
    modulation = amplitudes[-uneven.shape[1] :].reshape(-1, 4) @ area.harmonics
    height = amplitudes[:number][None, :] + modulation[np.minimum(np.arange(number), OWN_HARMONICS)].T
    slope = (look(np.gradient(table, GRID_PX, axis=1)).T * height).sum(axis=1)
    per_ring = look(by_radius).T * height
    safe = np.maximum(rho, 1e-9)
    ny, nx = uy / safe, ux / safe
    tiny = 1e-5
    by_ellipse = []
    for axis in (0, 1):
        step = np.zeros(2)
        step[axis] = tiny
        change = (circle_matrix(parameters[2:4] + step) - matrix) / tiny
        by_ellipse.append(ny * (change[0, 0] * dy + change[0, 1] * dx) + nx * (change[1, 0] * dy + change[1, 1] * dx))
    raw = np.stack(
        [
            -slope * (ny * matrix[0, 0] + nx * matrix[1, 0]),
            -slope * (ny * matrix[0, 1] + nx * matrix[1, 1]),
            slope * by_ellipse[0],
            slope * by_ellipse[1],
            (look(by_width).T * height).sum(axis=1),
            per_ring.sum(axis=1),
            (look(by_slimness).T * height).sum(axis=1),
        ],
        axis=1,
    )
    model = design @ amplitudes / weight
    behind = area.background @ amplitudes[number : -uneven.shape[1]]
    scale = weight[:, None]
    return Trial(
        parameters,
        amplitudes,
        design,
        raw * scale,
        per_ring * scale,
        (area.counts - model) * weight,
        model,
        behind,
        rho,
        width,
    )


def project_out(columns: Array, design: Array) -> Array:
    """What of some columns the linear terms cannot imitate."""
    size = np.sqrt(np.maximum((design**2).sum(axis=0), 1e-300))
    scaled = design / size
    normal = scaled.T @ scaled
    normal[np.diag_indices_from(normal)] += 1e-10
    left: Array = columns - scaled @ np.linalg.solve(normal, scaled.T @ columns)
    return left


def solve(area: Annulus, start: Array, powder: Powder, weight: Array, stiffness: float) -> Trial:
    """Least squares over centre, ellipse, spread, scale and slimness.

    ``stiffness`` is the weight of one more residual: the slimness is 1 (its logarithm 0) unless the rings say more.
    """
    last = evaluate(area, start, powder, weight)
    pull = np.zeros((1, len(start)))
    pull[0, SLIMNESS] = stiffness

    def at(parameters: Array) -> Trial:
        nonlocal last
        if not np.array_equal(parameters, last.parameters):
            last = evaluate(area, parameters.copy(), powder, weight)
        return last

    found = least_squares(
        lambda parameters: np.append(at(parameters).residuals, pull @ parameters),
        start,
        jac=lambda parameters: np.concatenate([-project_out(at(parameters).jacobian, at(parameters).design), pull]),
        method="lm",
        x_scale=[1.0, 1.0, 0.01, 0.01, 0.3, 0.01, 0.3],
        max_nfev=20,
        xtol=1e-6,
        ftol=1e-8,
    )
    return at(np.asarray(found.x, dtype=np.float64))
