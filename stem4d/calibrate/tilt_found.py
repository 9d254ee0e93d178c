"""What either fit of tilted images finds, before it is judged."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.tilt_sides import NONE, Distortion

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Parameters and how well they stand; the fields are those of `tilt.TiltFit`."""

    values: Array
    covariance: Array
    mirrored: bool
    margin: float
    upright: float
    sharpness: float
    significance: float
    residual: float
    settled: bool
    needed: float
    """Significance that a fit to noise does not reach."""
    distortion: Distortion = NONE
    """What the sidebands say of the scan; nothing where it is coarse against the probe."""
