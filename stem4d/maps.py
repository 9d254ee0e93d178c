"""What the acquisition pass leaves beside the frames: one figure per position and two patterns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float32]
Positions = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RunMaps:
    """Per-position maps (scan_y, scan_x) and per-pixel patterns (det_y, det_x) of one pass.

    Positions that were not recorded hold NaN in ``com_*`` and 0 elsewhere; ``recorded`` tells them apart.
    """

    recorded: npt.NDArray[np.bool_]
    total: npt.NDArray[np.uint64]
    """Counts in the pattern, bad pixels excluded."""
    com_y_px: Map
    com_x_px: Map
    """Centre of mass in pixel-centre indices, over the region the accumulator was given."""
    maximum: npt.NDArray[np.uint32]
    saturated_px: npt.NDArray[np.uint32]
    invalid_px: npt.NDArray[np.uint32]
    sum_pattern: npt.NDArray[np.uint64]
    max_pattern: npt.NDArray[np.uint32]
    full_scale: int | None
    """Largest value of the detector's counter; None where nobody knows."""
    virtual: Mapping[str, npt.NDArray[np.uint64]] = field(default_factory=dict)
    """Counts within each virtual detector, by its name."""
    came_twice: Positions | None = None
    """Where more than one frame came and the first was kept; None where nobody kept a ledger."""
    corrupt: Positions | None = None
    """Where a frame came that could not be unpacked; none of them is recorded."""
    unusable: Positions | None = None
    """Where a frame came with too few numbers (NaN, infinite) to be used; none of them is recorded. None for counts."""

    @property
    def scan_shape(self) -> tuple[int, int]:
        """(scan_y, scan_x)."""
        return self.total.shape[0], self.total.shape[1]

    @property
    def frames(self) -> int:
        """Positions that were recorded."""
        return int(self.recorded.sum())

    @property
    def mean_pattern(self) -> npt.NDArray[np.float64]:
        """Mean counts per pixel and frame, (det_y, det_x)."""
        return self.sum_pattern / max(self.frames, 1)

    def as_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Named arrays for a file; ``virtual/NAME`` for the virtual detectors.

        Left out are ``full_scale`` and what the ledger holds: a file has them in places of their own.
        """
        plain = {name: getattr(self, name) for name in _PLAIN}
        return plain | {f"{_VIRTUAL}{name}": image for name, image in self.virtual.items()}


_PLAIN = (
    "recorded",
    "total",
    "com_y_px",
    "com_x_px",
    "maximum",
    "saturated_px",
    "invalid_px",
    "sum_pattern",
    "max_pattern",
)
_VIRTUAL = "virtual/"


def maps_from_arrays(arrays: Mapping[str, npt.NDArray[np.generic]], full_scale: int | None) -> RunMaps:
    """The reverse of ``RunMaps.as_arrays``; KeyError where an array is missing."""
    virtual = {name.removeprefix(_VIRTUAL): array for name, array in arrays.items() if name.startswith(_VIRTUAL)}
    return RunMaps(**{name: arrays[name] for name in _PLAIN}, full_scale=full_scale, virtual=virtual)  # type: ignore[arg-type]
