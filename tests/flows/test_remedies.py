"""Each remedy on the simulator: fault in, verdict, remedy, verdict again, within the dose; or refused by it."""

from collections.abc import Iterator

import pytest

from flows.night import run_night
from stem4d.night import TargetState
from stem4d.predict import predict
from tasks.lab import Lab
from tests.flows.night_world import small
from tests.flows.remedy_world import drifting, faulty_lab, mended, night_of, saturating, told, without_pages
from web.report.attempts import attempts_lines

SPARE_GRAIN = """
[settings.areas.grain-5]
specimen = "square"
seed = 15
spacing_a = 4.08
atom_phase_rad = 2.4
modulation = 0.2
"""


@pytest.fixture(autouse=True)
def pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """None are drawn."""
    without_pages(monkeypatch)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The demo's instrument with a spare grain; calibrations are shared, doses are not: each test has its specimen."""
    with faulty_lab(tmp_path_factory.mktemp("demo"), SPARE_GRAIN) as opened:
        yield opened


@pytest.mark.slow
def test_a_lower_current_mends_saturation_within_the_dose(demo: Lab) -> None:
    plan = saturating("s0", "quality.remedies=[reduce_current]")
    done = mended(demo, plan)
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    assert set(done.actions()) == {"reduce_current"}
    first, last = done.runs[0], done.runs[-1]
    assert first["state"] == "stopped"
    assert last["plan"]["document"]["optics"]["probe_current_pa"] < 90
    assert last["plan"]["document"]["exposure"] == first["plan"]["document"]["exposure"]
    assert "fail" in done.verdicts("saturation.disk")[0]
    story = last["attempts"]
    assert [one["run"] for one in story] == list(done.outcome.runs)
    assert "saturation.disk" in {one["metric"] for one in story[0]["seen"]}
    assert story[-1]["seen"] == []
    assert sum(one["fluence_e_per_a2"] for one in story) == pytest.approx(done.delivered()["grain-2"])
    assert all(one["seconds"] > 0 for one in story)
    said = "\n".join(attempts_lines(story))
    assert "tried next: reduce current, optics: probe current 90" in said.replace("\u00a0", " ")
    assert done.verdicts("saturation.disk")[-1] == {"pass"}
    assert last["parent"] == done.runs[-2]["name"]
    assert done.delivered()["grain-2"] <= plan.sample.fluence_budget_e_per_a2


def test_a_spent_area_sends_the_mended_plan_to_the_spare_one(demo: Lab) -> None:
    """The budget bears the first attempt with its bright beam and not a second one."""
    planned = predict(saturating("s1")).total_fluence_e_per_a2
    budget = f"sample.fluence_budget_e_per_a2={3.2 * planned}"
    done = mended(demo, saturating("s1", budget, "sample.spare_areas=[grain-5]"))
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    assert [run["area"]["name"] for run in done.runs] == ["grain-2", "grain-5"]
    assert done.runs[0]["remedies"][0]["to_value"]["sample.area"] == "grain-5"
    assert done.runs[1]["verdict"] != "fail"
    assert all(given <= 3.2 * planned * 1.01 for given in done.delivered().values())


def test_without_a_spare_area_a_spent_one_is_not_exposed_again(demo: Lab) -> None:
    planned = predict(saturating("s2")).total_fluence_e_per_a2
    done = mended(demo, saturating("s2", f"sample.fluence_budget_e_per_a2={3.2 * planned}"))
    assert done.outcome.state is TargetState.MARKED
    assert "e/Å² left" in done.outcome.reason
    assert len(done.runs) == 1
    assert done.delivered()["grain-2"] <= 3.2 * planned * 1.01


@pytest.mark.slow
def test_a_drift_that_does_not_settle_costs_reference_scans_only(demo: Lab) -> None:
    plan = drifting("s4", "quality.remedies=[settle]")
    done = mended(demo, plan)
    assert done.outcome.state is TargetState.MARKED
    assert "settle" in done.outcome.reason
    assert [one["purpose"] for one in done.runs[1]["datasets"] if one["purpose"] == "acquisition"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sample", "action", "exposures"),
    # Waiting takes reference scans and an exposure; following takes reference scans between its passes as well.
    [("s6", "settle", 1.9), ("s8", "track", 2.05)],
)
def test_no_dose_for_reference_scans_means_neither_waiting_nor_following(
    demo: Lab, sample: str, action: str, exposures: float
) -> None:
    budget = exposures * predict(drifting(sample)).total_fluence_e_per_a2
    plan = drifting(sample, f"quality.remedies=[{action}]", f"sample.fluence_budget_e_per_a2={budget}")
    done = mended(demo, plan)
    assert done.outcome.state is TargetState.MARKED
    assert f"{action} would mend it, but exposing again takes" in done.outcome.reason
    assert len(done.runs) == 1


@pytest.mark.slow
def test_following_the_specimen_mends_a_steady_drift_within_the_dose(demo: Lab) -> None:
    plan = drifting("s7", "quality.remedies=[track]")
    done = mended(demo, plan)
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    assert done.actions() == ["track"]
    assert done.verdicts("drift.rate") == [{"fail"}, {"pass"}]
    (rate,) = (one for one in done.runs[1]["quality"] if one["metric"] == "drift.rate" and one["stage"] == "final")
    # Of 15 nm/min; the reference scans know the rate to a twentieth of a step of 0.06 nm over 2 s.
    assert rate["value"] < 0.5
    scans = [one["purpose"] for one in done.runs[1]["exposures"] if one["area"] == "edge-3"]
    assert sorted(scans) == ["acquisition"] * 2 + ["calibration"] * 3
    assert done.delivered()["edge-3"] <= plan.sample.fluence_budget_e_per_a2


@pytest.mark.slow
def test_a_target_that_nothing_mends_is_left_and_the_night_goes_on(demo: Lab) -> None:
    night, queued = night_of(
        ("left", drifting("s10", "quality.remedies=[skip]")), ("goes_on", small("1_overview.yaml", 16))
    )
    result = run_night(demo, night, queued, with_prefect=False)
    left = told(demo, result.outcomes[0][1])
    assert [outcome.state for _target, outcome in result.outcomes] == [TargetState.SKIPPED, TargetState.DONE]
    assert left.actions() == ["skip"]
    assert left.runs[0]["analyses"] == []
    assert left.runs[0]["state"] == "marked"


@pytest.mark.slow
def test_passes_that_would_fail_too_are_not_exposed(demo: Lab) -> None:
    """Drift shows after the second of four passes."""
    plan = drifting("s14", "exposure.passes=4", "sample.fluence_budget_e_per_a2=8e5")
    done = mended(demo, plan)
    (run,) = done.runs
    assert done.outcome.state is TargetState.MARKED
    assert "drifts" in done.outcome.reason
    assert [one["complete"] for one in run["datasets"] if one["purpose"] == "acquisition"] == [True, True]
    # The rate, and what it makes during a pass.
    assert {one["metric"] for one in run["quality"] if one["stage"] == "online"} == {"drift.rate", "drift.in_pass"}
    # What is there is whole, and is analysed.
    assert run["analyses"]
    assert any(
        one["message"].startswith("after pass 2 of 4") for one in run["events"] if one["kind"] == "stopped early"
    )


@pytest.mark.slow
def test_a_plan_that_does_not_stop_early_exposes_all_its_passes(demo: Lab) -> None:
    plan = drifting("s15", "exposure.passes=3", "sample.fluence_budget_e_per_a2=8e5", "quality.stop_early=false")
    (run,) = mended(demo, plan).runs
    assert len([one for one in run["datasets"] if one["purpose"] == "acquisition"]) == 3


@pytest.mark.slow
def test_more_and_shorter_passes_mend_saturation_and_keep_the_dose(demo: Lab) -> None:
    plan = saturating("split", "quality.remedies=[split_passes]")
    done = mended(demo, plan)
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    first, *_rest, last = (run["plan"]["document"]["exposure"] for run in done.runs)
    assert last["passes"] > first["passes"]
    assert last["passes"] * last["dwell_time_us"] == pytest.approx(first["dwell_time_us"], rel=1e-3)
    assert done.verdicts("saturation.disk")[-1] == {"pass"}
    assert done.delivered()["grain-2"] <= plan.sample.fluence_budget_e_per_a2
