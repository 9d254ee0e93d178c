"""What one of our files holds by its own account: ledger, places of the chunks, facts; also where parts are damaged.

To be used in a process that may be lost: HDF5 can hang or crash on damaged metadata.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that the frames are compressed with
import numpy as np
import numpy.typing as npt
from h5py import h5d

from stem4d.errors import BadInput, NightbeamError
from storage import layout
from storage.frames import check_claim
from storage.hdf5 import DAMAGE, facts_of, is_of_nightbeam, packed_as_written
from storage.ledger import checksums_of_chunks
from storage.spec import Fact
from storage.unclosed import ROOT, ROOT_SIGNATURE, SIGNATURE, Unclosed

NOWHERE = -1
"""Place of a chunk that there is not."""


class Destroyed(NightbeamError):
    """A part of the file without which no frame can be vouched for."""

    def __init__(self, part: str, why: str) -> None:
        self.part, self.why = part, why
        super().__init__(f"{part} cannot be read: {why}")

    def __reduce__(self) -> tuple[object, ...]:
        return Destroyed, (self.part, self.why)


@dataclass(frozen=True)
class Contents:
    """One of our files; positions count in scan order."""

    file: h5py.File
    frames: h5py.Dataset
    of_chunks: bool
    """Whether checksums are of chunks as stored, not of the frames in them."""
    packed_as_written: bool
    states: npt.NDArray[np.uint8]
    checksums: npt.NDArray[np.uint32]
    known: npt.NDArray[np.bool_]
    """Where the ledger itself lies within the file; beyond its end it says nothing."""
    offsets: npt.NDArray[np.int64]
    """First byte of each chunk in the file; ``NOWHERE`` where there is none, or none was found."""
    sizes: npt.NDArray[np.int64]
    index: str
    """What is wrong with the index of the chunks; empty where it was read to its end."""
    how: str
    """How writing ended: finished, abandoned, recovered; empty where it did not."""
    reason: str
    facts: Mapping[str, Fact]
    full_scale: int | None
    unread: tuple[str, ...]
    """Parts without which the frames can still be vouched for, and which cannot be read."""

    @property
    def scan_shape(self) -> tuple[int, int]:
        """(scan_y, scan_x)."""
        y, x = self.frames.shape[:2]
        return int(y), int(x)

    @property
    def detector_shape(self) -> tuple[int, int]:
        """(det_y, det_x)."""
        y, x = self.frames.shape[2:]
        return int(y), int(x)

    @property
    def recorded(self) -> npt.NDArray[np.bool_]:
        """Positions that have a frame by the ledger."""
        return np.isin(self.states, (layout.OK, layout.DUPLICATE))


@contextmanager
def contents_of(path: Path) -> Iterator[tuple[Unclosed, Contents]]:
    """Open one of our files in whatever state it is.

    Raises
    ------
    BadInput
        It is no HDF5 file, none of ours, or of a newer layout.
    Destroyed
        Its structure, frames or ledger cannot be read.
    """
    with Unclosed(path) as view:
        start = memoryview(bytearray(ROOT + len(ROOT_SIGNATURE)))
        view.fill(start, 0)
        if start[: len(SIGNATURE)] != SIGNATURE and start[ROOT:] != ROOT_SIGNATURE:
            raise BadInput(
                field=path.name,
                value=f"begins with {start[:16].hex(' ')}",
                limit="is no HDF5 file, or its beginning is overwritten",
                remedy="Copy it again from its source",
            )
        try:
            file = h5py.File(view, "r")
        except DAMAGE as error:
            raise Destroyed("the structure of the file", _words(error)) from error
        with file:
            yield view, _contents(path, view, file)


def _contents(path: Path, view: Unclosed, file: h5py.File) -> Contents:
    with _needed("the structure of the file"):
        if not is_of_nightbeam(file):
            raise BadInput(
                field=path.name,
                value="an HDF5 file",
                limit="was not written by nightbeam, so it holds no checksums to compare its frames with",
                remedy="`nightbeam inspect` judges any file",
            )
        layout.require_known_version(file[layout.OURS].attrs, path.name)
    with _needed("the header of the frames"):
        frames = _own(file, layout.FRAMES)
        check_claim(f"{path.name}: {layout.FRAMES}", frames.shape, frames.dtype, max(view.bytes, 1), held=1)
        positions, as_written = math.prod(frames.shape[:2]), packed_as_written(frames)
    with _needed("the ledger"):
        state, crc = _own(file, layout.LEDGER_STATE), _own(file, layout.LEDGER_CHECKSUM)
        if state.shape != (positions,) or crc.shape != (positions,):
            raise BadInput(field=path.name, value=state.shape, limit=f"the ledger is not of {positions} positions")
        known = _within(state, view.bytes) & _within(crc, view.bytes)
        states, checksums = state[:].astype(np.uint8), crc[:].astype(np.uint32)
        of_chunks = checksums_of_chunks(file)
    offsets, sizes = np.full(positions, NOWHERE, np.int64), np.zeros(positions, np.int64)
    index = _places(frames, offsets, sizes) if as_written else ""
    unread: list[str] = []
    facts: Mapping[str, Fact] = {}
    how = reason = ""
    full_scale: int | None = None
    with _optional("the settings", unread):
        facts = facts_of(file[layout.METADATA].attrs)
    with _optional("how writing ended", unread):
        how, reason = (bytes(_own(file, name)[0]).decode() for name in (layout.ENDED, layout.REASON))
    with _optional("the detector's full scale", unread):
        if layout.SATURATION_VALUE in file:
            full_scale = int(file[layout.SATURATION_VALUE][()])
    return Contents(
        file, frames, of_chunks, as_written, states, checksums, known, offsets, sizes, index, how, reason, facts,
        full_scale, tuple(unread),
    )  # fmt: skip


def _own(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set in chunks of this very file: links that lead elsewhere are not followed."""
    node = file
    for part in name.strip("/").split("/"):
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise KeyError(f"{name} is no data set of this file")
        node = node[part]
    if not isinstance(node, h5py.Dataset) or node.id.get_create_plist().get_layout() != h5d.CHUNKED:
        raise KeyError(f"{name} is no data set in chunks")
    return node


def _within(data: h5py.Dataset, end: int) -> npt.NDArray[np.bool_]:
    """Which items of a one-dimensional data set do not lie in a chunk that ends beyond ``end``."""
    found = np.ones(data.shape[0], np.bool_)

    def note(chunk: h5d.StoreInfo) -> None:
        if chunk.byte_offset + chunk.size > end:
            first = chunk.chunk_offset[0]
            found[first : first + data.chunks[0]] = False

    data.id.chunk_iter(note)
    return found


def _places(frames: h5py.Dataset, offsets: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> str:
    columns = frames.shape[1]

    def note(chunk: h5d.StoreInfo) -> None:
        y, x = chunk.chunk_offset[:2]
        # A filter that was left out means bytes that no writer of ours stored.
        if not chunk.filter_mask:
            offsets[y * columns + x], sizes[y * columns + x] = chunk.byte_offset, chunk.size

    try:
        frames.id.chunk_iter(note)
    except DAMAGE as error:
        return _words(error)
    return ""


@contextmanager
def _needed(part: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise Destroyed(part, _words(error)) from error


@contextmanager
def _optional(part: str, unread: list[str]) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        unread.append(f"{part}: {_words(error)}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
