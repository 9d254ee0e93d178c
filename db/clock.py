"""The time as the database sees it, and the public names made from it."""

import os
from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Gives the time now, with its zone."""


def utc_now() -> datetime:
    """The time now in UTC."""
    return datetime.now(UTC)


def new_run_name(clock: Clock = utc_now, random: Callable[[int], bytes] = os.urandom) -> str:
    """A public run name such as ``r20261122-204139-7f3a``: sorts by time, needs no database, may be a file name."""
    return _name("r", clock, random)


def new_night_name(clock: Clock = utc_now, random: Callable[[int], bytes] = os.urandom) -> str:
    """A public night name such as ``n20261122-204139-7f3a``."""
    return _name("n", clock, random)


def _name(letter: str, clock: Clock, random: Callable[[int], bytes]) -> str:
    return f"{letter}{clock().astimezone(UTC):%Y%m%d-%H%M%S}-{random(2).hex()}"
