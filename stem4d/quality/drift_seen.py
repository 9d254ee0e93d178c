"""What the scans of one area show of the specimen's drift: the passes of a run, or fast reference scans around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.drift import DriftFit, Jump, fit_drift
from stem4d.calibrate.shift import Shift, register, white_noise, without_surface
from stem4d.maps import RunMaps

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

PLAIN_ORDER, MOVING_ORDER = 2, 6
"""Order of the surface that is taken off every image before it is registered, while the disk stands still and while it
moves: movement makes a picture of its own in virtual images and centres of mass, which does not go with the specimen
and pulls the registration to no shift at all. A movement of half a radius leaves nothing of that at order 6."""
MOVING_PX = 0.3
"""Movement of the disk over the field from which on it makes such a picture."""
FEWEST_EACH_WAY = 24
"""Positions each way below which an order of 6 would take the specimen's own features off."""
SHOWS_SIGMAS = 10.0
"""Neighbouring rows go together by so many sigma where a scan surely shows a specimen; a shift takes half of that."""
LEAST_SHIFT = 0.3
"""Part of the field that a specimen has moved by at least, where two scans that show it have nothing in common: scans
that share less than 40 % of their field, which is 37 % along both axes, are not looked at (`calibrate.shift`)."""


@dataclass(frozen=True)
class Scans:
    """Scans of one raster over one area, in order."""

    maps: tuple[RunMaps, ...]
    started_s: tuple[float, ...]
    """When each began, on any one clock, rising [s]."""
    step_nm: float
    line_time_s: float = 0.0
    """Time from one line to the next [s]; 0 where nobody knows."""


@dataclass(frozen=True)
class DriftSeen:
    """Steady drift over a series of scans, or why there is none to be had."""

    rate_nm_per_min: tuple[float, float]
    """(y, x): how fast the specimen moves over the field; NaN where it is not known."""
    uncertainty_nm_per_min: tuple[float, float]
    moved_nm: tuple[float, float]
    """From the first scan to the last that was registered, (y, x)."""
    jump: Jump | None
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""
    least_nm_per_min: float | None = None
    """The specimen surely moves faster than this, where no more is known."""
    fit: DriftFit | None = None
    """What it was taken from; None where two halves of one pass told it."""

    @property
    def speed_nm_per_min(self) -> float:
        """Size of the rate."""
        return hypot(*self.rate_nm_per_min)

    @property
    def speed_uncertainty_nm_per_min(self) -> float:
        """Standard error of the size, along its own direction."""
        speed = self.speed_nm_per_min
        along = np.array(self.rate_nm_per_min) / speed if speed > 0 else np.full(2, sqrt(0.5))
        return sqrt(float(along**2 @ np.array(self.uncertainty_nm_per_min) ** 2))


def drift_seen(scans: Scans) -> DriftSeen:
    """The drift over a series of at least two scans, by the estimator of the drift calibration."""
    order = _order(scans.maps)
    images = [images_of(maps, order) for maps in scans.maps]
    seen = [maps.recorded for maps in scans.maps]
    fit = fit_drift(images, scans.started_s, scans.step_nm, seen, scans.line_time_s)
    placed = np.flatnonzero(np.isfinite(fit.places_nm).all(axis=1))
    moved = fit.places_nm[placed[-1]] if len(placed) else np.full(2, np.nan)
    reason, least = (fit.reason, None) if fit.ok else _no_rate(fit, scans, images)
    return DriftSeen(
        rate_nm_per_min=fit.rate_nm_per_min,
        uncertainty_nm_per_min=fit.rate_uncertainty_nm_per_min,
        moved_nm=(float(moved[0]), float(moved[1])),
        jump=fit.jump,
        ok=fit.ok,
        reason=reason,
        least_nm_per_min=least,
        fit=fit,
    )


def drift_within(slow: RunMaps, fast: RunMaps, step_nm: float, line_time_s: float) -> DriftSeen:
    """The drift within one pass: its two halves registered with those of a fast scan of the same raster.

    The fast scan is taken to stand still: its own drift, that of the pass over their ratio of times, is not seen.
    """
    order = _order((slow, fast))
    pictures = [images_of(maps, order) for maps in (fast, slow)]
    rows = slow.scan_shape[0] // 2
    shifts = []
    for half in (slice(0, rows), slice(rows, 2 * rows)):
        first, second = ([image[half] for image in images] for images in pictures)
        shifts.append(register(first, second, fast.recorded[half], slow.recorded[half]))
    poor = next((shift for shift in shifts if not shift.ok), None)
    unknown = (np.nan, np.nan)
    if poor is not None:
        return DriftSeen(unknown, unknown, unknown, None, False, poor.reason)
    moved = (np.array(shifts[1].shift_px) - np.array(shifts[0].shift_px)) * step_nm
    errors = np.sqrt(sum(np.diag(shift.covariance_px2) for shift in shifts)) * step_nm
    # A feature of the lower half that has moved by lines is seen so much later.
    minutes = (rows + moved[0] / step_nm) * line_time_s / 60
    rate, error = moved / minutes, errors / minutes
    both = 2 * moved
    return DriftSeen(
        (float(rate[0]), float(rate[1])),
        (float(error[0]), float(error[1])),
        (float(both[0]), float(both[1])),
        None,
        True,
        "",
    )


def shift_between(first: RunMaps, second: RunMaps) -> Shift:
    """Where the specimen lies in the second pass, relative to the first."""
    one, other = (images_of(maps, _order((first, second))) for maps in (first, second))
    return register(one, other, first.recorded, second.recorded)


def images_of(maps: RunMaps, order: int) -> list[Array]:
    """What is registered of a pass: virtual images, total counts and centres of mass, each less a surface."""
    seen = maps.recorded
    counts = [without_surface(image, seen, order) for image in (*maps.virtual.values(), maps.total)]
    whole = seen & np.isfinite(maps.com_y_px) & np.isfinite(maps.com_x_px)
    return counts + [without_surface(com, whole, order) for com in (maps.com_y_px, maps.com_x_px)]


def _order(passes: Sequence[RunMaps]) -> int:
    if min(passes[0].scan_shape) < FEWEST_EACH_WAY:
        return PLAIN_ORDER
    return MOVING_ORDER if max(_moved_px(maps) for maps in passes) > MOVING_PX else PLAIN_ORDER


def _moved_px(maps: RunMaps) -> float:
    """About how far the disk moves over the field [px]."""
    seen = maps.recorded & np.isfinite(maps.com_y_px) & np.isfinite(maps.com_x_px)
    if not seen.any():
        return 0.0
    surfaces = [(com - without_surface(com, seen, PLAIN_ORDER))[seen] for com in (maps.com_y_px, maps.com_x_px)]
    return hypot(*(float(np.ptp(surface)) for surface in surfaces))


def _no_rate(fit: DriftFit, scans: Scans, images: list[list[Array]]) -> tuple[str, float | None]:
    """Why there is no rate that holds, and a lower bound of it where the images tell one."""
    if np.isfinite(fit.rate_nm_per_min).all():
        return fit.reason, None
    seen = [maps.recorded for maps in scans.maps]
    shifts = [register(images[0], later, seen[0], mask) for later, mask in zip(images[1:], seen[1:], strict=True)]
    least, repeats = 0.0, False
    for shift, start in zip(shifts, scans.started_s[1:], strict=True):
        if shift.rival_px is not None:
            repeats = True
            # Whole shifts: the true one lies within one of them.
            steps = max(shift.shortest_px - 1.0, 0.0)
            least = max(least, steps * scans.step_nm / (start - scans.started_s[0]) * 60)
    if repeats:
        text = f"{shifts[-1].reason}; no shift of less than {least:.3g} nm/min fits"
        return f"{text}, the true one may be larger", least
    if all(shows_specimen(maps, shown) for maps, shown in zip(scans.maps, images, strict=True)):
        steps = LEAST_SHIFT * min(scans.maps[0].scan_shape)
        least = steps * scans.step_nm / (scans.started_s[-1] - scans.started_s[0]) * 60
        return f"the passes show the specimen, and yet nothing in common: it moved by {steps:.0f} steps or more", least
    return fit.reason, None


def shows_specimen(maps: RunMaps, images: Sequence[Array]) -> bool:
    """Whether a scan surely shows a specimen: neighbouring rows go together in counts, whatever the beam did meanwhile.

    Their means are taken off, row by row, so that a flickering beam does not count; an even surface is off already.
    """
    if not maps.recorded.all() or min(maps.scan_shape) < 2:
        return False
    for image in images[:-2]:
        flat = image - image.mean(axis=1, keepdims=True)
        variance = float(flat.var())
        if variance > 0 and white_noise(flat, maps.recorded) > 0:
            together = float((flat[1:] * flat[:-1]).mean()) / variance
            if together * sqrt(flat.size) > SHOWS_SIGMAS:
                return True
    return False
