"""What the emulator has really sent, series by series and frame by frame, for tests to compare with."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

from devices.simplon.emulator.series import Series

NO_ROOM = "no_room"
"""Damage of a frame that was lost because nobody took it."""


@dataclass(slots=True)
class FrameTruth:
    """One frame."""

    total: int
    """Sum of its pixels before any damage."""
    sent: int = 0
    """How often."""
    damage: tuple[str, ...] = ()
    """Kinds of the faults that befell it."""


@dataclass
class SeriesTruth:
    """One armed series."""

    series_id: int
    unique_id: str
    images: int
    """As armed."""
    starts: int = 0
    ends: int = 0
    strays: int = 0
    """Frames of no series that were sent with it."""
    dropped: int = 0
    """Messages that found no room."""
    finished: bool = False
    """Nothing more will be sent."""
    order: list[int] = field(default_factory=list)
    """Frame numbers as they were sent."""
    frames: dict[int, FrameTruth] = field(default_factory=dict)


class Truth:
    """Written by the sender, read by anyone."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._series: list[SeriesTruth] = []

    def begin(self, series: Series) -> SeriesTruth:
        """A new series; the sender changes it within `note`."""
        new = SeriesTruth(series.series_id, series.unique_id, series.images)
        with self._lock:
            self._series.append(new)
        return new

    def frame(self, series: SeriesTruth, number: int, record: FrameTruth) -> None:
        """A frame is made."""
        with self._lock:
            series.frames[number] = record

    def sent(self, series: SeriesTruth, number: int, record: FrameTruth) -> None:
        """A frame was sent."""
        with self._lock:
            record.sent += 1
            series.order.append(number)

    def no_room(self, record: FrameTruth) -> None:
        """A frame was lost because nobody took it."""
        with self._lock:
            record.damage = (*record.damage, NO_ROOM)

    def note(self, change: Callable[[], None]) -> None:
        """Change a series' truth."""
        with self._lock:
            change()

    def series(self) -> list[SeriesTruth]:
        """All series so far, oldest first; a copy."""
        with self._lock:
            return copy.deepcopy(self._series)

    def document(self) -> list[dict[str, Any]]:
        """The same for JSON."""
        return [asdict(each) for each in self.series()]
