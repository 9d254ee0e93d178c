"""A bug in a stage, and a stop in the middle of a night: one target fails, the others are accounted for."""

from pathlib import Path
from typing import Any

import pytest

from db.engine import reader
from db.questions.night import night_story
from db.questions.show import show_run
from flows.night import run_night
from flows.resume import left_of
from flows.run import run_plan
from stem4d.errors import DeviceFault, NightbeamError
from stem4d.night import TargetState
from stem4d.predict import predict
from tasks.lab import Told
from tests.flows.going_world import states
from tests.flows.night_world import column_log, small, small_lab, small_targets


class Stage:
    """Stands where a stage stands, and raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def fn(self, *_arguments: Any) -> Any:
        raise self.error


def test_a_bug_in_one_target_does_not_take_the_others_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night, queued = small_targets()
    monkeypatch.setattr("flows.run.check_quality", Stage(ZeroDivisionError("a bug")))
    with small_lab(tmp_path) as opened:
        result = run_night(opened, night, (queued[0], queued[3]), with_prefect=False)
    assert [outcome.state for _target, outcome in result.outcomes] == [TargetState.FAILED, TargetState.REFUSED]
    assert result.outcomes[0][1].reason == "ZeroDivisionError: a bug"
    assert [one["event"] for one in column_log(tmp_path) if one["event"] in ("blank", "unblank")][-1] == "blank"


def test_ctrl_c_closes_the_night_and_says_what_was_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night, queued = small_targets()
    monkeypatch.setattr("flows.run.calibrate", Stage(KeyboardInterrupt()))
    with small_lab(tmp_path) as opened:
        with pytest.raises(KeyboardInterrupt):
            run_night(opened, night, queued, with_prefect=False)
        with reader(opened.engine) as session:
            story = night_story(session)
    assert story["state"] == "stopped"
    # Which one is first is for the order to say: the one whose settings lie at an end of the shortest way.
    assert sorted(target["state"] for target in story["targets"]) == ["failed"] + ["skipped"] * 4
    assert [run["state"] for target in story["targets"] for run in target["runs"]] == ["stopped"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_target_whose_run_had_ended_when_the_night_broke_off_is_what_its_run_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes while the page of a run is written that is closed already."""
    night, queued = small_targets()
    queued = queued[:1]
    with small_lab(tmp_path) as opened:
        with monkeypatch.context() as patch:
            patch.setattr("flows.run.report_run", Stage(SystemExit(143)))
            with pytest.raises(SystemExit):
                run_night(opened, night, queued, with_prefect=False)
        (broken,) = states(opened).values()
        assert broken[0] == "failed"
        left = left_of(opened, night, queued)
        assert left is not None
        result = run_night(opened, night, queued, with_prefect=False, left=left)
        with reader(opened.engine) as session:
            shown = show_run(session, name=left.targets[0].runs[-1])
        after = states(opened)
    ((_target, outcome),) = result.outcomes
    assert outcome.runs == left.targets[0].runs
    assert shown["state"] == "done"
    assert (outcome.state, outcome.reason) == (TargetState.DONE, shown["exit_reason"] or "")
    assert list(after.values()) == [("done", outcome.reason)]


def test_a_dose_that_the_measured_current_would_overrun_is_refused_before_the_specimen_is_exposed(
    tmp_path: Path,
) -> None:
    """Above 60 pA the simulated beam is three times what it says; the vacuum scan counts that."""
    strong = ("optics.probe_current_pa=90",)
    planned = predict(small("1_overview.yaml", 16, *strong)).total_fluence_e_per_a2
    plan = small("1_overview.yaml", 16, *strong, f"sample.fluence_budget_e_per_a2={1.5 * planned}")
    with small_lab(tmp_path) as opened:
        outcome = run_plan(opened, plan, with_prefect=False)
        with reader(opened.engine) as session:
            shown = show_run(session, name=outcome.runs[0])
    assert outcome.state is TargetState.REFUSED
    assert outcome.reason.startswith("Fluence of all passes is")
    assert {one["purpose"] for one in shown["exposures"]} == {"calibration"}
    assert shown["area"]["delivered_e_per_a2"] == 0


def test_a_page_and_its_event_that_cannot_be_written_end_nothing_and_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither hides how the run ended, and neither is said to have left it open."""

    def refuse(*_arguments: Any, **_more: Any) -> None:
        raise NightbeamError("the disk is full")

    def fill_the_disk(*_arguments: Any) -> None:
        monkeypatch.setattr(opened, "_record", refuse)
        refuse()

    lines: list[Told] = []
    monkeypatch.setattr("flows.run.calibrate", Stage(DeviceFault("the valve is shut")))
    monkeypatch.setattr("web.report.assemble.write_run_report", fill_the_disk)
    with small_lab(tmp_path) as opened:
        opened.on_told = lines.append
        outcome = run_plan(opened, small("1_overview.yaml", 16), with_prefect=False)
        with reader(opened.engine) as session:
            shown = show_run(session, name=outcome.runs[0])
    assert (outcome.state, outcome.reason) == (TargetState.FAILED, "the valve is shut")
    assert (shown["state"], shown["exit_reason"]) == ("failed", "the valve is shut")
    said = [one.message for one in lines if one.kind == "report failed"]
    assert said == [
        f"the page of {outcome.runs[0]} could not be written: the disk is full",
        "the line before this one could not be recorded: the disk is full",
    ]
    assert not any(one.kind == "not closed" for one in lines)
