"""Blind trial of damage and contamination: a few runs always, and enough for the promise where there is time."""

import pytest

from tests.quality_trial.damage import trial
from tests.quality_trial.tally import Case, assert_at_most, table, tally

TRIALS = range(4500, 4950)
"""A third of the runs lose more than the limit at high angles: 150 and some of each kind. On those below 2000 checks
and draws were chosen, on 3000 to 3450 when a figure passes."""


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    found = [case for number in TRIALS for case in trial(number)]
    print(f"\n{table(tally(found))}")
    return found


def test_a_few_runs_are_judged_without_an_error() -> None:
    few = [case for number in range(2) for case in trial(number)]
    assert {case.metric for case in few} == {"damage.decay", "damage.change", "contamination.frame", "damage.area"}
    wrong = [case.note for case in few if case.missed or case.false_alarm]
    # One of 200 cases may be wrong; two of eight are a defect.
    assert len(wrong) < 2, wrong


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_trial_of_damage(cases: list[Case]) -> None:
    assert_at_most(cases)
