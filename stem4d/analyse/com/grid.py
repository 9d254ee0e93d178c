"""Derivatives and integrals of maps on the scan's grid: quintic splines along each axis, Poisson's equation between."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from scipy.interpolate import make_interp_spline

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST = 4
"""Positions along an axis that derivatives and integrals take."""
ORDER = 5


@lru_cache(maxsize=16)
def derivative(positions: int, step: float) -> Array:
    """Matrix (n, n): slopes at the positions of the spline through the values there."""
    spline = _spline(positions, step)
    slopes: Array = spline.derivative()(np.arange(positions) * step)
    return slopes


@lru_cache(maxsize=16)
def interval_integrals(positions: int, step: float) -> Array:
    """Matrix (n - 1, n): integrals between neighbouring positions of the spline through the values there."""
    whole: Array = _spline(positions, step).antiderivative()(np.arange(positions) * step)
    between: Array = np.diff(whole, axis=0)
    return between


def _spline(positions: int, step: float) -> Any:
    order = min(ORDER, positions - 1)
    order -= order % 2 == 0
    return make_interp_spline(np.arange(positions) * step, np.eye(positions), k=order)


@dataclass(frozen=True)
class Differential:
    """A combination of slopes of a vector map, and the noise it has, (scan_y, scan_x) [per nm]."""

    values: Array
    sigma: Array


@lru_cache(maxsize=32)
def smoothing(positions: int, width: float) -> Array:
    """Matrix (n, n): Gaussian means of ``width`` positions (standard deviation), over what lies within the borders."""
    if width <= 0:
        return np.eye(positions)
    apart = np.arange(positions)[:, None] - np.arange(positions)[None, :]
    weight: Array = np.exp(-0.5 * (apart / width) ** 2)
    mean: Array = weight / weight.sum(1, keepdims=True)
    return mean


@dataclass(frozen=True)
class Slopes:
    """Matrices of one axis: ``along`` (n, n) takes slopes of smoothed values, ``across`` smooths alone."""

    along: Array
    across: Array

    @classmethod
    def of(cls, positions: int, step: float, width: float) -> "Slopes":
        """Of an axis of this step [nm], smoothed over ``width`` positions."""
        mean = smoothing(positions, width)
        return cls(derivative(positions, step) @ mean, mean)


def slopes(shape: tuple[int, ...], step_nm: tuple[float, float], width: float = 0.0) -> tuple[Slopes, Slopes]:
    """Those of both axes (y, x)."""
    down, across = (Slopes.of(n, step, width) for n, step in zip(shape, step_nm, strict=True))
    return down, across


def curl_of(y: Array, x: Array, axes: tuple[Slopes, Slopes], sigma: tuple[float, float]) -> Differential:
    """(∇ x v) along the beam, ∂v_y/∂x - ∂v_x/∂y, zero for what is a gradient (docs/conventions.md).

    ``sigma`` is the white noise of the components (y, x).
    """
    down, over = axes
    values = down.across @ y @ over.along.T - down.along @ x @ over.across.T
    return Differential(values, _sigma(axes, sigma[1], sigma[0]))


def divergence_of(y: Array, x: Array, axes: tuple[Slopes, Slopes], sigma: tuple[float, float]) -> Differential:
    """∂y/∂y + ∂x/∂x."""
    down, over = axes
    values = down.along @ y @ over.across.T + down.across @ x @ over.along.T
    return Differential(values, _sigma(axes, sigma[0], sigma[1]))


def _sigma(axes: tuple[Slopes, Slopes], of_down: float, of_over: float) -> Array:
    """Noise of slopes along both axes, of components with these noises."""
    down, over = axes

    def power(rows: Array) -> Array:
        return np.asarray(np.square(rows).sum(1), np.float64)

    variance = of_down**2 * np.outer(power(down.along), power(over.across))
    variance += of_over**2 * np.outer(power(down.across), power(over.along))
    return np.sqrt(np.asarray(variance, np.float64))


def filled(values: Array, known: Mask) -> Array:
    """Unknown positions by what lies around: the nearest at first, then smoothed into their neighbours."""
    if known.all():
        return values
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    whole: Array = values[tuple(nearest)]
    for _ in range(20):
        whole = np.where(known, values, ndimage.uniform_filter(whole, 3, mode="nearest"))
    return whole


def integrated(y: Array, x: Array, step_nm: tuple[float, float], sigma: tuple[float, float]) -> tuple[Array, Array]:
    """The map whose slopes come nearest to two components, and the noise of it.

    Parameters
    ----------
    y, x : ndarray, shape (scan_y, scan_x)
        Slopes [1/nm], known everywhere.
    step_nm : (float, float)
        (y, x) [nm].
    sigma : (float, float)
        Noise of the components (y, x) [1/nm], white.

    Returns
    -------
    values, sigma : ndarray, shape (scan_y, scan_x)
        Mean zero; one standard deviation.

    Notes
    -----
    Between neighbours f(i+1) - f(i) = ∫ slope, the integral that of a quintic spline; least squares with a weight of
    1/step² comes to Poisson's equation with free borders, which the cosine transform solves: the field is mirrored at
    its borders and nothing wraps. The noise is that of white slopes; correlations between the transform's modes, which
    the spline's ends make, are left out.
    """
    # Rows of the transform C, orthonormal: C A Cᵀ is what dctn makes of A.
    sides = [_modes(n) for n in y.shape]
    parts = [sides[axis].T @ _divergence(y.shape[axis], step_nm[axis]) for axis in (0, 1)]
    eigen = [(2 - 2 * np.cos(np.pi * np.arange(n) / n)) / step**2 for n, step in zip(y.shape, step_nm, strict=True)]
    whole = eigen[0][:, None] + eigen[1][None, :]
    whole[0, 0] = np.inf
    modes = (parts[0] @ y @ sides[1] + sides[0].T @ x @ parts[1].T) / whole
    power = (
        sigma[0] ** 2 * np.square(parts[0]).sum(1)[:, None] + sigma[1] ** 2 * np.square(parts[1]).sum(1)[None, :]
    ) / whole**2
    values: Array = fft.idctn(modes, norm="ortho")
    noise: Array = np.sqrt(np.square(sides[0]) @ power @ np.square(sides[1]).T)
    return values, noise


@lru_cache(maxsize=16)
def _modes(positions: int) -> Array:
    """(n, n), columns are the cosines."""
    modes: Array = fft.idct(np.eye(positions), norm="ortho", axis=0)
    return modes


@lru_cache(maxsize=16)
def _divergence(positions: int, step: float) -> Array:
    """(n, n): of the slopes at positions, the right side of Poisson's equation along an axis."""
    integrals = interval_integrals(positions, step) / step**2
    ends = np.zeros((1, positions))
    right: Array = -np.diff(np.concatenate([ends, integrals, ends]), axis=0)
    return right
