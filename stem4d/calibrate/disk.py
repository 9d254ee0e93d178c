"""The bright-field disk of a pattern: centre and radius from a fit of its edge, and a gate where there is none."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import hypot, nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.calibrate.edge import EdgeFit, fit_edge
from stem4d.calibrate.pixels import Mask, Pattern, fill_bad_pixels, neighbour_range
from stem4d.errors import BadInput

LEVELS = (0.12, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)
"""Thresholds between background and top at which a disk is looked for."""
BLURS_PX = (0.7, 2.0, 5.0)
"""Blurs before thresholding; a wider one is tried only where shot noise broke the disk up at a narrower one."""
ROUND = 0.2
"""Largest scatter of an outline about its circle, as a part of the radius, that is worth a fit."""
SMALLEST_RADIUS_PX = 2.0
SMALLEST_SIDE_PX = 8
"""Of a pattern in which a disk is looked for."""
MIN_CONTRAST = 0.2
"""Drop of the counts across the edge, as a part of the counts inside."""
MIN_SIGNIFICANCE = 8.0
"""Drop of the counts across the edge, in standard errors."""
MIN_ARC = 0.25
"""Part of the circumference that must lie on the detector."""
MIN_COVERAGE = 0.7
"""Part of the visible circumference that must show the drop."""
MAX_SOFTNESS = 0.3
"""Width of the edge over the radius: beyond it the feature is a blob, not a disk."""
MIN_SHARPNESS = 0.65
"""Drop at the edge over the drop from the middle to twice the radius."""
LARGEST_OVAL = 0.03
"""Half the difference of an ellipse's axes over its mean radius, beyond which one radius and one angle do not describe
the disk: projectors differ by a few percent between directions."""
MOST_FULL = 0.2
"""Part of the disk's pixels that may stand exactly at a counter's full scale."""
HINT_TOLERANCE = 0.3
"""How far from a hint a radius may come out, as a part of it."""
Array = npt.NDArray[np.float64]
Circle = tuple[tuple[float, float], float]
"""Centre (y, x) and radius."""


@dataclass(frozen=True)
class DiskFit:
    """A bright-field disk in pixel-centre indices; NaN where nothing was found.

    The uncertainties are standard errors from the scatter about the fit.
    """

    centre_px: tuple[float, float]
    """(y, x)"""
    radius_px: float
    centre_uncertainty_px: tuple[float, float]
    radius_uncertainty_px: float
    edge_width_px: float
    """Standard deviation of the blur of the edge."""
    residual: float
    """Rms of what the fit leaves in the edge's band, as a part of the drop across the edge."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def find_disk(
    pattern: Pattern,
    bad_pixels: Mask | None = None,
    radius_hint_px: float | None = None,
    clipped_too: bool = False,
    oval_too: bool = False,
) -> DiskFit:
    """Find the bright-field disk.

    Candidates come from connected regions above a few thresholds; each is refined by an edge fit, and the one with
    the largest drop over the longest arc wins. A clipped top (not at a counter's full scale, 2^n - 1), single
    bright pixels, Bragg disks around it and a detector edge that cuts the disk are borne.

    Parameters
    ----------
    pattern : ndarray, shape (det_y, det_x)
        Counts, or any multiple of them: a sum or mean over a scan.
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels to leave out.
    radius_hint_px : float, optional
        Expected radius [px]; a disk more than 30 % off it is not accepted.
    clipped_too : bool
        Whether a disk that stands at a counter's full scale is taken: good enough to say where saturated pixels lie,
        not to measure by.
    oval_too : bool
        Whether an ellipse is taken: a start for what measures the ellipse itself, not to measure an angle by.

    Returns
    -------
    DiskFit
        With ``ok`` false and a reason where there is no disk.

    Raises
    ------
    BadInput
        If the pattern is not two-dimensional, at least 8 x 8, or the mask does not fit it.
    """
    _check(pattern, bad_pixels)
    bad = np.zeros(pattern.shape, dtype=bool) if bad_pixels is None else np.asarray(bad_pixels, dtype=bool)
    counts = np.asarray(pattern, dtype=np.float64)
    bad = bad | ~np.isfinite(counts)
    if bad.all():
        return _none("every pixel is masked")
    counts = fill_bad_pixels(np.where(bad, 0.0, counts), bad)
    if not (counts > 0).any():
        return _none("no counts")
    counts, bad = _despiked(counts, bad)
    found: list[tuple[float, DiskFit]] = []
    tried: list[Circle] = []
    for blur_px in BLURS_PX:
        smooth = ndimage.gaussian_filter(counts, blur_px, mode="nearest")
        for centre, radius in _candidates(smooth, radius_hint_px):
            known = [(fit.centre_px, fit.radius_px) for _, fit in found if fit.ok]
            if any(_close(each, (centre, radius), 0.3) for each in known) or any(
                _close(each, (centre, radius), 0.1) for each in tried
            ):
                continue
            tried.append((centre, radius))
            fit = fit_edge(counts, bad, centre, radius)
            if fit is not None:
                judged = _gate(fit, counts.shape, radius_hint_px, oval_too)
                found.append((fit.drop * fit.coverage * fit.arc, judged))
        if any(fit.ok for _, fit in found):
            break
    if not found:
        return _none("no edge of a disk: the pattern is even, empty, or the disk is larger than the detector")
    best = max(found, key=lambda each: (each[1].ok, each[0]))[1]
    return best if clipped_too else _unless_full(best, counts, bad)


def _unless_full(fit: DiskFit, counts: Array, bad: Mask) -> DiskFit:
    """Refused where the disk stands at 2^n - 1 throughout: a full counter moves the edge outwards by a blur or more."""
    top = float(counts[~bad].max()) if not bad.all() else 0.0
    if not fit.ok or top < 255 or (int(top) + 1) & int(top) or top != int(top):
        return fit
    y, x = np.indices(counts.shape)
    inside = ~bad & (np.hypot(y - fit.centre_px[0], x - fit.centre_px[1]) < fit.radius_px)
    full = float((counts[inside] == top).mean()) if inside.any() else 0.0
    if full <= MOST_FULL:
        return fit
    return replace(fit, ok=False, reason=f"{full:.0%} of the disk stands at full scale, {top:g}: saturated")


def _check(pattern: Pattern, bad_pixels: Mask | None) -> None:
    if pattern.ndim != 2 or min(pattern.shape) < SMALLEST_SIDE_PX:
        raise BadInput(
            field="pattern",
            value=pattern.shape,
            limit=f"must be (det_y, det_x), each at least {SMALLEST_SIDE_PX}",
            unit="px",
        )
    if bad_pixels is not None and bad_pixels.shape != pattern.shape:
        raise BadInput(field="bad_pixels", value=bad_pixels.shape, limit=f"must have the shape {pattern.shape}")


def _none(reason: str) -> DiskFit:
    return DiskFit((nan, nan), nan, (nan, nan), nan, nan, nan, ok=False, reason=reason)


def _close(one: Circle, other: Circle, part: float) -> bool:
    """Whether two circles differ by less than a part of the radius: they would lead to the same fit."""
    near = part * one[1]
    return hypot(one[0][0] - other[0][0], one[0][1] - other[0][1]) < near and abs(one[1] - other[1]) < near


def _despiked(counts: Array, bad: Mask) -> tuple[Array, Mask]:
    """Leave out single pixels that stand far above all around them, whether or not a mask knew of them."""
    _, high = neighbour_range(counts)
    quantum = float(counts[counts > 0].min())
    spikes = counts > np.maximum(2 * high, 3 * quantum)
    if not spikes.any():
        return counts, bad
    return fill_bad_pixels(counts, bad | spikes), bad | spikes


def _candidates(smooth: Array, radius_hint_px: float | None) -> Iterator[Circle]:
    """Circles through the outlines of the largest regions above each level."""
    low, top = float(np.quantile(smooth, 0.05)), float(smooth.max())
    if top <= low:
        return
    for level in LEVELS:
        above = smooth > low + level * (top - low)
        labels, number = ndimage.label(above)
        if number == 0:
            continue
        sizes = np.bincount(labels.ravel())[1:]
        region = labels == int(np.argmax(sizes)) + 1
        circle = _circle_through(region)
        if circle is None:
            continue
        centre, radius = circle
        yield centre, radius_hint_px if radius_hint_px is not None else radius


def _circle_through(region: Mask) -> Circle | None:
    """Least-squares circle through a region's outline (Kasa 1976), without the part along the detector's edge."""
    outline = region & ~ndimage.binary_erosion(region, border_value=1)
    y, x = np.nonzero(outline)
    if len(y) < 8:
        return None
    keep = np.ones(len(y), dtype=bool)
    centre, radius = (0.0, 0.0), 0.0
    for _ in range(4):
        design = np.stack([y[keep], x[keep], np.ones(keep.sum())], axis=1).astype(np.float64)
        solution = np.linalg.lstsq(design, y[keep] ** 2.0 + x[keep] ** 2.0, rcond=None)[0]
        centre = (float(solution[0]) / 2, float(solution[1]) / 2)
        radius = sqrt(max(float(solution[2]) + centre[0] ** 2 + centre[1] ** 2, 0.0))
        off = np.abs(np.hypot(y - centre[0], x - centre[1]) - radius)
        wider = off <= max(2.5 * float(np.median(off)), 1.0)
        if wider.sum() < 8 or (wider == keep).all():
            break
        keep = wider
    off = np.abs(np.hypot(y - centre[0], x - centre[1]) - radius)
    return (centre, radius + 0.5) if radius >= 1 and float(np.median(off)) <= ROUND * radius + 0.3 else None


def _gate(fit: EdgeFit, shape: tuple[int, ...], radius_hint_px: float | None, oval_too: bool) -> DiskFit:
    cy, cx = fit.centre
    reasons = (
        (not (-fit.radius < cy < shape[0] + fit.radius and -fit.radius < cx < shape[1] + fit.radius), "off detector"),
        (fit.radius < SMALLEST_RADIUS_PX, f"radius {fit.radius:.1f} px is too small to be told from a spot"),
        (fit.arc < MIN_ARC, f"only {fit.arc:.0%} of the edge lies on the detector"),
        (fit.significance < MIN_SIGNIFICANCE, f"the edge stands only {fit.significance:.1f} sigma above the noise"),
        (fit.contrast < MIN_CONTRAST, f"the counts drop by only {fit.contrast:.0%} across the edge"),
        (fit.coverage < MIN_COVERAGE, f"the counts drop over only {fit.coverage:.0%} of the edge: not a disk"),
        (fit.width > MAX_SOFTNESS * fit.radius, f"the edge is {fit.width:.1f} px wide: a blob, not a disk"),
        (fit.sharpness < MIN_SHARPNESS, f"only {fit.sharpness:.0%} of the drop lies at the edge: a blob, not a disk"),
        (
            fit.oval > LARGEST_OVAL and not oval_too,
            f"the axes of the disk differ by {2 * fit.oval:.1%}; one radius describes at most {2 * LARGEST_OVAL:.0%}",
        ),
        (
            radius_hint_px is not None and abs(fit.radius - radius_hint_px) > HINT_TOLERANCE * radius_hint_px,
            f"radius {fit.radius:.1f} px instead of about {radius_hint_px} px",
        ),
    )
    reason = "; ".join(text for wrong, text in reasons if wrong)
    return DiskFit(
        centre_px=fit.centre,
        radius_px=fit.radius,
        centre_uncertainty_px=fit.errors[:2],
        radius_uncertainty_px=fit.errors[2],
        edge_width_px=fit.width,
        residual=fit.residual,
        ok=not reason,
        reason=reason,
    )
