"""Reads stored frames of our own files by where they lie: many with one read, as they lie one after another."""

import os

import h5py
import numpy as np

from storage.codec import Chunks

SPREAD = 2
"""Chunks that lie over more than so many times their bytes are read one by one."""
SPARE_BYTES = 65536
"""A chunk may be so much longer than its frame, where nothing could be packed; a longer one is damaged."""


class ChunkIndex:
    """Where the frames of an open file are. h5py takes four times as long to give one chunk as to say where it is."""

    def __init__(self, data: h5py.Dataset) -> None:
        columns = data.shape[1]
        frame_bytes = int(np.prod(data.shape[2:])) * data.dtype.itemsize
        self._starts = np.zeros(data.shape[0] * columns, np.int64)
        self._lengths = np.zeros(len(self._starts), np.int64)
        self._handle = data.file.id.get_vfd_handle()

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            # A mask means that the filter was left out, which we never do.
            if not chunk.filter_mask and chunk.size <= frame_bytes + SPARE_BYTES:
                position = chunk.chunk_offset[0] * columns + chunk.chunk_offset[1]
                self._starts[position], self._lengths[position] = chunk.byte_offset, chunk.size

        data.id.chunk_iter(note)

    def read(self, first: int, count: int) -> Chunks:
        """The frames of some positions; one that is not there, or not whole, is empty."""
        starts, lengths = self._starts[first : first + count], self._lengths[first : first + count]
        start, end = int(starts.min()), int((starts + lengths).max())
        if end - start <= SPREAD * int(lengths.sum()):
            return Chunks.within(os.pread(self._handle, end - start, start), starts - start, lengths)
        return Chunks.of(
            [os.pread(self._handle, length, at) for at, length in zip(starts.tolist(), lengths.tolist(), strict=True)]
        )
