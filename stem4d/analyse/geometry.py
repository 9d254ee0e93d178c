"""From the detector's pixels to angles in the frame of the scan; signs as in docs/conventions.md."""

from math import cos, radians, sin

import numpy as np
import numpy.typing as npt

from stem4d.analyse.method import Given
from stem4d.calibrate.scale_fit import circle_matrix, ellipse_vector
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]


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
