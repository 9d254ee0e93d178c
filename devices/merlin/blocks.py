"""Blocks of Merlin's TCP protocol: a byte stream cut at its prefixes, and found again where it is damaged.

Each block is ``MPX,<ten digits>,`` and as many bytes as the digits say, less one for the comma. Nothing but that marks
where a block ends: one that was cut short would swallow the start of the next, so prefixes are looked for inside, too.
"""

import re
from typing import NamedTuple

PREFIX = re.compile(rb"MPX,(\d{10}),")
PREFIX_BYTES = 15
_MARK = b"MPX,"
_START = re.compile(rb"MPX,(\d{10}),(?:MQ1,|HDR,)")
_LIKE = (b"MPX,0000000000,MQ1,", b"MPX,0000000000,HDR,")
_START_BYTES = len(_LIKE[0])
LARGEST_GARBAGE_BYTES = 2**20
"""Bytes between blocks that are kept while a prefix is looked for."""


class Block(NamedTuple):
    """What stood between two prefixes."""

    payload: bytes
    whole: bool
    """False where it is not as long as its prefix said, or had none."""


def prefixed(payload: bytes) -> bytes:
    """A block of a payload."""
    return b"MPX,%010d,%b" % (len(payload) + 1, payload)


class Splitter:
    """Cuts the data connection's bytes into blocks; holds no more than one block and what came with its end.

    Parameters
    ----------
    largest_bytes : int
        Longest payload there can be [bytes]; a prefix that announces more is none.
    """

    def __init__(self, largest_bytes: int) -> None:
        self._largest_bytes = largest_bytes
        self._held = bytearray()

    def feed(self, data: bytes | memoryview) -> list[Block]:
        """Take in bytes and give the blocks that are there.

        One whose last bytes might be the start of the next, which cut it, waits for more bytes or for `settle`.
        """
        self._held += data
        return self._blocks(settled=False)

    def settle(self) -> list[Block]:
        """The block that waits for what comes after it, when nothing came for a while."""
        return self._blocks(settled=True)

    def rest(self) -> list[Block]:
        """What is left when no more bytes come, the last of it cut or garbage."""
        blocks = self.settle()
        while self._held:
            begin = PREFIX_BYTES if self._length(0) is not None else 0
            end = self._start_after(begin, len(self._held))
            end = len(self._held) if end is None else end
            blocks.append(self._block(begin, end, whole=False))
            del self._held[:end]
            blocks += self.settle()
        return blocks

    def _blocks(self, *, settled: bool) -> list[Block]:
        blocks: list[Block] = []
        at = 0
        while (found := self._next(at, settled)) is not None:
            block, at = found
            blocks.append(block)
        del self._held[:at]
        return blocks

    def _next(self, at: int, settled: bool) -> tuple[Block, int] | None:
        """The block that begins at an offset, and where it ends; None where it is not all there."""
        held = self._held
        if len(held) - at < PREFIX_BYTES:
            return None
        length = self._length(at)
        if length is None:
            return self._garbage(at)
        start, end = at + PREFIX_BYTES, at + PREFIX_BYTES + length
        if end > len(held):
            return None
        if not PREFIX.match(held, end):
            # The next block is not where it should be, or not there yet: it may be inside.
            cut = self._start_after(start, end)
            if cut is not None:
                return self._block(start, cut, whole=False), cut
            if not settled and self._may_start_within(max(start, end - _START_BYTES + 1), end):
                return None
        return self._block(start, end, whole=_may_follow(held[end : end + PREFIX_BYTES])), end

    def _block(self, start: int, end: int, *, whole: bool) -> Block:
        with memoryview(self._held) as held, held[start:end] as payload:
            return Block(bytes(payload), whole)

    def _garbage(self, at: int) -> tuple[Block, int] | None:
        """Skip to the next prefix; what may be the start of one is left."""
        start = self._start_after(at, len(self._held))
        if start is None:
            start = len(self._held) - _START_BYTES + 1
            if start - at < LARGEST_GARBAGE_BYTES:
                return None
        return self._block(at, start, whole=False), start

    def _start_after(self, begin: int, end: int) -> int | None:
        """Where the first block begins between two offsets; it may reach beyond them."""
        at = begin
        while (at := self._held.find(_MARK, at, end + len(_MARK) - 1)) >= 0:
            if _START.match(self._held, at) and self._length(at) is not None:
                return at
            at += 1
        return None

    def _may_start_within(self, begin: int, end: int) -> bool:
        """Whether a block may begin between two offsets, when more bytes have come."""
        at = begin
        while (at := self._held.find(b"M", at, end)) >= 0:
            if len(self._held) - at < _START_BYTES and _may_start(self._held[at:]):
                return True
            at += 1
        return False

    def _length(self, at: int) -> int | None:
        prefix = PREFIX.match(self._held, at)
        length = int(prefix[1]) - 1 if prefix else -1
        return length if 0 <= length <= self._largest_bytes else None


def _may_start(part: bytes | bytearray) -> bool:
    """Whether these can be the first bytes of a block of ours."""
    return any(_START.match(part + like[len(part) :]) for like in _LIKE)


def _may_follow(part: bytes | bytearray) -> bool:
    """Whether these, or none, can come after a block: the next may be cut so short that its kind is not there."""
    return PREFIX.match(part + _LIKE[0][len(part) : PREFIX_BYTES]) is not None
