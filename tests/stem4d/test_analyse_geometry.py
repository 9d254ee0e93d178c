"""From pixels to angles in the scan's frame, against numbers written from docs/conventions.md and the simulator."""

from math import sqrt
from typing import Any

import numpy as np
import pytest

from stem4d.analyse.geometry import angles_per_px
from stem4d.analyse.method import Given
from stem4d.simulate import scanning
from stem4d.simulate.patterns import Illumination, patterns, prepare
from stem4d.simulate.probe import Aberrations
from stem4d.simulate.specimen import Specimen

DELTA = 2.0


def given(**more: Any) -> Given:
    return Given(80.0, 20.0, DELTA, (0.05, 0.05), np.array([15.5, 15.5]), np.zeros((32, 32), bool), **more)


@pytest.mark.parametrize(
    ("lies", "pixel", "seen"),
    [
        # r = x shows along turn(30°) x = (sin, cos) on (y, x), r = y along (cos, -sin).
        ({"scan_rotation_deg": 30.0}, (0.5, sqrt(0.75)), (0.0, 1.0)),
        ({"scan_rotation_deg": 30.0}, (sqrt(0.75), -0.5), (1.0, 0.0)),
        # The mirror comes after the turn: the detector's y runs against the specimen's.
        ({"scan_rotation_deg": 30.0, "mirrored": True}, (-0.5, sqrt(0.75)), (0.0, 1.0)),
        ({"scan_rotation_deg": 30.0, "mirrored": True}, (-sqrt(0.75), -0.5), (1.0, 0.0)),
        ({"mirrored": True}, (1.0, 1.0), (-1.0, 1.0)),
        # A circle in angle has its long axis 1.21 times the short one, 30° from x towards y on the detector.
        ({"ellipticity": 0.21, "ellipse_angle_deg": 30.0}, (1.1 * 0.5, 1.1 * sqrt(0.75)), (0.5, sqrt(0.75))),
        ({"ellipticity": 0.21, "ellipse_angle_deg": 30.0}, (sqrt(0.75) / 1.1, -0.5 / 1.1), (sqrt(0.75), -0.5)),
        # All at once: the ellipse is taken off as the detector shows it, then the mirror, then a quarter turn.
        (
            {"ellipticity": 0.21, "ellipse_angle_deg": 30.0, "mirrored": True, "scan_rotation_deg": 90.0},
            (1.1 * 0.5, 1.1 * sqrt(0.75)),
            (-sqrt(0.75), -0.5),
        ),
    ],
)
def test_pixels_are_taken_to_the_scans_frame(lies: Any, pixel: Any, seen: Any) -> None:
    np.testing.assert_allclose(angles_per_px(given(**lies)) @ pixel, DELTA * np.array(seen), atol=1e-12)


@pytest.mark.parametrize(
    ("rotation_deg", "mirrored", "ellipticity", "ellipse_angle_deg"),
    [(25.0, False, 0.0, 0.0), (25.0, True, 0.0, 0.0), (-70.0, True, 0.15, 35.0)],
)
def test_simulated_patterns_move_towards_the_atom(
    rotation_deg: float, mirrored: bool, ellipticity: float, ellipse_angle_deg: float
) -> None:
    """Nothing of the analysis makes these patterns: positions by the scan engine, pixels by the projector P = δ M E."""
    psi = np.radians(ellipse_angle_deg)
    long_axis = np.array([np.sin(psi), np.cos(psi)])
    short, long = sqrt(1 + ellipticity), 1 / sqrt(1 + ellipticity)
    ellipse = short * np.eye(2) + (long - short) * np.outer(long_axis, long_axis)
    projection = DELTA * np.diag([-1.0 if mirrored else 1.0, 1.0]) @ ellipse
    (yy, yx), (xy, xx) = projection.tolist()
    light = Illumination(80.0, 20.0, Aberrations(), (32, 32), ((yy, yx), (xy, xx)))
    away = 0.04 * np.array([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [-0.6, 0.8]])
    placed = away @ scanning.turn(rotation_deg).T
    atoms = Specimen("square", spacing_a=8.0, atom_phase_rad=0.3)
    frames = patterns(prepare(light, atoms), placed, np.zeros((4, 2)))
    y, x = np.indices((32, 32)) - 15.5
    moved = np.stack([(frames * y).sum((1, 2)), (frames * x).sum((1, 2))], axis=1)
    lies = given(
        scan_rotation_deg=rotation_deg,
        mirrored=mirrored,
        ellipticity=ellipticity,
        ellipse_angle_deg=ellipse_angle_deg,
    )
    angle = moved @ angles_per_px(lies).T
    back = -away / np.hypot(*away.T)[:, None]
    # Towards the atom at (0, 0), to the few degrees that pixels and neighbours 8 Å away take.
    assert ((angle * back).sum(1) / np.hypot(*angle.T) > np.cos(np.radians(3.0))).all()
