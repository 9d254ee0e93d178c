"""Stopped in time where nothing can be saved, never stopped or failed where nothing is wrong."""

from collections import Counter

import pytest

from tests.quality_trial import healthy, hopeless
from tests.quality_trial.tally import interval

HOPELESS, HEALTHY = 150, 150


@pytest.mark.parametrize("number", range(6))
def test_a_run_that_cannot_be_saved_is_stopped(number: int) -> None:
    found = hopeless.trial(number)
    assert found.in_time, found.note


@pytest.mark.parametrize("number", range(2))
def test_a_healthy_run_is_left_alone(number: int) -> None:
    found = healthy.trial(number)
    assert not found.stopped, (found.note, found.stopped)
    assert not found.failed, (found.note, found.failed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_19_of_20_hopeless_runs_are_stopped_within_5_percent_of_their_frames() -> None:
    found = [hopeless.trial(number) for number in range(HOPELESS)]
    print(f"\n{'fault':<24} {'runs':>5} {'in time':>8} {'latest':>7}")
    for fault in hopeless.FAULTS:
        some = [one for one in found if one.fault == fault]
        latest = max(one.part for one in some)
        print(f"{fault:<24} {len(some):>5} {sum(one.in_time for one in some):>8} {latest:>7.1%}")
    late = [f"{one.part:.1%} {one.note}" for one in found if not one.in_time]
    low, high = interval(len(late), len(found))
    print(f"too late or too early: {len(late)} of {len(found)}, 95 % interval {low:.1%} to {high:.1%}")
    for fault in hopeless.FAULTS:
        some = [one.in_time for one in found if one.fault == fault]
        assert sum(some) >= 19 / 20 * len(some), late


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_healthy_run_is_stopped_or_failed() -> None:
    found = [healthy.trial(number) for number in range(HEALTHY)]
    stopped = [(one.note, one.stopped) for one in found if one.stopped]
    failed = [(one.note, one.failed) for one in found if one.failed]
    warnings = Counter(warned.split(":")[0] for one in found for warned in one.warned)
    print(f"\n{len(found)} healthy runs: {len(stopped)} stopped, {len(failed)} failed; warnings: {dict(warnings)}")
    assert not stopped
    assert not failed
