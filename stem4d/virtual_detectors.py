"""Virtual detectors: which pixels of a frame are summed, with which whole-number weight."""

from dataclasses import dataclass
from math import isfinite

import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput

LARGEST_WEIGHT = 255

Weights = npt.NDArray[np.uint8]
"""(det_y, det_x) weights of the pixels, 0 where a pixel is not taken."""


@dataclass(frozen=True)
class Annulus:
    """A ring of the detector, or a disc if ``inner_px`` is 0.

    It takes a pixel when ``inner_px <= distance of the pixel centre < outer_px``: rings that share a radius share no
    pixel and leave none out.

    Parameters
    ----------
    name : str
        What results are called by.
    centre_px : tuple of float
        Centre (y, x) in pixel-centre indices [px]; it may lie off the detector.
    inner_px, outer_px : float
        Radii [px].

    Raises
    ------
    BadInput
        If a number is not finite or the radii do not satisfy ``0 <= inner_px < outer_px``.
    """

    name: str
    centre_px: tuple[float, float]
    inner_px: float
    outer_px: float

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.centre_px) != 2 or not all(isfinite(c) for c in self.centre_px):
            raise BadInput(
                field=f"{self.name}.centre_px", value=self.centre_px, limit="two finite numbers (y, x)", unit="px"
            )
        if not (isfinite(self.outer_px) and 0 <= self.inner_px < self.outer_px):
            raise BadInput(
                field=f"{self.name}.inner_px, outer_px",
                value=(self.inner_px, self.outer_px),
                limit="finite, 0 <= inner_px < outer_px",
                unit="px",
            )

    def weights(self, detector_shape: tuple[int, int]) -> Weights:
        """1 where the annulus takes a pixel of a detector of this shape (det_y, det_x), else 0."""
        y, x = np.ogrid[: detector_shape[0], : detector_shape[1]]
        distance_px = np.hypot(y - self.centre_px[0], x - self.centre_px[1])
        taken: Weights = ((self.inner_px <= distance_px) & (distance_px < self.outer_px)).astype(np.uint8)
        return taken


@dataclass(frozen=True, eq=False)
class PixelMask:
    """Any set of pixels, or a whole-number weight for each pixel.

    Parameters
    ----------
    name : str
        What results are called by.
    mask : ndarray
        (det_y, det_x), bool or whole numbers 0 to 255. A read-only copy is kept.

    Raises
    ------
    BadInput
        If the mask is not two-dimensional, or not of bool or whole numbers from 0 to 255.
    """

    name: str
    mask: npt.NDArray[np.bool_] | npt.NDArray[np.integer]

    def __post_init__(self) -> None:
        _check_name(self.name)
        mask = np.asarray(self.mask)
        if mask.ndim != 2 or mask.dtype.kind not in "bui":
            raise BadInput(
                field=f"{self.name}.mask",
                value=f"{mask.dtype} {mask.shape}",
                limit="two-dimensional (det_y, det_x), bool or whole numbers",
            )
        if mask.size and not 0 <= mask.min() <= mask.max() <= LARGEST_WEIGHT:
            raise BadInput(
                field=f"{self.name}.mask",
                value=(int(mask.min()), int(mask.max())),
                limit=f"weights from 0 to {LARGEST_WEIGHT}",
                remedy="Sum parts of different sign as two detectors and subtract their images",
            )
        kept = mask.astype(np.uint8)
        kept.flags.writeable = False
        object.__setattr__(self, "mask", kept)

    def weights(self, detector_shape: tuple[int, int]) -> Weights:
        """The weights, if they are of this shape (det_y, det_x); else `BadInput`."""
        if self.mask.shape != tuple(detector_shape):
            raise BadInput(
                field=f"{self.name}.mask",
                value=self.mask.shape,
                limit=f"the detector's shape {tuple(detector_shape)} (det_y, det_x)",
                unit="px",
            )
        return self.mask.astype(np.uint8)


VirtualDetector = Annulus | PixelMask


def _check_name(name: str) -> None:
    if not name:
        raise BadInput(field="virtual detector name", value=name, limit="not empty")
