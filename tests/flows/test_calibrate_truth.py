"""Every kind of calibration through the command, held against the hidden truth of the instrument file.

This shows that the stages fit together. The gold films of the file are places that do well: how well rings do on places
that nobody chose is in docs/performance.md and tests/blind.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from stem4d.optics import depth_of_field_a
from stem4d.simulate.scanning import turn
from tasks.calibrations.kinds import KINDS

PLANS = Path(__file__).parents[2] / "plans"
INSTRUMENT = PLANS / "instruments" / "calibration.toml"
PLAN = PLANS / "calibrate" / "reference.yaml"
NOMINAL_MRAD_PER_PX = 100 / 250
ALPHA_MRAD, DEFOCUS_NM, ENERGY_KEV = 17.0, 14.0, 200.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads(INSTRUMENT.read_text())["settings"]
    return settings


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    env = {
        "NIGHTBEAM_HOME": str(tmp_path_factory.mktemp("truth")),
        "NIGHTBEAM_WORKER": "inline",
        "NIGHTBEAM_DISK_RESERVE_GB": "0",
    }
    command = ["calibrate", *KINDS, "--plan", str(PLAN), "-i", str(INSTRUMENT), "--yes", "--json"]
    done = CliRunner().invoke(app, command, env=env)
    # A counting detector has no dark level: that kind does not apply, and is no warning.
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def found(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in told["measured"]}


def test_every_kind_is_measured_but_a_counting_detectors_dark(found: dict[str, Any], told: dict[str, Any]) -> None:
    assert set(found) == set(KINDS) - {"dark_flat"}
    assert next(one["state"] for one in told["calibrations"] if one["kind"] == "dark_flat") == "does_not_apply"
    verdicts = {kind: one["verdict"] for kind, one in found.items()}
    assert set(verdicts.values()) <= {"pass", "warn"}, [one["reason"] for one in found.values()]
    page = Path(told["report"]).read_text()
    for drawn in ("Tilted images added as they are", "Each shifted back by the fit", "Mean pattern and fit"):
        assert drawn in page, drawn


def test_the_angles_are_those_of_the_projector(found: dict[str, Any], truth: dict[str, Any]) -> None:
    projector = truth["projector"]
    scale = found["mrad_per_pixel"]
    true = NOMINAL_MRAD_PER_PX * projector["angle_ratio"]
    assert scale["value"]["mrad_per_pixel"] == pytest.approx(true, rel=0.002)
    ellipse = found["ellipticity"]["value"]
    assert ellipse["ellipticity"] == pytest.approx(projector["ellipticity"], abs=0.003)
    alpha = found["convergence_semi_angle"]["value"]["convergence_semi_angle_mrad"]
    assert alpha == pytest.approx(ALPHA_MRAD * projector["convergence_ratio"], rel=0.005)


def test_pattern_and_current_are_those_of_the_column(found: dict[str, Any], truth: dict[str, Any]) -> None:
    descan = found["descan"]
    # The correction is the negative of the error, in nominal mrad; over the 2.88 nm field.
    ratio = truth["projector"]["angle_ratio"]
    left = np.array(descan["value"]["descan_mrad_per_nm"]) * ratio + np.array(truth["descan_error_mrad_per_nm"])
    # Rms of the plane over the field: 0.01 px, and the ellipse of 0.8 % that a correction in plain mrad leaves.
    assert np.sqrt((left**2).sum() / 12) * 2.88 / NOMINAL_MRAD_PER_PX < 0.02
    for shift, error in zip(descan["value"]["diffraction_shift_mrad"], truth["misalignment_mrad"], strict=True):
        # The same ellipse on an offset of 5 px: 0.04 px.
        assert shift * ratio == pytest.approx(-error, abs=0.04 * NOMINAL_MRAD_PER_PX)
    assert not descan["value"]["curved"]
    current = found["current"]["value"]["true_over_commanded"]
    assert current == pytest.approx(truth["current_ratio_above_pa"][0]["ratio"], rel=0.03)
    assert found["counts_per_electron"]["value"]["counts_per_electron"] == pytest.approx(1.0, rel=0.01)


def test_the_scan_is_the_true_one(found: dict[str, Any], truth: dict[str, Any]) -> None:
    step, ratio = found["scan_step"]["value"], truth["scan"]["step_ratio"]
    assert step["step_y_nm"] / step["nominal_step_nm"] == pytest.approx(ratio[0], rel=0.005)
    assert step["step_x_nm"] / step["nominal_step_nm"] == pytest.approx(ratio[1], rel=0.005)
    lie = found["rotation"]
    assert lie["value"]["rotation_deg"] == pytest.approx(truth["scan_detector_rotation_deg"], abs=0.5)
    assert lie["value"]["mirrored"] is False
    assert lie["value"]["half_turn_known"] is True
    # Both ways agree on it: the value is what they say together. The deflections alone know it to 0.4 degrees.
    assert abs(lie["value"]["by_deflections_deg"] - lie["value"]["by_tilted_images_deg"]) < 4 * 0.4
    drift = found["drift"]["value"]
    # Features move along the specimen's axes; the images have the scan's.
    true = turn(truth["scan_detector_rotation_deg"]).T @ np.array(truth["areas"]["film-1"]["drift_nm_per_min"])
    speed = float(np.hypot(*true))
    # The measured step is in it.
    assert np.hypot(*(np.array(drift["drift_nm_per_min"]) - true)) < 0.05 * speed
    assert drift["jumped"] is False


def test_focus_and_astigmatism_are_those_of_the_lens(found: dict[str, Any], truth: dict[str, Any]) -> None:
    value, rest = found["defocus"]["value"], truth["aberrations"]
    true = DEFOCUS_NM + rest["defocus_nm"]
    depth_nm = depth_of_field_a(ENERGY_KEV, ALPHA_MRAD) / 10
    assert value["defocus_nm"] == pytest.approx(true, abs=max(0.01 * true, depth_nm / 4))
    assert value["astigmatism_nm"] == pytest.approx(rest["astigmatism_nm"], abs=2.0)
