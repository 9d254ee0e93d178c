"""The count itself: what an error is, the interval, and that too few cases or too many errors fail."""

from math import isnan

import pytest
from scipy.stats import binom

from stem4d.verdict import Verdict
from tests.quality_trial.tally import Case, assert_at_most, interval, table, tally

PASS, UNKNOWN, WARN, FAIL = Verdict.PASS, Verdict.NOT_MEASURABLE, Verdict.WARN, Verdict.FAIL


def _cases(metric: str, *, hits: int = 0, misses: int = 0, quiet: int = 0, alarms: int = 0) -> list[Case]:
    return [
        *[Case(metric, True, False, FAIL)] * hits,
        *[Case(metric, True, False, PASS, "truth 3, found 1")] * misses,
        *[Case(metric, False, False, PASS)] * quiet,
        *[Case(metric, False, False, WARN)] * alarms,
    ]


@pytest.mark.parametrize(
    ("positive", "verdict", "missed", "alarm"),
    [
        (True, PASS, True, False),
        (True, UNKNOWN, True, False),
        (True, WARN, False, False),
        (True, FAIL, False, False),
        (False, PASS, False, False),
        (False, UNKNOWN, False, False),
        (False, WARN, False, True),
        (False, FAIL, False, True),
    ],
)
def test_what_an_error_is(positive: bool, verdict: Verdict, missed: bool, alarm: bool) -> None:
    clear, doubtful = (Case("drift.rate", positive, doubtful, verdict) for doubtful in (False, True))
    assert (clear.missed, clear.false_alarm) == (missed, alarm)
    assert (doubtful.missed, doubtful.false_alarm) == (False, False)
    (row,) = tally([clear, doubtful])
    assert (row.misses, row.false_alarms, row.doubtful) == (missed, alarm, 1)
    assert (row.positives, row.negatives) == (positive, not positive and verdict is not UNKNOWN)
    assert row.not_measured == (not positive and verdict is UNKNOWN)


def test_metrics_are_counted_apart_in_their_order() -> None:
    rows = tally([*_cases("b", hits=2), *_cases("a", quiet=3), *_cases("b", alarms=1)])
    assert [(row.metric, row.positives, row.negatives, row.false_alarms) for row in rows] == [
        ("b", 2, 1, 1),
        ("a", 0, 3, 0),
    ]


def test_the_interval_is_the_exact_one() -> None:
    # Closed forms at the ends: none of n has 1 - (0.025)^(1/n) for its upper end, all of n the mirror of that.
    assert interval(0, 150) == pytest.approx((0.0, 1 - 0.025 ** (1 / 150)))
    assert interval(150, 150) == pytest.approx((0.025 ** (1 / 150), 1.0))
    # By definition: at the lower end 3 or more have 2.5 %, at the upper end 3 or fewer.
    low, high = interval(3, 150)
    assert binom.sf(2, 150, low) == pytest.approx(0.025)
    assert binom.cdf(3, 150, high) == pytest.approx(0.025)
    assert all(isnan(end) for end in interval(0, 0))


def test_the_bound_is_three_in_each_150() -> None:
    assert_at_most(_cases("x", hits=147, misses=3, quiet=147, alarms=3))
    assert_at_most(_cases("x", hits=294, misses=6, quiet=300))
    for wrong in (
        [],
        _cases("x", hits=149, quiet=150),
        _cases("x", hits=150, quiet=149),
        _cases("x", hits=146, misses=4, quiet=150),
        _cases("x", hits=150, quiet=146, alarms=4),
        _cases("x", hits=293, misses=7, quiet=300),
        [*_cases("x", hits=150, quiet=149), Case("x", False, False, UNKNOWN)],
        [*_cases("x", hits=150, quiet=150), *_cases("y", hits=10, quiet=150)],
    ):
        with pytest.raises(AssertionError):
            assert_at_most(wrong)


def test_errors_are_named_with_the_table() -> None:
    with pytest.raises(AssertionError, match="truth 3, found 1"):
        assert_at_most(_cases("drift.rate", hits=140, misses=10, quiet=150))
    text = table(tally(_cases("drift.rate", hits=147, misses=3, quiet=150)))
    assert "drift.rate" in text
    assert "3 (0.4 to 5.7 %)" in text
