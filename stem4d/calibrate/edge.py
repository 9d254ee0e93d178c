"""A blurred circular edge fitted to a pattern: centre, radius and blur, whatever the levels on both sides do.

In a band about the edge the counts are modelled as b(θ) + a(θ) erfc((r - R) / (sqrt(2) w)) / 2, where a and b are
Fourier series to second order: the disk may be brighter on one side and stand on a sloping background. a and b
follow from linear least squares for every trial of centre, R and w (variable projection, Golub and Pereyra 1973).
Where an ellipse fits far better, the radius has a second harmonic too. The last fit averages the edge over each pixel:
a sharp disk is otherwise misplaced by up to a hundredth of a pixel.
"""

from dataclasses import dataclass
from math import exp, hypot, log, pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.special import erfc

Array = npt.NDArray[np.float64]

SECTORS = 16
FOURIER_TERMS = 5
"""Of each of the two levels: a mean, and two harmonics."""
COARSE_PIXELS, FINE_PIXELS = 3000, 12000
"""Above this the pixels of a band are thinned out: the edge of a large disk is known well enough."""
FEWEST_PIXELS = 30
WORTH_SIGMAS = 3.0
"""A coarse fit whose inside stands out less than this is not followed up."""
HUBER = 4.0
"""Residuals beyond so many standard deviations are weighed down."""
NARROWEST_PX, WIDEST_PX = 0.3, 200.0
"""Blur of an edge: no narrower than a pixel shows, no wider than any disk."""
SHARPEST_PX = 0.03
"""Least blur beside that of the pixels: a sharper edge looks the same."""
OVAL_START = 0.06
"""Blur as a part of the radius from which an ellipse is looked for: a sharp circle holds on to one of its sides."""
OVAL_GAIN = 0.5
"""Part of the squared residuals that an ellipse must take away: a specimen's unevenness is no ellipse."""
OVAL_ARC = 0.75
"""Part of the circumference that must be seen for that: on half a circle an ellipse looks like a shift."""
PIXEL_VARIANCE = 1 / 12
"""Of the average over a pixel, along every direction [px²]."""
ALONG_AXIS = 0.02
"""Least half width of a pixel's box as seen along a normal [px]: keeps the differences below clear of 0/0."""


@dataclass(frozen=True)
class EdgeFit:
    """What the fit found; errors are standard errors from the scatter about it.

    The radius is that of the edge before pixels average it. Whether the rest of the blur is a soft edge or a
    convolution, which draws it in by w²/2R, cannot be known: half of that is part of the radius's error.
    """

    centre: tuple[float, float]
    radius: float
    width: float
    """Of the whole blur, pixels included."""
    errors: tuple[float, float, float]
    """Of centre y, centre x and radius [px]."""
    drop: float
    """Counts lost across the edge, averaged over the visible arc."""
    contrast: float
    """The drop as a part of the counts inside."""
    significance: float
    """The drop in its standard errors."""
    residual: float
    """Rms about the fit as a part of the drop."""
    arc: float
    """Part of the circumference that is on the detector."""
    coverage: float
    """Part of that arc on which the counts drop."""
    sharpness: float
    """The drop as a part of the whole one from the middle to twice the radius; 1 where that is smaller."""
    oval: float
    """Amplitude of the radius's second harmonic as a part of it, half the difference of the axes; 0 for a circle."""


@dataclass(frozen=True)
class _Band:
    """Pixels near the edge: position, counts, whether inside, and the Fourier terms of their azimuth."""

    y: Array
    x: Array
    counts: Array
    inside: npt.NDArray[np.bool_]
    terms: Array


@dataclass(frozen=True)
class _Solution:
    """A fit's parameters (centre y, x, radius, log of the width, and cos and sin of an ellipse's radius), weighted
    Jacobian and residuals, and its model."""

    trial: Array
    jacobian: Array
    residuals: Array
    model: Array


def fit_edge(counts: Array, bad: npt.NDArray[np.bool_], centre: tuple[float, float], radius: float) -> EdgeFit | None:
    """Fit the edge that lies nearest to a starting circle.

    Parameters
    ----------
    counts : ndarray, shape (det_y, det_x)
        Counts or a multiple of them.
    bad : ndarray of bool, shape (det_y, det_x)
        Pixels to leave out.
    centre, radius : (float, float), float
        Where to start [px]; right to about a third of the radius.

    Returns
    -------
    EdgeFit or None
        None where the fit does not hold on to any edge.
    """
    coarse = _band(counts, bad, centre, radius, max(0.5 * radius, 3.0), COARSE_PIXELS)
    if coarse is None:
        return None
    start = np.array([*centre, radius, np.log(max(0.15 * radius, 0.7))])
    found = _solve(coarse, start, _side_weights(coarse)).trial
    if not _plausible(found, start, counts.shape) or not _drops(coarse, found):
        return None
    width = _width(found)
    reach = min(max(4 * width + 1.5, 0.25 * found[2], 3.0), max(0.6 * found[2], 2.5))
    fine = _band(counts, bad, (float(found[0]), float(found[1])), float(found[2]), reach, FINE_PIXELS)
    if fine is None:
        return None
    first = _solve(fine, found, _side_weights(fine))
    start = first.trial.copy()
    start[3] = 0.5 * log(max(_width(first.trial) ** 2 - PIXEL_VARIANCE, SHARPEST_PX**2))
    weights = _model_weights(fine, first.model)
    last = _solve(fine, start, weights, over_pixels=True)
    last = _oval(coarse, fine, last, weights)
    return _describe(counts, bad, fine, last) if _plausible(last.trial, found, counts.shape) else None


def _oval(coarse: _Band, fine: _Band, circle: _Solution, weights: Array) -> _Solution:
    """An ellipse where it fits far better than a circle."""
    sectors = _sectors(fine.terms[:, 2], fine.terms[:, 1])
    if len(np.unique(sectors)) < OVAL_ARC * SECTORS:
        return circle
    wide = log(max(_width(circle.trial), OVAL_START * float(circle.trial[2])))
    start = _solve(coarse, np.array([*circle.trial[:3], wide, 0.0, 0.0]), _side_weights(coarse)).trial
    start[3] = circle.trial[3]
    # The circle's weights leave out what it does not fit.
    even = _side_weights(fine)
    found = _solve(fine, start, even, over_pixels=True)
    before = float((((fine.counts - circle.model) * even) ** 2).sum())
    if not np.isfinite(found.trial).all() or not float((found.residuals**2).sum()) < (1 - OVAL_GAIN) * before:
        return circle
    return _solve(fine, found.trial, _model_weights(fine, found.model), over_pixels=True)


def _sectors(y: Array, x: Array) -> npt.NDArray[np.intp]:
    """Which of the equal sectors about a centre each point is in."""
    return np.floor((np.arctan2(y, x) + pi) / (2 * pi) * SECTORS).astype(np.intp) % SECTORS


def _width(trial: Array, least: float = NARROWEST_PX) -> float:
    return exp(min(max(float(trial[3]), log(least)), log(WIDEST_PX)))


def _point_edge(x: Array, width: float) -> tuple[Array, Array, Array]:
    """The edge at distances beyond the radius, its slope downwards, and its derivative by the log of the width."""
    u = x / (sqrt(2) * width)
    slope = np.exp(-(u**2)) / (sqrt(2 * pi) * width)
    return 0.5 * erfc(u), slope, x * slope


def pixel_edge(x: Array, normal_x: Array | float, normal_y: Array | float, width: float) -> tuple[Array, Array, Array]:
    """An edge averaged over pixels, at distances x beyond the radius; it, its slope downwards, and d/d log(width).

    Along the normal a pixel is two boxes on each other, as wide as |normal_x| and |normal_y|. Their convolution with
    the edge is a second difference of its second integral.
    """
    a, b = (np.maximum(np.abs(each) / 2, ALONG_AXIS) for each in (normal_x, normal_y))
    edge, slope, by_width = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for shift, sign in ((a + b, 1), (a - b, -1), (b - a, -1), (-a - b, 1)):
        at = x + shift
        point, density, _ = _point_edge(at, width)
        bell = width**2 * density
        edge += sign * ((at**2 + width**2) * point - at * bell) / 2
        slope -= sign * (at * point - bell)
        by_width += sign * point
    area = 4 * a * b
    # Blurring is diffusion: the derivative by the width is that by the distance, twice.
    return edge / area, slope / area, width**2 * by_width / area


def _plausible(trial: Array, start: Array, shape: tuple[int, ...]) -> bool:
    """Whether a fit stayed with its edge."""
    if not np.isfinite(trial).all() or not 1.0 <= trial[2] <= 1.5 * max(shape):
        return False
    return bool(hypot(trial[0] - start[0], trial[1] - start[1]) < 1.5 * start[2] and trial[2] < 3 * start[2])


def _drops(band: _Band, trial: Array) -> bool:
    """Whether there is anything to look at more closely."""
    inside = np.hypot(band.y - trial[0], band.x - trial[1]) < trial[2]
    if not inside.any() or inside.all():
        return False
    spread = float(np.var(band.counts[inside])) * (1 / inside.sum() + 1 / (~inside).sum())
    return bool(band.counts[inside].mean() - band.counts[~inside].mean() > WORTH_SIGMAS * sqrt(spread))


def _band(
    counts: Array, bad: npt.NDArray[np.bool_], centre: tuple[float, float], radius: float, reach: float, most: int
) -> _Band | None:
    outer = radius + reach
    rows = slice(max(int(centre[0] - outer), 0), max(int(centre[0] + outer) + 2, 0))
    columns = slice(max(int(centre[1] - outer), 0), max(int(centre[1] + outer) + 2, 0))
    part = counts[rows, columns]
    grid = np.indices(part.shape, dtype=np.float64)
    y, x = grid[0] + rows.start, grid[1] + columns.start
    distance = np.hypot(y - centre[0], x - centre[1])
    use = (np.abs(distance - radius) <= reach) & ~bad[rows, columns]
    picked = np.flatnonzero(use)[:: max(1, int(use.sum()) // most)]
    if len(picked) < FEWEST_PIXELS:
        return None
    y, x, distance, values = y.ravel()[picked], x.ravel()[picked], distance.ravel()[picked], part.ravel()[picked]
    safe = np.maximum(distance, 1e-9)
    c, s = (x - centre[1]) / safe, (y - centre[0]) / safe
    terms = np.stack([np.ones_like(c), c, s, c * c - s * s, 2 * c * s], axis=1)
    return _Band(y, x, values, distance < radius, terms)


def _side_weights(band: _Band) -> Array:
    """One over the noise, from the mean counts of each side and quadrant."""
    group = (band.terms[:, 1] > 0) * 4 + (band.terms[:, 2] > 0) * 2 + band.inside
    mean = np.bincount(group, weights=band.counts, minlength=8) / np.maximum(np.bincount(group, minlength=8), 1)
    floor = max(float(band.counts.mean()), 1e-300) * 1e-2
    weights: Array = 1 / np.sqrt(np.maximum(mean, floor)[group])
    return weights


def _model_weights(band: _Band, model: Array) -> Array:
    """One over the noise that a first fit foresees, less where the counts lie far off it."""
    weight = 1 / np.sqrt(np.maximum(model, 0.01 * float(model.max())))
    left = np.abs(band.counts - model) * weight
    scale = float(np.sqrt(np.mean(np.minimum(left, np.quantile(left, 0.95)) ** 2))) or 1.0
    weights: Array = weight * np.sqrt(np.minimum(1.0, HUBER * scale / np.maximum(left, 1e-300)))
    return weights


def _evaluate(band: _Band, trial: Array, weight: Array, over_pixels: bool) -> _Solution:
    """Residuals and their derivatives with the amplitudes solved for (Kaufman's form of the projection)."""
    dy, dx = band.y - trial[0], band.x - trial[1]
    distance = np.maximum(np.hypot(dy, dx), 1e-9)
    beyond = distance - trial[2]
    if len(trial) > 4:
        beyond = beyond - band.terms[:, 3:] @ trial[4:]
    if over_pixels:
        edge, slope, by_width = pixel_edge(beyond, band.terms[:, 1], band.terms[:, 2], _width(trial, SHARPEST_PX))
    else:
        edge, slope, by_width = _point_edge(beyond, _width(trial))
    design = np.concatenate([band.terms * edge[:, None], band.terms], axis=1)
    weighted = design * weight[:, None]
    normal = weighted.T @ weighted
    # Half a circle on the detector leaves some terms undetermined: hold them with a ridge.
    normal[np.diag_indices_from(normal)] += 1e-9 * np.trace(normal) / len(normal) + 1e-300
    amplitudes = np.linalg.solve(normal, weighted.T @ (band.counts * weight))
    model = design @ amplitudes
    derivatives = np.stack([slope * dy / distance, slope * dx / distance, slope, by_width], axis=1)
    if len(trial) > 4:
        derivatives = np.concatenate([derivatives, slope[:, None] * band.terms[:, 3:]], axis=1)
    raw = derivatives * ((band.terms @ amplitudes[:FOURIER_TERMS]) * weight)[:, None]
    jacobian = weighted @ np.linalg.solve(normal, weighted.T @ raw) - raw
    return _Solution(trial, jacobian, (band.counts - model) * weight, model)


def _solve(band: _Band, start: Array, weight: Array, *, over_pixels: bool = False) -> _Solution:
    last = _evaluate(band, start, weight, over_pixels)

    def at(trial: Array) -> _Solution:
        nonlocal last
        if not np.array_equal(trial, last.trial):
            last = _evaluate(band, trial.copy(), weight, over_pixels)
        return last

    found = least_squares(
        lambda trial: at(trial).residuals,
        start,
        jac=lambda trial: at(trial).jacobian,
        method="lm",
        max_nfev=40,
        xtol=1e-7,
        ftol=1e-7,
    )
    return at(found.x)


def _describe(counts: Array, bad: npt.NDArray[np.bool_], band: _Band, solution: _Solution) -> EdgeFit | None:
    cy, cx, radius = (float(value) for value in solution.trial[:3])
    blur = _width(solution.trial, SHARPEST_PX)
    width = sqrt(blur**2 + PIXEL_VARIANCE)
    # Across the normal pixels average too, which draws a curved edge in.
    radius += PIXEL_VARIANCE / (2 * radius)
    errors = _errors(solution.jacobian, solution.residuals)
    errors[2] = hypot(errors[2], blur**2 / (4 * radius))
    distance = np.hypot(band.y - cy, band.x - cx)
    inside, outside = distance < radius - width, distance > radius + width
    if inside.sum() < FEWEST_PIXELS / 4 or outside.sum() < FEWEST_PIXELS / 4:
        return None
    sector = _sectors(band.y - cy, band.x - cx)
    mean_in, mean_out, seen = _by_sector(band.counts, sector, inside, outside)
    if not seen.any():
        return None
    drops = (mean_in - mean_out)[seen]
    drop, level = float(drops.mean()), float(mean_in[seen].mean())
    if drop <= 0 or level <= 0:
        return None
    # Were there no edge, both sides would scatter like the inside.
    spread = float(np.var(band.counts[inside])) * (1 / inside.sum() + 1 / outside.sum())
    rms = float(np.sqrt(np.mean((band.counts - solution.model) ** 2)))
    return EdgeFit(
        centre=(cy, cx),
        radius=radius,
        width=width,
        errors=(float(errors[0]), float(errors[1]), float(errors[2])),
        drop=drop,
        contrast=drop / level,
        significance=drop / max(sqrt(spread), 1e-300),
        residual=rms / drop,
        arc=float(seen.mean()),
        coverage=float((drops > 0.1 * drop).mean()),
        oval=hypot(*solution.trial[4:6]) / radius if len(solution.trial) > 4 else 0.0,
        sharpness=drop / max(_whole_drop(counts, bad, (cy, cx), radius), drop),
    )


def _whole_drop(counts: Array, bad: npt.NDArray[np.bool_], centre: tuple[float, float], radius: float) -> float:
    """Counts lost from the middle of the disk to between 1.5 and 2 radii."""
    y, x = np.ogrid[: counts.shape[0], : counts.shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    middle = counts[(distance < max(0.5 * radius, 1.0)) & ~bad]
    far = counts[(distance > 1.5 * radius) & (distance < 2 * radius) & ~bad]
    return float(middle.mean() - far.mean()) if middle.size and far.size else 0.0


def _errors(jacobian: Array, residuals: Array) -> Array:
    """Standard errors that hold whatever the noise of each pixel is (the sandwich of White 1980)."""
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    scored = jacobian * residuals[:, None]
    fitted = 2 * FOURIER_TERMS + jacobian.shape[1]
    freedom = len(residuals) / max(len(residuals) - fitted, 1)
    errors: Array = np.sqrt(np.diag(inverse @ (scored.T @ scored) @ inverse) * freedom)
    return errors


def _by_sector(
    counts: Array, sector: npt.NDArray[np.intp], inside: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_]
) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
    means = []
    seen = np.ones(SECTORS, dtype=bool)
    for side in (inside, outside):
        number = np.bincount(sector[side], minlength=SECTORS)
        total = np.bincount(sector[side], weights=counts[side], minlength=SECTORS)
        means.append(total / np.maximum(number, 1))
        seen &= number > 0
    return means[0], means[1], seen
