"""What every reader gives, whatever wrote the file: frames in scan order, in batches, with what is known of them."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput
from storage.codec import Chunks
from storage.layout import MAX_FRAME_BYTES, MAX_POSITIONS
from storage.spec import Fact

Array = npt.NDArray[np.generic]
Batch = tuple[int, Array]
ChunkBatch = tuple[int, Chunks, npt.NDArray[np.uint32]]
"""First position, the frames from there on as they are stored, and the CRC-32 that each chunk has to have."""

BATCH_BYTES = 64 * 2**20
GREATEST_COMPRESSION = 1100
"""No codec in use packs tighter (deflate reaches 1032, LZ4 255): a file that claims more holds no such data."""
_SMALL_CLAIM = 2**30


class Frames(Protocol):
    """A 4D data set, open for reading."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def beside(self) -> tuple[Path, ...]:
        """Other files that it is read from."""
        ...

    @property
    def kind(self) -> Literal["nightbeam", "foreign"]:
        """Who wrote it."""
        ...

    @property
    def scan_shape(self) -> tuple[int, int]:
        """(scan_y, scan_x); (1, n) where the file does not know."""
        ...

    @property
    def detector_shape(self) -> tuple[int, int]:
        """(det_y, det_x)."""
        ...

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of a pixel, in native byte order."""
        ...

    @property
    def full_scale(self) -> int | None:
        """Largest value of the counter by the file's own account; None where it does not say."""
        ...

    @property
    def metadata(self) -> Mapping[str, Fact]:
        """What is known, in our vocabulary."""
        ...

    @property
    def recorded(self) -> npt.NDArray[np.bool_]:
        """Which positions hold a frame, (scan_y, scan_x)."""
        ...

    @property
    def came_twice(self) -> npt.NDArray[np.bool_] | None:
        """Where more than one frame came by the ledger, (scan_y, scan_x); None where nobody kept one."""
        ...

    @property
    def corrupt(self) -> npt.NDArray[np.bool_] | None:
        """Where a frame came that could not be unpacked, (scan_y, scan_x); None where nobody kept a ledger."""
        ...

    def batches(self, max_bytes: int = BATCH_BYTES, first: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Recorded frames as (first position, frames (n, det_y, det_x)); positions without a frame are left out.

        ``first`` and ``stop`` bound the positions.
        """
        ...

    def chunks(self, most: int) -> Iterator[ChunkBatch] | None:
        """The same frames as `storage.codec` unpacks them, at most so many at once; None where they are not so stored.

        Who unpacks them holds them to their checksums, and raises ``storage.chunks.changed`` where they differ.
        """
        ...

    def online(self) -> Mapping[str, Array]:
        """Maps and patterns written beside the frames; empty for a foreign file."""
        ...

    def close(self) -> None:
        """Close it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def check_claim(
    name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic], stored_bytes: int, held: int | None = None
) -> None:
    """Refuse a 4D array whose claimed size the bytes on disk cannot hold, before anything is allocated for it.

    Parameters
    ----------
    name : str
        File and data set, for the message.
    shape : tuple of int
        (scan_y, scan_x, det_y, det_x) as claimed.
    dtype : numpy.dtype
        As claimed.
    stored_bytes : int
        Bytes on disk behind it.
    held : int, optional
        Frames said to be present, where a file may rightly hold fewer than its shape.
    """
    if len(shape) != 4 or min(shape) < 1:
        raise BadInput(field=name, value=shape, limit="needs (scan_y, scan_x, det_y, det_x), none of them empty")
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise BadInput(field=name, value=str(dtype), limit="pixels have to be integers or floats of at most 64 bit")
    frame = shape[2] * shape[3] * dtype.itemsize
    positions = shape[0] * shape[1]
    if frame > MAX_FRAME_BYTES or positions > MAX_POSITIONS:
        raise BadInput(
            field=name,
            value=shape,
            limit=f"at most {MAX_FRAME_BYTES:,} B a frame and {MAX_POSITIONS:,} positions",
            remedy="The file is damaged or not 4D-STEM data",
        )
    claim = frame * (positions if held is None else held)
    if claim > _SMALL_CLAIM and claim > GREATEST_COMPRESSION * stored_bytes:
        raise BadInput(
            field=name,
            value=f"{claim:,} B claimed",
            limit=f"only {stored_bytes:,} B are stored behind it",
            remedy="The file is damaged, was never filled, or is made to exhaust memory",
        )


def frames_per_batch(detector_shape: tuple[int, int], dtype: np.dtype[np.generic], max_bytes: int) -> int:
    """How many frames fit into so many bytes, at least one."""
    return max(1, max_bytes // (math.prod(detector_shape) * dtype.itemsize))
