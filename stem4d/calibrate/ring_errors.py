"""How well rings of a finite number of grains are known: the scatter of sectors in azimuth.

Counts are not what limits rings, grains are: each gives spots, anywhere along a ring, a little off its radius. A
spot at g comes with one at -g of the same grain, so that sectors are of a half turn, each with its opposite.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.ring_model import SLIMNESS, Trial, project_out

Array = npt.NDArray[np.float64]

GROUPS = (slice(0, 2), slice(2, 4), slice(4, 7))
"""Parameters whose errors are enlarged together: the centre, which opposite spots do not move; the ellipse; and what
all azimuths share, spread, scale and slimness."""


@dataclass(frozen=True)
class Errors:
    """Of a fit's parameters."""

    covariance: Array
    """(7, 7)"""
    noise: float
    """Variance of the residuals that would give as much, were they independent."""


def cluster_covariance(
    columns: Array, residuals: Array, sector: npt.NDArray[np.intp], stiffness: Array | None = None
) -> Array:
    """Covariance of least squares whose residuals go together within sectors, as grains make them.

    The jackknife over windows of two neighbouring sectors, since a spot may lie on a boundary: what the answer changes
    by when each window is left out (MacKinnon and White, J. Econometrics 29 (1985) 305, HC3, for clusters). Unlike the
    plain sandwich it does not come out too small where a window had much say in the fit. ``stiffness`` are
    weights that hold columns to a value, and stay in throughout.
    """
    size = np.sqrt(np.maximum((columns**2).sum(axis=0), 1e-300))
    scaled = columns / size
    normal = scaled.T @ scaled + 1e-10 * np.eye(len(size))
    if stiffness is not None:
        normal[np.diag_indices_from(normal)] += (stiffness / size) ** 2
    number = int(sector.max()) + 1
    changes = []
    for each in range(number):
        window = (sector == each) | (sector == (each + 1) % number)
        part = scaled[window]
        changes.append(np.linalg.solve(normal - part.T @ part, part.T @ residuals[window]))
    off = np.array(changes) / size
    # Every sector is in two windows, and half as many windows would hold all of them.
    covariance: Array = off.T @ off / 2 * (number - 2) / number
    return covariance


def held(columns: int, at: int, stiffness: float) -> Array:
    """Stiffness of one column among many."""
    found = np.zeros(columns)
    found[at] = stiffness
    return found


def shared_errors(fit: Trial, sector: npt.NDArray[np.intp], stiffness: float, spread: float) -> Errors:
    """Covariance of the parameters: what the pixels' own scatter gives (White 1980), enlarged for grains.

    So few sectors know the variance of one parameter to 40 % only; so the enlargement is the mean one of a group.
    The slimness, held with ``stiffness``, may be off by ``spread`` (standard deviation of its logarithm) beforehand.
    """
    number = fit.jacobian.shape[1]
    columns = project_out(fit.jacobian, fit.design)
    hold = held(number, SLIMNESS, stiffness)
    information = columns.T @ columns + np.diag(hold**2)
    inverse = np.linalg.inv(information)
    scored = columns * fit.residuals[:, None]
    pixels = inverse @ (scored.T @ scored) @ inverse
    everything = np.concatenate([fit.design, fit.jacobian], axis=1)
    whole = held(everything.shape[1], SLIMNESS - number, stiffness)
    grains = cluster_covariance(everything, fit.residuals, sector, whole)[-number:, -number:]
    factor = np.ones(number)
    for group in GROUPS:
        larger = np.trace(np.linalg.solve(pixels[group, group], grains[group, group])) / factor[group].size
        factor[group] = np.sqrt(max(float(larger), 1.0))
    assumed = inverse @ (hold**2 * spread)
    # Of spread and scale alone: a slimness that is held has no scatter.
    noise = float(np.trace(grains[4:6, 4:6] @ information[4:6, 4:6])) / 2
    return Errors(pixels * np.outer(factor, factor) + np.outer(assumed, assumed), noise)
