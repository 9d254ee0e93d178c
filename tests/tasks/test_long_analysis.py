"""A long analysis at the end of a run keeps to what its plan allows, and says how far it is."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stem4d.analyse.method import NotPossible
from stem4d.analyse.progress import tell
from stem4d.analysis_time import analysis_s
from stem4d.plan import Plan, Ptychography
from storage.documents import load_model
from tasks.lab import Lab
from tasks.long_analysis import TOLD_EVERY_S, OutOfTime, followed, require_time
from tests.flows.night_world import PLANS


def plan(**changed: Any) -> Plan:
    changes = [f"analyses.0.{name}={value}" for name, value in changed.items()]
    return load_model(PLANS / "methods" / "6_ptychography.yaml", Plan, changes)


def test_the_plan_says_whether_and_how_long() -> None:
    usual = plan()
    require_time(usual, usual.analyses[0])
    assert 10 < analysis_s(usual) < 60
    for refused, said in (
        (plan(reconstruct="by_command"), "leaves the reconstruction to a command"),
        (plan(max_reconstruction_min=0.1), "max_reconstruction_min"),
    ):
        with pytest.raises(NotPossible, match=said):
            require_time(refused, refused.analyses[0])
        # A night plans no time for it.
        assert analysis_s(refused) == 0.0


def world(asked: str = "") -> tuple[Any, list[str]]:
    told: list[str] = []
    lab = SimpleNamespace(break_off=lambda: asked, show=lambda _kind, words, _run: told.append(words))
    return cast(Lab, lab), told


def clock(*moments: float) -> Any:
    left: Iterator[float] = iter(moments)
    return lambda: next(left)


def test_progress_is_told_now_and_then() -> None:
    lab, told = world()
    wanted = cast(Ptychography, plan().analyses[0])
    late = TOLD_EVERY_S + 1
    with followed(lab, "r", wanted, clock(0.0, 1.0, 1.0, late, late, late)):
        tell("iterations", 1, 20)
        tell("iterations", 2, 20)
    assert told == ["ptychography: iterations, 2 of 20"]
    # Nobody listens any more.
    tell("iterations", 3, 20)


@pytest.mark.parametrize(("asked", "now_s", "said"), [("stop, as asked", 1.0, "stop, as asked"), ("", 301.0, "5 min")])
def test_it_ends_where_its_time_is_over_or_a_person_asks(asked: str, now_s: float, said: str) -> None:
    lab, _told = world(asked)
    with pytest.raises(OutOfTime, match=said), followed(lab, "r", plan().analyses[0], clock(0.0, now_s, now_s)):
        tell("iterations", 1, 20)
