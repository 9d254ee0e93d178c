"""From the detector's pixels to angles in the frame of the scan; signs as in docs/conventions.md."""

from math import cos, radians, sin

import numpy as np
import numpy.typing as npt

from stem4d.analyse.method import Given
from stem4d.calibrate.scale_fit import circle_matrix, ellipse_vector
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]

_POSITIVE = (
    ("beam_energy_kev", "keV"),
    ("convergence_semi_angle_mrad", "mrad"),
    ("mrad_per_pixel", "mrad"),
    ("scan_step_nm", "nm"),
    ("counts_per_electron", "counts"),
)
_KNOWN_OR_NONE = ("scan_rotation_deg", "defocus_nm", "thickness_nm", "ellipticity", "electrons_per_pattern")


def require_sound(given: Given, scan_shape: tuple[int, int], detector_shape: tuple[int, int]) -> None:
    """Refuse a geometry that is none, or is that of other data, before it makes numbers.

    Parameters
    ----------
    given : Given
        What is known of the data.
    scan_shape, detector_shape : (int, int)
        Of the data.

    Raises
    ------
    BadInput
        A figure that is no number or not positive where it must be; bad pixels or origins of another shape; an origin
        that on average lies off the detector; no good pixel.
    """
    for name, unit in _POSITIVE:
        value = getattr(given, name)
        if not all(np.isfinite(one) and one > 0 for one in np.atleast_1d(value)):
            raise BadInput(field=name, value=value, limit="must be a positive number", unit=unit)
    for name in _KNOWN_OR_NONE:
        value = getattr(given, name)
        if value is not None and not np.isfinite(value):
            raise BadInput(field=name, value=value, limit="must be a number, or absent where it is not known")
    if given.bad_pixels.shape != detector_shape:
        limit = f"must have the detector's shape {detector_shape}"
        raise BadInput(field="bad_pixels", value=given.bad_pixels.shape, limit=limit)
    if given.bad_pixels.all():
        raise BadInput(field="bad_pixels", value="all pixels", limit="must leave pixels that are good")
    shape = given.origin_px.shape
    if shape not in ((2,), (2, *scan_shape)):
        limit = f"must be one (y, x), or one for each position of the scan {scan_shape}"
        raise BadInput(field="origin_px", value=shape, limit=limit, remedy="Is it that of another scan?")
    known = given.origin_px.reshape(2, -1)
    known = known[:, np.isfinite(known).all(axis=0)]
    if not known.size:
        raise BadInput(field="origin_px", value="NaN", limit="must be known somewhere", unit="px")
    centre = known.mean(axis=1)
    if not all(-0.5 <= at <= size - 0.5 for at, size in zip(centre, detector_shape, strict=True)):
        limit = f"must lie on the detector of {detector_shape[0]} x {detector_shape[1]} pixels"
        remedy = "Say where the undeflected beam is"
        raise BadInput(field="origin_px", value=centre.tolist(), limit=limit, unit="px", remedy=remedy)


def angles_per_px(given: Given, rotation_deg: float | None = None) -> Array:
    """Matrix A (2, 2) on (y, x): angle in the scan's frame [mrad] = A (pixel - origin).

    A = turn(a)⁻¹ δ M E: E makes the ellipse a circle, M turns the detector's y where it is mirrored, and what shows
    along M turn(a) r belongs to r.

    Parameters
    ----------
    given : Given
        The data's geometry.
    rotation_deg : float, optional
        In place of what was given; without either the angles stay in the specimen's frame.

    Raises
    ------
    BadInput
        If the angle per pixel is not positive.
    """
    if not given.mrad_per_pixel > 0:
        raise BadInput(field="mrad_per_pixel", value=given.mrad_per_pixel, limit="must be positive", unit="mrad")
    chosen = given.scan_rotation_deg if rotation_deg is None else rotation_deg
    a = radians(chosen or 0.0)
    back = np.array([[cos(a), -sin(a)], [sin(a), cos(a)]])
    mirror = np.diag([-1.0 if given.mirrored else 1.0, 1.0])
    turned: Array = back @ mirror @ projection_of(given)
    return turned


def projection_of(given: Given) -> Array:
    """Angle per pixel δE (2, 2) on the detector's (y, x) [mrad]; mirror and turn are no part of it."""
    ellipse = circle_matrix(ellipse_vector(given.ellipticity, given.ellipse_angle_deg))
    scaled: Array = given.mrad_per_pixel * ellipse
    return scaled
