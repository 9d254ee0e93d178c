"""How the pattern moves over one pass: a plane through its centres, or a quadratic surface where they show one."""

from dataclasses import dataclass
from math import hypot, pi, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.descan import descan_plane, fit_descan
from stem4d.calibrate.descan_surface import DescanSurface, descan_surface, fit_descan_surface
from stem4d.maps import RunMaps

Array = npt.NDArray[np.float64]

FOLLOWED = 0.01
"""Centres of mass follow the disk to about a per cent: scattered counts and dead pixels in the disk see to that. Found
on simulated atoms; vacuum is ten times better."""
DIRECTIONS = 90
"""Along so many directions the surface is looked at for its largest extent: 2 degrees apart it is 2e-4 short."""


@dataclass(frozen=True)
class Moved:
    """Movement of the pattern over the part of the field that was recorded."""

    range_px: float
    """Largest distance between two places of the pattern; NaN where nothing was found."""
    range_uncertainty_px: float
    residual_rms_px: float
    """Robust scatter of one position about the model, rms over both axes: counting noise and whatever is left."""
    beyond_model_px: float | None
    """What neither noise nor the model explains, rms of means over parts of the field; None where it is not known."""
    curved: bool
    """Whether the model is the quadratic surface."""
    places_px: Array
    """(2, scan_y, scan_x) centre (y, x) by the model, in pixel-centre indices [px]."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def movement_of(maps: RunMaps, step_nm: float | None = None) -> Moved:
    """Fit what the centres of mass of a pass show; the step only scales lengths, and may be unknown.

    The surface is taken where it is significant, as for a calibration (`fit_descan_surface`); else the plane.
    """
    step = step_nm or 1.0
    plane = fit_descan(maps.com_y_px, maps.com_x_px, maps.recorded, step)
    surface = fit_descan_surface(maps.com_y_px, maps.com_x_px, maps.recorded, step)
    beyond = surface.beyond_model_px if surface.ok else None
    if surface.ok and surface.curved:
        return _on_surface(maps, surface, step)
    places = descan_plane(plane, maps.scan_shape, step)
    return Moved(
        range_px=plane.range_px,
        range_uncertainty_px=hypot(plane.range_uncertainty_px, FOLLOWED * plane.range_px),
        residual_rms_px=plane.residual_rms_px,
        beyond_model_px=beyond,
        curved=False,
        places_px=places,
        ok=plane.ok,
        reason=plane.reason,
    )


def _on_surface(maps: RunMaps, surface: DescanSurface, step_nm: float) -> Moved:
    places = descan_surface(surface, maps.scan_shape, step_nm)
    extent, error = _extent(places, surface, maps.recorded, step_nm)
    return Moved(
        range_px=extent,
        range_uncertainty_px=hypot(error, FOLLOWED * extent),
        residual_rms_px=surface.residual_rms_px,
        beyond_model_px=surface.beyond_model_px,
        curved=True,
        places_px=places,
        ok=True,
        reason="",
    )


def _extent(
    places: Array, surface: DescanSurface, recorded: npt.NDArray[np.bool_], step_nm: float
) -> tuple[float, float]:
    """Largest distance between two places, and its error: that of their difference along its own direction."""
    rows, columns = np.nonzero(recorded)
    at = places[:, rows, columns]
    angles = pi * np.arange(DIRECTIONS) / DIRECTIONS
    along = np.stack([np.sin(angles), np.cos(angles)], axis=1) @ at
    best = int(np.argmax(np.ptp(along, axis=1)))
    first, last = int(np.argmin(along[best])), int(np.argmax(along[best]))
    moved = at[:, last] - at[:, first]
    length = hypot(*moved)
    middle = [(number - 1) / 2 for number in recorded.shape]
    y, x = ((line - at_middle) * step_nm for line, at_middle in zip((rows, columns), middle, strict=True))
    terms = np.stack([y, x, y * y, y * x, x * x])
    reach = terms[:, last] - terms[:, first]
    # On a filled field linear and quadratic terms are independent of each other, and the quadratic ones nearly so.
    errors = np.concatenate([surface.slope_uncertainty_px_per_nm, surface.quadratic_uncertainty_px_per_nm2], axis=1)
    spread = (errors**2) @ reach**2
    unit = moved / length if length > 0 else np.full(2, sqrt(0.5))
    return length, sqrt(float(unit**2 @ spread))
