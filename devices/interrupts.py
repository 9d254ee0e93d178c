"""Ctrl+C and SIGTERM: raised where the program stands, but never in the middle of making an instrument safe."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class _Arrivals:
    """What the signals of this process have come to; only its main thread hears of them."""

    seen: int = 0
    shields: int = 0
    waiting: BaseException | None = None
    urgent: list[Callable[[], None]] = field(default_factory=list)


_arrivals = _Arrivals()


def forget() -> None:
    """Begin anew: a command begins."""
    _arrivals.seen, _arrivals.waiting = 0, None


def arrived(error: BaseException) -> None:
    """What a signal's handler calls: raise ``error`` here, or when the instrument has been made safe.

    Whoever signals twice wants the beam off now: what was registered with `at_once` is called first.
    """
    _arrivals.seen += 1
    if _arrivals.seen > 1:
        for act in tuple(_arrivals.urgent):
            act()
    if _arrivals.shields:
        _arrivals.waiting = error
        return
    raise error


@contextmanager
def at_once(act: Callable[[], None]) -> Iterator[None]:
    """Within the block, have ``act`` called by a second signal; it must not wait for anything."""
    _arrivals.urgent.append(act)
    try:
        yield
    finally:
        _arrivals.urgent.remove(act)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold what arrives until the block has ended, and raise it then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _arrivals.shields += 1
    try:
        yield
    finally:
        _arrivals.shields -= 1
        if not _arrivals.shields and _arrivals.waiting is not None:
            error, _arrivals.waiting = _arrivals.waiting, None
            raise error
