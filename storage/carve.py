"""Finds frames whose place the file's index has lost: by the bytes that every chunk of theirs begins with."""

import zlib
from collections import defaultdict

import numpy as np

from storage.codec import chunk_bytes, head_of
from storage.contents import Contents
from storage.findings import OnBytes, without_place
from storage.unclosed import Unclosed

BLOCK_BYTES = 32 * 2**20


def find_lost_chunks(view: Unclosed, contents: Contents, on_bytes: OnBytes) -> int:
    """Put the places of lost chunks that match a checksum of the ledger into ``contents``; gives how many were found.

    Where several positions share a checksum, they are given a place only if all that was found is the same, byte by
    byte: else nobody could say which is which.
    """
    lost = np.flatnonzero(without_place(contents))
    if not len(lost) or not contents.of_chunks:
        return 0
    wanted: dict[int, list[int]] = defaultdict(list)
    for position in lost.tolist():
        wanted[int(contents.checksums[position])].append(position)
    found = 0
    for crc, places in _candidates(view, contents, wanted, on_bytes).items():
        first, *others = (_read(view, *place) for place in places)
        if len(wanted[crc]) > 1 and any(other != first for other in others):
            continue
        for position in wanted[crc]:
            contents.offsets[position], contents.sizes[position] = places[0]
            found += 1
    return found


def _candidates(
    view: Unclosed, contents: Contents, wanted: dict[int, list[int]], on_bytes: OnBytes
) -> dict[int, list[tuple[int, int]]]:
    """(first byte, bytes) of everything in the file that has the form of a chunk and a checksum that is looked for."""
    pixels, item = int(np.prod(contents.detector_shape)), contents.frames.dtype.itemsize
    head = head_of(pixels, item)
    largest = 2 * pixels * item + 64
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    room = memoryview(bytearray(BLOCK_BYTES + largest))
    for start in range(0, view.bytes, BLOCK_BYTES):
        there = view.fill(room, start)
        block = bytes(room[:there])
        at = block.find(head)
        while 0 <= at < BLOCK_BYTES:
            size = chunk_bytes(block[at : at + largest], pixels, item)
            crc = zlib.crc32(block[at : at + size]) if size else 0
            if size and crc in wanted:
                found[crc].append((start + at, size))
            at = block.find(head, at + 1)
        on_bytes(start + there)
    return found


def _read(view: Unclosed, offset: int, size: int) -> bytes:
    room = bytearray(size)
    view.fill(memoryview(room), offset)
    return bytes(room)
