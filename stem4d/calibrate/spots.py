"""Angle per pixel, ellipse and in-plane rotation from the Bragg disks of a known crystal along [001].

The disks are found with the bright-field disk as a template, indexed on the known lattice within the tolerance of the
nominal scale, and the matrix of pixel = centre + B g is fitted; its polar decomposition is scale, ellipse and rotation.
"""

from dataclasses import replace
from math import atan2, cos, degrees, hypot, nan, sin, sqrt

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from stem4d.calibrate.crystals import Crystal, crystal_named, zone_001
from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.robust import spread_of
from stem4d.calibrate.scale_fit import (
    NOMINAL_TOLERANCE,
    SEARCHED,
    ScaleFit,
    check_scale_input,
    ellipse_of,
    good_counts,
    implausible,
    no_scale,
    unfit_disk,
)
from stem4d.calibrate.spot_position import Spot, place_spot
from stem4d.optics import wavelength_a

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

SYSTEMATIC = 3.5e-4
"""Error of scale and ellipse that stays however many electrons: disks are not evenly bright, and lean the same way.
From 240 simulated gold crystals, and as much as stays on the reference simulations of aluminium."""
FEWEST_SPOTS = 4
MOST_CANDIDATES = 60
"""The strongest peaks that are looked at."""
STANDS_OUT = 8.0
"""Standard errors that a disk's counts must exceed their surroundings by."""
MUST_INDEX = 0.75
"""Part of the strongest peaks that must lie on the lattice: less is another crystal, or several."""
STRONG = 0.3
"""Peaks at least this high, as a part of the third highest, are those that must lie on the lattice."""
COARSE, FINE = 0.12, 0.05
"""Distance to a node, as a part of the lattice's spacing, within which a peak belongs to it: at first, when fitted."""
MAX_SCATTER = 0.03
"""Rms distance to the nodes over the lattice's spacing, beyond which the lattice is another one."""
TUKEY = 5.0
"""Spots that lie beyond so many robust standard deviations do not count."""
FLOOR_PX = 0.003
"""Error that each position has beside its noise: pixels, edges of disks, light that is uneven within them."""
CLEAR_PX = 1.5
WORST_CONDITION = 3.0
"""Ratio of the spread of the spots along two directions, beyond which they do not span the plane."""


def fit_spots(
    mean_pattern: npt.NDArray[np.generic],
    crystal: str,
    beam_energy_kev: float,
    nominal_mrad_per_pixel: float,
    disk: DiskFit,
    bad_pixels: npt.NDArray[np.bool_] | None = None,
    nominal_tolerance: float = NOMINAL_TOLERANCE,
) -> ScaleFit:
    """Fit the lattice of Bragg disks of a crystal along [001], in any rotation in the plane.

    All these lattices are square: nothing but the nominal scale tells a wrong lattice constant (gold and aluminium
    differ by 0.7 %, gold and silicon by 6 %, and one taken for the other gives a scale wrong by as much). A scale that
    departs from the nominal one by more than ``nominal_tolerance`` is refused. A strained crystal shows its strain as
    an ellipse: the reference must be free of it.

    Parameters
    ----------
    mean_pattern, crystal, beam_energy_kev, nominal_mrad_per_pixel, disk, bad_pixels, nominal_tolerance
        As for ``fit_rings``.

    Returns
    -------
    ScaleFit
        ``ok`` is false with a reason where fewer than four disks that span the plane are clear of the bright-field
        disk and the detector's edge, or they do not lie on the lattice.

    Raises
    ------
    BadInput
        If the crystal is not known, a figure is not positive, or shapes do not fit.
    """
    check_scale_input(mean_pattern, beam_energy_kev, nominal_mrad_per_pixel, bad_pixels, nominal_tolerance)
    known = crystal_named(crystal)
    if reason := unfit_disk(disk):
        return no_scale(reason)
    counts, good = good_counts(mean_pattern, bad_pixels)
    peaks, heights = bragg_peaks(counts, good, disk)
    if len(peaks) < FEWEST_SPOTS:
        return no_scale(f"{len(peaks)} Bragg disks stand clear of the bright-field disk and the edge; it takes 4")
    px = 1e3 * wavelength_a(beam_energy_kev) / known.lattice_constant_a / nominal_mrad_per_pixel
    longest = float(np.hypot(*(peaks - disk.centre_px).T).max()) / px * 1.2 * known.lattice_constant_a**-1
    nodes = zone_001(known, longest)
    if len(nodes) < FEWEST_SPOTS:
        return no_scale(f"the lattice of {known.name} has no four reflections on the detector")
    spacing = px * sqrt(float((nodes[0] ** 2).sum()))
    matrix = _index(peaks - disk.centre_px, heights, nodes, px)
    if matrix is None:
        return no_scale(f"no rotation puts the disks on a lattice of {known.name} near the nominal scale")
    centre = np.array(disk.centre_px)
    # From the strongest outwards: a coarse matrix is right near the middle first.
    for tolerance in (COARSE, COARSE, FINE):
        index, near = _nearest(peaks - centre, matrix, nodes, tolerance * spacing)
        if near.sum() < FEWEST_SPOTS or not _spans(index[near]):
            return no_scale(f"{near.sum()} disks lie on a lattice of {known.name}; it takes 4 that span the plane")
        solution = np.linalg.lstsq(_design(index[near]), peaks[near], rcond=None)[0]
        centre, matrix = solution[0], np.asarray(solution[1:].T, dtype=np.float64)
    strong = heights > STRONG * np.sort(heights)[-3]
    missed = float((strong & ~near).sum() / max(strong.sum(), 1))
    spots = [
        place_spot(counts, good, tuple(peaks[each]), disk.radius_px, disk.edge_width_px)
        for each in np.flatnonzero(near)
    ]
    kept = [(spot, hk) for spot, hk in zip(spots, index[near], strict=True) if spot is not None]
    if len(kept) < FEWEST_SPOTS or not _spans(np.array([hk for _, hk in kept])):
        return no_scale(f"{len(kept)} disks have a position; it takes 4 that span the plane")
    kept_index = np.array([hk for _, hk in kept])
    mrad_per_index = 1e3 * wavelength_a(beam_energy_kev) / known.lattice_constant_a
    fit = _fit([spot for spot, _ in kept], kept_index, mrad_per_index)
    reasons = implausible(fit.mrad_per_pixel, nominal_mrad_per_pixel, fit.ellipticity, nominal_tolerance)
    if missed > 1 - MUST_INDEX:
        reasons.append(f"{missed:.0%} of the strong disks do not lie on a lattice of {known.name}: another crystal")
    if fit.residual > MAX_SCATTER * spacing:
        reasons.append(f"the disks lie {fit.residual:.1f} px off the lattice: not this crystal, or not a single one")
    reasons += _missing(index[near], known, matrix, counts.shape, centre, disk)
    errors = [hypot(each, SYSTEMATIC) for each in fit.ellipse_vector_uncertainty]
    return replace(
        fit,
        mrad_per_pixel_uncertainty=hypot(fit.mrad_per_pixel_uncertainty, SYSTEMATIC * fit.mrad_per_pixel),
        ellipse_vector_uncertainty=(errors[0], errors[1]),
        ellipticity_uncertainty=hypot(fit.ellipticity_uncertainty, SYSTEMATIC),
        ok=not reasons,
        reason="; ".join(reasons),
    )


def _missing(
    index: Indices, crystal: Crystal, matrix: Array, shape: tuple[int, ...], centre: Array, disk: DiskFit
) -> list[str]:
    """Strong families that should be seen and of which no disk is."""
    reasons = []
    for family in crystal.strong:
        if family[2] != 0:
            continue
        each = np.array([(a * h, b * k) for h, k in (family[:2], family[1::-1]) for a in (1, -1) for b in (1, -1)])
        away = each @ matrix.T
        margin = disk.radius_px + 3 * CLEAR_PX
        at = away + centre
        clear = ((at > margin) & (at < np.array(shape) - 1 - margin)).all(axis=1)
        clear &= np.hypot(*away.T) > _apart(disk) + CLEAR_PX
        there = (each[:, None] == index[None]).all(axis=2).any(axis=1)
        if clear.any() and not there[clear].any():
            reasons.append(f"no disk {family[0]}{family[1]}0 of {crystal.name} is seen: another crystal")
    return reasons


def _apart(disk: DiskFit) -> float:
    """Distance at which two disks are clear of each other [px]."""
    return 2 * disk.radius_px + 4 * disk.edge_width_px + CLEAR_PX


def bragg_peaks(counts: Array, good: npt.NDArray[np.bool_], disk: DiskFit) -> tuple[Array, Array]:
    """Places (n, 2) and heights of disks that stand out of their surroundings, the strongest first."""
    reach = disk.radius_px * 1.6 + 2
    grid = np.arange(-int(reach) - 1, int(reach) + 2, dtype=np.float64)
    distance = np.hypot(grid[:, None], grid[None, :])
    inside = np.clip(disk.radius_px + 0.5 - distance, 0, 1)
    around = np.clip(reach - distance, 0, 1) * np.clip(distance - disk.radius_px - 1.0, 0, 1)
    sums = [_convolved(counts, each / each.sum()) for each in (inside, around)]
    height = sums[0] - sums[1]
    # Shot noise of the two means, the counts' unit from the scatter of neighbours where nothing else varies.
    variance = _unit(counts) * np.maximum(
        sums[0] / inside.sum() + sums[1] / around.sum(), 1e-12 * float(counts.max()) + 1e-300
    )
    significance = height / np.sqrt(variance)
    y, x = np.indices(counts.shape, dtype=np.float64)
    apart = np.hypot(y - disk.centre_px[0], x - disk.centre_px[1]) > _apart(disk)
    margin = disk.radius_px + CLEAR_PX
    clear = (y >= margin) & (x >= margin) & (y <= counts.shape[0] - 1 - margin) & (x <= counts.shape[1] - 1 - margin)
    size = 2 * int(disk.radius_px) + 1
    top = height == ndimage.maximum_filter(height, size=max(size, 3))
    found = np.argwhere(top & apart & clear & (significance > STANDS_OUT))
    heights = height[found[:, 0], found[:, 1]]
    order = np.argsort(heights)[::-1][:MOST_CANDIDATES]
    return found[order].astype(np.float64), heights[order]


def _convolved(image: Array, kernel: Array) -> Array:
    shape = tuple(fft.next_fast_len(a + b, real=True) for a, b in zip(image.shape, kernel.shape, strict=True))
    whole = fft.irfft2(fft.rfft2(image, shape) * fft.rfft2(kernel, shape), shape)
    half = [each // 2 for each in kernel.shape]
    return np.asarray(whole[half[0] : half[0] + image.shape[0], half[1] : half[1] + image.shape[1]])


def _unit(counts: Array) -> float:
    """What one electron adds: variance of neighbours' differences over their mean."""
    a, b = counts[:, 1:].ravel(), counts[:, :-1].ravel()
    mean = (a + b) / 2
    some = mean > 0
    return float(np.median((a[some] - b[some]) ** 2 / 2 / mean[some]) / 0.455) if some.any() else 1.0


def _index(offsets: Array, heights: Array, nodes: Indices, px: float) -> Array | None:
    """The matrix (2, 2) of the similarity that puts most of the light of the peaks on nodes; None if none does.

    Each strong peak is taken for each of the shortest reflections whose length fits; the two of them fix scale and
    rotation.
    """
    lengths = np.hypot(*offsets.T)
    best: Array | None = None
    score = 0.0
    light = np.minimum(heights, np.sort(heights)[-3])
    for peak in np.argsort(heights)[::-1][:6]:
        for node in nodes[:24]:
            ratio = lengths[peak] / (px * sqrt(float((node**2).sum())))
            if abs(1 / ratio - 1) > SEARCHED:
                continue
            turn = atan2(offsets[peak, 0], offsets[peak, 1]) - atan2(node[1], node[0])
            matrix: Array = px * ratio * np.array([[sin(turn), cos(turn)], [cos(turn), -sin(turn)]])
            spacing = px * sqrt(float((nodes[0] ** 2).sum()))
            index, near = _nearest(offsets, matrix, nodes, COARSE * spacing)
            distance = np.hypot(*(offsets - index @ matrix.T).T)
            weight = np.where(near, 1 - (distance / (COARSE * spacing)) ** 2, 0.0)
            total = float((light * weight).sum())
            if total > score + 1e-9:
                best, score = matrix, total
    return best


def _nearest(offsets: Array, matrix: Array, nodes: Indices, within: float) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """For each peak the nearest node, and whether it lies within a distance of it; one peak a node."""
    predicted = nodes @ matrix.T
    distance = np.hypot(offsets[:, None, 0] - predicted[None, :, 0], offsets[:, None, 1] - predicted[None, :, 1])
    nearest = distance.argmin(axis=1)
    own = distance[np.arange(len(offsets)), nearest]
    best = np.full(len(nodes), np.inf)
    np.minimum.at(best, nearest, own)
    return nodes[nearest], (own < within) & (own <= best[nearest])


def _spans(index: Indices) -> bool:
    spread = np.linalg.svd((index - index.mean(axis=0)).astype(np.float64), compute_uv=False)
    return bool(spread[1] > 0 and spread[0] / spread[1] < WORST_CONDITION)


def _design(index: Indices) -> Array:
    return np.concatenate([np.ones((len(index), 1)), index.astype(np.float64)], axis=1)


def _fit(spots: list[Spot], index: Indices, mrad_per_index: float) -> ScaleFit:
    """The matrix, robust against single spots, taken apart; with nothing judged yet."""
    at = np.array([spot.at for spot in spots])
    sigma = np.sqrt(np.array([spot.uncertainty for spot in spots]) ** 2 + FLOOR_PX**2)
    design = _design(index)
    keep = np.ones(at.shape, dtype=bool)
    solution, covariance = np.zeros((3, 2)), np.zeros((6, 6))
    for _ in range(4):
        for axis in (0, 1):
            weighted = design[keep[:, axis]] / sigma[keep[:, axis], axis, None]
            normal = np.linalg.pinv(weighted.T @ weighted)
            solution[:, axis] = normal @ weighted.T @ (at[keep[:, axis], axis] / sigma[keep[:, axis], axis])
            covariance[3 * axis : 3 * axis + 3, 3 * axis : 3 * axis + 3] = normal
        pull = (at - design @ solution) / sigma
        robust = max(spread_of(pull), 1.0)
        inlier: npt.NDArray[np.bool_] = np.all(np.abs(pull) < TUKEY * robust, axis=1)
        if inlier.sum() < FEWEST_SPOTS or not _spans(index[inlier]):
            break
        keep = np.repeat(inlier[:, None], 2, axis=1)
    used = keep.all(axis=1)
    freedom = 2 * int(used.sum()) - 6
    chi = sqrt(float((pull[used] ** 2).sum()) / freedom)
    covariance *= max(1.0, chi) ** 2
    values = _decompose(solution, mrad_per_index)
    slopes = np.zeros((len(values), 6))
    for each in range(6):
        step = np.zeros(6)
        step[each] = 1e-5 * float(np.abs(solution[1:]).max())
        changed = _decompose(solution + step.reshape(2, 3).T, mrad_per_index)
        slopes[:, each] = (changed - values) / step[each]
    spread = slopes @ covariance @ slopes.T
    ellipticity, ellipticity_error, angle, angle_error = ellipse_of(values[1:3], spread[1:3, 1:3])
    scale = float(values[0])
    scatter = float(np.sqrt(((at - design @ solution)[used] ** 2).sum(axis=1).mean()))
    errors = np.sqrt(np.diag(covariance))
    return ScaleFit(
        mrad_per_pixel=scale,
        mrad_per_pixel_uncertainty=sqrt(float(spread[0, 0])),
        ellipticity=ellipticity,
        ellipticity_uncertainty=ellipticity_error,
        ellipse_angle_deg=angle,
        ellipse_angle_uncertainty_deg=angle_error,
        ellipse_vector=(float(values[1]), float(values[2])),
        ellipse_vector_uncertainty=(sqrt(float(spread[1, 1])), sqrt(float(spread[2, 2]))),
        centre_px=(float(solution[0, 0]), float(solution[0, 1])),
        centre_uncertainty_px=(float(errors[0]), float(errors[3])),
        residual=scatter,
        agreement=chi,
        rotation_deg=float(values[3]),
        reflections=tuple(f"{h} {k} 0" for h, k in index[used]),
        drawing={
            "found_px": at[used],
            "predicted_px": (design @ solution)[used],
            "index": index[used].astype(np.float64),
            "uncertainty_px": sigma[used],
        },
        ok=True,
        reason="",
    )


def _decompose(solution: Array, mrad_per_index: float) -> Array:
    """Scale, the ellipse's components and the rotation [deg] of a lattice: the polar decomposition B = V R s."""
    matrix = solution[1:].T
    scale = sqrt(abs(float(np.linalg.det(matrix))))
    if not scale > 0:
        return np.full(4, nan)
    stretch, squares = np.zeros((2, 2)), (matrix @ matrix.T) / scale**2
    values, vectors = np.linalg.eigh(squares)
    stretch = vectors @ np.diag(0.5 * np.log(np.maximum(values, 1e-300))) @ vectors.T
    # log V = η/2 [[-cos 2φ, sin 2φ], [sin 2φ, cos 2φ]] on (y, x).
    ellipse = (stretch[1, 1] - stretch[0, 0], 2 * stretch[0, 1])
    root = vectors @ np.diag(1 / np.sqrt(values)) @ vectors.T
    first = root @ matrix[:, 0] / scale
    turn = (degrees(atan2(float(first[0]), float(first[1]))) + 45) % 90 - 45
    return np.array([mrad_per_index / scale, *ellipse, turn])
