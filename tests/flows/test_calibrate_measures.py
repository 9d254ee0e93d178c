"""Single measurements on the simulator: what is known is used, a jump is seen, and a bad correction does not pass."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flows.by_prefect import as_calls
from stem4d.model import canonical_json
from stem4d.plan import Plan
from storage.documents import load_model
from storage.settings import Settings
from tasks.calibrations import moving, tilts, vacuum
from tasks.calibrations.bench import Bench
from tasks.lab import Lab, open_lab
from tasks.record import open_run
from tests.flows.night_world import PLANS

STEP_RATIO = (1.1, 0.9)
JUMP_AT_S, JUMP_NM = 1000.0, (0.3, -0.2)
SETTINGS = f"""
[settings]
seed = 5
speed = "accelerated"
descan_error_mrad_per_nm = [[0.4, 0.06], [-0.08, 0.3]]
misalignment_mrad = [1.0, -0.6]

[settings.scan]
step_ratio = {list(STEP_RATIO)}

[settings.areas.film-1]
specimen = "random"
seed = 33
spacing_a = 4.0
atom_phase_rad = 0.5
modulation = 0.3
drift_nm_per_min = [0.2, -0.1]
jumps = [{{ at_s = {JUMP_AT_S}, by_nm = {list(JUMP_NM)} }}]
"""


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_model(PLANS / "calibrate" / "reference.yaml", Plan)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("measures")
    facts = (PLANS / "instruments" / "calibration.toml").read_text().split("\n[settings]\n")[0]
    path = home / "measures.toml"
    path.write_text(facts + SETTINGS)
    with open_lab(Settings(home=home, worker="inline", prefect=False, disk_reserve_gb=0), path) as lab:
        yield lab


def record(**value: Any) -> Any:
    """A calibration with this value, for a bench."""
    return SimpleNamespace(id=1, value=value, uncertainty=None, residual=None)


def bench(opened: Lab, plan: Plan, **known: Any) -> Bench:
    run = as_calls(open_run, opened.file.name, canonical_json(plan), None, [])
    return Bench(opened, run, plan, known)


STEP = record(step_y_nm=0.06 * STEP_RATIO[0], step_x_nm=0.06 * STEP_RATIO[1], nominal_step_nm=0.06)

CORRECTED = record(
    diffraction_shift_mrad=(-1.0, 0.6), descan_mrad_per_nm=((-0.4, -0.06), (0.08, -0.3)), range_after_px=0.0
)


@pytest.mark.slow
def test_a_jump_of_the_stage_is_seen_and_is_no_part_of_the_drift(opened: Lab, plan: Plan) -> None:
    """Between the third and the fourth of the scans; everything in nm by the true step along each axis."""
    here = bench(opened, plan, scan_step=STEP, descan=CORRECTED)
    instrument = opened.instrument
    instrument.pause(JUMP_AT_S - 2.5 * moving.BASELINE_S - instrument.now_s())
    (drift,) = moving.measure(here)
    assert drift.verdict == "pass", drift.reason
    assert drift.value["jumped"] is True
    # Steps of 0.06 nm registered to a few hundredths; a nominal step would be 10 % off along either axis.
    assert drift.value["jump_nm"] == pytest.approx(JUMP_NM, abs=0.01)
    # 5 % of the rate.
    assert drift.value["drift_nm_per_min"] == pytest.approx((0.2, -0.1), abs=0.012)


def test_tilted_images_are_fitted_with_the_ellipse_and_the_angle_that_were_measured(
    opened: Lab, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    fitted: list[Any] = []

    def noted(*given: Any, **more: Any) -> Any:
        told.append(given)
        # What it is given the second time is looked at, not what comes of it.
        fitted.append(fitted[0] if fitted else fit(*given, **more))
        return fitted[0]

    fit = tilts.fit_tilts
    monkeypatch.setattr(tilts, "fit_tilts", noted)
    small = plan.model_copy(update={"scan": plan.scan.model_copy(update={"shape": (16, 16)})})
    known = {
        "scan_step": STEP,
        "mrad_per_pixel": record(mrad_per_pixel=0.41),
        "ellipticity": record(ellipticity=0.02, ellipse_angle_deg=30.0),
        "convergence_semi_angle": record(convergence_semi_angle_mrad=17.3),
    }
    tilts.measure(bench(opened, small, **known))
    tilts.measure(bench(opened, small))
    (_images, step, projection, alpha, *_rest), (_other, _step, nominal, nominal_alpha, *_more) = told
    assert step == pytest.approx(0.06 * np.sqrt(1.1 * 0.9))
    assert alpha == 17.3
    # What is an ellipse on the detector, long axis at 30 degrees from x towards y, is one angle all around.
    at = np.radians(np.arange(0, 360, 15))
    axis = np.radians(30)
    long, short = 1.02**0.5 * np.cos(at), 1.02**-0.5 * np.sin(at)
    y, x = np.sin(axis) * long + np.cos(axis) * short, np.cos(axis) * long - np.sin(axis) * short
    np.testing.assert_allclose(np.hypot(*(projection @ np.array([y, x]))), 0.41, rtol=1e-9)
    np.testing.assert_allclose(nominal, 0.4 * np.eye(2))
    assert nominal_alpha == 17.0


@pytest.mark.parametrize(
    ("scale", "verdict", "said"),
    [(1.0, "pass", ""), (1.15, "warn", "more than 5%"), (2.6, "fail", "the correction made it worse")],
)
def test_a_correction_that_the_second_scan_contradicts_does_not_pass(
    opened: Lab, plan: Plan, scale: float, verdict: str, said: str
) -> None:
    """With an angle per pixel that is wrong by a factor, a correction leaves the factor less one."""
    measured = vacuum.measure(bench(opened, plan, mrad_per_pixel=record(mrad_per_pixel=0.4 * scale)))
    descan = next(one for one in measured if one.kind == "descan")
    assert (descan.verdict, said in descan.reason) == (verdict, True), descan
    part = descan.value["range_after_px"] / descan.value["range_before_px"]
    assert part == pytest.approx(scale - 1, abs=0.02)


def test_the_error_of_the_corrected_plane_has_that_of_its_offset(opened: Lab, plan: Plan) -> None:
    here = bench(opened, plan)
    seen = vacuum._look(here, "vacuum-before", here.geometry)
    assert seen.descan is not None
    still = replace(seen, descan=replace(seen.descan, slope_uncertainty_px_per_nm=np.zeros((2, 2))))
    assert vacuum._plane_error_px(still, plan.scan.field_nm) == pytest.approx(
        np.hypot(*seen.disk.centre_uncertainty_px)
    )
    assert vacuum._plane_error_px(seen, plan.scan.field_nm) > vacuum._plane_error_px(still, plan.scan.field_nm)


def test_the_mask_has_the_pixels_of_both_scans(opened: Lab, plan: Plan) -> None:
    here = bench(opened, plan)
    seen = vacuum._look(here, "vacuum-before", here.geometry)
    first, second = replace(seen, bad=((1, 2), (3, 4))), replace(seen, bad=((3, 4), (0, 5)))
    both = vacuum._mask(first, second)
    assert (both.verdict, both.value["bad_pixels"]) == ("pass", [[0, 5], [1, 2], [3, 4]])
    lost = vacuum._mask(first, replace(second, disk=replace(seen.disk, ok=False, reason="nothing there")))
    assert (lost.verdict, lost.value) == ("warn", both.value)
    assert "nothing there" in lost.reason
