"""What an accumulator computes: its specification, the checks of it, and the pixel weights it comes to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput
from stem4d.virtual_detectors import Annulus, VirtualDetector

LARGEST_SIDE_PX = 8000
MOST_THREADS = 64
PIXEL_TYPES = tuple(np.dtype(kind) for kind in (np.uint8, np.uint16, np.uint32))


@dataclass(frozen=True, eq=False)
class AccumulatorSpec:
    """What to compute from frames of which kind. Picklable.

    Parameters
    ----------
    detector_shape : tuple of int
        (det_y, det_x) of a frame [px].
    dtype : numpy dtype
        uint8, uint16 or uint32, in native byte order.
    detectors : tuple of Annulus or PixelMask
        Virtual detectors with different names; they may overlap.
    full_scale : int or None
        Largest value the counter can hold, from the detector and never from the dtype; None if it is not known, and
        then saturated and invalid pixels are not counted.
    saturation_value : int, optional
        Least value that counts as saturated; full_scale if left out.
    bad_pixels : ndarray of bool, optional
        (det_y, det_x), True for hot, dead and gap pixels, which are excluded from every result. Copied.
    com_region : Annulus or PixelMask, optional
        Where the centre of mass is taken, by weights 0 and 1; the whole detector if left out.
    threads : int
        Threads that share each batch, the calling one included.

    Raises
    ------
    BadInput
        If these do not fit together, if a detector is left without a pixel, or if a sum could exceed 64 bits.
    """

    detector_shape: tuple[int, int]
    dtype: npt.DTypeLike
    detectors: tuple[VirtualDetector, ...]
    full_scale: int | None
    saturation_value: int | None = None
    bad_pixels: npt.NDArray[np.bool_] | None = None
    com_region: VirtualDetector | None = None
    threads: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        object.__setattr__(self, "detectors", tuple(self.detectors))
        if self.bad_pixels is not None:
            kept = self.bad_pixels.copy()
            kept.flags.writeable = False
            object.__setattr__(self, "bad_pixels", kept)
        _check(self)

    @property
    def pixel_dtype(self) -> np.dtype[Any]:
        """The dtype, as numpy has it."""
        return np.dtype(self.dtype)

    @property
    def reference_px(self) -> tuple[int, int]:
        """The pixel (y, x) that first moments are taken about: the middle, the one before it of an even number."""
        return (self.detector_shape[0] - 1) // 2, (self.detector_shape[1] - 1) // 2

    def good_pixels(self) -> npt.NDArray[np.bool_]:
        """(det_y, det_x), True where a pixel is used."""
        return np.ones(self.detector_shape, bool) if self.bad_pixels is None else ~self.bad_pixels


def first_moment(spec: AccumulatorSpec) -> int:
    """Where the moments stand among the quantities; before them the counts they are of."""
    return 1 if spec.com_region is None else 2


def quantities(spec: AccumulatorSpec) -> list[npt.NDArray[np.int16]]:
    """Weights (pixels,): total, counts in the region (if there is one), moments y, x, detectors; bad pixels are 0."""
    good = spec.good_pixels().astype(np.int16)
    region = good if spec.com_region is None else good * spec.com_region.weights(spec.detector_shape)
    y, x = (np.arange(size) - middle for size, middle in zip(spec.detector_shape, spec.reference_px, strict=True))
    dense = [good] if spec.com_region is None else [good, region]
    dense += [region * y[:, None].astype(np.int16), region * x.astype(np.int16)]
    dense += [good * detector.weights(spec.detector_shape) for detector in spec.detectors]
    return [weights.reshape(-1) for weights in dense]


def _check(spec: AccumulatorSpec) -> None:
    shape, dtype = spec.detector_shape, spec.pixel_dtype
    if len(shape) != 2 or not all(1 <= side <= LARGEST_SIDE_PX for side in shape):
        raise BadInput(
            field="detector_shape", value=shape, limit=f"(det_y, det_x), 1 to {LARGEST_SIDE_PX} each", unit="px"
        )
    if dtype not in PIXEL_TYPES:
        raise BadInput(field="dtype", value=dtype.str, limit="uint8, uint16 or uint32 in native byte order")
    if not 1 <= spec.threads <= MOST_THREADS:
        raise BadInput(field="threads", value=spec.threads, limit=f"1 to {MOST_THREADS}")
    _check_counter(spec)
    _check_pixels(spec)
    _check_range(spec)


def _check_counter(spec: AccumulatorSpec) -> None:
    largest = int(np.iinfo(spec.pixel_dtype).max)
    if spec.full_scale is None:
        if spec.saturation_value is not None:
            raise BadInput(
                field="saturation_value",
                value=spec.saturation_value,
                limit="none while full_scale is None",
                unit="counts",
            )
    elif not 1 <= spec.full_scale <= largest:
        limit = f"1 to {largest}, the largest {spec.pixel_dtype}"
        raise BadInput(field="full_scale", value=spec.full_scale, limit=limit, unit="counts")
    elif spec.saturation_value is not None and not 1 <= spec.saturation_value <= spec.full_scale:
        limit = f"1 to full_scale, {spec.full_scale}"
        raise BadInput(field="saturation_value", value=spec.saturation_value, limit=limit, unit="counts")


def _check_pixels(spec: AccumulatorSpec) -> None:
    bad = spec.bad_pixels
    if bad is not None and (bad.shape != spec.detector_shape or bad.dtype != np.bool_):
        raise BadInput(
            field="bad_pixels", value=f"{bad.dtype} {bad.shape}", limit=f"bool {spec.detector_shape}, as detector_shape"
        )
    good = spec.good_pixels()
    if not good.any():
        raise BadInput(field="bad_pixels", value=f"all {good.size} pixels bad", limit="at least one good pixel")
    names = [detector.name for detector in spec.detectors]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadInput(field="detectors", value=sorted(twice), limit="each name once")
    regions = () if spec.com_region is None else (spec.com_region,)
    for detector in (*spec.detectors, *regions):
        weights = detector.weights(spec.detector_shape)
        if not weights[good].any():
            raise BadInput(
                field=detector.name,
                value=detector if isinstance(detector, Annulus) else f"{np.count_nonzero(weights)} pixels, all bad",
                limit=f"at least one good pixel of the detector {spec.detector_shape}",
            )
        if detector is spec.com_region and weights.max() > 1:
            raise BadInput(field="com_region", value=int(weights.max()), limit="weights 0 and 1")


def _check_range(spec: AccumulatorSpec) -> None:
    """The largest possible first moment, all counts on one side, has to fit int64."""
    largest = int(np.iinfo(spec.pixel_dtype).max)
    for weights in quantities(spec):
        one_side = max(int(weights[weights > 0].sum(dtype=np.int64)), -int(weights[weights < 0].sum(dtype=np.int64)))
        if largest * one_side >= 2**63:
            raise BadInput(
                field="detector_shape",
                value=spec.detector_shape,
                limit=f"so few pixels that sums of {spec.pixel_dtype} values stay below 2^63",
                unit="px",
                remedy="Bin the frames, or give bad_pixels or a com_region that leave fewer pixels",
            )
