"""Does something for so long at most, and leaves it behind then: what is away holds up no instrument."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

Came = TypeVar("Came")


class TooLong(Exception):
    """It takes longer than there was time for; other than a `TimeoutError`, it is not what was done that says so."""


def beside(name: str, act: Callable[[], Came]) -> "Future[Came]":
    """Begin something in a thread of its own, which ends with the process at the latest."""
    came: Future[Came] = Future()

    def run() -> None:
        try:
            came.set_result(act())
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody asks for the result
            came.set_exception(error)

    Thread(target=run, daemon=True, name=name).start()
    return came


def within(seconds: float, name: str, act: Callable[[], Came]) -> Came:
    """What came of something.

    Raises
    ------
    TooLong
        It goes on by itself, and nobody hears what comes of it.
    """
    came = beside(name, act)
    if not wait([came], seconds).done:
        raise TooLong(f"not done within {seconds:g} s")
    return came.result()
