"""What is wrong with data or calibration is said by each analysis: never a silent number, never a traceback."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stem4d.analyse.method import Given, NotPossible, Outcome
from stem4d.analyse.methods import METHODS
from stem4d.errors import BadInput
from stem4d.model import Strict
from tests.stem4d.analyse_world import InMemory, picture, run
from tests.stem4d.orientation_world import cif

SIDE, SCAN = 48, 5
GOLD = cif("gold", (4.0786, 4.0786, 4.0786, 90, 90, 90), "F m -3 m", [("Au", 0, 0, 0)])
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "com": {},
    "virtual": {"detectors": ({"kind": "ring", "name": "dark", "inner_mrad": 7.0, "outer_mrad": 15.0},)},
    "strain": {"reflection_d_a": 2.5},
    "orientation": {"crystal_cif": GOLD, "angular_step_deg": 5.0},
    "tcbf": {},
    "ptychography": {"iterations": 2},
}
BY_POSITION = {"com": "deflection", "virtual": "dark", "strain": "exx", "orientation": "score"}
"""A picture of each analysis that looks at every pattern for itself."""


def given() -> Given:
    """10 mrad to a lattice spacing of 2.5 Å at 200 kV; disks of 3.5 px."""
    return Given(
        beam_energy_kev=200.0,
        convergence_semi_angle_mrad=3.5,
        mrad_per_pixel=1.0,
        scan_step_nm=(0.5, 0.5),
        origin_px=np.array([23.5, 23.5]),
        bad_pixels=np.zeros((SIDE, SIDE), bool),
        scan_rotation_deg=0.0,
        defocus_nm=300.0,
        thickness_nm=2.0,
    )


def frames(scan: tuple[int, int] = (SCAN, SCAN), *, lattice: bool = True) -> np.ndarray:
    """A bright disk and, of a lattice, eight others about it, in counts."""
    y, x = np.indices((SIDE, SIDE)) - 23.5
    mean = np.full((SIDE, SIDE), 0.02)
    for m in (-1, 0, 1):
        for n in (-1, 0, 1):
            if lattice or m == n == 0:
                mean += np.where(np.hypot(y - 10 * m, x - 10 * n) < 3.5, 40.0 if m == n == 0 else 8.0, 0.0)
    drawn: np.ndarray = np.random.default_rng(5).poisson(mean, (*scan, SIDE, SIDE)).astype(np.uint16)
    return drawn


FRAMES = frames()


def made(name: str, known: Given, rows: InMemory) -> Outcome:
    """The outcome; an error that is not for a user is none."""
    options: Strict = METHODS[name].options.model_validate(OPTIONS[name])
    try:
        return run(METHODS[name], known, options, rows)
    except (NotPossible, BadInput) as why:
        return Outcome("not_possible", str(why), {})


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mrad_per_pixel": 0.0}, "mrad_per_pixel"),
        ({"convergence_semi_angle_mrad": float("nan")}, "convergence_semi_angle_mrad"),
        ({"scan_step_nm": (0.5, -0.5)}, "scan_step_nm"),
        ({"defocus_nm": float("nan")}, "defocus_nm"),
        ({"bad_pixels": np.zeros((4, 4), bool)}, "detector's shape"),
        ({"bad_pixels": np.ones((SIDE, SIDE), bool)}, "pixels that are good"),
        ({"origin_px": np.array([60.0, 60.0])}, "must lie on the detector"),
        ({"origin_px": np.full((2, 9, 9), 23.5)}, "another scan"),
        ({"origin_px": np.array([np.nan, 23.5])}, "must be known somewhere"),
    ],
)
def test_a_wrong_calibration_is_refused_with_its_name(name: str, changed: dict[str, Any], said: str) -> None:
    outcome = made(name, replace(given(), **changed), InMemory(FRAMES))
    assert outcome.verdict == "not_possible"
    assert said in outcome.reason


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "rows",
    [InMemory(np.zeros_like(FRAMES)), InMemory(FRAMES, np.zeros((SCAN, SCAN), bool))],
    ids=["no counts", "no frames"],
)
def test_nothing_gives_nothing(name: str, rows: InMemory) -> None:
    outcome = made(name, given(), rows)
    assert (outcome.verdict, outcome.pictures) == ("not_possible", ())
    assert "nan" not in outcome.reason


@pytest.mark.parametrize("name", METHODS)
def test_without_calibrations_nothing_that_needs_them_is_good(name: str) -> None:
    unknown = replace(given(), scan_rotation_deg=None, defocus_nm=None, thickness_nm=None)
    outcome = made(name, unknown, InMemory(FRAMES))
    if name in ("tcbf", "ptychography"):
        assert (outcome.verdict, "defocus" in outcome.reason) == ("not_possible", True)
    elif name != "virtual":
        # A ring is as round in the detector's frame as in the scan's.
        assert "rotation" in outcome.reason or "axes of the detector" in outcome.reason


@pytest.mark.parametrize("name", METHODS)
def test_one_row_is_a_row_of_values_or_refused(name: str) -> None:
    outcome = made(name, given(), InMemory(FRAMES[:1]))
    if name in BY_POSITION:
        assert picture(outcome, BY_POSITION[name]).values.shape == (1, SCAN)
    else:
        assert outcome.verdict == "not_possible"
        assert f"1{' x' if name == 'ptychography' else ','} {SCAN}" in outcome.reason


@pytest.mark.parametrize("name", BY_POSITION)
@pytest.mark.parametrize("lost", ["no number", "missing"])
def test_a_position_without_a_frame_has_no_value_and_the_others_keep_theirs(name: str, lost: str) -> None:
    data, recorded = FRAMES.astype(np.float32), np.ones((SCAN, SCAN), bool)
    # What lies in the file where no frame was recorded means nothing.
    data[1, 2] = np.nan if lost == "no number" else 60000
    recorded[1, 2] = lost == "no number"
    values = picture(made(name, given(), InMemory(data, recorded)), BY_POSITION[name]).values
    assert np.isnan(values[1, 2])
    assert np.isfinite(values).sum() == SCAN * SCAN - 1
    whole = picture(made(name, given(), InMemory(FRAMES.astype(np.float32))), BY_POSITION[name]).values
    # A strain is one against the median of all, a centre of mass is corrected by the mean pattern: one of 25 frames
    # less moves them by a fifth of their noise. Of a single pattern, faint disks may be seen or not.
    near = float(np.nanstd(whole)) / 5 + 1e-9
    assert np.nanmedian(np.abs(values - whole)) < near


@pytest.mark.parametrize("name", METHODS)
def test_pixels_of_a_picture_have_the_scans_steps(name: str) -> None:
    outcome = made(name, replace(given(), scan_step_nm=(0.5, 0.3)), InMemory(FRAMES))
    if name in BY_POSITION:
        assert picture(outcome, BY_POSITION[name]).pixel_nm == (0.5, 0.3)
    elif name == "ptychography":
        height, width = picture(outcome, "phase").values.shape
        assert height / width == pytest.approx(0.5 / 0.3, rel=0.05)
    else:
        assert outcome.verdict == "not_possible"


@pytest.mark.parametrize("name", ["strain", "orientation", "tcbf", "ptychography"])
def test_a_lattice_or_a_specimen_that_is_not_there_is_never_good(name: str) -> None:
    assert made(name, given(), InMemory(frames(lattice=False))).verdict != "good"


def test_masks_off_the_detector_are_told_with_its_reach() -> None:
    ring = {"kind": "ring", "name": "far", "inner_mrad": 200.0, "outer_mrad": 300.0}
    wanted = METHODS["virtual"].options.model_validate({"detectors": (ring,)})
    with pytest.raises(BadInput, match="reaches"):
        run(METHODS["virtual"], given(), wanted, InMemory(FRAMES))
