"""The weights of the accumulator's dot products, cut into the chunks in which its kernel walks a frame."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stem4d.kernels import LANES

CHUNK_PX = 640
"""A chunk of four 16-bit frames and its weights stay in 32 KB; shorter chunks pay more for the end of each sum."""


class PackedWeights(NamedTuple):
    """What `kernels.block_kernel` wants; chunks in which a quantity has no weight are left out."""

    weights: npt.NDArray[np.int16]
    first_row: npt.NDArray[np.int64]
    quantity: npt.NDArray[np.int64]
    weight_sums: npt.NDArray[np.int64]


def chunk_px(largest_weight: int) -> int:
    """Longest chunk in which no int32 sum of the kernel overflows, whatever the pixel values.

    Each of the 8 sums of `kernels.add_dots` takes 1/8 of the products; none exceeds 2**15 * largest_weight.
    """
    longest = LANES // 2 * ((2**16 - 1) // max(largest_weight, 1))
    return min(CHUNK_PX, longest) // LANES * LANES


def pack(quantities: Iterable[npt.NDArray[Any]]) -> PackedWeights:
    """Pack the weights (pixels,) of each quantity, whole numbers within int16."""
    dense = list(quantities)
    length = chunk_px(max(int(np.abs(w).max()) for w in dense))
    pixels = dense[0].size
    chunks = -(-pixels // length)
    rows, chunk_of_row, quantity = [], [], []
    for q, weights in enumerate(dense):
        padded = np.zeros((chunks, length), np.int16)
        padded.reshape(-1)[:pixels] = weights
        used = np.flatnonzero(padded.any(axis=1))
        rows.append(padded[used])
        chunk_of_row.append(used)
        quantity.append(np.full(used.size, q))
    by_chunk = np.argsort(np.concatenate(chunk_of_row), kind="stable")
    return PackedWeights(
        weights=np.concatenate(rows)[by_chunk],
        first_row=np.searchsorted(np.concatenate(chunk_of_row)[by_chunk], np.arange(chunks + 1)).astype(np.int64),
        quantity=np.concatenate(quantity)[by_chunk].astype(np.int64),
        weight_sums=np.array([w.sum(dtype=np.int64) for w in dense]),
    )
