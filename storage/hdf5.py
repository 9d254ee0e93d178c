"""Reads 4D data from HDF5: our own files, and any other with one 4D array or a stack of frames in it.

HDF5 itself can loop or crash on a damaged file. Ours are read so that it does not (texts of fixed length, chunks
checked before they are unpacked); others are opened by ``storage.foreign_child``, which may be killed.
"""

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import h5py
import hdf5plugin  # noqa: F401 - registers the filters that the frames are compressed with
import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput
from storage import layout
from storage.chunk_index import ChunkIndex
from storage.chunks import read_checked
from storage.codec import bitshuffle_lz4
from storage.frames import BATCH_BYTES, Array, Batch, ChunkBatch, check_claim, frames_per_batch
from storage.guard import datasets_of
from storage.ledger import checksums_of_chunks, ledger_maps, recorded_positions
from storage.spec import MAX_LIST, Fact

THREADS = 2
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)
"""What h5py raises, according to where in a damaged file it stumbles."""


class Hdf5Frames:
    """A 4D data set in an open HDF5 file. See ``storage.frames.Frames``."""

    def __init__(self, path: Path, file: h5py.File, dataset: h5py.Dataset) -> None:
        self.path = path
        self.beside: tuple[Path, ...] = ()
        self._file, self._data = file, dataset
        self._as_written = packed_as_written(dataset)
        self._codec = bitshuffle_lz4()
        self._of_chunks = False
        shape = (1, *dataset.shape) if dataset.ndim == 3 else dataset.shape
        ours = is_of_nightbeam(file)
        self.kind: Literal["nightbeam", "foreign"] = "nightbeam" if ours else "foreign"
        self._check(shape, ours)
        self.scan_shape: tuple[int, int] = shape[:2]
        self.detector_shape: tuple[int, int] = shape[2:]
        self.dtype: np.dtype[np.generic] = dataset.dtype.newbyteorder("=")
        self.full_scale: int | None = None
        self.metadata: Mapping[str, Fact] = {"dataset": dataset.name}
        self.recorded: npt.NDArray[np.bool_] = np.ones(self.scan_shape, np.bool_)
        self.came_twice: npt.NDArray[np.bool_] | None = None
        self.corrupt: npt.NDArray[np.bool_] | None = None
        if ours:
            self.recorded = recorded_positions(file).reshape(self.scan_shape)
            self.came_twice, self.corrupt = ledger_maps(file, self.scan_shape)
            self.metadata = facts_of(file[layout.METADATA].attrs)
            self._of_chunks = checksums_of_chunks(file)
            if self._of_chunks and not self._as_written:
                self.metadata = {**self.metadata, "frames_not_checked": "packed anew since they were written"}
            if layout.SATURATION_VALUE in file:
                self.full_scale = int(file[layout.SATURATION_VALUE][()])

    def batches(self, max_bytes: int = BATCH_BYTES, first: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """Recorded frames as (first position, frames (n, det_y, det_x)); ours are held to their checksums."""
        most = frames_per_batch(self.detector_shape, self.dtype, max_bytes)
        rows = self._data.chunks[0] if self._data.chunks and self._data.ndim == 4 else 1
        with ThreadPoolExecutor(THREADS, thread_name_prefix="unpack") as pool:
            wanted = self.recorded.ravel().copy()
            wanted[:first] = False
            wanted[len(wanted) if stop is None else stop :] = False
            for first, count in _runs(wanted, most, self.scan_shape[1], rows):
                frames = np.empty((count, *self.detector_shape), self.dtype)
                try:
                    if self.kind == "nightbeam":
                        read_checked(self._file, self.path.name, first, frames, self._as_written, self._codec, pool)
                    else:
                        self._read(first, frames)
                except DAMAGE as error:
                    where = f"{self.path.name}: frames {first} to {first + count - 1}"
                    raise _damaged(where, error) from error
                yield first, frames

    def chunks(self, most: int) -> Iterator[ChunkBatch] | None:
        """Recorded frames as they are stored; None for what others wrote, or packed anew."""
        native = self._data.dtype == self.dtype.newbyteorder("<")
        if self.kind == "foreign" or not (self._as_written and native and self._codec and self._of_chunks):
            return None
        return self._chunks(most)

    def _chunks(self, most: int) -> Iterator[ChunkBatch]:
        checksums, index = self._file[layout.LEDGER_CHECKSUM][:], ChunkIndex(self._data)
        for first, count in _runs(self.recorded.ravel(), most, 1, 1):
            try:
                stored = index.read(first, count)
            except DAMAGE as error:
                raise _damaged(f"{self.path.name}: frames {first} to {first + count - 1}", error) from error
            yield first, stored, checksums[first : first + count]

    def online(self) -> Mapping[str, Array]:
        """Maps and patterns written beside the frames, under the names of ``RunMaps.as_arrays``."""
        if self.kind == "foreign":
            return {}
        root = self._file[layout.ONLINE]
        names = [*layout.ONLINE_ARRAYS, *(layout.VIRTUAL + name for name in root.get(layout.VIRTUAL, ()))]
        arrays: dict[str, Array] = {}
        for name in names:
            kind = layout.online_array(name)
            data = root[f"{name}/data"]
            if data.shape != (self.scan_shape if kind.shape == "scan" else self.detector_shape):
                raise BadInput(
                    field=f"{self.path.name}: {data.name}", value=data.shape, limit="does not fit the frames"
                )
            if data.id.get_num_chunks():
                arrays[name] = data[...].astype(kind.dtype, copy=False)
        return arrays

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, shape: tuple[int, ...], ours: bool) -> None:
        data, name = self._data, f"{self.path.name}: {self._data.name}"
        chunk_bytes = math.prod(data.chunks or (0,)) * data.dtype.itemsize
        if chunk_bytes > layout.MAX_FRAME_BYTES:
            raise BadInput(
                field=name,
                value=f"chunks of {chunk_bytes:,} B",
                limit=f"at most {layout.MAX_FRAME_BYTES:,} B, as reading one frame unpacks a whole chunk",
                remedy="Rewrite it with smaller chunks: h5repack -l CHUNK=1x1xNYxNX",
            )
        stored = data.id.get_storage_size()
        if ours:
            check_claim(name, shape, data.dtype, stored, held=data.id.get_num_chunks())
            if self._file[layout.LEDGER_STATE].shape != (shape[0] * shape[1],):
                raise BadInput(field=name, value=shape, limit="the ledger is of another length", remedy="File damaged")
            return
        if data.is_virtual:
            sources = {source.file_name for source in data.virtual_sources()}
            files = {self.path if source == "." else self.path.parent / source for source in sources}
            stored = sum(file.stat().st_size for file in files)
        check_claim(name, shape, data.dtype, stored)
        if not stored:
            raise BadInput(field=name, value=shape, limit="nothing was ever written to it")

    def _read(self, first: int, frames: Array) -> None:
        """Fill frames from ``first`` on: a partial row, whole rows at once, and a partial row."""
        columns, count, done = self.scan_shape[1], len(frames), 0
        while done < count:
            y, x = divmod(first + done, columns)
            rows = (count - done) // columns if x == 0 else 0
            number = rows * columns or min(columns - x, count - done)
            part = frames[done : done + number]
            if self._data.ndim == 3:
                source: object = np.s_[x : x + number]
            elif rows:
                source = np.s_[y : y + rows]
                part = part.reshape(rows, columns, *self.detector_shape)
            else:
                source = np.s_[y, x : x + number]
            self._data.read_direct(part, source)
            done += number


def open_hdf5(path: Path) -> Hdf5Frames:
    """Open an HDF5 file: by our layout where it is ours, else its largest 4D array, else its largest stack."""
    try:
        names = datasets_of(path)
        file = h5py.File(path, "r")
    except DAMAGE as error:
        raise _damaged(path.name, error) from error
    try:
        return Hdf5Frames(path, file, _ours(path, file) or _largest(path, file, names))
    except DAMAGE as error:
        file.close()
        raise _damaged(path.name, error) from error
    except BadInput:
        file.close()
        raise


def has_signature(path: Path) -> bool:
    """Whether HDF5's signature stands at 0, 512, 1024, ... as the format allows."""
    size, offset = path.stat().st_size, 0
    with path.open("rb") as stream:
        while offset < size:
            stream.seek(offset)
            if stream.read(8) == b"\x89HDF\r\n\x1a\n":
                return True
            offset = offset * 2 or 512
    return False


def is_ours(path: Path) -> bool:
    """Whether nightbeam wrote an HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            return is_of_nightbeam(file)
    except DAMAGE as error:
        raise _damaged(path.name, error) from error


def is_of_nightbeam(file: h5py.File) -> bool:
    """Whether nightbeam wrote an open HDF5 file."""
    node = file
    for name in layout.OURS.strip("/").split("/"):
        # The link, not what it leads to: that may lie in another file.
        if not isinstance(node, h5py.Group) or not isinstance(node.get(name, getlink=True), h5py.HardLink):
            return False
        node = node[name]
    return True


def packed_as_written(dataset: h5py.Dataset) -> bool:
    """Whether chunks are frames as our writer packs them: not so after h5repack, for one."""
    filters = dataset.id.get_create_plist()
    numbers = [filters.get_filter(index)[0] for index in range(filters.get_nfilters())]
    return numbers == [layout.BITSHUFFLE] and dataset.chunks == (1, 1, *dataset.shape[2:])


def _ours(path: Path, file: h5py.File) -> h5py.Dataset | None:
    if not is_of_nightbeam(file):
        return None
    layout.require_known_version(file[layout.OURS].attrs, path.name)
    return file[layout.FRAMES]


def _largest(path: Path, file: h5py.File, names: list[str]) -> h5py.Dataset:
    candidates = [file[name] for name in names]
    for dimensions in (4, 3):
        arrays = [data for data in candidates if data.ndim == dimensions and data.dtype.kind in "uif"]
        if arrays:
            chosen = max(arrays, key=lambda data: (math.prod(data.shape) * data.dtype.itemsize, data.name))
            if dimensions == 3 and chosen.name.startswith("/Data/Image/"):
                raise BadInput(
                    field=f"{path.name}: {chosen.name}",
                    value=chosen.shape,
                    limit="a Velox file keeps the frame number last, which is not read",
                    remedy="Export it to a 4D HDF5 file, scan first",
                )
            return chosen
    shapes = [data.shape for data in candidates]
    raise BadInput(
        field=path.name,
        value=f"arrays of shape {shapes[:5]}",
        limit="needs a 4D array (scan_y, scan_x, det_y, det_x) or a stack (frame, det_y, det_x)",
    )


def _runs(recorded: npt.NDArray[np.bool_], most: int, columns: int, chunk_rows: int) -> Iterator[tuple[int, int]]:
    """Stretches of recorded positions of at most ``most``, cut between rows of chunks where that is possible."""
    block = columns * chunk_rows if columns * chunk_rows <= most else columns if columns <= most else 1
    edges = np.flatnonzero(np.diff(recorded, prepend=False, append=False))
    for start, end in edges.reshape(-1, 2):
        first = int(start)
        while first < end:
            last = min(int(end), first + most)
            cut = last // block * block
            if first < cut < end:
                last = cut
            yield first, last - first
            first = last


def facts_of(attributes: Mapping[str, Any]) -> dict[str, Fact]:
    """The metadata of one of our files; ValueError or TypeError for what we would not have written."""
    if len(attributes) > MAX_LIST:
        raise ValueError(f"{len(attributes)} metadata")
    # Names first: NX_class is a text of variable length, which is better not touched.
    return {name: _fact(attributes[name]) for name in attributes if name != "NX_class"}


def _fact(value: Any) -> Fact:
    if isinstance(value, np.ndarray):
        items: list[Any] = value.tolist()
        return [item.decode() if isinstance(item, bytes) else item for item in items]
    plain: object = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, bytes):
        return plain.decode()
    if not isinstance(plain, float | int | bool):
        raise TypeError(f"a {type(plain).__name__} among the metadata")
    return plain


def _damaged(name: str, error: Exception) -> BadInput:
    text = str(error).strip("'\"")
    if "already open for write" in text:
        return BadInput(
            field=name,
            value="a file open for writing",
            limit="its writer is still at work, or died before closing it",
            remedy="Wait for it. Of a dead writer's file, h5py.File(path, swmr=True) reads what was flushed. "
            "Never run h5clear on it",
        )
    return BadInput(
        field=name,
        value=f"{type(error).__name__}: {text}",
        limit="not readable as HDF5: truncated or damaged",
        remedy="Copy it again from its source",
    )
