"""Packs frames into the bytes that HDF5's bitshuffle+LZ4 filter stores, and unpacks them with every length checked.

h5py handles one chunk at a time under a global lock; the same library called here releases the interpreter, so several
threads work while h5py only moves finished chunks. And the filter trusts the lengths in a chunk: a flipped bit there
makes it write past its buffer (measured: HDF5 2.0 with hdf5plugin 7.1 dies of it), so those are checked here first.
"""

import ctypes
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import hdf5plugin
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]

_HEAD = struct.Struct(">QI")
"""The filter's chunk header: uncompressed bytes and bytes per block."""
_LENGTH = struct.Struct(">I")
_BLOCK_ELEMENTS = 8
"""Elements that bits are shuffled among; a block holds a multiple, and what is left over is stored as it is."""


@dataclass(frozen=True)
class Codec:
    """Both ways, for frames (n, det_y, det_x) in C order."""

    pack: Callable[[Array], list[bytes]]
    """One chunk for each frame."""
    unpack: Callable[[Sequence[bytes], Array], None]
    """Fill frames from their chunks; ValueError for a chunk whose lengths do not add up."""


def bitshuffle_lz4() -> Codec | None:
    """The codec; None where this build of hdf5plugin does not export it (the filter then does the work)."""
    try:
        library = ctypes.CDLL(str(Path(hdf5plugin.PLUGIN_PATH) / "libh5bshuf.so"))
        compress, decompress = library.bshuf_compress_lz4, library.bshuf_decompress_lz4
        bound, block = library.bshuf_compress_lz4_bound, library.bshuf_default_block_size
    except (OSError, AttributeError):
        return None
    for function in (compress, decompress):
        function.restype = ctypes.c_int64
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_size_t] * 3]
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

    def unpack(chunks: Sequence[bytes], frames: Array) -> None:
        for chunk, frame in zip(chunks, frames, strict=True):
            elements = _block_elements(chunk, frame.size, frame.itemsize)
            source = np.frombuffer(chunk, np.uint8, offset=_HEAD.size)
            read = decompress(source.ctypes.data, frame.ctypes.data, frame.size, frame.itemsize, elements)
            if read != source.size:
                raise ValueError(f"bitshuffle failed with code {read}")

    return Codec(pack, unpack)


def head_of(size: int, item: int) -> bytes:
    """What every chunk of a frame of ``size`` pixels of ``item`` bytes begins with, whatever its blocks."""
    return struct.pack(">Q", size * item)


def chunk_bytes(data: bytes, size: int, item: int) -> int:
    """Length of the chunk that some bytes begin with, by its own account; 0 where they begin with none."""
    try:
        _, end = _walk(data, size, item)
    except ValueError:
        return 0
    return end if end <= len(data) else 0


def _block_elements(chunk: bytes, size: int, item: int) -> int:
    """Elements a block, once every length in the chunk has been found to stay within it."""
    elements, end = _walk(chunk, size, item)
    if end != len(chunk):
        raise ValueError("the chunk's blocks do not add up to its length")
    return elements


def _walk(chunk: bytes, size: int, item: int) -> tuple[int, int]:
    """Elements a block, and where the chunk ends by the lengths in it."""
    total, block_bytes = _HEAD.unpack_from(chunk) if len(chunk) >= _HEAD.size else (0, 0)
    elements = block_bytes // item
    if total != size * item or elements * item != block_bytes or not elements or elements % _BLOCK_ELEMENTS:
        raise ValueError("the chunk's header does not fit the frame")
    left_over = size % _BLOCK_ELEMENTS
    blocks = -(-(size - left_over) // elements)
    end = _HEAD.size
    for _ in range(blocks):
        if end + _LENGTH.size > len(chunk):
            raise ValueError("the chunk ends early")
        end += _LENGTH.size + _LENGTH.unpack_from(chunk, end)[0]
    return int(elements), end + left_over * item
