"""What an analysis is told of a run: its calibrations with their uncertainties, and what nobody measured."""

from typing import Any

import numpy as np
import pytest

from tasks.given import given_of_run
from tests.stem4d.rules_world import plan

CALIBRATED: dict[str, dict[str, Any]] = {
    "centre": {"value": {"centre_px": [60.5, 66.0]}, "uncertainty": {"centre_px": [0.03, 0.04], "radius_px": 0.02}},
    "mrad_per_pixel": {"value": {"mrad_per_pixel": 1.1}, "uncertainty": {"mrad_per_pixel": 0.01}},
    "ellipticity": {
        "value": {"ellipticity": 0.01, "ellipse_angle_deg": 30.0},
        "uncertainty": {"ellipticity": 0.002, "ellipse_angle_deg": 5.0},
    },
    "rotation": {"value": {"rotation_deg": -12.0, "mirrored": True}, "uncertainty": {"rotation_deg": 0.3}},
    "defocus": {"value": {"defocus_nm": 31.0}, "uncertainty": {"defocus_nm": 0.5}},
    "convergence_semi_angle": {"value": {"convergence_semi_angle_mrad": 20.5}, "uncertainty": None},
}


def test_calibrations_come_with_their_uncertainties() -> None:
    given = given_of_run(plan("ptychography"), CALIBRATED)
    assert (given.mrad_per_pixel, given.scan_rotation_deg, given.mirrored, given.defocus_nm) == (1.1, -12.0, True, 31.0)
    np.testing.assert_array_equal(given.origin_px, [60.5, 66.0])
    assert given.uncertainty == {
        "mrad_per_pixel": 0.01,
        # Of y and x: the root of their mean square.
        "origin_px": pytest.approx(0.05 / np.sqrt(2)),
        "scan_rotation_deg": 0.3,
        "defocus_nm": 0.5,
        "ellipticity": 0.002,
        "ellipse_angle_deg": 5.0,
    }


def test_what_nobody_measured_has_no_uncertainty_and_may_be_unknown() -> None:
    wanted = plan("ptychography")
    given = given_of_run(wanted, {"centre": {"value": {"centre_px": (60.0, 66.0)}}})
    assert (given.scan_rotation_deg, given.mirrored) == (None, None)
    assert given.defocus_nm == wanted.optics.defocus_nm
    assert given.mrad_per_pixel == wanted.mrad_per_pixel
    assert given.uncertainty == {}
