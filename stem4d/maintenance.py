"""Times in which an instrument belongs to those who look after it: once, or every week."""

from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, Field, field_validator, model_validator

from stem4d.errors import Inconsistent
from stem4d.model import Name, Strict, Title

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Window(Strict, strict=False):
    """A time without experiments: ``begins`` to ``ends``, or on ``days`` from one time of the day to another."""

    reason: Title = "maintenance"
    instrument: Name | None = None
    """Of that name alone; all where absent."""
    begins: AwareDatetime | None = None
    ends: AwareDatetime | None = None
    days: Annotated[tuple[Day, ...], Field(max_length=7)] = ()
    from_time: time | None = None
    to_time: time | None = None
    """On the next day where it is not after ``from_time``."""
    time_zone: str = "UTC"
    """Of the days and times, such as ``Europe/Vienna``."""

    @field_validator("time_zone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError("no time zone that this machine knows; one is written as Europe/Vienna") from None
        return name

    @field_validator("from_time", "to_time")
    @classmethod
    def _of_its_place(cls, given: time | None) -> time | None:
        if given is not None and given.tzinfo is not None:
            raise ValueError("a time of the day as 08:00, without an offset: time_zone says of which place")
        return given

    @model_validator(mode="after")
    def _one_of_both(self) -> "Window":
        once, weekly = (self.begins, self.ends), (self.days or None, self.from_time, self.to_time)
        if (None in once) == (None in weekly) or any(once) == any(weekly):
            limit = "either begins and ends, or days, from_time and to_time"
            raise Inconsistent("begins", self.begins, limit, "Give the one or the other, whole")
        if self.begins and self.ends and self.begins >= self.ends:
            raise Inconsistent("ends", self.ends.isoformat(), "has to be after begins", "Turn them round")
        return self

    def around(self, now: datetime) -> list[tuple[datetime, datetime]]:
        """Beginnings and ends of it from a week before a moment to a week after it."""
        if self.begins and self.ends:
            return [(self.begins, self.ends)]
        assert self.from_time is not None
        assert self.to_time is not None
        zone = ZoneInfo(self.time_zone)
        today, found = now.astimezone(zone).date(), []
        for offset in range(-8, 9):
            day = today + timedelta(days=offset)
            if DAYS[day.weekday()] in self.days:
                last = day + timedelta(days=self.to_time <= self.from_time)
                begins = datetime.combine(day, self.from_time, zone)
                found.append((begins, datetime.combine(last, self.to_time, zone)))
        return found


def under_maintenance(windows: Iterable[Window], instrument: str, now: datetime) -> tuple[Window, datetime] | None:
    """The window that a moment lies in, and its end; None where it lies in none."""
    for window in _of(windows, instrument):
        for begins, ends in window.around(now):
            if begins <= now < ends:
                return window, ends
    return None


def next_maintenance(windows: Iterable[Window], instrument: str, now: datetime) -> tuple[Window, datetime] | None:
    """The window that begins next after a moment, within the week, and when; None where none does."""
    coming = [
        (begins, number, window)
        for number, window in enumerate(_of(windows, instrument))
        for begins, _ends in window.around(now)
        if begins > now
    ]
    begins, _number, window = min(coming, default=(None, 0, None))
    return (window, begins) if window and begins else None


def _of(windows: Iterable[Window], instrument: str) -> list[Window]:
    return [window for window in windows if window.instrument in (None, instrument)]
