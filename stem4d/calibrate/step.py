"""Scan step, its anisotropy and shear, from images of a lattice that is known but for its rotation.

A scan index (i, j) lies at y = step_y i, x = step_x j + shear y in the frame of the lattice's standard, so a wave g of
the lattice shows at the frequency k = Aᵀ g [cycles per index], A = [[step_y, 0], [shear step_y, step_x]]. Whatever
turns both axes alike counts as rotation of the lattice. Drift and an inclined slow axis give shear and a false step_y:
they are part of what is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import atan2, degrees, hypot, isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.crystals import PlanarLattice
from stem4d.calibrate.step_peaks import Peak, find_peaks
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MAX_DEPARTURE = 0.15
"""How far a step may come out from its nominal value, as a part of it: magnifications are named to a few percent."""
MAX_SHEAR = 0.08
"""Shear beyond this is drift that spoils the image, or a wrong lattice."""
MAX_ANISOTROPY = 0.08
"""Difference of the two steps, as a part of them, beyond which the lattice is taken for a wrong one."""
FEWEST_PERIODS = 8.0
HIGHEST_FREQUENCY = 0.42
"""Of the lattice's waves, in cycles per step: half is the limit, and beyond it waves fold back unseen."""
TOLERANCE_BINS = 1.5
"""Distance of a peak from where the lattice has it, in elements of the field's resolution, to belong to it."""
UNEXPLAINED = 0.5
"""Power of a peak that is no wave of the lattice, over the second strongest that is, that refuses the lattice."""
MAX_CHI = 6.0
"""Waves that fit the lattice worse than this many of their errors, and by more than MAX_MISFIT, refuse it."""
MAX_MISFIT = 0.004
"""Misfit of the waves over their length: 1e-4 is usual, and gold passes for strontium titanate at 0.007."""
LOOK_FROM = 0.4
"""Lowest frequency that is looked at, over the lattice's lowest: so that a coarser lattice shows that it is another."""
SURPRISING_CHI = 1.5
"""Scatter of the waves over their errors from which on the errors are enlarged."""
ORDERS = 4
"""Highest order of a wave that is looked for."""
FLOOR = 2e-4
"""Relative error that stays however strong the image is."""


@dataclass(frozen=True)
class StepFit:
    """Scan step; NaN where it was not found."""

    step_nm: float
    """Geometric mean of the two: sqrt(step_y step_x)."""
    step_uncertainty_nm: float
    step_y_nm: float
    step_y_uncertainty_nm: float
    step_x_nm: float
    step_x_uncertainty_nm: float
    shear: float
    """x that the scan gains per y, as drift along x gives it."""
    shear_uncertainty: float
    lattice_rotation_deg: float
    """Of the lattice vector a from scan x towards scan y, in [-90, 90)."""
    lattice_rotation_uncertainty_deg: float
    periods: float
    """Periods of the lattice across the shorter side of what was recorded."""
    residual: float
    """Rms misfit of the waves, as a part of their length."""
    waves: tuple[str, ...]
    """Orders (h k) that were used."""
    drawing: dict[str, Array] = field(repr=False)
    """``found`` and ``predicted`` frequencies (n, 2) [cycles per index], ``index`` (n, 2), ``uncertainty`` (n, 2)."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def fit_step(
    images: Sequence[npt.NDArray[np.floating]],
    recorded: Mask,
    nominal_step_nm: float,
    lattice: PlanarLattice,
    nominal_tolerance: float = MAX_DEPARTURE,
) -> StepFit:
    """Measure the step along both scan axes and the shear.

    A lattice of the same shape whose constant is off, or a strained one, gives a step that is off by as much: nothing
    but the nominal step tells them apart, and the fit refuses what is off by more than ``nominal_tolerance``.

    Parameters
    ----------
    images : sequence of ndarray, shape (scan_y, scan_x)
        Virtual images of one scan; each counts by its own noise.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        Positions that count.
    nominal_step_nm : float
        Expected step [nm].
    lattice : PlanarLattice
        The known lattice.
    nominal_tolerance : float
        How far the step may be off its nominal value along each axis, as a part of it; 15 % at most.

    Returns
    -------
    StepFit
        ``ok`` is false with a reason where no two waves of the lattice are seen, the field holds fewer than 8
        periods, the steps are too long for the lattice, or what is seen does not fit it.

    Raises
    ------
    BadInput
        If there is no image, shapes differ, or a figure is not positive.
    """
    if not images or recorded.ndim != 2 or any(image.shape != recorded.shape for image in images):
        raise BadInput(field="images", value=len(images), limit=f"must be maps of the mask's shape {recorded.shape}")
    if not isfinite(nominal_step_nm) or nominal_step_nm <= 0:
        raise BadInput(field="nominal_step_nm", value=nominal_step_nm, limit="must be positive", unit="nm")
    if not 0 < nominal_tolerance <= MAX_DEPARTURE:
        limit = f"must be a fraction above 0 and at most {MAX_DEPARTURE}"
        raise BadInput(field="nominal_tolerance", value=nominal_tolerance, limit=limit)
    basis = lattice.reciprocal()
    orders = _orders(basis)
    shortest, longest = _fundamental(orders, basis)
    used = np.argwhere(recorded)
    extent = (np.ptp(used, axis=0) + 1) if len(used) else np.zeros(2)
    periods = float(extent.min()) * nominal_step_nm * shortest
    if periods < FEWEST_PERIODS:
        return _none(f"about {periods:.1f} periods across the field; it takes {FEWEST_PERIODS:g}")
    if longest * nominal_step_nm > HIGHEST_FREQUENCY:
        return _none(
            f"{1 / (longest * nominal_step_nm):.1f} steps per period; it takes {1 / HIGHEST_FREQUENCY:.1f}:"
            " sample finer"
        )
    peaks = find_peaks(images, recorded, LOOK_FROM * shortest * nominal_step_nm)
    if len(peaks) < 2:
        return _none(f"{len(peaks)} waves stand out of the images' spectrum; it takes two: no lattice is seen")
    bins = 1 / extent.astype(np.float64)
    best = _index(peaks, orders, basis, nominal_step_nm, bins)
    if best is None:
        return _none("no two waves fit the lattice's lengths and angle within the tolerance of the nominal step")
    return _judge(peaks, *best, orders, nominal_step_nm, nominal_tolerance, bins, extent)


def _orders(basis: Array) -> Array:
    """Half of the orders (h, k), the other half being their opposites, by length."""
    found = [(h, k) for h in range(ORDERS + 1) for k in range(-ORDERS, ORDERS + 1) if h > 0 or (h == 0 and k > 0)]
    orders = np.array(found, dtype=np.float64)
    return orders[np.argsort(np.hypot(*(orders @ basis).T), kind="stable")]


def _fundamental(orders: Array, basis: Array) -> tuple[float, float]:
    """Lengths of the two shortest waves that are not parallel [1/nm]."""
    waves = orders @ basis
    lengths = np.hypot(*waves.T)
    for wave, length in zip(waves[1:], lengths[1:], strict=True):
        if abs(waves[0, 0] * wave[1] - waves[0, 1] * wave[0]) > 0.1 * lengths[0] * length:
            return float(lengths[0]), float(length)
    return float(lengths[0]), float(lengths[0])


def _index(peaks: list[Peak], orders: Array, basis: Array, nominal: float, bins: Array) -> tuple[Array, Array] | None:
    """The matrix M of k = M g, and the waves g of the orders, that explain most of the peaks' power.

    Pairs of strong peaks are taken for pairs of short orders; both hands of the lattice are tried.
    """
    best: tuple[Array, Array] | None = None
    score = 0.0
    power = np.array([min(sqrt(peak.power), 100.0) for peak in peaks])
    at = np.array([peak.at for peak in peaks])
    hands = (1.0, -1.0) if abs(float(basis[0] @ basis[1])) > 1e-9 * float(np.abs(basis).max()) ** 2 else (1.0,)
    for hand in hands:
        waves = orders @ basis * np.array([hand, 1.0])
        lengths = np.hypot(*waves.T)
        short = np.flatnonzero(lengths < 2.3 * lengths[0])
        near = [
            [
                (each, sign)
                for each in short
                for sign in (1.0, -1.0)
                if abs(hypot(*place) / (lengths[each] * nominal) - 1) < 1.2 * MAX_DEPARTURE
            ]
            for place in at[:8]
        ]
        for first in range(min(len(peaks), 8)):
            for second in range(first + 1, min(len(peaks), 8)):
                for g, sign in near[first]:
                    if sign < 0:
                        continue
                    for other, other_sign in near[second]:
                        pair = np.stack([waves[g], other_sign * waves[other]], axis=1)
                        if abs(float(np.linalg.det(pair))) < 0.1 * lengths[g] * lengths[other]:
                            continue
                        matrix = np.stack([at[first], at[second]], axis=1) @ np.linalg.inv(pair)
                        if not _believable(matrix, nominal):
                            continue
                        _, fits = _assign(at, matrix, waves, bins)
                        # Between equal explanations the less distorted scan is the likelier.
                        total = float(power[fits].sum()) * (1 - 0.5 * _distortion(matrix))
                        if total > score * (1 + 1e-9):
                            best, score = (matrix, waves), total
    return best


def _distortion(matrix: Array) -> float:
    step_y, step_x, shear, _ = _decompose(matrix)
    return abs(step_y / step_x - 1) + abs(shear)


def _believable(matrix: Array, nominal: float) -> bool:
    if not float(np.linalg.det(matrix)) > 0:
        return False
    step_y, step_x, shear, _ = _decompose(matrix)
    return (
        abs(step_y / nominal - 1) < 1.1 * MAX_DEPARTURE
        and abs(step_x / nominal - 1) < 1.1 * MAX_DEPARTURE
        and abs(shear) < 1.2 * MAX_SHEAR
        and abs(step_y / step_x - 1) < 1.2 * MAX_ANISOTROPY
    )


def _assign(at: Array, matrix: Array, waves: Array, bins: Array) -> tuple[Array, Mask]:
    """For each peak the nearest wave, signed, and whether it lies there within the field's resolution."""
    both = np.concatenate([waves, -waves])
    predicted = both @ matrix.T
    off = np.hypot(*np.moveaxis((at[:, None] - predicted[None]) / bins, -1, 0))
    nearest = off.argmin(axis=1)
    return both[nearest], off[np.arange(len(at)), nearest] < TOLERANCE_BINS


def _folded(at: Array, matrix: Array, waves: Array, bins: Array) -> Mask:
    """Whether a peak is a wave beyond half a cycle per step, folded back: known, but not to be fitted."""
    both = np.concatenate([waves, -waves]) @ matrix.T
    off = at[:, None] - ((both + 0.5) % 1 - 0.5)[None]
    off = np.abs((off + 0.5) % 1 - 0.5) / bins
    folded: Mask = np.any(np.hypot(off[..., 0], off[..., 1]) < 2 * TOLERANCE_BINS, axis=1)
    return folded


def _decompose(matrix: Array) -> tuple[float, float, float, float]:
    """step_y, step_x, shear and the rotation [rad] from k = Aᵀ R g."""
    # M Mᵀ = Aᵀ A knows nothing of the rotation: A = [[p, 0], [q, r]] gives [[p² + q², q r], [q r, r²]].
    gram = matrix @ matrix.T
    step_x = sqrt(float(gram[1, 1]))
    along = float(gram[0, 1]) / step_x
    step_y = sqrt(max(float(gram[0, 0]) - along**2, 1e-300))
    turn = np.linalg.inv(np.array([[step_y, along], [0.0, step_x]])) @ matrix
    # A wave along x, turned: its direction from x towards y.
    return step_y, step_x, along / step_y, atan2(float(turn[0, 1]), float(turn[1, 1]))


def _judge(
    peaks: list[Peak],
    matrix: Array,
    waves: Array,
    orders: Array,
    nominal: float,
    tolerance: float,
    bins: Array,
    extent: Array,
) -> StepFit:
    at = np.array([peak.at for peak in peaks])
    sigma = np.array([peak.uncertainty for peak in peaks])
    sigma = np.hypot(sigma, FLOOR * np.hypot(*at.T)[:, None])
    for _ in range(3):
        wave, fits = _assign(at, matrix, waves, bins)
        if fits.sum() < 2 or np.linalg.matrix_rank(wave[fits], tol=1e-6 * float(np.abs(waves[0]).max())) < 2:
            return _none("the waves that fit the lattice all run along one direction")
        covariance = np.zeros((4, 4))
        for axis in (0, 1):
            weighted = wave[fits] / sigma[fits, axis, None]
            normal = np.linalg.inv(weighted.T @ weighted)
            matrix[axis] = normal @ weighted.T @ (at[fits, axis] / sigma[fits, axis])
            covariance[2 * axis : 2 * axis + 2, 2 * axis : 2 * axis + 2] = normal
    left = at[fits] - wave[fits] @ matrix.T
    freedom = 2 * int(fits.sum()) - 4
    chi = sqrt(float(((left / sigma[fits]) ** 2).sum()) / freedom) if freedom else 0.0
    # A handful of waves scatters by so much by chance: what is not surprising changes nothing.
    covariance *= chi**2 if chi > SURPRISING_CHI else 1.0
    misfit = float(np.sqrt(((left / np.hypot(*at[fits].T)[:, None]) ** 2).sum(axis=1).mean()))
    step_y, step_x, shear, turn = _decompose(matrix)
    values = np.array([step_y, step_x, shear, turn, sqrt(step_y * step_x)])
    slopes = np.zeros((5, 4))
    for each in range(4):
        step = 1e-6 * float(np.abs(matrix).max())
        moved = matrix.copy()
        moved[each // 2, each % 2] += step
        y, x, s, t = _decompose(moved)
        slopes[:, each] = (np.array([y, x, s, t, sqrt(y * x)]) - values) / step
    errors = np.sqrt(np.diag(slopes @ covariance @ slopes.T))
    reasons = _doubts(peaks, fits | _folded(at, matrix, waves, bins), values, nominal, tolerance, chi, misfit)
    lengths = np.hypot(*wave[fits].T)
    if float(lengths.min()) > 1.01 * _fundamental(orders, _basis_of(orders, waves))[1]:
        # Else a lattice whose periods differ by sqrt(2) passes with its own waves for the higher ones of this.
        reasons.append("none of the lattice's two longest periods is seen, only shorter ones: another lattice or step")
    index = wave[fits] @ np.linalg.inv(_basis_of(orders, waves))
    return StepFit(
        step_nm=float(values[4]),
        step_uncertainty_nm=float(errors[4]),
        step_y_nm=step_y,
        step_y_uncertainty_nm=float(errors[0]),
        step_x_nm=step_x,
        step_x_uncertainty_nm=float(errors[1]),
        shear=shear,
        shear_uncertainty=float(errors[2]),
        lattice_rotation_deg=(degrees(turn) + 90) % 180 - 90,
        lattice_rotation_uncertainty_deg=degrees(float(errors[3])),
        periods=float(extent.min()) * float(values[4]) * float(np.hypot(*waves[0])),
        residual=misfit,
        waves=tuple(f"{round(h)} {round(k)}" for h, k in index),
        drawing={
            "found": at[fits],
            "predicted": wave[fits] @ matrix.T,
            "index": np.round(index).astype(np.float64),
            "uncertainty": sigma[fits],
        },
        ok=not reasons,
        reason="; ".join(reasons),
    )


def _basis_of(orders: Array, waves: Array) -> Array:
    return np.asarray(np.linalg.lstsq(orders, waves, rcond=None)[0])


def _doubts(
    peaks: list[Peak], known: Mask, values: Array, nominal: float, tolerance: float, chi: float, misfit: float
) -> list[str]:
    reasons = []
    for name, value in (("y", values[0]), ("x", values[1])):
        if abs(value / nominal - 1) > tolerance:
            reasons.append(
                f"the step along {name} comes out {value / nominal - 1:+.0%} off the nominal one, more than"
                f" {tolerance:.0%}: another lattice or another magnification"
            )
    if abs(values[0] / values[1] - 1) > MAX_ANISOTROPY or abs(values[2]) > MAX_SHEAR:
        reasons.append(
            f"steps that differ by {values[0] / values[1] - 1:+.1%} and a shear of {values[2]:+.3f}: the lengths and"
            " the angle of the waves are another lattice's, or drift spoilt the image"
        )
    if chi > MAX_CHI and misfit > MAX_MISFIT:
        reasons.append(f"the waves lie {misfit:.1%} off the lattice: another lattice")
    power = np.array([peak.power for peak in peaks])
    if (~known).any() and float(power[~known].max()) > UNEXPLAINED * float(np.sort(power[known])[-2]):
        reasons.append("strong waves that the lattice does not have: another lattice, or two crystals")
    return reasons


def _none(reason: str) -> StepFit:
    return StepFit(nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, (), {}, ok=False, reason=reason)
