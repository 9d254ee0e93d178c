"""The blind trial of beam and detector: a few runs always, all of them slowly, with the table of errors."""

from dataclasses import replace

import numpy as np
import pytest

from tests.blind.world import frames_of
from tests.quality_trial.beam import GROUP, trials
from tests.quality_trial.beam_world import NO_LIMIT_HZ, draw, run_of, scene_of
from tests.quality_trial.tally import assert_at_most, table, tally

RUNS = range(2000, 2560)
"""As many as give 150 faulty and 150 healthy cases of each metric outside its doubt; on those below 2000 checks and
draws were chosen."""
EXTRA = "current drift"
"""Not asked for by the trial, and in doubt wherever one pass does not tell it from the specimen: fewer cases."""


def test_a_few_runs_are_judged_right() -> None:
    cases = trials(range(1000, 1008))
    wrong = [f"{case.metric}: {case.verdict.value}: {case.note}" for case in cases if case.missed or case.false_alarm]
    # Of 72 cases at 3 errors in 150: one is to be borne with, and none came of these seeds.
    assert not wrong, "\n".join(wrong)
    assert {case.metric for case in cases if case.positive and not case.doubtful} >= {"saturation", "dropout", "dose"}


def test_the_trial_is_the_same_every_time() -> None:
    assert trials([3]) == trials([3])


def test_faults_are_drawn_of_every_kind() -> None:
    drawn = [draw(np.random.default_rng((6, GROUP, number))) for number in range(200)]
    assert {faults.loss for faults in drawn} == {"", "scattered", "row", "end", "twice", "corrupt", "repeated"}
    for part in (lambda f: f.drops, lambda f: f.hot, lambda f: f.dead, lambda f: f.drift):
        # Half of 200 is 100, with a standard deviation of 7.
        assert 65 < sum(bool(part(faults)) for faults in drawn) < 135


def test_counts_are_what_the_simulator_records() -> None:
    drawn = draw(np.random.default_rng(4))
    faults = replace(drawn, drops=(), hot=(), dead=(), masked=(), loss="", rate_limit_hz=NO_LIMIT_HZ, passes=1)
    (made,) = run_of(faults, np.random.default_rng(4))
    assert np.array_equal(made.deep, frames_of(scene_of(faults, np.random.default_rng(4))))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_blind_trial_of_beam_and_detector(capsys: pytest.CaptureFixture[str]) -> None:
    cases = trials(RUNS)
    with capsys.disabled():
        print(f"\n{table(tally(cases))}")
    assert_at_most(case for case in cases if case.metric != EXTRA)
    assert_at_most((case for case in cases if case.metric == EXTRA), errors=1, least=50)
