"""Calibrations by themselves, end to end on the simulator: measured once, recorded, drawn, used by runs, refused."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from db.calibrations import add_calibration, invalidate
from db.clock import utc_now
from db.engine import reader, writer
from db.questions.calibrations import measured_in
from db.questions.show import show_run
from flows.by_prefect import as_calls
from flows.calibrate import Result, calibrate_kinds, listed, to_measure
from flows.standing import looked_up
from flows.withdraw import withdraw_by_hand
from stem4d.errors import BadInput, DeviceFault, DoseRefused
from stem4d.maps import maps_from_arrays
from stem4d.model import canonical_json
from stem4d.plan import Plan
from storage.disk import sha256_of_file
from storage.read import open_frames
from tasks import check
from tasks.calibrate import calibrate, lacking_in
from tasks.calibrated import Calibrated
from tasks.calibrations import angle, scale, vacuum
from tasks.calibrations.bench import Bench
from tasks.calibrations.kinds import KINDS
from tasks.calibrations.standing import keys, standings, usable
from tasks.lab import Lab, Told
from tasks.record import open_run
from tasks.validate import validate
from tasks.withdraw import withdraw
from tests.flows.night_world import NAME, small, small_lab
from web.report.measured_words import FIGURES, RESIDUALS, TITLES
from web.report.uses import NOT_USED, lacking, used_for

FOUR = ("pixel_mask", "centre", "descan", "current")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return small("1_overview.yaml")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with small_lab(tmp_path_factory.mktemp("calibrate")) as lab:
        yield lab


@pytest.fixture(scope="module")
def result(opened: Lab, plan: Plan) -> Result:
    lines = listed(opened, plan)
    assert {line.standing.state for line in lines} == {"missing"}
    return calibrate_kinds(opened, plan, to_measure(opened, lines, ()))


def by_kind(opened: Lab, run: str) -> dict[str, Any]:
    with reader(opened.engine) as session:
        return {one["kind"]: one for one in measured_in(session, run=run)}


def put(opened: Lab, plan: Plan, kind: str, value: dict[str, Any], error: dict[str, Any], hours: float = 1) -> int:
    """A calibration that somebody else measured, two hours ago."""
    now = utc_now()
    with writer(opened.engine) as session:
        return add_calibration(
            session, kind=kind, mode_key=keys(opened, plan)[kind], instrument=NAME, value=value, uncertainty=error,
            unit="", measured_at=now - timedelta(hours=2), valid_until=now + timedelta(hours=hours), verdict="pass",
        )  # fmt: skip


def used_by(opened: Lab, plan: Plan) -> tuple[str, Calibrated, dict[str, Any]]:
    """What a run uses whose four calibrations are valid: nothing is exposed."""
    run = as_calls(open_run, NAME, canonical_json(plan), None, [])
    calibrated = Calibrated.model_validate_json(as_calls(calibrate, NAME, run))
    with reader(opened.engine) as session:
        return run, calibrated, show_run(session, name=run)


def test_what_was_measured_is_valid_and_close_to_the_hidden_truth(opened: Lab, plan: Plan, result: Result) -> None:
    found = by_kind(opened, result.run)
    assert [found[kind]["verdict"] for kind in FOUR] == ["pass"] * 4
    # The truth of plans/instruments/demo.toml; the correction is its negative. Three of its own sigmas and a pixel
    # grid's bias of 0.01 mrad.
    for got, error, true in zip(
        found["descan"]["value"]["diffraction_shift_mrad"],
        [found["descan"]["uncertainty"]["diffraction_shift_mrad"]] * 2,
        (-2.4, 1.7),
        strict=True,
    ):
        assert got == pytest.approx(true, abs=3 * error + 0.01)
    assert found["current"]["value"]["true_over_commanded"] == pytest.approx(1.0, abs=0.01)  # dead pixels: half a %
    assert found["centre"]["residual"] < 0.1
    assert all(one["valid_until"] and one["mode_key"] for one in found.values())


def test_what_cannot_be_measured_says_why_and_is_no_success(opened: Lab, result: Result) -> None:
    found = by_kind(opened, result.run)
    assert not result.complete
    for kind in ("mrad_per_pixel", "scan_step"):
        assert found[kind]["verdict"] == "not_measurable"
        assert "the instrument file names no reference specimen" in found[kind]["reason"]
    with reader(opened.engine) as session:
        run = show_run(session, name=result.run)
    # The rotation of 24 x 24 positions warns: it is known to 0.8 degrees, and that outweighs what could not be tried.
    assert (run["state"], run["verdict"]) == ("marked", "warn")
    assert found["rotation"]["verdict"] == "warn"
    assert "rotation_deg is known to" in found["rotation"]["reason"]
    assert run["predicted_seconds"] is None


def test_the_vacuum_scans_are_datasets_that_the_calibrations_rest_on(opened: Lab, result: Result) -> None:
    with reader(opened.engine) as session:
        run = show_run(session, name=result.run)
    files = {one["locations"][0]["path"]: one for one in run["datasets"] if one["purpose"] == "calibration"}
    assert {Path(path).name for path in files} >= {"vacuum-before.h5", "vacuum-after.h5"}
    assert all(sha256_of_file(Path(path)) == one["sha256"] for path, one in files.items())
    descan, rotation = (by_kind(opened, result.run)[kind] for kind in ("descan", "rotation"))
    assert descan["id"] in rotation["rests_on"]
    assert [Path(one["path"]).name for one in descan["evidence"]] == ["vacuum-before.h5", "vacuum-after.h5"]
    assert {one["purpose"] for one in run["exposures"]} == {"calibration"}
    assert all(one["closed"] for one in run["exposures"])


def test_the_page_draws_the_fit_on_the_data_and_says_value_gate_and_validity(opened: Lab, result: Result) -> None:
    assert result.report is not None
    page = result.report.read_text()
    for said in ("Descan", "mrad/nm", "Valid until", "field 2.56 × 2.56\u00a0nm", "names no reference specimen", "±"):
        assert said in page, said
    for alt in ("Radial profile of the disk", "Mean pattern and fitted disk", "before correction [px]", "Counts of a"):
        assert re.search(rf'<img[^>]* alt="[^"]*{re.escape(alt)}', page), alt
    assert "Curl of the deflections against the rotation" in page
    # One of the mask, two of the centre, two of descan, one of the current and one of the rotation.
    assert page.count("<img") == 7


def test_the_page_calls_every_kind_as_the_command_does_and_names_every_figure(opened: Lab, result: Result) -> None:
    assert {name: kind.title for name, kind in KINDS.items()}.items() <= TITLES.items()
    assert set(RESIDUALS) == set(KINDS) - {"pixel_mask"}
    for one in by_kind(opened, result.run).values():
        assert set(one["value"]) <= set(FIGURES), one["kind"]


def test_only_what_is_not_valid_is_measured_again(opened: Lab, plan: Plan, result: Result) -> None:
    lines = listed(opened, plan)
    assert {line.kind for line in lines if line.standing.state == "valid"} >= set(FOUR)
    assert not set(to_measure(opened, lines, ())) & set(FOUR)
    assert to_measure(opened, lines, ("centre",)) == ("centre",)
    json.dumps([line.as_dict() for line in lines], allow_nan=False)


def test_a_run_names_the_calibrations_it_uses_and_the_rules_see_them(opened: Lab, plan: Plan, result: Result) -> None:
    put(opened, plan, "mrad_per_pixel", {"mrad_per_pixel": 0.95, "source": "reference"}, {"mrad_per_pixel": 0.095})
    run, calibrated, shown = used_by(opened, plan)
    assert {one["role"] for one in shown["calibrations"]} >= {*FOUR, "mrad_per_pixel"}
    assert shown["exposures"] == []
    assert calibrated.mrad_per_pixel == 0.95
    # Nothing was exposed yet, so that no step took a value; only the rules may have.
    assert all(used_for(one, shown) == NOT_USED for one in shown["calibrations"])
    as_calls(validate, NAME, run, calibrated.model_dump_json())
    with reader(opened.engine) as session:
        checked = show_run(session, name=run)
    quality = checked["quality"]
    uses = {one["role"]: used_for(one, checked) for one in checked["calibrations"]}
    assert uses["mrad_per_pixel"] == "plan check: uncertainty of the angle per pixel"
    assert uses["pixel_mask"] == NOT_USED
    assert "scan_step" in lacking(checked)
    assert "mrad_per_pixel" not in lacking(checked)
    (found,) = {one["value"] for one in quality if one["metric"] == "angle_scale"}
    assert found == pytest.approx(10)  # per cent


def test_a_stale_one_is_refused_unless_told_otherwise_and_that_is_recorded(
    opened: Lab, plan: Plan, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(opened, plan, "defocus", {"defocus_nm": 3.0}, {"defocus_nm": 0.2}, hours=-1)
    _run, calibrated, shown = used_by(opened, plan)
    assert "defocus" not in calibrated.calibration_ids
    assert any("Defocus and astigmatism is not used: it was valid until" in one["message"] for one in shown["events"])
    monkeypatch.setattr(opened, "accept_stale", True)
    _run, calibrated, shown = used_by(opened, plan)
    assert calibrated.calibration_ids["defocus"] == old
    assert calibrated.figures()["defocus"].value == 3.0
    (used,) = (one for one in shown["calibrations"] if one["role"] == "defocus")
    assert used["accepted_stale"].startswith("it was valid until")
    assert all(one["accepted_stale"] is None for one in shown["calibrations"] if one["role"] in FOUR)
    with writer(opened.engine) as session:
        invalidate(session, old, "the images are mirrored", by="Ada")
    assert "defocus" not in used_by(opened, plan)[1].calibration_ids


def test_a_failed_gate_is_recorded_and_supersedes_nothing(
    opened: Lab, plan: Plan, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred electrons in all, over five thousand pixels, are no disk."""
    monkeypatch.setattr(vacuum, "GRID", 2)
    monkeypatch.setattr(vacuum, "VACUUM_ELECTRONS", 0.0)
    faint = ("optics.camera_length_mm=188.6", "optics.probe_current_pa=0.5", "exposure.dwell_time_us=10")
    dark = small("1_overview.yaml", 24, *faint)
    centre = {"centre_px": [63.5, 63.5], "radius_px": 40.4}
    before = put(opened, dark, "centre", centre, {"centre_px": [0.1, 0.1]})
    failed = calibrate_kinds(opened, dark, ("centre",))
    found = by_kind(opened, failed.run)
    assert not failed.complete
    assert found["centre"]["verdict"] == "fail"
    assert found["centre"]["reason"]
    assert found["descan"]["verdict"] == found["current"]["verdict"] == "not_measurable"
    assert found["pixel_mask"]["verdict"] == "warn"
    assert "without a disk" in found["pixel_mask"]["reason"]
    standing = standings(opened, dark, ("centre",))["centre"]
    assert (standing.state, standing.calibration and standing.calibration.id) == ("valid", before)
    assert failed.report is not None
    assert "kept as evidence, never used" in failed.report.read_text()
    # A run would not go on without a centre.
    run = as_calls(open_run, NAME, canonical_json(dark), None, [])
    with pytest.raises(DeviceFault, match="disk"):
        as_calls(calibrate, NAME, run)


def test_a_calibration_leaves_the_area_the_dose_that_the_plan_is_there_to_spend(
    opened: Lab, plan: Plan, result: Result
) -> None:
    run = as_calls(open_run, NAME, canonical_json(plan), None, [])
    here = bench(opened, plan, run)
    # 2e5 e/Å² in all; the plan needs 8e3 at 0.107 nm, and this scan would take 2.2e5 at 0.03 nm.
    scan = here.request((24, 24), electrons_per_pattern=2e4).model_copy(update={"step_nm": 0.03})
    with pytest.raises(DoseRefused, match="and the plan itself needs"):
        here.scan("too-much", here.this_area, scan)
    with reader(opened.engine) as session:
        assert show_run(session, name=run)["exposures"] == []


def bench(opened: Lab, plan: Plan, run: str) -> Bench:
    return Bench(opened, run, plan, usable(opened, standings(opened, plan)))


def test_angle_and_scale_never_come_from_one_image(opened: Lab, plan: Plan, result: Result) -> None:
    """The angle from a scale of a reference; at another camera length the scale from that angle; never in a circle."""
    put(opened, plan, "mrad_per_pixel", {"mrad_per_pixel": 0.95, "source": "reference"}, {"mrad_per_pixel": 0.095})
    here = bench(opened, plan, result.run)
    (measured,) = angle.measure(here)
    radius = here.known["centre"].value["radius_px"]
    alpha = measured.value["convergence_semi_angle_mrad"]
    assert alpha == pytest.approx(0.95 * radius)
    assert measured.uncertainty is not None
    # 10 % of the scale, and next to nothing of the radius.
    assert measured.uncertainty["convergence_semi_angle_mrad"] / alpha == pytest.approx(0.1, rel=0.01)
    put(opened, plan, "convergence_semi_angle", measured.value, measured.uncertainty)
    longer = small("1_overview.yaml", 24, "optics.camera_length_mm=125")
    put(opened, longer, "centre", {"centre_px": [63.5, 63.5], "radius_px": 27.0}, {"radius_px": 0.27})
    poor, _ellipse = scale.measure(bench(opened, longer, result.run))
    assert (poor.verdict, poor.reason) == ("fail", "the scale would be known to 10.1% only, more than 3%")
    put(opened, plan, "convergence_semi_angle", measured.value, {"convergence_semi_angle_mrad": 0.02 * alpha})
    there = bench(opened, longer, result.run)
    moved, ellipse = scale.measure(there)
    assert moved.verdict == "pass"
    assert moved.value["mrad_per_pixel"] == pytest.approx(alpha / 27.0)
    assert moved.value["source"] == "transfer"
    # 2 % of the angle and 1 % of the radius.
    assert moved.uncertainty == {"mrad_per_pixel": pytest.approx(alpha / 27.0 * 0.0224, rel=0.01)}
    assert ellipse.verdict == "not_measurable"
    put(opened, longer, "mrad_per_pixel", moved.value, moved.uncertainty)
    (circle,) = angle.measure(bench(opened, longer, result.run))
    assert circle.verdict == "not_measurable"
    assert "itself transferred" in circle.reason


def test_the_angle_of_an_image_gives_no_scale_of_the_same_image(opened: Lab, plan: Plan, result: Result) -> None:
    record = SimpleNamespace(
        id=by_kind(opened, result.run)["centre"]["id"], value={"convergence_semi_angle_mrad": 21.4}
    )
    here = bench(opened, plan, result.run)
    circular = Bench(opened, result.run, plan, {**here.known, "convergence_semi_angle": record})  # type: ignore[dict-item]
    moved, _ellipse = scale.measure(circular)
    assert (moved.verdict, moved.reason) == ("not_measurable", "angle and scale would come from one image")


def test_an_error_that_nobody_knows_is_not_taken_for_none(opened: Lab, plan: Plan, result: Result) -> None:
    """Of an angle, a scale or a radius: what is worked out of it would be said to be better known than it is."""
    here = bench(opened, plan, result.run)
    centre = here.known["centre"]
    known = replace(centre, id=-1, value={"mrad_per_pixel": 0.95, "source": "reference"}, uncertainty=None)
    angle_known = replace(centre, id=-1, value={"convergence_semi_angle_mrad": 21.4}, uncertainty={})
    blurred = replace(centre, uncertainty={**centre.uncertainty, "radius_px": None})
    sharp = {"mrad_per_pixel": 0.001, "convergence_semi_angle_mrad": 0.001}
    for records in (
        {"mrad_per_pixel": known, "convergence_semi_angle": angle_known, "centre": centre},
        {
            "mrad_per_pixel": replace(known, uncertainty=sharp),
            "convergence_semi_angle": replace(angle_known, uncertainty=sharp),
            "centre": blurred,
        },
    ):
        there = Bench(opened, result.run, plan, {**here.known, **records})
        (measured,), (moved, _ellipse) = angle.measure(there), scale.measure(there)
        assert measured.verdict == moved.verdict == "not_measurable"
        assert "nothing says how well" in measured.reason
        assert "nothing says how well" in moved.reason


def test_a_look_at_the_database_alone_says_the_same(opened: Lab, plan: Plan, result: Result) -> None:
    assert looked_up(opened.settings, opened.file, plan, FOUR) == listed(opened, plan, FOUR)


def test_a_failure_is_listed_as_one_with_its_time(opened: Lab) -> None:
    other = small("1_overview.yaml", 24, "optics.camera_length_mm=125")
    with writer(opened.engine) as session:
        add_calibration(
            session, kind="rotation", mode_key=keys(opened, other)["rotation"], instrument=NAME, value={}, unit="deg",
            measured_at=datetime(2026, 11, 27, 23, 42, tzinfo=UTC), verdict="fail", reason="known only to 3.0 degrees",
        )  # fmt: skip
    (line,) = listed(opened, other, ("rotation",))
    assert line.standing.state == "failed"
    assert line.standing.why == "failed at 2026-11-27 23:42 UTC: known only to 3.0 degrees"
    assert to_measure(opened, (line,), ()) == ("rotation",)


def test_what_does_not_apply_is_neither_missing_nor_measured(opened: Lab, plan: Plan) -> None:
    (line,) = listed(opened, plan, ("dark_flat",))
    assert line.good
    assert line.as_dict()["state"] == "does_not_apply"
    assert to_measure(opened, (line,), ("dark_flat",)) == ()


def test_a_run_names_what_it_uses_again_and_what_it_lacks(opened: Lab, plan: Plan, result: Result) -> None:
    run, calibrated, shown = used_by(opened, plan)
    again = next(one["message"] for one in shown["events"] if one["kind"] == "calibrated")
    assert all(kind in again for kind in FOUR)
    lacking = lacking_in(opened, run, calibrated.model_dump_json())
    assert "scan_step" in lacking
    told = next(one["message"] for one in shown["events"] if one["kind"] == "calibration missing")
    assert "scan_step, which" in told
    assert f"nightbeam calibrate {' '.join(lacking)}" in told


def test_a_person_withdraws_with_a_reason_and_once(opened: Lab, plan: Plan, result: Result) -> None:
    number = put(opened, plan, "drift", {"drift_nm_per_min": [0.1, 0.1]}, {"drift_nm_per_min": [0.01, 0.01]})
    used_by(opened, plan)
    with pytest.raises(BadInput, match="--because"):
        withdraw_by_hand(opened.settings, number, " ")
    done = withdraw_by_hand(opened.settings, number, "the holder was touched")
    assert (done.kind, len(done.used_by)) == ("drift", 1)
    standing = standings(opened, plan, ("drift",))["drift"]
    assert standing.state == "withdrawn"
    assert f"by {done.by}: the holder was touched" in standing.why
    with pytest.raises(BadInput, match="was withdrawn already"):
        withdraw_by_hand(opened.settings, number, "again")
    failed = next(one["id"] for one in by_kind(opened, result.run).values() if one["verdict"] == "not_measurable")
    for other, said in ((10**6, "none of this number"), (failed, "no run uses it")):
        with pytest.raises(BadInput, match=said):
            withdraw_by_hand(opened.settings, other, "why not")


def test_new_hot_pixels_withdraw_the_mask_and_the_console_says_so(
    opened: Lab, plan: Plan, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calibrated, _shown = used_by(opened, plan)
    scan = bench(opened, plan, run)
    scanned = scan.scan("pixels", scan.vacuum, scan.request((4, 4), electrons_per_pattern=2e4))
    with open_frames(scanned.path) as frames:
        maps = maps_from_arrays(frames.online(), frames.full_scale)
    full = maps.full_scale
    assert full is not None
    sums, highest = maps.sum_pattern.copy(), maps.max_pattern.copy()
    sums[3, 3], highest[3, 3] = full * maps.frames, full
    hot = replace(maps, sum_pattern=sums, max_pattern=highest, total=maps.total + np.uint64(full))
    lines: list[Told] = []
    monkeypatch.setattr(opened, "on_told", lines.append)
    for seen in (maps, hot):
        monkeypatch.setattr(check, "recorded_passes", lambda _exposed, seen=seen: [seen])
        exposed = {"passes": [{"started_s": 0.0}], "references": []}
        as_calls(check.check_quality, NAME, run, calibrated.model_dump_json(), exposed)
        state = standings(opened, plan, ("pixel_mask",))["pixel_mask"].state
        assert state == ("valid" if seen is maps else "withdrawn")
    assert any(one.kind == "withdrawn" and "1 new hot pixel" in one.message for one in lines)
    put(opened, plan, "pixel_mask", {"bad_pixels": [list(each) for each in calibrated.bad_pixels]}, {}, hours=3)


def test_data_that_contradict_a_calibration_withdraw_it_for_every_run(opened: Lab, plan: Plan, result: Result) -> None:
    """Last of all here: what it withdraws is not valid any more."""
    run, calibrated, _shown = used_by(opened, plan)
    withdraw(opened, run, "the pattern lies 3 px off the middle of the detector")
    found = standings(opened, plan, FOUR)
    assert {kind for kind, one in found.items() if one.state == "withdrawn"} == {"centre", "descan"}
    assert f"by {run}: the pattern lies 3 px off" in found["centre"].why
    with reader(opened.engine) as session:
        gone = show_run(session, name=run)["withdrawn"]
    assert [one["kind"] for one in gone] == ["centre", "descan"]
    assert found["current"].state == found["pixel_mask"].state == "valid"
    assert {"centre", "descan"} <= set(to_measure(opened, listed(opened, plan), ()))
    assert calibrated.calibration_ids["centre"] == found["centre"].calibration.id  # type: ignore[union-attr]
