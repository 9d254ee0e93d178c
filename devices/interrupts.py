"""Ctrl+C and SIGTERM: raised where the program stands, but never in the middle of making an instrument safe."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class _Arrivals:
    """What the signals of this process have come to; only its main thread hears of them."""

    kinds: dict[signal.Signals, type[BaseException]] = field(default_factory=dict)
    seen: int = 0
    shields: int = 0
    waiting: BaseException | None = None
    raised: BaseException | None = None
    """What was raised last: Python drops what is raised within a destructor or a weak reference's callback."""
    urgent: list[Callable[[], None]] = field(default_factory=list)


_arrivals = _Arrivals()


def listen(*, interrupted: type[BaseException], terminated: type[BaseException]) -> None:
    """From now on raise these for Ctrl+C and for SIGTERM; Ctrl+C stays ignored where it was, as in a background job."""
    _arrivals.seen, _arrivals.waiting, _arrivals.raised = 0, None, None
    _arrivals.kinds = {signal.SIGTERM: terminated}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        _arrivals.kinds[signal.SIGINT] = interrupted
    for number in _arrivals.kinds:
        signal.signal(number, _handler)


@contextmanager
def listening() -> Iterator[None]:
    """Within the block signals are heard here, also where Prefect's engine took SIGTERM for itself around it."""
    if not _arrivals.kinds or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handler) for number in _arrivals.kinds}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handler(number: int, _frame: object) -> None:
    arrived(_arrivals.kinds[signal.Signals(number)]())


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
    _arrivals.raised = error
    raise error


def raise_dropped() -> None:
    """Raise again what arrived and was dropped on its way; to be called where nothing goes on after one of these."""
    if _arrivals.raised is not None and threading.current_thread() is threading.main_thread():
        raise _arrivals.raised


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
            _arrivals.raised = error
            raise error
