"""What of a night still fits: predicted against remaining time, the lowest priority given up first."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from stem4d.night import Overheads
from stem4d.order import Mode, Placed, Visit, change_s, ordered, timed

MOST_TRIED_AGAIN = 30
"""Visits given up that are looked at once more, whether they fit into what others left."""


class Left(NamedTuple):
    """A visit that does not fit, and why."""

    visit: Visit
    reason: str
    for_night: bool
    """Whether it is the night's end that it does not fit before, and not a deadline of its own."""


@dataclass(frozen=True)
class Schedule:
    """The rest of a night as it is seen now."""

    placed: tuple[Placed, ...]
    """What is to run, in order."""
    waiting: tuple[Left, ...]
    """What does not fit beside those; it may yet, where they take less than predicted."""
    lost: tuple[Left, ...]
    """What would not fit even if it were next."""

    @property
    def ends_s(self) -> float:
        """When the last of what fits will have ended, from now [s]."""
        return self.placed[-1].ends_s if self.placed else 0.0


@dataclass(frozen=True)
class Measured:
    """Predicted and measured time of the targets that have ended [s]."""

    predicted_s: float = 0.0
    actual_s: float = 0.0
    targets: int = 0

    def with_target(self, predicted_s: float, actual_s: float) -> "Measured":
        """One more."""
        return Measured(self.predicted_s + predicted_s, self.actual_s + actual_s, self.targets + 1)

    @property
    def ratio(self) -> float:
        """Measured over predicted time.

        The prediction itself counts as one target more that took as long as it was to: the first one alone does not
        turn the night over.
        """
        if not self.targets or self.predicted_s <= 0:
            return 1.0
        one = self.predicted_s / self.targets
        return (self.actual_s + one) / (self.predicted_s + one)


def schedule(
    visits: Sequence[Visit],
    left_s: float,
    overheads: Overheads,
    now: Mode | None = None,
    ratio: float = 1.0,
    *,
    as_written: bool = False,
) -> Schedule:
    """The order of what fits into the time that is left, and what does not.

    Parameters
    ----------
    visits : sequence of Visit
        All that has not begun, as it was written; deadlines count from now.
    left_s : float
        Until the night ends [s].
    overheads, now, ratio
        As for `stem4d.order.ordered`.
    as_written : bool
        Whether the order is kept.
    """

    def placed(kept: Sequence[Visit]) -> tuple[Placed, ...]:
        return timed(kept, overheads, now, ratio) if as_written else ordered(kept, overheads, now, ratio)

    def needs_s(visit: Visit) -> float:
        return ratio * (change_s(now, visit.mode, overheads) + visit.seconds)

    def fits(one: Placed) -> bool:
        return not one.late and one.ends_s <= left_s

    lost = [one for one in visits if needs_s(one) > min(left_s, one.deadline_s)]
    kept = [one for one in visits if one not in lost]
    given_up: list[Visit] = []
    order = placed(kept)
    while any(not fits(one) for one in order):
        gone = _given_up(order, [fits(one) for one in order])
        given_up += gone
        kept = [one for one in kept if one not in gone]
        order = placed(kept)
    for again in sorted(given_up, key=lambda one: -one.priority)[:MOST_TRIED_AGAIN]:
        more = [one for one in visits if one in kept or one == again]
        tried = placed(more)
        if all(fits(one) for one in tried):
            kept, order = more, tried
    waiting = [one for one in visits if one not in lost and one not in kept]
    return Schedule(
        order,
        tuple(_left(one, needs_s(one), left_s, ratio, beside=len(order)) for one in waiting),
        tuple(_left(one, needs_s(one), left_s, ratio) for one in lost),
    )


def _given_up(order: Sequence[Placed], fits: Sequence[bool]) -> list[Visit]:
    """The lowest priority up to the first that does not fit; of that, those that do not fit, or else the last."""
    until = order[: fits.index(False) + 1]
    lowest = min(one.visit.priority for one in until)
    late = [one.visit for one, good in zip(order, fits, strict=True) if not good and one.visit.priority == lowest]
    return late or [[one.visit for one in until if one.visit.priority == lowest][-1]]


def _left(visit: Visit, needs_s: float, left_s: float, ratio: float, beside: int = 0) -> Left:
    for_night = left_s <= visit.deadline_s
    until_s, what = (left_s, "the night ends") if for_night else (visit.deadline_s, "its deadline")
    measured = "" if ratio == 1 else f" (predicted, times {ratio:.2g} as measured so far)"
    words = f"it needs {in_words(needs_s)}{measured}, and {in_words(max(0.0, until_s))} are left before {what}"
    if beside:
        words += (
            f", which {beside} target{'s' if beside > 1 else ''} of no lower priority or nearer deadline need first"
        )
    return Left(visit, words, for_night)


def in_words(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> in_words(5400)
    '1.5 h'
    """
    if not isfinite(seconds):
        return "no end of time"
    if seconds < 60:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 3600 else f"{seconds / 3600:.3g} h"
