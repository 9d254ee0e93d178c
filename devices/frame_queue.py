"""A queue between the thread that receives a detector's frames and the one that reads them, bounded in bytes."""

import threading
import time
from collections import deque
from typing import Generic, TypeVar

QUEUE_BYTES = 256 * 2**20
LOOK_UP_MS = 50
"""How often a silent receiver looks whether it is to end [ms]."""

T = TypeVar("T")


class FrameQueue(Generic[T]):
    """What came, each with its size in bytes; holds at least one, however large."""

    def __init__(self, limit_bytes: int = QUEUE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._held_up_s = 0.0
        self._change = threading.Condition()
        self._enough = 1
        self.closed = False
        self.failed = ""
        self.share = 0.0
        """How full it was when something was last taken from it, 0 to 1."""

    def put(self, items: list[tuple[T, int]]) -> None:
        """Append items and their sizes [bytes]; waits while there is no room for them."""
        size = sum(size for _, size in items)
        with self._change:
            while self._bytes and self._bytes + size > self._limit_bytes and not self.closed:
                began = time.monotonic()
                self._change.wait(LOOK_UP_MS / 1000)
                self._held_up_s += time.monotonic() - began
            self._items.extend(items)
            self._bytes += size
            if len(self._items) >= self._enough or self._full():
                self._change.notify_all()

    def take(self, most: int, within_s: float) -> list[T]:
        """Up to ``most`` items, fewer where no more come within a time [s]."""
        with self._change:
            self._enough = most
            self._change.wait_for(lambda: len(self._items) >= most or self.closed or self._full(), within_s)
            self.share = min(1.0, self._bytes / self._limit_bytes)
            taken: list[T] = []
            while self._items and len(taken) < most:
                item, size = self._items.popleft()
                taken.append(item)
                self._bytes -= size
            self._change.notify_all()
            return taken

    def close(self, why: str = "") -> None:
        """Nothing more is to be put in."""
        with self._change:
            self.closed, self.failed = True, self.failed or why
            self._change.notify_all()

    def held_up_s(self) -> float:
        """How long ``put`` has waited since this was last asked [s]."""
        with self._change:
            held_up_s, self._held_up_s = self._held_up_s, 0.0
            return held_up_s

    def _full(self) -> bool:
        return self._bytes >= self._limit_bytes // 2
