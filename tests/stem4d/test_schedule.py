"""Predicted against remaining time: who is given up, why, and who comes back when the night goes faster."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from visits_world import nights, ratios, starts

from stem4d.night import Overheads
from stem4d.order import Mode, Visit
from stem4d.schedule import Measured, in_words, schedule

OVERHEADS = Overheads()
MODE = Mode(200, 21.4, 106.4, "s")


@given(nights(most=12), st.floats(0, 20000), starts, ratios, st.booleans())
@settings(max_examples=80)
def test_each_target_is_placed_or_has_a_reason_and_all_that_is_placed_fits(
    visits: tuple[Visit, ...], left_s: float, now: Mode | None, ratio: float, as_written: bool
) -> None:
    seen = schedule(visits, left_s, OVERHEADS, now, ratio, as_written=as_written)
    names = [one.visit.name for one in (*seen.placed, *seen.waiting, *seen.lost)]
    assert sorted(names) == sorted(one.name for one in visits)
    assert all(one.ends_s <= left_s and not one.late for one in seen.placed)
    assert all("needs" in one.reason for one in (*seen.waiting, *seen.lost))
    # What waits would fit alone: a night never ends with something left that it had time for.
    assert bool(seen.placed) or not seen.waiting


@given(nights(most=8), st.floats(0, 20000))
@settings(max_examples=60)
def test_of_one_length_the_lowest_priority_is_given_up(visits: tuple[Visit, ...], left_s: float) -> None:
    alike = [Visit(one.name, MODE, 600, one.priority) for one in visits]
    seen = schedule(alike, left_s, OVERHEADS)
    if seen.waiting and seen.placed:
        assert max(one.visit.priority for one in seen.waiting) <= min(one.visit.priority for one in seen.placed)


def test_the_reasons_name_the_time_that_is_needed_and_the_one_that_is_left() -> None:
    visits = (Visit("long", MODE, 7200), Visit("due", MODE, 600, 0, 300), Visit("good", MODE, 600))
    seen = schedule(visits, 3600, OVERHEADS)
    assert [one.visit.name for one in seen.placed] == ["good"]
    long, due = seen.lost
    assert long.reason == "it needs 2 h, and 1 h are left before the night ends"
    assert due.reason == "it needs 10 min, and 5 min are left before its deadline"
    assert (long.for_night, due.for_night) == (True, False)


def test_what_waits_comes_back_when_the_others_take_less() -> None:
    visits = tuple(Visit(f"t{i}", MODE, 1800, -i) for i in range(3))
    seen = schedule(visits, 3600, OVERHEADS)
    assert [one.visit.name for one in seen.waiting] == ["t2"]
    faster = schedule(visits, 3600, OVERHEADS, ratio=0.6)
    assert not faster.waiting
    slower = schedule(visits, 3600, OVERHEADS, ratio=1.5)
    assert [one.visit.name for one in slower.placed] == ["t0"]
    assert "times 1.5 as measured so far" in slower.waiting[0].reason


def test_a_short_one_fills_what_a_long_one_leaves() -> None:
    visits = (Visit("a", MODE, 2000), Visit("long", MODE, 3000), Visit("short", MODE, 500))
    assert {one.visit.name for one in schedule(visits, 2600, OVERHEADS).placed} == {"a", "short"}


def test_the_ratio_is_measured_over_all_and_begins_at_one() -> None:
    assert Measured().ratio == 1
    one = Measured().with_target(100, 300)
    assert one.ratio == 2  # as much weight for the prediction as for the first target
    many = one
    for _ in range(99):
        many = many.with_target(100, 300)
    assert many.ratio == pytest.approx(3, rel=0.01)  # (300 n + 100) / (100 (n + 1)) at n = 100


def test_times_are_told_in_a_unit_that_suits() -> None:
    assert [in_words(seconds) for seconds in (5, 90, 5400, inf)] == ["5 s", "1.5 min", "1.5 h", "no end of time"]
