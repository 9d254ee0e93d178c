"""What to set so that the pattern stands still in the middle of the detector.

The pattern's centre is, in mrad from the detector's middle (N - 1)/2 and with positions in nm from the middle of
the field, all as (y, x): centre = misalignment + shift + (error + correction) @ position.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.descan import DescanFit
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Correction:
    """Settings of the diffraction shift and of the descan."""

    diffraction_shift_mrad: tuple[float, float]
    """(y, x)"""
    descan_mrad_per_nm: Array
    """(2, 2): rows are the detector's (y, x), columns the scan's (y, x)."""


NO_CORRECTION = Correction((0.0, 0.0), np.zeros((2, 2)))


def offset_from_middle_px(centre_px: tuple[float, float], detector_shape: tuple[int, int]) -> tuple[float, float]:
    """Distance of a centre from the detector's middle (N - 1)/2, (y, x) [px]."""
    return centre_px[0] - (detector_shape[0] - 1) / 2, centre_px[1] - (detector_shape[1] - 1) / 2


def correction_for(
    centre_px: tuple[float, float],
    descan: DescanFit | None,
    detector_shape: tuple[int, int],
    mrad_per_pixel: float,
    present: Correction = NO_CORRECTION,
) -> Correction:
    """Settings that centre the pattern and hold it there: what is set now, less what was measured.

    Parameters
    ----------
    centre_px : (float, float)
        Measured centre (y, x), in pixel-centre indices.
    descan : DescanFit or None
        Measured movement; None leaves the descan as it is.
    detector_shape : (int, int)
        (det_y, det_x).
    mrad_per_pixel : float
        Angle per pixel [mrad].
    present : Correction
        What was set while this was measured.

    Raises
    ------
    BadInput
        If the centre or a slope was not measured: a correction that is not known is not applied.
    """
    if not np.isfinite(centre_px).all():
        raise BadInput(field="centre_px", value=centre_px, limit="must be measured", remedy="Find the disk first.")
    if descan is not None and not descan.ok:
        raise BadInput(field="descan", value=descan.reason, limit="must be measured along both axes")
    offset = offset_from_middle_px(centre_px, detector_shape)
    shift = [now - mrad_per_pixel * off for now, off in zip(present.diffraction_shift_mrad, offset, strict=True)]
    matrix = present.descan_mrad_per_nm.copy()
    if descan is not None:
        matrix -= mrad_per_pixel * descan.slope_px_per_nm
    return Correction((shift[0], shift[1]), matrix)
