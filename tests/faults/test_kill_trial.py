"""kill -9 of flow, worker and watchdog, at named points and at random moments, in real time.

``NIGHTBEAM_KILLS`` is how many random ones there are.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.kill_trial import (
    POINTS,
    Victim,
    beam_after,
    begin,
    check,
    look_for,
    make_template,
    nobody_is_left,
    wait_for_beam,
)

KILLS = int(os.environ.get("NIGHTBEAM_KILLS", "20"))
LIT_S = 1.8
"""Of the two seconds for which the beam is on: the rest is what it takes to see that and to kill."""
WHOLE_RUN_S = 15.0
"""A run that nobody kills took 16 s, 7 s of them before the beam; where one is shorter, its kill comes earlier."""
LONGEST_S = 90.0
"""A run takes some 8 s; a busy machine may need many times that."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("kills") / "template"
    make_template(home)
    return home


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "point"), [(victim, point) for victim, points in POINTS.items() for point in points]
)
def test_a_death_at_a_named_point(template: Path, tmp_path: Path, victim: Victim, point: str) -> None:
    trial = begin(template, tmp_path / "home", crash_at=point)
    trial.follow(LONGEST_S)
    told = (trial.home / "told").read_text()
    assert victim in trial.died, f"{point} was never reached: {told}"
    if victim == "flow":
        assert trial.exit_code == -signal.SIGKILL, told
    else:
        assert "Traceback" not in told
    check(trial, victim)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLS))
def test_a_death_at_a_random_moment(
    template: Path, tmp_path: Path, number: int, record_property: Callable[[str, object], None]
) -> None:
    """Two of three fall into the exposure, where the beam is on; the others anywhere before it and after it; one of
    ten runs goes through Prefect.
    """
    chance = random.Random(number)
    wanted: Victim = chance.choice(("flow", "worker", "watchdog"))
    exposing = number % 3 > 0
    after_s = chance.uniform(0.0, LIT_S) if exposing else chance.uniform(0.3, WHOLE_RUN_S)
    for attempt in range(5):
        trial = begin(template, tmp_path / f"home{attempt}", prefect=number % 10 == 9)
        if exposing:
            wait_for_beam(trial, LONGEST_S)
        look_for(trial, after_s / 2**attempt)
        # A run that has ended by itself was not killed, and says nothing of what a kill leaves.
        if trial.exit_code is None:
            break
    else:
        pytest.fail("every run had ended before it could be killed")
    victim = trial.kill(wanted)
    trial.follow(LONGEST_S)
    on_s = check(trial, victim)
    beam = f"the beam was on, and off {1000 * on_s:.0f} ms later" if on_s > 0 else "the beam was off"
    record_property("fault", f"{victim} killed (meant: {wanted}): {beam}")


@pytest.mark.slow
@pytest.mark.parametrize("prefect", [False, True])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_the_beam_is_on(
    template: Path, tmp_path: Path, prefect: bool, number: signal.Signals, code: int, times: int
) -> None:
    trial = begin(template, tmp_path / "home", prefect=prefect)
    wait_for_beam(trial, LONGEST_S)
    asked = datetime.now(UTC)
    for _each in range(times):
        trial.run.send_signal(number)
        time.sleep(0.1)  # two at once are one signal to the kernel
    trial.follow(LONGEST_S)
    told = (trial.home / "told").read_text()
    assert trial.exit_code == code, told
    assert "Traceback" not in told
    trial.died["flow"] = asked
    assert beam_after(trial.home, asked) < 2.0
    nobody_is_left(trial, told)
    # The frames that had come are in a file that was closed, not in one that was cut off.
    assert times == 2 or list(trial.home.glob("data/*/*.incomplete.h5")), list(trial.home.glob("data/*/*"))


@pytest.mark.slow
@pytest.mark.parametrize("point", ["expose.lit", "worker.progress", "watchdog.beat", "before check quality"])
def test_a_death_with_prefect(template: Path, tmp_path: Path, point: str) -> None:
    (victim,) = (victim for victim, points in POINTS.items() if point in points)
    trial = begin(template, tmp_path / "home", crash_at=point, prefect=True)
    trial.follow(LONGEST_S)
    assert victim in trial.died, (trial.home / "told").read_text()
    check(trial, victim)
