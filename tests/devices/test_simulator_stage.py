"""Stage poses, beam shift, focus and stigmator of the simulated microscope: what they do, and what they refuse."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.protocols import NormalisingColumn, PosedStage
from devices.replay.parts import ReplayStage
from devices.simulator.instrument import SimulatedInstrument, open_here
from devices.simulator.scene import Scene, illumination_of, shifts_px, specimen_positions_nm
from devices.simulator.stage import AT_REST, StageTruth, moved
from stem4d.approach import StagePose
from stem4d.errors import DeviceFault, LimitViolation
from stem4d.instrument import InstrumentFile
from tests.devices.server_world import session
from tests.devices.simulator_world import AREA, Clock, column, exposure, instrument_file, lease, prepared, raster

STAGE = {
    "x_um": {"lowest": -100.0, "highest": 100.0},
    "y_um": {"lowest": -50.0, "highest": 50.0},
    "z_um": {"lowest": -10.0, "highest": 10.0},
    "alpha_deg": {"lowest": -30.0, "highest": 30.0},
    "backlash_um": 2.0,
}
COILS = {
    "beam_shift_nm": {"lowest": -500.0, "highest": 500.0},
    "stigmator_nm": {"lowest": -50.0, "highest": 50.0},
}
WIDE = {"defocus_nm": {"lowest": -1000.0, "highest": 1000.0}}
MIDDLE = np.array([0])


def file(facts: dict[str, Any] | None = None, **settings: Any) -> InstrumentFile:
    """The small instrument with a stage that can be sent to poses, and coils."""
    plain = instrument_file(**settings).model_dump(mode="json")
    plain["facts"] |= {"stage": STAGE, **COILS, "camera_lengths_mm": [50.0, 100.0], **(facts or {})}
    return InstrumentFile.model_validate(plain, strict=False)


def opened(home: Path, facts: dict[str, Any] | None = None, **settings: Any) -> SimulatedInstrument:
    """It, within this process."""
    clock = Clock()
    return open_here(file(facts, **settings), home, clock, clock.sleep)


def scene(instrument: SimulatedInstrument, setting: Any = None) -> Scene:
    """What one position at the field's middle would be exposed to as the instrument stands."""
    scan = raster((1, 1))
    instrument.stage.go_to("sample")
    instrument.column.prepare(setting or column())
    instrument.scan.prepare(scan)
    instrument.detector.prepare(exposure(scan))
    # Not by its source, which refuses probes that the small detector's window cannot hold.
    return Scene(instrument._state.truth, *instrument.detector._given())


def met_nm(one: Scene, at_s: float = 0.0) -> np.ndarray:
    """Where the probe meets the specimen (y, x)."""
    return specimen_positions_nm(one, MIDDLE, at_s)[0]


def test_a_pose_moves_the_specimen_under_the_beam(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    instrument.stage.go_to("sample")
    reached = instrument.stage.move_to(StagePose(x_um=0.003, y_um=-0.002))
    assert reached == instrument.stage.pose() == StagePose(x_um=0.003, y_um=-0.002)
    # The specimen goes with the stage, so the beam meets what lies the other way.
    np.testing.assert_allclose(met_nm(scene(instrument)), [2.0, -3.0], atol=1e-9)


def test_going_where_the_stage_is_keeps_its_pose(tmp_path: Path) -> None:
    instrument = opened(tmp_path, areas={"sample": {**AREA, "place_um": [5.0, 6.0, 0.5]}})
    instrument.stage.go_to("sample")
    assert instrument.stage.pose() == StagePose(x_um=5.0, y_um=6.0, z_um=0.5)
    there = instrument.stage.move_to(StagePose(x_um=5.1, y_um=6.0, z_um=0.5))
    instrument.stage.go_to("sample")
    assert instrument.stage.pose() == there
    instrument.stage.go_to("vacuum")
    instrument.stage.go_to("sample")
    assert instrument.stage.pose() == StagePose(x_um=5.0, y_um=6.0, z_um=0.5)


@pytest.mark.parametrize(
    ("axis", "value"),
    # The lowest poses along x and y lie a backlash above the end of the range.
    [("x_um", 100.1), ("x_um", -98.1), ("y_um", -48.5), ("z_um", 10.5), ("alpha_deg", -31.0), ("beta_deg", 0.1)],
)
def test_a_pose_outside_the_limits_is_refused_and_nothing_moves(tmp_path: Path, axis: str, value: float) -> None:
    instrument = opened(tmp_path)
    instrument.stage.go_to("sample")
    before = instrument.stage.pose()
    with pytest.raises(LimitViolation, match=rf"stage: {axis} = "):
        instrument.stage.move_to(before.model_copy(update={axis: value}))
    assert instrument.stage.pose() == before


def test_a_stage_that_is_not_stated_goes_nowhere(tmp_path: Path) -> None:
    instrument = opened(tmp_path, facts={"stage": None})
    with pytest.raises(LimitViolation, match="x_um"):
        instrument.stage.move_to(StagePose(x_um=1.0, y_um=0.0))


def test_no_move_while_a_raster_runs(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    prepared(instrument, "sample")
    instrument.detector.arm()
    instrument.gate.unblank(lease())
    instrument.scan.start()
    with pytest.raises(DeviceFault, match="while a raster runs"):
        instrument.stage.move_to(StagePose(x_um=0.0, y_um=0.0))


@given(
    path=st.lists(st.tuples(st.floats(-40, 40), st.floats(-40, 40)), min_size=1, max_size=4),
    above=st.floats(0.001, 5.0),
)
def test_a_move_from_above_stays_short_and_one_from_below_does_not(path: list[Any], above: float) -> None:
    truth, motion = StageTruth(backlash_nm=150.0), AT_REST
    for y, x in path:
        motion = moved(motion, truth, 1, StagePose(x_um=x, y_um=y), 0.0)
    end = motion.pose
    high = end.model_copy(update={"x_um": end.x_um + above})
    from_above = moved(moved(motion, truth, 1, high, 0.0), truth, 1, end, 0.0)
    low = end.model_copy(update={"x_um": end.x_um - above})
    from_below = moved(moved(motion, truth, 1, low, 0.0), truth, 1, end, 0.0)
    assert from_above.short_nm[1] == 150.0
    assert from_below.short_nm[1] == 0.0
    assert from_above.short_nm[0] == from_below.short_nm[0] == motion.short_nm[0]


@pytest.mark.parametrize(("backlash_um", "short"), [(2.0, 0.0), (0.0, 150.0)])
def test_the_driver_takes_the_backlash_out(tmp_path: Path, backlash_um: float, short: float) -> None:
    stage = {**STAGE, "backlash_um": backlash_um}
    instrument = opened(tmp_path, facts={"stage": stage}, stage={"backlash_nm": 150.0})
    instrument.stage.go_to("sample")
    instrument.stage.move_to(StagePose(x_um=1.0, y_um=1.0))
    instrument.stage.move_to(StagePose(x_um=0.0, y_um=0.0))
    np.testing.assert_allclose(met_nm(scene(instrument)), [-short, -short], atol=1e-9)


def test_moves_end_near_where_they_were_sent_and_each_elsewhere(tmp_path: Path) -> None:
    instrument = opened(tmp_path, stage={"reproducibility_nm": 100.0})
    instrument.stage.go_to("sample")
    ends = []
    for _ in range(40):
        instrument.stage.move_to(StagePose(x_um=0.0, y_um=0.0))
        ends.append(instrument._state.stage.missed_nm)
    spread = np.std(ends)
    # 80 draws: their standard deviation is known to 8 %, this is four times that.
    assert spread == pytest.approx(100.0, rel=0.32)


def test_another_process_finds_the_stage_as_it_was_left(tmp_path: Path) -> None:
    settings = {"stage": {"reproducibility_nm": 100.0, "creep_nm": 5.0}}
    first = opened(tmp_path, **settings)
    first.stage.go_to("sample")
    first.stage.move_to(StagePose(x_um=3.0, y_um=4.0, alpha_deg=2.0))
    left = first._state.stage
    assert any(left.missed_nm)
    first.close()
    assert opened(tmp_path, **settings)._state.stage == left


def test_the_specimen_creeps_after_a_move_and_comes_to_rest(tmp_path: Path) -> None:
    instrument = opened(tmp_path, stage={"creep_nm": 50.0, "creep_s": 40.0})
    instrument.pause(100.0)
    instrument.stage.go_to("sample")
    one = scene(instrument)
    at = [np.linalg.norm(met_nm(one, 100.0 + since)) for since in (0.0, 40.0, 80.0, 4000.0)]
    np.testing.assert_allclose(at, [0.0, 50 * (1 - np.exp(-1)), 50 * (1 - np.exp(-2)), 50.0], atol=1e-6)


def test_height_defocuses_and_moves_the_image_under_tilt(tmp_path: Path) -> None:
    instrument = opened(tmp_path, facts=WIDE, areas={"sample": {**AREA, "height_nm": 300.0}})
    instrument.stage.go_to("sample")
    level = scene(instrument, column(defocus_nm=5.0))
    assert illumination_of(level).aberrations.defocus_nm == pytest.approx(305.0)
    instrument.stage.move_to(StagePose(x_um=0.0, y_um=0.0, alpha_deg=30.0))
    np.testing.assert_allclose(met_nm(scene(instrument)), [-150.0, 0.0], atol=1e-9)
    instrument.stage.move_to(StagePose(x_um=0.0, y_um=0.0, z_um=-0.3, alpha_deg=30.0))
    lowered = scene(instrument)
    assert illumination_of(lowered).aberrations.defocus_nm == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(met_nm(lowered), [0.0, 0.0], atol=1e-9)


def test_focus_and_stigmator_add_to_what_the_column_has(tmp_path: Path) -> None:
    residual = {"defocus_nm": 80.0, "astigmatism_nm": 20.0, "astigmatism_angle_deg": 30.0}
    instrument = opened(tmp_path, facts=WIDE, aberrations=residual)
    # C12 (cos 2φ, sin 2φ) of 20 nm at 30 degrees is (10, 17.3).
    corrected = column().model_copy(update={"focus_correction_nm": -80.0, "stigmator_nm": (-10.0, -20 * np.sqrt(0.75))})
    seen = illumination_of(scene(instrument, corrected)).aberrations
    assert seen.defocus_nm == pytest.approx(0.0, abs=1e-9)
    assert seen.astigmatism_nm == pytest.approx(0.0, abs=1e-9)
    turned = column().model_copy(update={"stigmator_nm": (-20.0, 0.0)})
    seen = illumination_of(scene(instrument, turned)).aberrations
    assert seen.astigmatism_nm == pytest.approx(20.0)
    assert seen.astigmatism_angle_deg == pytest.approx(60.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam_shift_nm", (0.0, 501.0)),
        ("beam_shift_nm", (-501.0, 0.0)),
        ("stigmator_nm", (51.0, 0.0)),
        ("focus_correction_nm", 21.0),
    ],
)
@pytest.mark.parametrize("stated", [True, False])
def test_coils_refuse_what_they_cannot_do(tmp_path: Path, name: str, value: Any, stated: bool) -> None:
    instrument = opened(tmp_path, facts=None if stated else dict.fromkeys(COILS))
    instrument.column.prepare(column(defocus_nm=0.0))
    setting = "defocus_nm" if name == "focus_correction_nm" else name
    with pytest.raises(LimitViolation, match=rf"column: {setting} = "):
        instrument.column.prepare(column().model_copy(update={name: value}))
    assert instrument._state.column == column(defocus_nm=0.0)


def test_the_beam_shift_moves_the_field_along_the_scan_and_the_pattern_a_little(tmp_path: Path) -> None:
    slope = [[1e-3, 0.0], [0.0, 2e-3]]
    instrument = opened(tmp_path, scan_detector_rotation_deg=90.0, lens={"beam_shift_pattern_mrad_per_nm": slope})
    one = scene(instrument, column().model_copy(update={"beam_shift_nm": (0.0, 400.0)}))
    # The scan's x lies along the specimen's y.
    np.testing.assert_allclose(met_nm(one), [400.0, 0.0], atol=1e-9)
    # 400 nm x 2e-3 mrad/nm at 2 mrad per pixel.
    np.testing.assert_allclose(shifts_px(one, MIDDLE)[0], [0.0, 0.4], atol=1e-9)


def test_hysteresis_stays_until_the_lenses_are_normalised(tmp_path: Path) -> None:
    instrument = opened(tmp_path, lens={"hysteresis_nm": 70.0})
    assert illumination_of(scene(instrument)).aberrations.defocus_nm == 0.0
    changed = scene(instrument, column(camera_length_mm=100.0))
    assert illumination_of(changed).aberrations.defocus_nm == 70.0
    assert (
        illumination_of(scene(instrument, column(camera_length_mm=100.0, defocus_nm=3.0))).aberrations.defocus_nm == 73
    )
    instrument.column.normalise()
    again = scene(instrument, column(camera_length_mm=100.0))
    assert illumination_of(again).aberrations.defocus_nm == 0.0


def test_who_can_do_it_says_so(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    assert isinstance(instrument.stage, PosedStage)
    assert isinstance(instrument.column, NormalisingColumn)
    assert not issubclass(ReplayStage, PosedStage)


def test_poses_and_normalising_reach_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.devices.server_world.instrument_file", file)
    with session(tmp_path) as remote:
        assert isinstance(remote.stage, PosedStage)
        assert isinstance(remote.column, NormalisingColumn)
        remote.stage.go_to("sample")
        pose = StagePose(x_um=1.0, y_um=2.0, z_um=0.5, alpha_deg=3.0)
        assert remote.stage.move_to(pose) == pose == remote.stage.pose()
        with pytest.raises(LimitViolation) as refused:
            remote.stage.move_to(pose.model_copy(update={"x_um": 200.0}))
        assert (refused.value.setting, refused.value.asked, refused.value.unit) == ("x_um", 200.0, "um")
        assert remote.stage.pose() == pose
        asked = column().model_copy(update={"beam_shift_nm": (3.0, 4.0), "stigmator_nm": (1.0, 2.0)})
        assert remote.column.prepare(asked) == asked
        remote.column.normalise()


def test_an_exposure_sees_the_stage_as_it_was_when_it_was_prepared(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    one = scene(instrument)
    instrument.stage.move_to(StagePose(x_um=0.5, y_um=0.0))
    np.testing.assert_allclose(met_nm(one), [0.0, 0.0], atol=1e-9)
