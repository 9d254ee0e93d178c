"""Packs frames into the bytes that HDF5's bitshuffle+LZ4 filter stores, and unpacks them with every length checked.

h5py handles one chunk at a time under a global lock; the same library called here releases the interpreter, so several
threads work while h5py only moves finished chunks. And the filter trusts the lengths in a chunk: a flipped bit there
makes it write past its buffer (measured: HDF5 2.0 with hdf5plugin 7.1 dies of it), so those are checked here first.
"""

import ctypes
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import hdf5plugin
import numpy as np
import numpy.typing as npt

from storage.unpack_kernel import UNIT, WHOLE, unpack_kernel

Array = npt.NDArray[np.generic]

_HEAD = struct.Struct(">QI")
"""The filter's chunk header: uncompressed bytes and bytes per block."""
_LENGTH = struct.Struct(">I")
_WHY = ("", "the chunk's header does not fit the frame", "the lengths in the chunk do not add up", "damaged LZ4 data")
"""In the order of the kernel's states."""


@dataclass(frozen=True, eq=False)
class Chunks:
    """Packed frames where they lie in memory, without a copy."""

    views: "Sequence[bytes | memoryview]"
    """Each chunk's bytes; keeps them where they are."""
    addresses: npt.NDArray[np.intp]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def of(cls, chunks: Sequence[bytes]) -> "Chunks":
        """Chunks that are objects of their own."""
        pointers = (ctypes.c_char_p * len(chunks))(*chunks)
        addresses = np.frombuffer(memoryview(pointers).cast("B"), np.intp) if chunks else np.empty(0, np.intp)
        return cls(chunks, addresses, np.fromiter(map(len, chunks), np.int64, len(chunks)))

    @classmethod
    def within(cls, buffer: bytes, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> "Chunks":
        """Parts of one buffer; what would reach beyond its end is empty."""
        lengths = np.where((starts < 0) | (lengths < 0) | (starts + lengths > len(buffer)), 0, lengths)
        view, address = memoryview(buffer), np.frombuffer(buffer, np.uint8).ctypes.data
        views = [view[start : start + length] for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)]
        return cls(views, np.where(lengths, starts, 0) + address, lengths)

    def part(self, chosen: slice) -> "Chunks":
        """Some of them."""
        return Chunks(self.views[chosen], self.addresses[chosen], self.lengths[chosen])

    def checksums(self) -> list[int]:
        """CRC-32 of each."""
        return [zlib.crc32(view) for view in self.views]

    def __len__(self) -> int:
        return len(self.views)


@dataclass(frozen=True)
class Codec:
    """Both ways, for frames (n, det_y, det_x) in C order."""

    pack: Callable[[Array], list[bytes]]
    """One chunk for each frame."""
    unpack_each: Callable[[Chunks, Array], npt.NDArray[np.uint8]]
    """Fill frames from their chunks, without the interpreter's lock; 0 for each that was whole."""

    def unpack(self, chunks: Sequence[bytes], frames: Array) -> None:
        """Fill frames from their chunks; ValueError for a chunk that is damaged."""
        states = self.unpack_each(Chunks.of(chunks), frames)
        if states.any():
            raise ValueError(_WHY[int(states[states != WHOLE][0])])


def bitshuffle_lz4() -> Codec | None:
    """The codec; None where this build of hdf5plugin does not export it (the filter then does the work)."""
    try:
        library = ctypes.CDLL(str(Path(hdf5plugin.PLUGIN_PATH) / "libh5bshuf.so"))
        compress, bound = library.bshuf_compress_lz4, library.bshuf_compress_lz4_bound
        block, lz4 = library.bshuf_default_block_size, library.LZ4_decompress_safe
    except (OSError, AttributeError):
        return None
    compress.restype, compress.argtypes = ctypes.c_int64, [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_size_t] * 3]
    bound.restype, bound.argtypes = ctypes.c_size_t, [ctypes.c_size_t] * 3
    block.restype, block.argtypes = ctypes.c_size_t, [ctypes.c_size_t]

    def pack(frames: Array) -> list[bytes]:
        size, item = frames[0].size, frames.itemsize
        # One buffer for all: allocating and returning its pages costs as much as compressing into it.
        room = np.empty(bound(size, item, 0), np.uint8)
        head = _HEAD.pack(size * item, block(item) * item)
        chunks: list[bytes] = []
        for frame in frames:
            written = compress(frame.ctypes.data, room.ctypes.data, size, item, 0)
            if written < 0:
                raise RuntimeError(f"bitshuffle failed with code {written}")
            chunks.append(head + room[:written].tobytes())
        return chunks

    lz4_address = ctypes.cast(lz4, ctypes.c_void_p).value or 0

    def unpack_each(chunks: Chunks, frames: Array) -> npt.NDArray[np.uint8]:
        if len(chunks) != len(frames) or not frames.flags.c_contiguous:
            raise ValueError(f"{len(chunks)} chunks for {len(frames)} frames, which have to be C-contiguous")
        states = np.empty(len(frames), np.uint8)
        pixels = frames.reshape(len(frames), math.prod(frames.shape[1:])).view(f"u{frames.itemsize}")
        unpack_kernel(pixels.dtype)(lz4_address, chunks.addresses, chunks.lengths, pixels, states)
        return states

    return Codec(pack, unpack_each)


def head_of(size: int, item: int) -> bytes:
    """What every chunk of a frame of ``size`` pixels of ``item`` bytes begins with, whatever its blocks."""
    return struct.pack(">Q", size * item)


def chunk_bytes(data: bytes, size: int, item: int) -> int:
    """Length of the chunk that some bytes begin with, by its own account; 0 where they begin with none."""
    try:
        end = _walk(data, size, item)
    except ValueError:
        return 0
    return end if end <= len(data) else 0


def _walk(chunk: bytes, size: int, item: int) -> int:
    """Where a chunk ends by the lengths in it."""
    total, block_bytes = _HEAD.unpack_from(chunk) if len(chunk) >= _HEAD.size else (0, 0)
    elements = block_bytes // item
    if total != size * item or elements * item != block_bytes or not elements or elements % UNIT:
        raise ValueError("the chunk's header does not fit the frame")
    left_over = size % UNIT
    blocks = -(-(size - left_over) // elements)
    end = _HEAD.size
    for _ in range(blocks):
        if end + _LENGTH.size > len(chunk):
            raise ValueError("the chunk ends early")
        end += _LENGTH.size + _LENGTH.unpack_from(chunk, end)[0]
    return end + left_over * item
