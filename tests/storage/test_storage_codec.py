"""Packed frames: what the filter packs is unpacked to the last bit, and no damage reaches beyond a frame."""

import ctypes
import struct
import zlib
from pathlib import Path

import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.codec import Chunks, chunk_bytes
from tests.packing import bitshuffle

SHAPES = [(1, 7), (3, 5), (8, 8), (31, 33), (64, 64), (65, 129)]
"""Fewer than eight pixels, a rest, less than a group of 512, whole groups, several blocks and a rest."""


def counts(dtype: str, shape: tuple[int, int], most: int, frames: int = 3) -> np.ndarray:
    limit = min(most, int(np.iinfo(dtype).max))
    return np.random.default_rng(7).integers(0, limit, (frames, *shape), endpoint=True).astype(dtype)


@pytest.mark.parametrize("most", [0, 1, 255, 65535, 2**32 - 1])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_what_is_packed_is_unpacked_to_the_last_bit(dtype: str, shape: tuple[int, int], most: int) -> None:
    frames = counts(dtype, shape, most)
    chunks = bitshuffle().pack(frames)
    room = np.full_like(frames, 5)
    bitshuffle().unpack(chunks, room)
    np.testing.assert_array_equal(room, frames)
    assert [chunk_bytes(chunk + b"more", frames[0].size, frames.itemsize) for chunk in chunks] == list(map(len, chunks))


def in_blocks(frame: np.ndarray, elements: int) -> bytes:
    """A chunk in blocks of another length than the filter's own, by the filter's library."""
    pack = ctypes.CDLL(str(Path(hdf5plugin.PLUGIN_PATH) / "libh5bshuf.so")).bshuf_compress_lz4
    pack.restype, pack.argtypes = ctypes.c_int64, [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_size_t] * 3]
    room = np.empty(4 * frame.nbytes + 4096, np.uint8)
    written = pack(frame.ctypes.data, room.ctypes.data, frame.size, frame.itemsize, elements)
    assert written > 0
    return struct.pack(">QI", frame.nbytes, elements * frame.itemsize) + room[:written].tobytes()


@pytest.mark.parametrize("elements", [8, 40, 512, 4104, 2**20])
def test_blocks_of_any_length_are_unpacked(elements: int) -> None:
    frames = counts("uint16", (65, 129), 3000, 1)
    room = np.zeros_like(frames)
    bitshuffle().unpack([in_blocks(frames[0], elements)], room)
    np.testing.assert_array_equal(room, frames)


WHOLE = counts("uint16", (31, 33), 40, 1)
CHUNK = bitshuffle().pack(WHOLE)[0]


@given(
    st.one_of(
        st.builds(lambda n: CHUNK[:n], st.integers(0, len(CHUNK))),
        st.builds(lambda more: CHUNK + more, st.binary(min_size=1, max_size=9)),
        st.builds(
            lambda at, bit: CHUNK[:at] + bytes([CHUNK[at] ^ 1 << bit]) + CHUNK[at + 1 :],
            st.integers(0, len(CHUNK) - 1),
            st.integers(0, 7),
        ),
        st.builds(lambda rest: CHUNK[:12] + rest, st.binary(max_size=200)),
        st.binary(max_size=60),
    )
)
def test_damage_stays_within_its_frame_and_spares_the_frames_beside_it(damaged: bytes) -> None:
    room = np.full((5, *WHOLE.shape[1:]), 9, np.uint16)
    states = bitshuffle().unpack_each(Chunks.of([CHUNK, damaged, CHUNK]), room[1:4])
    assert states[[0, 2]].tolist() == [0, 0]
    np.testing.assert_array_equal(room[[1, 3]], np.repeat(WHOLE, 2, axis=0))
    assert (room[[0, 4]] == 9).all()
    if len(damaged) != len(CHUNK):
        assert states[1]


def test_a_frame_that_is_not_whole_is_told_in_words() -> None:
    with pytest.raises(ValueError, match="header does not fit"):
        bitshuffle().unpack([CHUNK[:11]], np.empty_like(WHOLE))
    with pytest.raises(ValueError, match="lengths in the chunk do not add up"):
        bitshuffle().unpack([CHUNK[:-1]], np.empty_like(WHOLE))
    with pytest.raises(ValueError, match="2 chunks for 1 frames"):
        bitshuffle().unpack([CHUNK, CHUNK], np.empty_like(WHOLE))


def test_parts_of_a_buffer_are_chunks_and_what_reaches_beyond_it_is_none() -> None:
    buffer = b"xx" + CHUNK + CHUNK
    starts = np.array([2, 2 + len(CHUNK), 3 + len(CHUNK), -1])
    chunks = Chunks.within(buffer, starts, np.full(4, len(CHUNK)))
    assert chunks.checksums() == [zlib.crc32(CHUNK)] * 2 + [0, 0]
    room = np.empty((4, *WHOLE.shape[1:]), np.uint16)
    assert (bitshuffle().unpack_each(chunks, room) == 0).tolist() == [True, True, False, False]
    np.testing.assert_array_equal(room[:2], np.repeat(WHOLE, 2, axis=0))
