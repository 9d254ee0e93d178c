"""The order of a night: nothing lost, priorities and deadlines held, and no order of a small night is better."""

import time
from dataclasses import replace
from itertools import permutations
from math import inf
from pathlib import Path

from hypothesis import given, settings
from visits_world import nights, ratios, starts

from stem4d.instrument import InstrumentFile
from stem4d.night import Overheads
from stem4d.order import EXACT, Mode, Placed, Visit, change_s, mode_of, ordered, timed, visit_of
from stem4d.plan import Plan
from stem4d.predict import predict
from storage.documents import load_model

OVERHEADS = Overheads()
PLANS = Path(__file__).parents[2] / "plans"


def late_by_priority(placed: tuple[Placed, ...]) -> tuple[int, ...]:
    ranks = sorted({one.visit.priority for one in placed}, reverse=True)
    return tuple(sum(one.late for one in placed if one.visit.priority == rank) for rank in ranks)


def inversions(placed: tuple[Placed, ...]) -> int:
    return sum(a.visit.priority < b.visit.priority for i, a in enumerate(placed) for b in placed[i + 1 :])


def changes_s(placed: tuple[Placed, ...]) -> float:
    return sum(one.change_s for one in placed)


def judged(placed: tuple[Placed, ...]) -> tuple[tuple[int, ...], int, float]:
    return late_by_priority(placed), inversions(placed), round(changes_s(placed), 6)


@given(nights(most=25), starts, ratios)
@settings(max_examples=40)
def test_nothing_is_lost_or_repeated_and_times_follow_one_another(
    visits: tuple[Visit, ...], now: Mode | None, ratio: float
) -> None:
    placed = ordered(visits, OVERHEADS, now, ratio)
    assert sorted(one.visit.name for one in placed) == sorted(one.name for one in visits)
    ends = 0.0
    for one in placed:
        assert one.starts_s == ends
        assert one.ends_s >= one.starts_s + ratio * one.visit.seconds * (1 - 1e-12)  # rounding of a sum
        ends = one.ends_s


@given(nights(most=5), starts, ratios)
@settings(max_examples=80)
def test_no_order_of_a_small_night_is_better(visits: tuple[Visit, ...], now: Mode | None, ratio: float) -> None:
    """So a deadline that any order meets is met, as far as none of a higher priority pays for it."""
    found = judged(ordered(visits, OVERHEADS, now, ratio))
    assert found == min(judged(timed(order, OVERHEADS, now, ratio)) for order in permutations(visits))


@given(nights(most=15), starts)
@settings(max_examples=40)
def test_without_deadlines_priorities_hold_and_settings_come_together(
    visits: tuple[Visit, ...], now: Mode | None
) -> None:
    free = [Visit(one.name, one.mode, one.seconds, one.priority) for one in visits]
    placed = ordered(free, OVERHEADS, now)
    assert inversions(placed) == 0
    # Of one priority alone: between two of them the first may come back to settings that the second begins with.
    alike = ordered([replace(one, priority=0) for one in free], OVERHEADS, now)
    sequence = [one.visit.mode for one in alike]
    runs = [mode for mode, before in zip(sequence, [None, *sequence], strict=False) if mode != before]
    assert len(runs) == len(set(runs))


@given(nights(most=14, least=EXACT + 1))
@settings(max_examples=40)
def test_in_a_larger_night_no_more_is_late_than_by_priority_alone_or_by_deadline_alone(
    visits: tuple[Visit, ...],
) -> None:
    found = late_by_priority(ordered(visits, OVERHEADS))
    plain = sorted(visits, key=lambda one: -one.priority)
    hasty = sorted(visits, key=lambda one: one.deadline_s)
    # By priority alone is not what it starts from: settings are brought together there, which only saves time.
    assert found <= late_by_priority(timed(hasty, OVERHEADS))
    if not any(late_by_priority(timed(plain, OVERHEADS))):
        assert not any(found)


def test_a_lower_priority_goes_first_only_where_its_deadline_asks_for_it() -> None:
    mode = Mode(200, 21.4, 106.4, "s")
    high, low = Visit("high", mode, 1000, 1), Visit("low", mode, 100, 0, 500)
    assert [one.visit.name for one in ordered((high, low), OVERHEADS)] == ["low", "high"]
    due = Visit("high", mode, 1000, 1, 1050)
    assert [one.visit.name for one in ordered((due, low), OVERHEADS)] == ["high", "low"]


def test_a_change_costs_what_is_changed_and_nothing_from_an_unknown_state() -> None:
    one = Mode(200, 21.4, 106.4, "spot-9")
    assert change_s(None, one, OVERHEADS) == 0
    assert change_s(one, one, OVERHEADS) == 0
    assert change_s(one, Mode(80, 21.4, 188.6, "spot-9"), OVERHEADS) == 1800 + 60
    assert change_s(one, Mode(200, 1.5, 106.4, "spot-6"), OVERHEADS) == 300 + 60


def test_a_visit_is_what_its_plan_predicts_with_the_overhead() -> None:
    facts = load_model(PLANS / "instruments" / "demo.toml", InstrumentFile).facts
    plan = load_model(PLANS / "demo" / "3_saturating.yaml", Plan)
    visit = visit_of("x", plan, facts, OVERHEADS, 3, 99.0)
    assert visit.seconds == predict(plan).total_time_s + 120
    assert mode_of(plan, facts) == Mode(200, 21.4, 106.4, "spot-6")


def test_the_order_of_a_long_night_is_found_in_time() -> None:
    """It is looked for again before every target."""
    mode = [Mode(200, angle, length, "s") for angle in (1.5, 21.4) for length in range(8)]
    visits = [Visit(f"t{i}", mode[i % 16], 60.0, i % 3, 5000 if i % 5 == 0 else inf) for i in range(60)]
    assert any(late_by_priority(timed(sorted(visits, key=lambda one: -one.priority), OVERHEADS)))
    began = time.monotonic()
    placed = ordered(visits, OVERHEADS)
    assert len(placed) == 60
    assert not any(late_by_priority(placed))
    assert time.monotonic() - began < 5  # a tenth of a second on a machine with nothing else to do
