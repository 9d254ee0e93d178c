"""Windows of maintenance: what lies in one, what comes next, and what is no window."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stem4d.maintenance import Window, next_maintenance, under_maintenance

FRIDAY = datetime(2026, 11, 27, 12, tzinfo=UTC)
ONCE = Window.model_validate({"begins": "2026-11-27T08:00+01:00", "ends": "2026-11-27T14:00+01:00", "instrument": "a"})
NIGHTLY = {"days": ["thu"], "from_time": "22:00", "to_time": "02:00", "time_zone": "Europe/Vienna"}
WEEKLY = Window.model_validate({**NIGHTLY, "reason": "gun"})


def test_a_window_of_one_instrument_holds_for_it_alone() -> None:
    found = under_maintenance([ONCE], "a", FRIDAY)
    assert found is not None
    assert found[1] == datetime(2026, 11, 27, 13, tzinfo=UTC)
    assert under_maintenance([ONCE], "b", FRIDAY) is None
    # Its end is no part of it.
    assert under_maintenance([ONCE], "a", FRIDAY + timedelta(hours=1)) is None


def test_one_that_crosses_midnight_ends_on_the_next_day() -> None:
    assert under_maintenance([WEEKLY], "any", datetime(2026, 11, 27, 0, 59, tzinfo=UTC)) is not None
    assert under_maintenance([WEEKLY], "any", datetime(2026, 11, 27, 1, tzinfo=UTC)) is None
    coming = next_maintenance([WEEKLY, ONCE], "a", FRIDAY)
    assert coming == (WEEKLY, datetime(2026, 12, 3, 21, tzinfo=UTC))


def test_the_time_of_the_day_is_that_of_its_place_all_the_year() -> None:
    # On 25 October 2026 the clock there goes back: 22:00 is 20:00 UTC before, and 21:00 UTC after.
    before = next_maintenance([WEEKLY], "a", datetime(2026, 10, 20, tzinfo=UTC))
    after = next_maintenance([WEEKLY], "a", datetime(2026, 10, 27, tzinfo=UTC))
    assert before is not None
    assert after is not None
    assert (before[1].astimezone(UTC).hour, after[1].astimezone(UTC).hour) == (20, 21)


def test_of_several_the_next_one_comes_first_and_the_past_never() -> None:
    assert next_maintenance([ONCE], "a", FRIDAY) is None
    assert next_maintenance([ONCE, WEEKLY], "a", FRIDAY - timedelta(days=2)) == (
        WEEKLY,
        datetime(2026, 11, 26, 21, tzinfo=UTC),
    )
    assert next_maintenance([], "a", FRIDAY) is None


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_moment_lies_in_a_weekly_window_as_its_local_time_says(now: datetime) -> None:
    window = Window.model_validate({"days": ["sat", "sun"], "from_time": "06:30", "to_time": "18:00"})
    within = now.weekday() >= 5 and "06:30" <= f"{now:%H:%M}" < "18:00"
    assert (under_maintenance([window], "a", now) is not None) == within
    coming = next_maintenance([window], "a", now)
    assert coming is not None
    assert timedelta(0) < coming[1] - now <= timedelta(days=7)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"begins": "2026-11-27T08:00Z"},
        {"begins": "2026-11-27T08:00", "ends": "2026-11-27T09:00"},
        {"begins": "2026-11-27T09:00Z", "ends": "2026-11-27T08:00Z"},
        {**NIGHTLY, "begins": "2026-11-27T08:00Z", "ends": "2026-11-27T09:00Z"},
        {**NIGHTLY, "ends": "2026-11-27T09:00Z"},
        {"days": ["thu"], "from_time": "22:00"},
        {**NIGHTLY, "days": []},
        {**NIGHTLY, "days": ["today"]},
        {**NIGHTLY, "time_zone": "Vienna"},
        {**NIGHTLY, "time_zone": "../etc/passwd"},
        {**NIGHTLY, "from_time": "25:00"},
        {**NIGHTLY, "to_time": "10:00:00+01:00"},
        {**NIGHTLY, "where": "here"},
    ],
)
def test_what_is_no_window_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Window.model_validate(wrong)
