"""A stop of a person in the middle of a target: whole passes and whole rows are kept, and none is exposed again."""

from pathlib import Path

import pytest

from db.engine import reader
from db.questions.show import show_run
from flows.night import run_night
from flows.queue import Queued
from flows.resume import left_of
from stem4d.night import Night
from tasks.lab import Lab
from tests.flows.going_world import a_night, states, stopped_in
from tests.flows.night_world import column_log, small_lab

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def three_passes(spares: str, side: int = 16) -> tuple[Night, tuple[Queued, ...]]:
    field = (f"scan.shape=[{side}, {side}]", f"scan.step_nm={2.56 / side}")
    changes = (*field, "exposure.passes=3", "sample.fluence_budget_e_per_a2=1e6", f"sample.spare_areas={spares}")
    return a_night({"changes": (*changes, "quality.stop_early=false", "quality.remedies=[]")})


def acquired(opened: Lab, run: str) -> list[tuple[int, str, int]]:
    """Number, name and frames of a run's passes."""
    with reader(opened.engine) as session:
        shown = show_run(session, name=run)
    return [
        (one["pass_index"], Path(one["locations"][0]["path"]).name, one["frames"])
        for one in shown["datasets"]
        if one["purpose"] == "acquisition"
    ]


def test_a_stop_ends_after_the_pass_and_the_rest_goes_to_the_spare_area(tmp_path: Path) -> None:
    with small_lab(tmp_path) as opened:
        night, queued = three_passes("[flake-1]")
        first = stopped_in(opened, night, queued, "pass 1/3", "stop")
        (run,) = first.outcomes[0][1].runs
        assert acquired(opened, run) == [(0, "pass1.h5", 256)]
        assert states(opened)["t0"] == ("skipped", "stopped by a person, after pass 1 of 3")
        left = left_of(opened, night, queued)
        assert left is not None
        again = run_night(opened, night, queued, with_prefect=False, left=left)
        assert again.name == first.name
        before, rest = again.outcomes[0][1].runs
        assert before == run
        assert acquired(opened, rest) == [(0, "pass1.h5", 256), (1, "pass2.h5", 256)]
        with reader(opened.engine) as session:
            shown = show_run(session, name=rest)
        assert (shown["parent"], shown["attempt"], shown["area"]["name"]) == (run, 2, "flake-1")
        assert states(opened)["t0"][0] in ("done", "marked")
        assert left_of(opened, night, queued) is None


def test_a_stop_at_once_keeps_whole_rows_and_without_a_spare_area_the_rest_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Orders are looked for with every report of frames: after 1, 2, 4 ... rows.
    monkeypatch.setattr("flows.control.LOOK_EVERY_S", 0.0)
    with small_lab(tmp_path) as opened:
        night, queued = three_passes("[]", side=48)
        first = stopped_in(opened, night, queued, "pass 2/3", "stop_now")
        (run,) = first.outcomes[0][1].runs
        whole, broken = acquired(opened, run)
        assert whole == (0, "pass1.h5", 48 * 48)
        assert broken[:2] == (1, "pass2.incomplete.h5")
        assert 48 <= broken[2] < 48 * 48  # one row at least had come when it was asked
        assert [one["event"] for one in column_log(tmp_path) if one["event"] in ("blank", "unblank")][-1] == "blank"
        left = left_of(opened, night, queued)
        assert left is not None
        unblanked = sum(one["event"] == "unblank" for one in column_log(tmp_path))
        run_night(opened, night, queued, with_prefect=False, left=left)
        assert sum(one["event"] == "unblank" for one in column_log(tmp_path)) == unblanked
        state, reason = states(opened)["t0"]
        assert state == "skipped"
        assert reason.startswith("passes 2 to 3 of 3 not exposed: nothing finds the field on lamella-1 again")


def test_a_stop_at_once_within_a_calibration_leaves_no_calibration_of_half_a_scan(tmp_path: Path) -> None:
    with small_lab(tmp_path) as opened:
        night, queued = three_passes("[]")
        first = stopped_in(opened, night, queued, "vacuum", "stop_now")
        (run,) = first.outcomes[0][1].runs
        with reader(opened.engine) as session:
            shown = show_run(session, name=run)
        assert (shown["state"], shown["exit_reason"]) == ("stopped", "stopped by a person, at once")
        assert shown["calibrations"] == []
        # Nothing was given to the specimen, so the same command runs the whole of it.
        left = left_of(opened, night, queued)
        assert left is not None
        again = run_night(opened, night, queued, with_prefect=False, left=left)
        assert len(acquired(opened, again.outcomes[0][1].runs[-1])) == 3
