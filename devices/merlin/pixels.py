"""Merlin's pixels into arrays: big-endian integers, or packed as the chip sends them (R64)."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.merlin.headers import FrameHeader

INTEGERS: dict[str, np.dtype[Any]] = {"U08": np.dtype("u1"), "U16": np.dtype(">u2"), "U32": np.dtype(">u4")}
PACKED_BITS = {1: 1, 6: 8, 12: 16, 24: 32}
"""Bits that a pixel of each counter depth takes when packed."""


def data_bytes(header: FrameHeader, depth: int) -> int | None:
    """Bytes that the pixels of a frame take; None where we cannot read them: packed, from several chips."""
    size = math.prod(header.shape)
    if header.pixels != "R64":
        return size * INTEGERS[header.pixels].itemsize
    if header.chips != 1 or header.shape[1] % 64:
        return None
    return size * PACKED_BITS[depth] // 8


def unpacked(header: FrameHeader, depth: int, data: memoryview) -> npt.NDArray[Any]:
    """(det_y, det_x) counts of a frame whose bytes are as many as `data_bytes` says; row 0 is the top of its picture.

    Merlin sends the bottom row first. Packed pixels stand in big-endian words of 64 bits, the first in the lowest bits;
    of 24 bits, the higher 12 of all pixels come first.
    """
    if header.pixels != "R64":
        return np.frombuffer(data, INTEGERS[header.pixels]).reshape(header.shape)[::-1]
    words = np.frombuffer(data, ">u8").astype("<u8")
    if depth == 1:
        counts: npt.NDArray[Any] = np.unpackbits(words.view("u1"), bitorder="little")
    elif depth == 6:
        counts = words.view("u1")
    else:
        counts = words.view("<u2")
    if depth == 24:
        higher, lower = counts.reshape(2, -1).astype(np.uint32)
        counts = (higher << 12) | lower
    return counts.reshape(header.shape)[::-1]
