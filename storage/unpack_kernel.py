"""Bare numba kernel that unpacks bitshuffle+LZ4 chunks, many in one call: LZ4 by the library, bits turned back here.

A chunk is a header, then blocks of some thousand elements, each an LZ4 block of bit planes: plane k holds bit k of
every element. Turning them back takes the library twice as long as LZ4 itself (measured 30 of 47 us for 192 x 192
pixels of 16 bit); vectors of eight planes do it in 4 to 10. One call for many chunks never holds the interpreter's
lock in between.

Nothing in a chunk is trusted: every length is held against what is left of the chunk and of the frame, and
``LZ4_decompress_safe`` does not leave its buffers whatever the bytes are.

Everything compiled stays in this one file: numba's cache looks at no other file's date.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

WHOLE, BAD_HEADER, BAD_LENGTHS, BAD_BLOCK = 0, 1, 2, 3
"""What became of a chunk."""
HEAD_BYTES = 12
LENGTH_BYTES = 4
UNIT = 8
"""Elements that bits are shuffled among; a block holds a multiple, and what is left over is stored as it is."""
WIDTH = 64
"""Bytes of each plane that are turned at once."""
GROUP = UNIT * WIDTH
"""Elements that come of them."""
_LANE = 16
"""Bytes of the vectors within which every processor can interleave."""

_i8, _i32, _i64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_SWAPS = ((1, 0x5555555555555555), (2, 0x3333333333333333), (4, 0x0F0F0F0F0F0F0F0F))
"""Distance of the bits that change places between two planes, and the lower ones of them."""


def _vector(kind: Any, value: int, count: int) -> Any:
    return ir.Constant(ir.VectorType(kind, count), [value] * count)


def _at(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    place = builder.gep(builder.inttoptr(address, _i8.as_pointer()), [offset])
    return builder.bitcast(place, kind.as_pointer())


def _interleave(builder: Any, a: Any, b: Any, item_bytes: int, upper: int) -> Any:
    """Items of a and b in turn, of the lower or the upper half of each lane."""
    count, lane = WIDTH // item_bytes, _LANE // item_bytes
    kind = ir.VectorType(ir.IntType(8 * item_bytes), count)
    starts = [base + upper * lane // 2 for base in range(0, count, lane)]
    chosen = [start + i + side for start in starts for i in range(lane // 2) for side in (0, count)]
    mask = ir.Constant(ir.VectorType(_i32, count), chosen)
    mixed = builder.shuffle_vector(builder.bitcast(a, kind), builder.bitcast(b, kind), mask)
    return builder.bitcast(mixed, ir.VectorType(_i8, WIDTH))


@intrinsic  # type: ignore[untyped-decorator]
def _turn(typingctx: Any, planes: Any, stride: Any, octets: Any) -> Any:
    """64 bytes at address ``planes`` and at each of seven strides on, to 512 bytes at ``octets``.

    Bit k of byte e of the result is bit e of plane k. Bits change places between planes in three steps, as in the
    transposition of an 8 x 8 matrix; then the bytes of the eight vectors are interleaved, within lanes of 16 bytes.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, step, target = args
        words = ir.VectorType(_i64, WIDTH // 8)
        rows = []
        for k in range(UNIT):
            row = builder.load(_at(builder, source, builder.mul(step, _i64(k)), words))
            row.align = 1
            rows.append(row)
        for far, lower in _SWAPS:
            mask, shift = _vector(_i64, lower, WIDTH // 8), _vector(_i64, far, WIDTH // 8)
            for a in range(UNIT):
                b = a | far
                if a == b:
                    continue
                differ = builder.and_(builder.xor(builder.lshr(rows[a], shift), rows[b]), mask)
                rows[b] = builder.xor(rows[b], differ)
                rows[a] = builder.xor(rows[a], builder.shl(differ, shift))
        pairs = [[_interleave(builder, rows[a], rows[a + 1], 1, half) for half in (0, 1)] for a in range(0, UNIT, 2)]
        fours = [
            [_interleave(builder, pairs[a][h], pairs[a + 1][h], 2, half) for h in (0, 1) for half in (0, 1)]
            for a in (0, 2)
        ]
        eights = [_interleave(builder, fours[0][q], fours[1][q], 4, half) for q in range(4) for half in (0, 1)]
        for lane in range(WIDTH // _LANE):
            chosen = ir.Constant(ir.VectorType(_i32, _LANE), list(range(_LANE * lane, _LANE * (lane + 1))))
            for j, row in enumerate(eights):
                part = builder.shuffle_vector(row, row, chosen)
                place = _at(builder, target, _i64((UNIT * lane + j) * _LANE), part.type)
                builder.store(part, place).align = 1
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _lz4(typingctx: Any, function: Any, source: Any, size: Any, target: Any, room: Any) -> Any:
    """``LZ4_decompress_safe`` at address ``function``: bytes it wrote, below 0 for a damaged block."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        where, start, length, into, most = args
        text = _i8.as_pointer()
        kind = ir.FunctionType(_i32, [text, text, _i32, _i32])
        known = builder.inttoptr(where, kind.as_pointer())
        return builder.call(known, [builder.inttoptr(start, text), builder.inttoptr(into, text), length, most])

    return types.int32(types.intp, types.intp, types.int32, types.intp, types.int32), codegen


@intrinsic  # type: ignore[untyped-decorator]
def _byte(typingctx: Any, address: Any) -> Any:
    """The byte at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], _i8.as_pointer()))

    return types.uint8(types.intp), codegen


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _big_endian(address: Any, length: Any) -> Any:
    value = np.int64(0)
    for i in range(length):
        value = (value << 8) | np.int64(_byte(address + i))
    return value


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _empty(part: Any) -> Any:
    """Whether all of eight planes are 0: what holds few counts has no upper bits."""
    found = np.uint8(0)
    for i in range(part.size):
        found |= part[i]
    return found == 0


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _put(octets: Any, shift: Any, out: Any) -> None:
    if shift == 0:
        for i in range(out.size):
            out[i] = octets[i]
    else:
        for i in range(out.size):
            out[i] |= out.dtype.type(octets[i]) << out.dtype.type(shift)


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _restore(room: Any, out: Any, octets: Any, padded: Any) -> None:
    """Elements of one block from its planes."""
    count, stride = out.size, out.size // UNIT
    whole = count // GROUP
    for byte in range(out.itemsize):
        start = byte * count
        if byte and _empty(room[start : start + count]):
            continue
        for group in range(whole):
            _turn(room.ctypes.data + start + group * WIDTH, stride, octets.ctypes.data)
            _put(octets, 8 * byte, out[group * GROUP : (group + 1) * GROUP])
        rest = stride - whole * WIDTH
        if rest:
            for plane in range(UNIT):
                first = start + plane * stride + whole * WIDTH
                padded[plane * WIDTH : plane * WIDTH + rest] = room[first : first + rest]
            _turn(padded.ctypes.data, WIDTH, octets.ctypes.data)
            _put(octets, 8 * byte, out[whole * GROUP :])


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _one(lz4: Any, at: Any, end: Any, out: Any, room: Any, octets: Any, padded: Any) -> Any:
    """Unpack the chunk between two addresses."""
    item, pixels = out.itemsize, out.size
    if end - at < HEAD_BYTES or _big_endian(at, 8) != pixels * item:
        return BAD_HEADER
    block_bytes = _big_endian(at + 8, 4)
    elements = block_bytes // item
    if elements == 0 or elements * item != block_bytes or elements % UNIT:
        return BAD_HEADER
    at += HEAD_BYTES
    left_over = pixels % UNIT
    done = 0
    while done < pixels - left_over:
        count = min(elements, pixels - left_over - done)
        if at + LENGTH_BYTES > end:
            return BAD_LENGTHS
        packed = _big_endian(at, LENGTH_BYTES)
        at += LENGTH_BYTES
        if packed > end - at or packed >= 2**31:
            return BAD_LENGTHS
        if _lz4(lz4, at, np.int32(packed), room.ctypes.data, np.int32(count * item)) != count * item:
            return BAD_BLOCK
        _restore(room, out[done : done + count], octets, padded)
        at += packed
        done += count
    if at + left_over * item != end:
        return BAD_LENGTHS
    for i in range(left_over):
        value = np.int64(0)
        for byte in range(item):
            value |= np.int64(_byte(at + i * item + byte)) << (8 * byte)
        out[done + i] = value
    return WHOLE


def _unpack(lz4: Any, addresses: Any, lengths: Any, frames: Any, states: Any) -> None:
    room = np.empty(frames.shape[1] * frames.itemsize, np.uint8)
    octets, padded = np.empty(GROUP, np.uint8), np.zeros(GROUP, np.uint8)
    for i in range(addresses.size):
        end = addresses[i] + lengths[i]
        states[i] = _one(lz4, addresses[i], end, frames[i], room, octets, padded)


@cache
def unpack_kernel(dtype: np.dtype[Any]) -> Callable[..., None]:
    """The kernel for frames of uint8, uint16 or uint32 (T), compiled or loaded from numba's cache on its first call.

    Arguments: the address of ``LZ4_decompress_safe``; addresses (n,) intp and lengths (n,) int64 of the chunks; frames
    (n, pixels) T and states (n,) uint8, which it writes. Of a frame whose state is not ``WHOLE``, any part is written.
    """
    pixel = types.Integer.from_bitwidth(8 * dtype.itemsize, False)
    signature = types.void(
        types.intp,
        types.Array(types.intp, 1, "C", readonly=True),
        types.Array(types.int64, 1, "C", readonly=True),
        pixel[:, ::1],
        types.uint8[::1],
    )
    kernel: Callable[..., None] = njit([signature], cache=True, nogil=True)(_unpack)
    return kernel
