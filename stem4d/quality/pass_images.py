"""The images that a pass leaves, and one laid over another: shift, change of scale and contrast fitted together."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import ndtri

from stem4d.calibrate.shift import register, without_surface
from stem4d.maps import RunMaps

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SMALLEST_PX = 12
"""Positions each way below which a change of scale is not asked for: it would rest on a handful of features."""
MOST_PX = 192
"""Larger fields are binned to this: a change of scale is known well enough, and the fit stays below a second."""
SMOOTH_PX = 0.8
"""Both images are smoothed by so much before they are held against each other in places."""
BORDER_PX = 2
"""Left out along the borders then, where a moved image has to be guessed."""
FIT_SMOOTH_PX = 0.5
"""The fit smooths less: fine features tell a change of scale best, and gradients of unsmoothed shot noise are noise."""
FIT_BORDER_PX = 1
"""The fit leaves out less: what is furthest from the middle tells most of a change of scale."""
MATCHED_ROUNDS = 5
"""Rounds of a robust fit of contrast: the spread then stands to a per cent."""
BLOCK_PX = 4
"""Errors are taken as independent from block to block: a feature's width, as scan steps are chosen."""
TRUSTED = 2.5
"""Differences beyond this many standard deviations count no more than these in the fit."""
QUIET = 1 / 2
"""Part of the places that is taken as unchanged where a spread is asked for."""
PARAMETERS = 6


@dataclass(frozen=True)
class Overlay:
    """How a later pass lies over the first."""

    shift_px: tuple[float, float]
    """(y, x) in the middle of the field."""
    stretch: Array
    """(2, 2) displacement gradient less one: a feature at p from the middle is found at p + shift + stretch p."""
    covariance: Array
    """(4, 4) of its elements yy, yx, xy, xx."""
    left: tuple[Array, ...]
    """For each image the second, moved back, less the first with its contrast matched, (scan_y, scan_x)."""
    first: tuple[Array, ...]
    """Each image of the first pass, smoothed as ``left`` is."""
    slope: tuple[Array, ...]
    """Steepness of each image of the first pass per position: what an error of place makes of it."""
    seen: Mask
    """Where both were recorded, borders left out."""
    features: bool
    """Whether the images have features by which they could be laid over each other."""
    reason: str
    """Why the change of scale is not known; empty where it is."""
    positions: int = 1
    """Positions each way that one value of ``left``, ``slope`` and ``seen`` stands for: large fields are binned."""

    @property
    def area(self) -> float:
        """Change of the area [part of it], from the fast axis: a drift that changes stretches only the slow one."""
        return float((1 + self.stretch[1, 1]) ** 2 - 1)

    @property
    def area_uncertainty(self) -> float:
        """Standard error of ``area``."""
        return 2 * float(1 + self.stretch[1, 1]) * sqrt(max(float(self.covariance[3, 3]), 0.0))


def images_of(maps: RunMaps) -> list[Array]:
    """Counts, variance made even (twice the root), and centres of mass without descan's quadratic surface."""
    seen = maps.recorded
    counts = [2 * np.sqrt(image.astype(np.float64) + 3 / 8) for image in (*maps.virtual.values(), maps.total)]
    whole = seen & np.isfinite(maps.com_y_px) & np.isfinite(maps.com_x_px)
    coms = [without_surface(com, whole, 2) for com in (maps.com_y_px, maps.com_x_px)]
    return [without_surface(image, seen, 0) for image in counts] + coms


def lay_over(first: RunMaps, second: RunMaps, start: Overlay | None = None) -> Overlay:
    """Fit shift, change of scale and contrast of a later pass; ``start`` is the pass before it, where known."""
    ones, twos = images_of(first), images_of(second)
    seen_one, seen_two = first.recorded, second.recorded
    together = -(-max(seen_one.shape) // MOST_PX)
    if together > 1:
        ones, twos = ([_binned(image, together) for image in images] for images in (ones, twos))
        seen_one, seen_two = (_binned(seen.astype(np.float64), together) > 0.99 for seen in (seen_one, seen_two))
    pairs = [(a, b) for a, b in zip(ones, twos, strict=True) if a[seen_one].std() > 0 and b[seen_two].std() > 0]
    if min(seen_one.shape) < SMALLEST_PX or not pairs:
        reason = f"{SMALLEST_PX} positions each way are needed" if pairs else "the images are empty"
        return _still(pairs, seen_one & seen_two, reason, together)
    shift = register([a for a, _ in pairs], [b for _, b in pairs], seen_one, seen_two)
    if not shift.ok:
        return _still(pairs, seen_one & seen_two, shift.reason, together, features=shift.rival_px is not None)
    begin = np.array([*shift.shift_px, 0.0, 0.0, 0.0, 0.0])
    if start is not None and not start.reason:
        begin[2:] = start.stretch.ravel()
    return _fitted(pairs, seen_one, seen_two, begin, together)


def _fitted(
    pairs: Sequence[tuple[Array, Array]], seen_one: Mask, seen_two: Mask, begin: Array, together: int
) -> Overlay:
    """Gauss and Newton on all images together, each in units of its own noise."""
    fine = [(_smoothed(a, seen_one, FIT_SMOOTH_PX), _smoothed(b, seen_two, FIT_SMOOTH_PX)) for a, b in pairs]
    shape = seen_one.shape
    y, x = np.meshgrid(*((np.arange(n) - (n - 1) / 2) for n in shape), indexing="ij")
    whole = np.stack([np.ones(shape), np.zeros(shape), y, x, np.zeros(shape), np.zeros(shape)])
    basis = np.stack([whole, np.roll(whole, 1, axis=0)])
    basis[1] = np.stack([np.zeros(shape), np.ones(shape), np.zeros(shape), np.zeros(shape), y, x])
    found, normal, scores, seen = begin.copy(), np.eye(PARAMETERS), np.zeros((PARAMETERS, *shape)), seen_one
    for _ in range(8):
        at = _places(found, basis)
        seen = _inside(seen_one, seen_two, at, FIT_BORDER_PX)
        if seen.sum() < 0.3 * seen.size:
            return _still(pairs, seen_one & seen_two, "the passes hardly overlap", together, features=True)
        normal, scores = np.zeros((PARAMETERS, PARAMETERS)), np.zeros((PARAMETERS, *shape))
        for one, two in fine:
            back = ndimage.map_coordinates(two, at, order=3, mode="nearest")
            mean = (one + back) / 2
            rest, trust, noise = _weighed(one, back, seen)
            gradient = np.gradient(mean)
            each = np.stack([gradient[0] * basis[0][i] + gradient[1] * basis[1][i] for i in range(PARAMETERS)])
            # What a change of contrast explains as well says nothing about the scale.
            each = _without(each, mean, seen, trust) / noise
            normal += np.einsum("iyx,jyx->ij", each * trust, each)
            scores += each * trust * (rest / noise)
        if np.linalg.cond(normal) > 1e12:
            return _still(pairs, seen, "the images have too few features", together, features=True)
        step = -np.linalg.solve(normal, scores.sum(axis=(1, 2)))
        found = found + step
        if np.abs(step).max() < 1e-5:
            break
    covariance = _covariance(np.asarray(np.linalg.inv(normal)), scores, seen)
    good = bool(np.isfinite(found).all()) and float(np.abs(found[2:]).max()) < 0.3
    at = _places(found, basis)
    inner = _inside(seen_one, seen_two, at, BORDER_PX)
    ones = [_smoothed(a, seen_one, SMOOTH_PX) for a, _ in pairs]
    twos = [_smoothed(b, seen_two, SMOOTH_PX) for _, b in pairs]
    backs = [ndimage.map_coordinates(two, at, order=3, mode="nearest") for two in twos]
    return Overlay(
        (float(found[0]) * together, float(found[1]) * together),
        found[2:].reshape(2, 2),
        covariance[2:, 2:],
        tuple(_matched(one, back, inner) for one, back in zip(ones, backs, strict=True)) if inner.any() else (),
        tuple(ones),
        tuple(np.hypot(*np.gradient(one)) for one in ones),
        inner,
        features=True,
        reason="" if good else "the fit of the change of scale did not converge",
        positions=together,
    )


def _covariance(inverse: Array, scores: Array, seen: Mask) -> Array:
    """White's sandwich over blocks, for the few that small fields have."""
    rows, columns = (-(-n // BLOCK_PX) for n in seen.shape)
    label = (np.arange(seen.shape[0])[:, None] // BLOCK_PX) * columns + np.arange(seen.shape[1])[None, :] // BLOCK_PX
    sums = np.stack([np.bincount(label.ravel(), each.ravel(), rows * columns) for each in scores])
    blocks = int((np.bincount(label.ravel(), seen.ravel().astype(float), rows * columns) > 0).sum())
    spare = max(blocks - PARAMETERS, 1)
    covariance: Array = inverse @ (sums @ sums.T) @ inverse * blocks / spare
    return covariance


def _still(
    pairs: Sequence[tuple[Array, Array]], seen: Mask, reason: str, together: int, features: bool = False
) -> Overlay:
    """The passes as they lie, where they could not be laid over each other."""
    inner = _eroded(seen, BORDER_PX)
    smooth = [(_smoothed(a, seen, SMOOTH_PX), _smoothed(b, seen, SMOOTH_PX)) for a, b in pairs]
    if inner.sum() <= PARAMETERS:
        smooth = []
    return Overlay(
        (0.0, 0.0),
        np.zeros((2, 2)),
        np.full((4, 4), np.inf),
        tuple(_matched(one, two, inner) for one, two in smooth),
        tuple(one for one, _ in smooth),
        tuple(np.hypot(*np.gradient(one)) for one, _ in smooth),
        inner,
        features,
        reason,
        together,
    )


def _smoothed(image: Array, seen: Mask, by_px: float) -> Array:
    weight = ndimage.gaussian_filter(seen.astype(np.float64), by_px)
    values = ndimage.gaussian_filter(np.where(seen, image, 0.0), by_px)
    return np.asarray(values / np.maximum(weight, 1e-3))


def _places(found: Array, basis: Array) -> Array:
    """Where in the second image each place of the first is found, (2, scan_y, scan_x)."""
    return np.stack([np.tensordot(found, basis[axis], 1) for axis in (0, 1)]) + np.indices(basis.shape[2:])


def _inside(seen_one: Mask, seen_two: Mask, at: Array, border_px: int) -> Mask:
    """Places that both images know, but for their borders."""
    inner = _eroded(seen_two, border_px).astype(np.float64)
    known = ndimage.map_coordinates(inner, at, order=1, mode="constant") > 0.99
    return np.asarray(_eroded(seen_one, border_px) & known)


def _eroded(seen: Mask, border_px: int) -> Mask:
    return np.asarray(ndimage.binary_erosion(seen, np.ones((3, 3)), iterations=border_px, border_value=0))


def _matched(one: Array, two: Array, seen: Mask) -> Array:
    """The second less the first with level and contrast matched."""
    level, other = middle_of(one[seen]), middle_of(two[seen])
    # By the spreads: a regression on noisy values would come out low.
    spread = quiet_spread(one[seen] - level)
    contrast = quiet_spread(two[seen] - other) / spread if spread > 0 else 1.0
    return np.asarray(two - other - contrast * (one - level))


def _weighed(one: Array, two: Array, seen: Mask) -> tuple[Array, Array, float]:
    """The second less the first beyond a change of level and contrast, the weight of each place, and the noise.

    The difference is regressed on the mean of the two, in which it has no noise of its own where both are equally
    noisy. Weights are Huber's: what is new in one place must not bend the whole field.
    """
    design = np.stack([np.ones(int(seen.sum())), (one + two)[seen] / 2], axis=1)
    values = (two - one)[seen]
    rest, weight, noise = values, np.ones(len(values)), 1.0
    for _ in range(MATCHED_ROUNDS):
        root = np.sqrt(weight)
        rest = values - design @ np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0]
        noise = max(quiet_spread(rest), 1e-12)
        weight = np.minimum(1.0, TRUSTED * noise / np.maximum(np.abs(rest), 1e-12))
    full, trust = np.zeros(seen.shape), np.zeros(seen.shape)
    full[seen], trust[seen] = rest, weight
    return full, trust, noise


def middle_of(values: Array) -> float:
    """The middle of the narrowest half of the values, which a new feature does not move (Rousseeuw's shorth)."""
    ordered = np.sort(values)
    half = (len(ordered) + 1) // 2
    widths = ordered[half - 1 :] - ordered[: len(ordered) - half + 1]
    first = int(np.argmin(widths))
    return float(ordered[first : first + half].mean())


def quiet_spread(departures: Array) -> float:
    """Standard deviation of normal departures by the smallest of them: new features may cover half a field."""
    return float(np.quantile(np.abs(departures), QUIET) / ndtri((1 + QUIET) / 2))


def _without(each: Array, image: Array, seen: Mask, trust: Array) -> Array:
    """Images (n, y, x) less what a constant and an image explain of them, over the seen places by their weights."""
    design = np.stack([np.ones(int(seen.sum())), image[seen]], axis=1)
    root = np.sqrt(trust[seen])
    answer = np.linalg.lstsq(design * root[:, None], (each[:, seen] * root).T, rcond=None)[0]
    full = np.stack([np.ones(image.shape), image])
    return np.asarray(each - np.tensordot(answer.T, full, 1))


def _binned(image: Array, together: int) -> Array:
    rows, columns = (n // together * together for n in image.shape)
    blocks = image[:rows, :columns].reshape(rows // together, together, columns // together, together)
    return np.asarray(blocks.mean(axis=(1, 3)))
