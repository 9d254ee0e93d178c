"""A night on the simulator ends as its file expects; database, files and the column's log agree about it."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from db.engine import open_engine, reader
from db.questions.night import night_story
from db.questions.show import show_run
from flows.night import NightResult
from stem4d.night import TargetState
from storage.disk import sha256_of_file
from tests.flows.night_world import NightOnDisk, column_log


@pytest.fixture(scope="module")
def home(small_night: NightOnDisk) -> Path:
    return small_night.home


@pytest.fixture(scope="module")
def result(small_night: NightOnDisk) -> NightResult:
    return small_night.result


@pytest.fixture(scope="module")
def story(home: Path, result: NightResult) -> dict[str, Any]:
    engine = open_engine(f"sqlite:///{home / 'nightbeam.db'}")
    with reader(engine) as session:
        told = night_story(session, name=result.name)
        told["shown"] = {
            run["name"]: show_run(session, name=run["name"]) for target in told["targets"] for run in target["runs"]
        }
    engine.dispose()
    return told


def target(story: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in story["targets"] if one["name"] == name)


def test_every_target_ends_as_expected(result: NightResult) -> None:
    ended = {target.name: outcome.state for target, outcome in result.outcomes}
    assert ended == {
        "overview": TargetState.DONE,
        "ptychography": TargetState.DONE,
        "saturating": TargetState.MENDED,
        "refused": TargetState.REFUSED,
        "drifting": TargetState.MARKED,
    }


def test_the_refused_target_was_never_exposed(story: dict[str, Any]) -> None:
    (run,) = target(story, "refused")["runs"]
    shown = story["shown"][run["name"]]
    assert shown["exposures"] == []
    assert "probe_overlap" in {one["metric"] for one in shown["quality"] if one["verdict"] == "fail"}


def test_saturation_is_caught_in_the_first_rows_and_mended_within_the_dose(story: dict[str, Any]) -> None:
    first, *others = target(story, "saturating")["runs"]
    stopped = story["shown"][first["name"]]
    assert first["state"] == "stopped"
    acquired = [dataset["frames"] for dataset in stopped["datasets"] if dataset["purpose"] == "acquisition"]
    assert sum(acquired) <= 4 * 24  # four of twenty-four rows
    assert [remedy["action"] for remedy in stopped["remedies"]] == ["reduce_dwell"]
    last = story["shown"][others[-1]["name"]]
    assert last["parent"] is not None
    first_dwell, last_dwell = (one["plan"]["document"]["exposure"]["dwell_time_us"] for one in (stopped, last))
    assert last_dwell < first_dwell
    area = last["area"]
    assert area["delivered_e_per_a2"] <= area["fluence_budget_e_per_a2"]
    assert area["reserved_e_per_a2"] == 0


def test_the_ledger_holds_the_beam_that_really_came(story: dict[str, Any]) -> None:
    """The true current is 3 times the commanded one, which the vacuum scan counts: the exposure is booked with it."""
    (last,) = (one for one in target(story, "saturating")["runs"] if one["state"] == "done")
    (acquisition,) = (one for one in story["shown"][last["name"]]["exposures"] if one["purpose"] == "acquisition")
    planned = last["predicted_fluence_e_per_a2"]
    # The dead pixels that no mask knows take half a per cent of the counts.
    assert acquisition["intended_e_per_a2"] == pytest.approx(3 * planned, rel=0.01)
    assert acquisition["delivered_e_per_a2"] == pytest.approx(3 * planned, rel=0.01)


def test_descan_and_centring_are_calibrated_before_the_exposure(story: dict[str, Any]) -> None:
    (run,) = target(story, "ptychography")["runs"]
    shown = story["shown"][run["name"]]
    descan = next(one for one in shown["calibrations"] if one["role"] == "descan")
    # The truth of plans/instruments/demo.toml, which no task reads: misalignment (2.4, -1.7) mrad, slopes as below.
    assert descan["value"]["diffraction_shift_mrad"] == pytest.approx([-2.4, 1.7], abs=0.02)
    slopes = [slope for row in descan["value"]["descan_mrad_per_nm"] for slope in row]
    assert slopes == pytest.approx([-0.95, -0.15, 0.2, -0.75], abs=0.03)
    assert descan["value"]["range_before_px"] > 3
    assert descan["value"]["range_after_px"] < 0.3


def test_drift_is_measured_against_the_truth_and_marked(story: dict[str, Any]) -> None:
    (run,) = target(story, "drifting")["runs"]
    (drift,) = (one for one in run["quality"] if one["metric"] == "drift.rate" and one["verdict"] == "fail")
    assert drift["value"] == pytest.approx(15.0, rel=0.05)  # hypot(12, 9) nm/min
    assert target(story, "drifting")["state"] == "marked"


def test_what_was_not_measured_is_said(story: dict[str, Any]) -> None:
    (run,) = target(story, "overview")["runs"]
    (drift,) = (one for one in run["quality"] if one["metric"] == "drift.rate")
    assert drift["verdict"] == "not_measurable"


def test_every_file_is_registered_with_its_checksum(story: dict[str, Any]) -> None:
    datasets = [dataset for shown in story["shown"].values() for dataset in shown["datasets"]]
    assert len(datasets) >= 5
    for dataset in datasets:
        (location,) = dataset["locations"]
        assert sha256_of_file(Path(location["path"])) == dataset["sha256"]


def test_every_exposure_was_booked_before_the_beam_came_and_the_beam_is_off(home: Path, story: dict[str, Any]) -> None:
    log = column_log(home)
    unblanked = [one for one in log if one["event"] == "unblank"]
    exposures = [one for shown in story["shown"].values() for one in shown["exposures"]]
    assert len(unblanked) == len(exposures)
    for beam, booked in zip(unblanked, sorted(exposures, key=lambda one: one["opened"]), strict=True):
        assert datetime.fromisoformat(booked["opened"]) < datetime.fromisoformat(beam["wall"])
        assert booked["closed"] is not None
    beam_events = [one["event"] for one in log if one["event"] in ("blank", "unblank")]
    assert beam_events[-1] == "blank"


def test_the_reports_are_there_and_whole(result: NightResult, home: Path) -> None:
    assert result.report is not None
    page = result.report.read_text()
    for one, outcome in result.outcomes:
        assert one.name in page
        for run in outcome.runs:
            assert (home / "reports" / f"{run}.html").exists()
    assert "http://" not in page.replace("http://www.w3.org", "")
