"""Rings of a powder as they lie on a detector: a circle, as wide as the bright-field disk, blurred and elliptic.

A ring of radius R and no width, convolved with a disk of radius r, is at the distance ρ from the centre as high as
the part of the circle R that lies within r of a point there: arccos((ρ² + R² - r²) / 2ρR) / π. Grain size, pixels and
the source blur it further by a Gaussian. Amplitudes and a smooth background are solved for linearly for every trial of
centre, ellipse, blur and scale (variable projection, Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973) 413).
"""

from dataclasses import dataclass
from math import exp, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import least_squares

from stem4d.calibrate.scale_fit import circle_matrix

Array = npt.NDArray[np.float64]

GRID_PX = 0.1
"""Spacing of the tables of ring profiles; they are blurred by three times as much at least."""
NARROWEST_PX = 0.29
"""Blur of a pixel, 1/sqrt(12)."""
WIDEST = 1.5
"""Widest blur, as a part of the disk's radius plus 1 px."""
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
    """A fit: parameters (centre y, x off the start; ellipse's components; log blur; log px per mrad)."""

    parameters: Array
    amplitudes: Array
    design: Array
    """(n, linear terms), weighted."""
    jacobian: Array
    """(n, 6), weighted, the amplitudes held."""
    per_ring: Array
    """(n, rings), weighted: derivative by the logarithm of each ring's radius."""
    residuals: Array
    """Weighted: counts less model."""
    model: Array
    background: Array
    rho: Array
    """Distance from the centre, the ellipse taken out [px]."""


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
    sector = np.minimum((phi + np.pi) / (2 * np.pi) * sectors, sectors - 1).astype(np.intp)
    return Annulus(dy, dx, counts[use], radius, harmonics, np.stack(terms, axis=1), sector)


def ring_profiles(rho: Array, radii: Array, disk_radius: float, blur: float, spacing: float) -> Array:
    """Heights of rings over an even grid of distances, shape (rings, distances)."""
    safe = np.maximum(rho, 1e-6)[None, :]
    radius = radii[:, None]
    cosine = (safe**2 + radius**2 - disk_radius**2) / (2 * safe * radius)
    sharp = np.arccos(np.clip(cosine, -1.0, 1.0)) / np.pi
    # About unit height in the middle, where the arc is 2r of a circumference 2πR: amplitudes then read as counts.
    blurred: Array = ndimage.gaussian_filter1d(sharp * np.pi * radius / disk_radius, blur / spacing, axis=1)
    return blurred


def evaluate(area: Annulus, parameters: Array, mrad: Array, disk_radius: float, weight: Array) -> Trial:
    """The best amplitudes for a trial and how the residuals change with it (Kaufman's form of the projection)."""
    widest = WIDEST * (disk_radius + 1)
    blur = min(max(exp(min(parameters[4], 10.0)), NARROWEST_PX), widest)
    px_per_mrad = exp(parameters[5])
    dy, dx = area.dy - parameters[0], area.dx - parameters[1]
    matrix = circle_matrix(parameters[2:4])
    uy, ux = matrix[0, 0] * dy + matrix[0, 1] * dx, matrix[1, 0] * dy + matrix[1, 1] * dx
    rho = np.hypot(uy, ux)
    grid = np.arange(max(float(rho.min()) - 1, 0.0), float(rho.max()) + widest**2 + 2, GRID_PX)
    radii = mrad * px_per_mrad
    table = ring_profiles(grid, radii, disk_radius, blur, GRID_PX)
    small = 1e-3
    by_radius = (ring_profiles(grid, radii * (1 + small), disk_radius, blur, GRID_PX) - table) / small
    by_blur = (ring_profiles(grid, radii, disk_radius, blur * 1.05, GRID_PX) - table) / 0.05
    # A blur in two dimensions pulls a ring's height inwards by its variance / 2R, which a radial one does not.
    at = (rho + blur**2 / (2 * np.maximum(rho, 1.0)) - grid[0]) / GRID_PX
    low = at.astype(np.intp)
    part = at - low

    def look(values: Array) -> Array:
        return np.asarray(values[:, low] * (1 - part) + values[:, low + 1] * part)

    rings = look(table).T
    # Grains make each ring uneven in azimuth in its own way; where rings overlap that would look like an ellipse.
    groups = [*rings.T[:OWN_HARMONICS], *([rings.T[OWN_HARMONICS:].sum(axis=0)] if len(mrad) > OWN_HARMONICS else [])]
    uneven = np.concatenate([area.harmonics * group for group in groups]).T
    design = np.concatenate([rings, area.background, uneven], axis=1) * weight[:, None]
    normal = design.T @ design
    size = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    normal = normal / size / size[:, None]
    normal[np.diag_indices_from(normal)] += 1e-10
    amplitudes = np.linalg.solve(normal, design.T @ (area.counts * weight) / size) / size
    number = len(mrad)
    modulation = amplitudes[-uneven.shape[1] :].reshape(-1, 4) @ area.harmonics
    height = amplitudes[:number][None, :] + modulation[np.minimum(np.arange(number), OWN_HARMONICS)].T
    slope = (look(np.gradient(table, GRID_PX, axis=1)).T * height).sum(axis=1)
    per_ring = look(by_radius).T * height * weight[:, None]
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
            (look(by_blur).T * height).sum(axis=1),
        ],
        axis=1,
    )
    jacobian = np.concatenate([raw * weight[:, None], per_ring.sum(axis=1, keepdims=True)], axis=1)
    model = design @ amplitudes / weight
    behind = area.background @ amplitudes[number : -uneven.shape[1]]
    return Trial(parameters, amplitudes, design, jacobian, per_ring, (area.counts - model) * weight, model, behind, rho)


def project_out(columns: Array, design: Array) -> Array:
    """What of some columns the linear terms cannot imitate."""
    size = np.sqrt(np.maximum((design**2).sum(axis=0), 1e-300))
    scaled = design / size
    normal = scaled.T @ scaled
    normal[np.diag_indices_from(normal)] += 1e-10
    left: Array = columns - scaled @ np.linalg.solve(normal, scaled.T @ columns)
    return left


def solve(area: Annulus, start: Array, mrad: Array, disk_radius: float, weight: Array) -> Trial:
    """Least squares over centre, ellipse, blur and scale."""
    last = evaluate(area, start, mrad, disk_radius, weight)

    def at(parameters: Array) -> Trial:
        nonlocal last
        if not np.array_equal(parameters, last.parameters):
            last = evaluate(area, parameters.copy(), mrad, disk_radius, weight)
        return last

    found = least_squares(
        lambda parameters: at(parameters).residuals,
        start,
        jac=lambda parameters: -project_out(at(parameters).jacobian, at(parameters).design),
        method="lm",
        x_scale=[1.0, 1.0, 0.01, 0.01, 0.3, 0.01],
        max_nfev=20,
        xtol=1e-6,
        ftol=1e-8,
    )
    return at(np.asarray(found.x, dtype=np.float64))


def cluster_covariance(columns: Array, residuals: Array, sector: npt.NDArray[np.intp]) -> Array:
    """Covariance of least squares whose residuals go together within sectors, as grains make them.

    The jackknife over sectors: what the answer changes by when each one is left out (MacKinnon and White, J.
    Econometrics 29 (1985) 305, HC3, for clusters). Unlike the plain sandwich it does not come out too small where a
    sector had much say in the fit.
    """
    size = np.sqrt(np.maximum((columns**2).sum(axis=0), 1e-300))
    scaled = columns / size
    normal = scaled.T @ scaled
    ridge = 1e-10 * np.eye(len(normal))
    number = int(sector.max()) + 1
    changes = []
    for each in range(number):
        part = scaled[sector == each]
        changes.append(np.linalg.solve(normal - part.T @ part + ridge, part.T @ residuals[sector == each]))
    off = np.array(changes) / size
    covariance: Array = off.T @ off * (number - 1) / number
    return covariance


def shared_covariance(fit: Trial, sector: npt.NDArray[np.intp]) -> Array:
    """Covariance of the six parameters: what the pixels' own scatter gives (White 1980), enlarged for grains.

    A dozen sectors know the variance of one parameter to 40 % only; so the enlargement is the mean one of a group:
    centre and ellipse, which follow single grains, and blur and scale, which all grains share.
    """
    columns = project_out(fit.jacobian, fit.design)
    inverse = np.linalg.inv(columns.T @ columns)
    scored = columns * fit.residuals[:, None]
    pixels = inverse @ (scored.T @ scored) @ inverse
    grains = cluster_covariance(np.concatenate([fit.design, fit.jacobian], axis=1), fit.residuals, sector)[-6:, -6:]
    factor = np.ones(6)
    for group in (slice(0, 4), slice(4, 6)):
        larger = np.trace(np.linalg.solve(pixels[group, group], grains[group, group])) / factor[group].size
        factor[group] = sqrt(max(float(larger), 1.0))
    enlarged: Array = pixels * np.outer(factor, factor)
    return enlarged
