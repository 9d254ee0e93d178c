"""F11: the clock of the host jumps by an hour in a run; durations and order are not of its making."""

from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest

from db.engine import reader
from db.questions.show import show_run
from flows.run import run_plan
from stem4d.night import TargetState
from tests.flows.night_world import small, small_lab

PLAN = small("1_overview.yaml", 16)
JUMPS_AFTER = 25
"""Readings of the clock: a run that uses calibrations again takes some fifty."""


@pytest.mark.slow
@pytest.mark.parametrize("hours", [-1, 1])
def test_durations_and_order_do_not_follow_the_clock(
    tmp_path: Path, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    class Jumping(datetime):
        """The host's clock, which somebody sets after it was read so often."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            nonlocal asked
            asked += 1
            return super().now(tz) + timedelta(hours=hours if asked > JUMPS_AFTER else 0)

    with small_lab(tmp_path) as opened:
        undisturbed = run_plan(opened, PLAN, with_prefect=False)
        monkeypatch.setattr("db.clock.datetime", Jumping)
        outcome = run_plan(opened, PLAN, with_prefect=False)
        monkeypatch.undo()
        with reader(opened.engine) as session:
            usual, shown = (show_run(session, name=one.runs[0]) for one in (undisturbed, outcome))
    assert asked > JUMPS_AFTER, "the clock never jumped"
    assert outcome.state is TargetState.DONE, outcome.reason
    started, ended = (datetime.fromisoformat(shown[name]) for name in ("started", "ended"))
    assert abs(ended - started) > timedelta(minutes=50)  # the clock did jump within the run
    # By the instrument's clock, which goes on: two runs of one plan take the same to a part in ten.
    assert shown["actual_seconds"] == pytest.approx(usual["actual_seconds"], rel=0.1)
    kinds = [one["kind"] for one in shown["events"]]
    assert kinds[0] == "run_started"
    assert kinds.index("pass recorded") < kinds.index("quality checked") < kinds.index("run_ended")
    assert all(datetime.fromisoformat(one["time"]).utcoffset() == timedelta(0) for one in shown["events"])
