"""What a night will do, before it is asked for: its targets in order with their times, and what will not fit."""

from collections.abc import Iterator
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flows.queue import Queued
    from stem4d.instrument import InstrumentFacts
    from stem4d.night import Approval, Night


def order_lines(
    night: "Night", queued: "tuple[Queued, ...]", facts: "InstrumentFacts", began: datetime | None = None
) -> Iterator[str]:
    """One line a target, as the night is seen before it begins; ``began`` is when one that goes on did."""
    from stem4d.order import visit_of
    from stem4d.schedule import in_words, schedule

    now = datetime.now(UTC)
    visits = []
    for one in queued:
        if one.target.name in night.held_back:
            continue
        due = one.target.due(began or now)
        deadline_s = inf if due is None else (due - now).total_seconds()
        visits.append(visit_of(one.target.name, one.plan, facts, night.overheads, one.target.priority, deadline_s))
    seen = schedule(visits, 3600 * night.max_hours, night.overheads, as_written=night.order == "as_written")
    for number, placed in enumerate(seen.placed, 1):
        change = f", {in_words(placed.change_s)} of it for new settings" if placed.change_s else ""
        lasts = in_words(placed.ends_s - placed.starts_s)
        yield f"  {number:>3}. {placed.visit.name}: {lasts}{change}, ends after {in_words(placed.ends_s)}"
    for left in (*seen.waiting, *seen.lost):
        yield f"       {left.visit.name} is not expected to fit: {left.reason}"
    if spares := [one.target.name for one in queued if one.target.name in night.held_back]:
        yield f"       held back as spares: {', '.join(spares)}"
    if night.approval is not None:
        yield f"       {approval_line(night.approval)}"


def approval_line(policy: "Approval") -> str:
    """Before what a person is asked, and what becomes of it where nobody answers."""
    before = {"night": "its first target", "remedy": "each remedy"}
    follows = {"go_on": "it goes on", "skip": "it is not tried", "stop": "the night stops"}
    asked = " and ".join(before[one] for one in dict.fromkeys(policy.before))
    otherwise = "; ".join(f"{before[one]}: {follows[policy.unanswered(one)]}" for one in dict.fromkeys(policy.before))
    return f"asks a person in Prefect before {asked}, {policy.wait_min:g} min each; without an answer, {otherwise}"
