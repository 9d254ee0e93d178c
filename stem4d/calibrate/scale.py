"""Angle per pixel, carried over from the bright-field disk's radius where there is no known crystal.

Never both angle and scale from one image: the transfer takes the convergence angle as known from elsewhere.
"""

from dataclasses import dataclass
from math import hypot, isfinite, nan

from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.scale_fit import unfit_disk
from stem4d.errors import BadInput

WORST_TRANSFER = 0.03
"""Relative uncertainty beyond which a transferred scale is not worth having: a camera length is named to as much."""
RADIUS_FLOOR_PX = 0.02
"""Error of a disk's radius beside its noise: edges that are not quite a blurred step."""


@dataclass(frozen=True)
class TransferredScale:
    """Angle per pixel from a disk of known angle; its ellipse is not known. NaN where it was not found."""

    mrad_per_pixel: float
    mrad_per_pixel_uncertainty: float
    residual: float
    """Of the disk's fit, as a part of the drop across its edge."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def transferred_scale(
    disk: DiskFit, convergence_semi_angle_mrad: float, angle_uncertainty_mrad: float
) -> TransferredScale:
    """Angle per pixel from the radius of the bright-field disk: α / r.

    Parameters
    ----------
    disk : DiskFit
        The bright-field disk, recorded in vacuum or on a thin specimen: a thick crystal takes light from its edge.
    convergence_semi_angle_mrad, angle_uncertainty_mrad : float
        The known angle of this aperture and condenser setting, and its standard error [mrad].

    Returns
    -------
    TransferredScale
        ``ok`` is false where there is no disk or the figure is not known to 3 %.

    Raises
    ------
    BadInput
        If the angle is not positive or its error is negative.
    """
    if not isfinite(convergence_semi_angle_mrad) or convergence_semi_angle_mrad <= 0:
        raise BadInput(
            field="convergence_semi_angle_mrad",
            value=convergence_semi_angle_mrad,
            limit="must be positive",
            unit="mrad",
        )
    if not isfinite(angle_uncertainty_mrad) or angle_uncertainty_mrad < 0:
        raise BadInput(
            field="angle_uncertainty_mrad", value=angle_uncertainty_mrad, limit="must not be negative", unit="mrad"
        )
    if reason := unfit_disk(disk):
        return TransferredScale(nan, nan, nan, ok=False, reason=reason)
    scale = convergence_semi_angle_mrad / disk.radius_px
    radius_part = hypot(disk.radius_uncertainty_px, RADIUS_FLOOR_PX) / disk.radius_px
    part = hypot(radius_part, angle_uncertainty_mrad / convergence_semi_angle_mrad)
    reason = ""
    if not part <= WORST_TRANSFER:
        reason = f"the scale would be known to {part:.1%} only, more than {WORST_TRANSFER:.0%}"
    return TransferredScale(scale, scale * part, disk.residual, ok=not reason, reason=reason)
