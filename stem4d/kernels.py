"""Bare numba kernels of the accumulator: one pass over a block of frames. They trust their input; see accumulate.py.

Frames are walked four at a time and in chunks of some hundred pixels, so that what one step loads is still in the
nearest cache for the next: unpack to int16 and find the maximum, add to the sum pattern, raise the maximum pattern,
ask for the next chunk, then one dot product with whole-number weights for each quantity (total, first moments, virtual
detectors). All of it is integer arithmetic without a branch per pixel. The steps are loops of their own because LLVM
gives up on a loop that stores to more arrays than it can prove apart.

Everything compiled stays in this one file: numba's cache looks at no other file's date.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Pixels of one vector; the length of a weight row is a multiple of it."""
ROWS = 4
"""Rows that share each loaded weight."""
CACHE_LINE_BYTES = 64

_i16, _i32, _i64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


@intrinsic  # type: ignore[untyped-decorator]
def add_dots(typingctx: Any, rows: Any, weights: Any, sums: Any) -> Any:
    """``sums[r] += sum(rows[r, :n] * weights)`` for the four rows, with ``n = len(weights)``.

    rows : (4, >= n) int16, C order; weights : (n,) int16, n a multiple of 16; sums : (4,) int64.
    Exact as long as ``32768 * max|weights| * n / 8 < 2**31``: each of the 8 int32 sums takes n / 8 products.

    This is LLVM vector code because LLVM does not find it: a numba loop over ``int32(a) * int32(w)`` with four sums
    becomes widening and 32-bit multiplies (measured 2.4 cycles for 16 pixels), while the sum of adjacent products below
    becomes one multiply-add of int16 pairs on any x86 (vpmaddwd: 1.0 cycle) and stays right on every other machine.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row_array, weight_array, sum_array = (
            context.make_array(kind)(context, builder, value) for kind, value in zip(signature.args, args, strict=True)
        )
        stride = builder.udiv(cgutils.unpack_tuple(builder, row_array.strides)[0], _i64(_i16.width // 8))
        count = cgutils.unpack_tuple(builder, weight_array.shape)[0]
        starts = [builder.gep(row_array.data, [builder.mul(stride, _i64(r))]) for r in range(ROWS)]
        lanes = [cgutils.alloca_once_value(builder, _zeros(_i32, LANES // 2)) for _ in range(ROWS)]
        with cgutils.for_range_slice(builder, _i64(0), count, _i64(LANES), _i64) as (index, _):
            weight = _load_widened(builder, weight_array.data, index)
            for start, lane in zip(starts, lanes, strict=True):
                products = builder.mul(_load_widened(builder, start, index), weight)
                pairs = builder.add(_take(builder, products, 0, 2), _take(builder, products, 1, 2))
                builder.store(builder.add(builder.load(lane), pairs), lane)
        for r, lane in enumerate(lanes):
            place = builder.gep(sum_array.data, [_i64(r)])
            builder.store(builder.add(builder.load(place), _add_up(builder, builder.load(lane))), place)
        return context.get_dummy_value()

    return types.void(rows, weights, sums), codegen


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typingctx: Any, values: Any, index: Any) -> Any:
    """Ask for the cache line of ``values[index]``; never a fault. Worth 12 % of the whole pass."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        place = builder.bitcast(builder.gep(array.data, [args[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, _i32, _i32, _i32])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        for_reading, nearest_cache, data = _i32(0), _i32(3), _i32(1)
        builder.call(fetch, [place, for_reading, nearest_cache, data])
        return context.get_dummy_value()

    return types.void(values, index), codegen


def _zeros(kind: Any, count: int) -> Any:
    return ir.Constant(ir.VectorType(kind, count), [0] * count)


def _load_widened(builder: Any, data: Any, index: Any) -> Any:
    """Sixteen int16 at ``data[index]`` as int32. Rows start anywhere, so only the alignment of one int16 is claimed."""
    place = builder.bitcast(builder.gep(data, [index]), ir.VectorType(_i16, LANES).as_pointer())
    values = builder.load(place)
    values.align = _i16.width // 8
    return builder.sext(values, ir.VectorType(_i32, LANES))


def _take(builder: Any, vector: Any, first: int, step: int) -> Any:
    chosen = list(range(first, vector.type.count, step))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_i32, len(chosen)), chosen))


def _add_up(builder: Any, vector: Any) -> Any:
    """Sum of the lanes, in int64 so that only each lane has to fit int32."""
    wide = builder.sext(vector, ir.VectorType(_i64, vector.type.count))
    while wide.type.count > 1:
        wide = builder.add(_take(builder, wide, 0, 2), _take(builder, wide, 1, 2))
    return builder.extract_element(wide, _i32(0))


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _unpack(raw: Any, good: Any, bias: Any, low: Any, floor: Any) -> Any:
    """Put the low 16 bits, moved to the signed range, into ``low``; return the largest good value, at least floor."""
    largest = floor
    for i in range(raw.size):
        low[i] = np.int16(np.uint16(raw[i]) ^ bias)
        largest = max(largest, min(raw[i], good[i]))
    return largest


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _unpack_high(raw: Any, bias: Any, high: Any) -> None:
    for i in range(raw.size):
        high[i] = np.int16(np.uint16(raw[i] >> 16) ^ bias)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _count(raw: Any, good: Any, saturated_from: Any, full_scale: Any) -> Any:
    """Numbers of good pixels in [saturated_from, full_scale] and above full_scale; saturated_from is at least 1."""
    saturated, invalid = np.uint32(0), np.uint32(0)
    for i in range(raw.size):
        value = min(raw[i], good[i])
        saturated = np.uint32(saturated + np.uint32((value >= saturated_from) & (value <= full_scale)))
        invalid = np.uint32(invalid + np.uint32(value > full_scale))
    return saturated, invalid


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _add_to_sum(a: Any, b: Any, c: Any, d: Any, pattern: Any) -> None:
    for i in range(pattern.size):
        pattern[i] += a[i] + b[i] + c[i] + d[i]


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _raise_maximum(a: Any, b: Any, c: Any, d: Any, pattern: Any) -> None:
    for i in range(pattern.size):
        pattern[i] = max(pattern[i], max(max(a[i], b[i]), max(c[i], d[i])))


def _accumulate(
    frames: Any,
    good: Any,
    nothing: Any,
    limits: Any,
    bias: Any,
    weights: Any,
    first_row: Any,
    quantity: Any,
    weight_sums: Any,
    sums: Any,
    maxima: Any,
    counts: Any,
    sum_pattern: Any,
    max_pattern: Any,
) -> None:
    planes = 2 if frames.itemsize == 4 else 1
    n, pixels = frames.shape
    chunk = weights.shape[1]
    # One vector more than the chunk, so that rows of a power of two do not share their cache sets.
    unpacked = np.zeros((planes, ROWS, chunk + LANES), np.int16)
    dots = np.zeros((planes, weight_sums.size, ROWS), np.int64)
    for top in range(0, n, ROWS):
        rows = min(ROWS, n - top)
        dots[:] = 0
        for c in range(first_row.size - 1):
            start = c * chunk
            stop = min(start + chunk, pixels)
            usable = good[start:stop]
            for r in range(rows):
                raw = frames[top + r, start:stop]
                largest = _unpack(raw, usable, bias, unpacked[0, r], nothing[0])
                if planes == 2:
                    _unpack_high(raw, bias, unpacked[1, r])
                maxima[top + r] = max(maxima[top + r], largest)
                if limits.size > 0 and largest >= limits[0]:
                    saturated, invalid = _count(raw, usable, limits[0], limits[1])
                    counts[top + r, 0] += saturated
                    counts[top + r, 1] += invalid
            none = nothing[: stop - start]
            raw0 = frames[top, start:stop]
            raw1 = frames[top + 1, start:stop] if rows > 1 else none
            raw2 = frames[top + 2, start:stop] if rows > 2 else none
            raw3 = frames[top + 3, start:stop] if rows > 3 else none
            _add_to_sum(raw0, raw1, raw2, raw3, sum_pattern[start:stop])
            _raise_maximum(raw0, raw1, raw2, raw3, max_pattern[start:stop])
            for r in range(rows):
                ahead = frames[top + r]
                for i in range(stop, min(stop + chunk, pixels), CACHE_LINE_BYTES // frames.itemsize):
                    prefetch(ahead, i)
            for row in range(first_row[c], first_row[c + 1]):
                for plane in range(planes):
                    # Beyond the last pixel, and in rows beyond the last frame, `unpacked` is stale: the weights are
                    # zero there and the sums are not taken.
                    add_dots(unpacked[plane], weights[row], dots[plane, quantity[row]])
        for r in range(rows):
            for q in range(weight_sums.size):
                offset = np.int64(bias) * weight_sums[q]
                sums[top + r, q] = dots[0, q, r] + offset
                if planes == 2:
                    sums[top + r, q] += (dots[1, q, r] + offset) << 16


@cache
def block_kernel(dtype: np.dtype[Any]) -> Callable[..., None]:
    """The kernel for frames of uint8, uint16 or uint32 (T), compiled or loaded from numba's cache on its first call.

    It does everything for one block of frames and releases the GIL. Arguments, all C-ordered:

    frames (n, pixels) T; good (pixels,) T, all ones, 0 at bad pixels; nothing (chunk,) T, zeros; limits (2,) T, least
    saturated value and full scale, or (0,) if unknown; bias uint16, 0x8000, but 0 for uint8; weights (rows, chunk)
    int16, of which rows first_row[c] to first_row[c + 1] are those of chunk c, each for quantity[row]; weight_sums
    (quantities,) int64. Written: sums (n, quantities) int64. Raised from what they hold: maxima (n,) T, counts (n, 2)
    uint32 of saturated and invalid pixels, sum_pattern (pixels,) `pattern_dtype`, max_pattern (pixels,) T.
    """
    pixel = types.Integer.from_bitwidth(8 * dtype.itemsize, False)

    def read(kind: Any, ndim: int) -> Any:
        return types.Array(kind, ndim, "C", readonly=True)

    signature = types.void(
        read(pixel, 2),
        read(pixel, 1),
        read(pixel, 1),
        read(pixel, 1),
        types.uint16,
        read(types.int16, 2),
        read(types.int64, 1),
        read(types.int64, 1),
        read(types.int64, 1),
        types.int64[:, ::1],
        pixel[::1],
        types.uint32[:, ::1],
        types.Integer.from_bitwidth(8 * pattern_dtype(dtype).itemsize, False)[::1],
        pixel[::1],
    )
    kernel: Callable[..., None] = njit([signature], cache=True, nogil=True)(_accumulate)
    return kernel


def pattern_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Type of the running sum inside a kernel: 32 bits as long as that holds tens of thousands of frames."""
    return np.dtype(np.uint64 if dtype.itemsize == 4 else np.uint32)
