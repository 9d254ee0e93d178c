"""How far a long analysis has come, told to whoever listens; a listener that raises ends it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]
"""Hears a step's name, how many of its rounds are done, and how many there are."""

_HEARS: ContextVar[Listener | None] = ContextVar("hears", default=None)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Have what this thread analyses in here tell the listener."""
    before = _HEARS.set(listener)
    try:
        yield
    finally:
        _HEARS.reset(before)


def tell(step: str, done: int, total: int) -> None:
    """Say that so many of a step's rounds are done; nothing where nobody listens."""
    if (listener := _HEARS.get()) is not None:
        listener(step, done, total)
