"""Writes the frames of one run into its HDF5 file, so that what was flushed survives the writer's death.

SWMR under a ``.partial`` name, frames flushed before the ledger that vouches for them, published when verified.
"""

import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
import numpy.typing as npt

from stem4d.errors import NightbeamError
from storage import disk, layout
from storage.codec import bitshuffle_lz4
from storage.ledger import Ledger, checksum, damaged, recorded_positions
from storage.skeleton import REASON_BYTES, create
from storage.spec import FileReceipt, FileSpec

FLUSH_FRAMES = 64
PIECE_FRAMES = 32
"""Frames that one thread compresses in one go."""
FLUSH_SECONDS = 0.15
"""Frames have waited 0.1 s when they are written: for others of their batch, and to be unpacked. So they are safe from
the death of this process 0.25 s after they came."""
SYNC_SECONDS = 1.0
FIGURES_BYTES = 48
"""Besides its frame, a position has its entries in maps and ledger."""
VERIFIED_FRAMES = 16
"""Frames read back against their checksums before a file gets its name."""

Array = npt.NDArray[np.generic]


class FileUnsound(NightbeamError):
    """The file read back differs from what was written; it keeps its ``.partial`` name."""


class FrameWriter:
    """Takes frames in any order of positions, each once. Leaving the block without ``finish`` abandons the file."""

    def __init__(
        self,
        spec: FileSpec,
        *,
        clock: Callable[[], float] = time.monotonic,
        free_bytes: disk.FreeBytes = disk.free_bytes,
        threads: int = 2,
    ) -> None:
        spec.check()
        disk.require_absent(spec.path, spec.partial, spec.incomplete)
        disk.require_space(spec.path.parent, int(spec.needed_bytes * disk.HEADROOM) + spec.reserve_bytes, free_bytes)
        self.spec = spec
        self._clock, self._free_bytes = clock, free_bytes
        self._codec = bitshuffle_lz4()
        # Where the filter packs the frames, nobody here sees the chunks.
        self._file = create(spec, "frame" if self._codec is None else "chunk")
        self._frames = self._file[layout.FRAMES]
        self._ledger = Ledger(self._file)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="compress")
        self._syncing: Future[None] | None = None
        self._flushed_at = self._synced_at = clock()
        self._open = True

    @property
    def frames_flushed(self) -> int:
        """Frames that survive the death of this process."""
        return self._ledger.acknowledged

    def write(self, first_position: int, frames: Array) -> None:
        """Write frames (n, det_y, det_x) to the positions from ``first_position`` on, in scan order.

        Raises
        ------
        ValueError
            Shape or type differ from the specification, a position is outside the scan or already written.
        DiskFull
            The reserve would be touched: nothing of this batch was written, and ``abandon`` still works. Or the system
            refuses to write: then the file stays ``.partial`` with what was flushed, and nothing else works any more.
        """
        self._check_frames(frames)
        self._check_positions(range(first_position, first_position + len(frames)))
        disk.require_space(self.spec.path.parent, self.spec.reserve_bytes + frames.nbytes, self._free_bytes)
        pieces = [frames[start : start + PIECE_FRAMES] for start in range(0, len(frames), PIECE_FRAMES)]
        position = first_position
        # All pieces are handed to the pool at once: later ones are compressed while earlier ones are stored.
        with self._refusals_told():
            for chunks, checksums in self._pool.map(self._pack, pieces):
                self._store(range(position, position + len(checksums)), chunks, checksums)
                position += len(checksums)

    def write_chunks(self, positions: Sequence[int], chunks: Sequence[bytes], checksums: Sequence[int]) -> None:
        """Write frames that are packed already, as they are, to positions in any order.

        Parameters
        ----------
        positions : sequence of int
            In scan order from 0, each for one chunk.
        chunks : sequence of bytes
            Payloads of HDF5's bitshuffle+LZ4 filter that were found to unpack to a frame.
        checksums : sequence of int
            CRC-32 of each chunk.

        Raises
        ------
        ValueError
            A position is outside the scan or already written.
        DiskFull
            The reserve would be touched: nothing of this batch was written, and ``abandon`` still works. Or the system
            refuses to write: then the file stays ``.partial`` with what was flushed, and nothing else works any more.
        """
        self._check_positions(positions)
        size = sum(map(len, chunks))
        disk.require_space(self.spec.path.parent, self.spec.reserve_bytes + size, self._free_bytes)
        with self._refusals_told():
            for start in range(0, len(chunks), PIECE_FRAMES):
                piece = slice(start, start + PIECE_FRAMES)
                self._store(positions[piece], chunks[piece], checksums[piece])

    def mark_duplicate(self, position: int) -> None:
        """Note that a frame that is written came again."""
        self._ledger.mark(position, layout.DUPLICATE)
        self.tick()

    def mark_corrupt(self, position: int, payload: bytes) -> None:
        """Note that a frame cannot be unpacked, and keep its bytes in the folder ``NAME.corrupt`` beside the file."""
        self._ledger.mark(position, layout.CORRUPT)
        folder = self.spec.corrupt_folder
        with self._refusals_told():
            folder.mkdir(exist_ok=True)
            (folder / f"{position:09d}.bin").write_bytes(payload)
        self.tick()

    def holds(self, position: int) -> bool:
        """Whether a position has its frame."""
        return bool(self._ledger.states[position] in (layout.OK, layout.DUPLICATE))

    def tick(self) -> None:
        """Flush if 64 frames or marks, or any for 0.15 s, have gathered. Call it while waiting for frames, too."""
        unsaved = self._ledger.unsaved
        if unsaved >= FLUSH_FRAMES or (unsaved and self._clock() - self._flushed_at >= FLUSH_SECONDS):
            with self._refusals_told():
                self.flush()

    def flush(self) -> None:
        """Make everything written so far readable by others and safe from the death of this process."""
        self._frames.flush()
        now = self._clock()
        if now - self._synced_at >= SYNC_SECONDS and (self._syncing is None or self._syncing.done()):
            if self._syncing is not None:
                self._syncing.result()  # a disk that failed says so here
            # In the background: the disk's answer takes as long as hundreds of frames.
            self._syncing = self._pool.submit(os.fdatasync, self._file.id.get_vfd_handle())
            self._synced_at = now
        self._ledger.commit()
        self._flushed_at = now

    def finish(self, online: Mapping[str, Array]) -> FileReceipt:
        """Write the maps, close, read back, and give the file its name.

        Raises
        ------
        ValueError
            An array is unknown or has the wrong shape.
        FileUnsound
            The file read back differs from what was written.
        OSError
            The disk failed to take what was written; the file keeps its ``.partial`` name.
        BadInput
            The name has been taken in the meantime.
        """
        with self._refusals_told():
            return self._end("finished", "", online, self.spec.path)

    def abandon(self, reason: str, online: Mapping[str, Array] | None = None) -> FileReceipt:
        """Close what is there as ``NAME.incomplete.h5``, with its ledger true and the reason in it."""
        with self._refusals_told():
            return self._end("abandoned", reason, online or {}, self.spec.incomplete)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._open:
            return
        try:
            self.abandon("left without finish" if error is None else f"{type(error).__name__}: {error}")
        except (OSError, RuntimeError, ValueError, NightbeamError) as second:
            if error is None:
                raise
            error.add_note(f"closing {self.spec.partial} failed too: {second}")

    @contextmanager
    def _refusals_told(self) -> Iterator[None]:
        """Where the system does not take what the free space promised (another was faster, a quota), say so."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            why = disk.refusal(error)
            if not why:
                raise
            spec = self.spec
            frames = (spec.positions - self.frames_flushed) * spec.frame_bytes
            needed = frames + spec.positions * FIGURES_BYTES + spec.reserve_bytes
            raise disk.DiskFull(spec.path.parent, needed, self._free_bytes(spec.path.parent), why) from error

    def _check_frames(self, frames: Array) -> None:
        spec = self.spec
        if frames.shape[1:] != spec.detector_shape or frames.ndim != 3 or frames.dtype != np.dtype(spec.dtype):
            raise ValueError(
                f"frames are {frames.dtype} {frames.shape}, the file takes {spec.dtype} (n, *{spec.detector_shape})"
            )

    def _check_positions(self, positions: Sequence[int]) -> None:
        if not positions:
            return
        first, last = min(positions), max(positions)
        if first < 0 or last >= self.spec.positions:
            raise ValueError(f"positions {first} to {last} are outside 0 to {self.spec.positions - 1}")
        states = self._ledger.states[np.asarray(positions)]
        if ((states == layout.OK) | (states == layout.DUPLICATE)).any():
            raise ValueError(f"a position from {first} to {last} has been written before")

    def _pack(self, frames: Array) -> tuple[list[bytes] | Array, list[int]]:
        whole = np.ascontiguousarray(frames)
        if self._codec is None:
            return whole, [checksum(frame) for frame in whole]
        chunks = self._codec.pack(whole)
        return chunks, [zlib.crc32(chunk) for chunk in chunks]

    def _store(self, positions: Sequence[int], chunks: Sequence[bytes] | Array, checksums: Sequence[int]) -> None:
        if self._ledger.waiting + len(checksums) > FLUSH_FRAMES:
            self.flush()
        columns, store = self.spec.scan_shape[1], self._frames.id.write_direct_chunk
        for position, chunk in zip(positions, chunks, strict=True):
            y, x = divmod(position, columns)
            if isinstance(chunk, bytes):
                store((y, x, 0, 0), chunk)
            else:
                self._frames[y, x] = chunk
        self._ledger.add(positions, checksums)
        self.tick()

    def _end(self, how: str, reason: str, online: Mapping[str, Array], final: Path) -> FileReceipt:
        for name, array in online.items():
            group = self._file[layout.ONLINE].get(name)
            if group is None or group["data"].shape != array.shape:
                raise ValueError(f"online array {name!r} {array.shape} has no place in the file")
        self.flush()
        # Kept by name: what cannot be written is then told when the file is closed, and not on stderr before.
        self._maps = {name: self._file[f"{layout.ONLINE}/{name}/data"] for name in online}
        for name, array in online.items():
            self._maps[name][...] = array
        self._file[layout.REASON][0] = reason.encode()[:REASON_BYTES].decode(errors="ignore").encode()
        self._file[layout.ENDED][0] = how.encode()
        self._pool.shutdown()
        self._file.close()
        self._open = False
        if self._syncing is not None:
            self._syncing.result()  # a disk that failed tells it once: no later sync would
        written = self._ledger.acknowledged
        disk.sync(self.spec.partial)
        _verify(self.spec.partial, written)
        digest, size = disk.sha256_of_file(self.spec.partial), self.spec.partial.stat().st_size
        disk.publish(self.spec.partial, final)
        return FileReceipt(final, digest, size, written, how == "finished" and written == self.spec.positions)


def _verify(path: Path, written: int) -> None:
    """Raise ``FileUnsound`` unless ledger and stored chunks agree with ``written`` and a sample of frames is intact."""
    with h5py.File(path, "r") as file:
        positions = np.flatnonzero(recorded_positions(file))
        stored = file[layout.FRAMES].id.get_num_chunks()
        if not len(positions) == stored == written:
            raise FileUnsound(f"{path}: {written} frames were written, {len(positions)} noted, {stored} stored")
        step = max(1, len(positions) // VERIFIED_FRAMES)
        for position in damaged(file, positions[::step]):
            raise FileUnsound(f"{path}: the frame at position {position} does not match its checksum")
