"""What the tests of this folder share: a clock that ticks, and a database with one of each in it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine


class Ticking:
    """A clock that is one second later at each call."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 20, 41, 39, 123456, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@dataclass(frozen=True)
class World:
    """A database with one of each: enough to record a run."""

    engine: Engine
    url: str
    clock: Ticking
    sample: int
    area: int
    plan: int
    night: int
    target: int
    run: int
