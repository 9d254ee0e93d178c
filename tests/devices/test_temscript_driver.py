"""The column over temscript's server: each test on a stand-in, and (slow) on temscript's own with its Null microscope."""

import json
from collections.abc import Iterator
from math import radians
from pathlib import Path

import pytest

from devices.protocols import BeamWitness, Instrument, NormalisingColumn, PosedStage, Watchable
from devices.safety import SafeLevel, make_safe
from devices.temscript.instrument import TemscriptInstrument
from stem4d.approach import StagePose
from stem4d.dose import DoseLease
from stem4d.errors import DeviceFault, DoseRefused, LimitViolation, NotConfirmed
from tests.devices.simulator_world import Clock, exposure, lease, raster
from tests.devices.temscript_server import Server, StandIn, made_ready, null_microscope, stand_in
from tests.devices.temscript_world import column, opened

REAL = pytest.param("real", marks=pytest.mark.slow)
POSE = StagePose(x_um=10.0, y_um=-20.0, z_um=3.0, alpha_deg=5.0)


@pytest.fixture(scope="module", params=["stand-in", REAL])
def anywhere(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of either kind."""
    with stand_in() if request.param == "stand-in" else null_microscope() as server:
        yield server


@pytest.fixture
def server(anywhere: Server) -> Server:
    """It as a person left it: blanked, the stage at its zero, everything in the right mode."""
    made_ready(anywhere)
    anywhere.put("beam_blanked", True)
    anywhere.put("stage_position", dict.fromkeys("xyzab", 0.0))
    return anywhere


@pytest.fixture
def instrument(server: Server, tmp_path: Path) -> Iterator[TemscriptInstrument]:
    """The instrument on it, on a clock of the test's."""
    instrument = opened(server.port, tmp_path, Clock())
    yield instrument
    instrument.leave()


def events(home: Path) -> list[str]:
    """What the column's log says."""
    lines = (home / "instruments" / "test-stem" / "column.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def test_it_is_an_instrument_and_opening_changes_nothing(server: Server, tmp_path: Path) -> None:
    server.put("beam_blanked", False)
    instrument = opened(server.port, tmp_path)
    for protocol in (Instrument, BeamWitness, Watchable):
        assert isinstance(instrument, protocol)
    assert isinstance(instrument.column, NormalisingColumn)
    assert isinstance(instrument.stage, PosedStage)
    assert instrument.watched_by == "another process"
    assert instrument.found is None
    instrument.leave()
    assert server.get("beam_blanked") is False


def test_every_value_arrives_in_the_servers_unit(server: Server, instrument: TemscriptInstrument) -> None:
    asked = column(
        focus_correction_nm=-2.0,
        beam_shift_nm=(40.0, -30.0),
        stigmator_nm=(3.0, -2.0),
        diffraction_shift_mrad=(1.0, 2.0),
    )
    resolved = instrument.column.prepare(asked)
    assert server.get("convergence_angle") == pytest.approx(10e-3)
    # Ours is overfocus at negative values, the server's by this file at positive ones; 5 - 2 nm.
    assert server.get("probe_defocus") == pytest.approx(-3e-9)
    assert server.get("beam_shift") == pytest.approx([-30e-9, 40e-9])
    assert server.get("condenser_stigmator") == pytest.approx([-0.04, 0.03])
    assert server.get("diffraction_shift") == pytest.approx([2e-3, 1e-3])
    assert (server.get("spot_size_index"), server.get("magnification_index")) == (3, 1)
    for (name, wanted), read in zip(_numbers(asked), _numbers(resolved), strict=True):
        assert read == (name, pytest.approx(wanted, rel=1e-9, abs=1e-9))


def _numbers(setting: object) -> list[tuple[str, float]]:
    document = setting.model_dump()  # type: ignore[attr-defined]
    rest = {name: value for name, value in document.pop("optics").items() if isinstance(value, float)}
    pairs = {
        f"{name}{n}": each for name, pair in document.items() if isinstance(pair, tuple) for n, each in enumerate(pair)
    }
    return [(name, each) for name, each in (rest | pairs).items() if isinstance(each, float)]


def test_axes_are_turned_as_the_file_says(server: Server, tmp_path: Path) -> None:
    instrument = opened(server.port, tmp_path, Clock(), beam_shift_axes=[[0.0, -1.0], [1.0, 0.0]])
    resolved = instrument.column.prepare(column(beam_shift_nm=(40.0, -30.0)))
    assert server.get("beam_shift") == pytest.approx([40e-9, 30e-9])
    assert resolved.beam_shift_nm == pytest.approx((40.0, -30.0))


@pytest.mark.parametrize(
    ("changes", "field", "unit"),
    [
        ({"defocus_nm": 20.5}, "defocus_nm", "nm"),
        ({"defocus_nm": 15.0, "focus_correction_nm": 5.5}, "defocus_nm", "nm"),
        ({"probe_current_pa": 20.0}, "probe_current_pa", "pA"),
        ({"probe_current_pa": 101.0}, "probe_current_pa", "pA"),
        ({"camera_length_mm": 150.0}, "camera_length_mm", "mm"),
        ({"convergence_semi_angle_mrad": 21.0}, "convergence_semi_angle_mrad", "mrad"),
        ({"beam_energy_kev": 300.0}, "beam_energy_kev", "keV"),
        ({"beam_energy_kev": 80.0}, "beam_energy_kev", "keV"),  # one of the file's, but not what the column has
        ({"spherical_aberration_mm": 1.2}, "spherical_aberration_mm", "mm"),
        ({"beam_shift_nm": (0.0, 501.0)}, "beam_shift_nm", "nm"),
        ({"stigmator_nm": (-31.0, 0.0)}, "stigmator_nm", "nm"),
        ({"diffraction_shift_mrad": (0.0, 20.5)}, "diffraction_shift_mrad", "mrad"),
        ({"descan_mrad_per_nm": ((0.1, 0.0), (0.0, 0.0))}, "descan_mrad_per_nm", "mrad/nm"),
    ],
)
def test_out_of_range_is_refused_before_anything_is_sent(
    server: Server, instrument: TemscriptInstrument, changes: dict[str, object], field: str, unit: str
) -> None:
    instrument.column.prepare(column())
    before = [(each.name, each.value) for each in instrument.column.snapshot()]
    with pytest.raises(LimitViolation) as refused:
        instrument.column.prepare(column(**changes))
    assert (refused.value.setting, refused.value.unit) == (field, unit)
    assert [(each.name, each.value) for each in instrument.column.snapshot()] == before


def test_a_spot_that_the_server_clips_is_an_error(server: Server, tmp_path: Path) -> None:
    spots = [{"index": 3, "probe_current_pa": 50.0}, {"index": 14, "probe_current_pa": 2.0}]
    instrument = opened(server.port, tmp_path, Clock(), spots=spots)
    with pytest.raises(NotConfirmed, match=r"column: asked for spot_index = 14.0, it reads back 11.0"):
        instrument.column.prepare(column(probe_current_pa=2.0))


def test_a_stage_position_that_the_server_clips_is_refused_by_its_own_limits(
    server: Server, instrument: TemscriptInstrument
) -> None:
    # The file says 2 mm, the microscope 1 mm.
    with pytest.raises(LimitViolation, match=r"x_um = 1500.0 um is outside its limits \(-1000 to 1000\)"):
        instrument.stage.move_to(StagePose(x_um=1500.0, y_um=0.0))
    assert server.get("stage_position")["x"] == 0.0


def test_a_camera_length_that_is_another_one_by_now_is_an_error(server: Server, tmp_path: Path) -> None:
    rows = [{"index": 1, "camera_length_mm": 100.0}, {"index": 5, "camera_length_mm": 200.0}]
    instrument = opened(server.port, tmp_path, Clock(), camera_lengths=rows)
    with pytest.raises(NotConfirmed, match=r"camera_length_mm = 200.0 mm, it reads back 500.0 mm"):
        instrument.column.prepare(column(camera_length_mm=200.0))


def test_another_mode_is_a_fault_and_nothing_is_set(server: Server, instrument: TemscriptInstrument) -> None:
    instrument.column.prepare(column())
    server.put("projection_mode", "IMAGING")
    with pytest.raises(DeviceFault, match="projection_mode is IMAGING and has to be DIFFRACTION"):
        instrument.column.prepare(column(defocus_nm=-5.0))
    assert server.get("probe_defocus") == pytest.approx(-5e-9)


def test_the_stage_goes_by_name_and_by_pose(server: Server, instrument: TemscriptInstrument, tmp_path: Path) -> None:
    stage = instrument.stage
    assert (stage.position(), stage.go_to("sample"), stage.position()) == ("", "sample", "sample")
    assert server.get("stage_position")["x"] == pytest.approx(120e-6)
    reached = stage.move_to(POSE)
    assert server.get("stage_position") == pytest.approx(
        {"x": 10e-6, "y": -20e-6, "z": 3e-6, "a": radians(5.0), "b": 0.0}
    )
    for axis, there in POSE.model_dump().items():
        assert getattr(reached, axis) == pytest.approx(there, abs=1e-6)
    # A pose around the named position is kept, also for who asks from elsewhere.
    assert opened(server.port, tmp_path, Clock()).stage.position() == "sample"
    assert stage.go_to("sample") == "sample"
    assert server.get("stage_position")["x"] == pytest.approx(10e-6)
    server.put("stage_position", {"x": 50e-6})  # by hand
    assert stage.position() == ""
    with pytest.raises(LimitViolation, match="one of sample, vacuum"):
        stage.go_to("nowhere")
    assert server.get("stage_position")["x"] == pytest.approx(50e-6)


def test_nothing_moves_under_the_beam(server: Server, instrument: TemscriptInstrument) -> None:
    server.put("beam_blanked", False)
    for moves in (lambda: instrument.stage.go_to("sample"), lambda: instrument.stage.move_to(POSE)):
        with pytest.raises(DeviceFault, match="stage: it moves with the beam blanked alone"):
            moves()
    with pytest.raises(DeviceFault, match="normalised with the beam blanked alone"):
        instrument.column.normalise()
    assert server.get("stage_position")["x"] == 0.0


def test_the_blanker_alone_takes_the_beam_off(server: Server, instrument: TemscriptInstrument, tmp_path: Path) -> None:
    instrument.stage.go_to("sample")
    before = server.get("stage_position")
    gate = instrument.gate
    gate.unblank(lease())
    assert (server.get("beam_blanked"), gate.is_blanked(), gate.newest_token()) == (False, False, 1)
    gate.blank()
    gate.blank()
    assert (server.get("beam_blanked"), gate.is_blanked()) == (True, True)
    assert server.get("stage_position") == before
    assert server.get("column_valves_open") is True
    assert events(tmp_path) == ["stage", "unblank", "blank", "blank"]


@pytest.mark.parametrize(
    "refused",
    [
        DoseLease("sample", 100.0, 5, 999.0),
        DoseLease("sample", 100.0, 3, 1060.0),
        DoseLease("sample", 100.0, 6, 1060.0, owner_token=6),
    ],
    ids=["expired", "an older token", "an older owner"],
)
def test_a_lease_that_is_none_is_refused_by_whatever_process(
    server: Server, instrument: TemscriptInstrument, tmp_path: Path, refused: DoseLease
) -> None:
    instrument.gate.unblank(DoseLease("sample", 100.0, 4, 1060.0))
    instrument.gate.blank()
    assert instrument.gate.see_owner(7) == 7
    with pytest.raises(DoseRefused):
        opened(server.port, tmp_path, Clock()).gate.unblank(refused)
    assert server.get("beam_blanked") is True


def test_closed_valves_are_not_opened_for_the_beam(server: Server, instrument: TemscriptInstrument) -> None:
    instrument.valves.close()
    instrument.valves.close()
    assert server.get("column_valves_open") is False
    with pytest.raises(DeviceFault, match="column valves are closed: open them at the microscope"):
        instrument.gate.unblank(lease())
    assert (server.get("beam_blanked"), server.get("column_valves_open")) == (True, False)


def test_a_second_session_makes_it_safe_and_is_told_of_the_beam(
    server: Server, instrument: TemscriptInstrument, tmp_path: Path
) -> None:
    instrument.gate.unblank(lease())
    beside = opened(server.port, tmp_path, Clock())
    assert beside.found is not None
    assert beside.found.area == "sample"
    for _ in range(2):
        report = make_safe(beside, SafeLevel.SHELTER, "test")
        assert (report.safe, report.words) == (True, "")
    assert (server.get("beam_blanked"), server.get("column_valves_open")) == (True, False)
    assert instrument.gate.is_blanked() is True
    assert opened(server.port, tmp_path, Clock()).found is None


def test_closing_blanks_and_leaving_does_not(server: Server, instrument: TemscriptInstrument, tmp_path: Path) -> None:
    instrument.gate.unblank(lease())
    opened(server.port, tmp_path, Clock()).leave()
    assert server.get("beam_blanked") is False
    instrument.close()
    instrument.close()
    assert server.get("beam_blanked") is True


def test_what_the_server_is_not_is_said(instrument: TemscriptInstrument) -> None:
    with pytest.raises(DeviceFault, match="has no scan engine .* no scan was prepared"):
        instrument.scan.prepare(raster())
    with pytest.raises(DeviceFault, match="has cameras for single images, and no detector for a scan"):
        instrument.detector.prepare(exposure(raster()))
    instrument.scan.ensure_stopped()
    instrument.detector.ensure_stopped()


def test_a_lens_is_written_where_it_changes_alone(tmp_path: Path) -> None:
    with stand_in() as server:
        made_ready(server)
        instrument = opened(server.port, tmp_path, Clock())
        instrument.column.prepare(column())
        server.asked.clear()
        instrument.column.prepare(column(defocus_nm=-4.0))
        assert server.written() == ["probe_defocus"]


@pytest.mark.parametrize(
    ("endpoint", "setting"),
    [
        ("spot_size_index", "spot_index"),
        ("magnification_index", "camera_length_index"),
        ("convergence_angle", "convergence_semi_angle_mrad"),
        ("probe_defocus", "defocus_nm"),
        ("beam_shift", "beam_shift_y_nm"),
        ("condenser_stigmator", "stigmator_along_nm"),
        ("diffraction_shift", "diffraction_shift_y_mrad"),
    ],
)
def test_a_value_that_does_not_arrive_is_an_error_that_names_it(tmp_path: Path, endpoint: str, setting: str) -> None:
    with stand_in() as server:
        made_ready(server)
        server.put("convergence_angle", 0.02)
        instrument = opened(server.port, tmp_path, Clock())
        server.deaf.add(endpoint)
        with pytest.raises(NotConfirmed, match=f"asked for {setting} = "):
            instrument.column.prepare(
                column(beam_shift_nm=(40.0, 0.0), stigmator_nm=(3.0, 0.0), diffraction_shift_mrad=(1.0, 0.0))
            )


@pytest.mark.parametrize(("off", "refused"), [(0.9e-3, False), (1.1e-3, True)])
def test_the_tolerance_of_reading_back_is_a_thousandth(tmp_path: Path, off: float, refused: bool) -> None:
    with stand_in() as server:
        made_ready(server)
        server.put("convergence_angle", 10e-3 * (1 + off))
        server.deaf.add("convergence_angle")
        instrument = opened(server.port, tmp_path, Clock())
        if refused:
            with pytest.raises(NotConfirmed, match="10.011"):
                instrument.column.prepare(column())
        else:
            # What was read, not what was asked.
            read = instrument.column.prepare(column()).optics.convergence_semi_angle_mrad
            assert read == pytest.approx(10.009, rel=1e-9)


def test_a_stage_that_reads_elsewhere_is_an_error(tmp_path: Path) -> None:
    with stand_in() as server:
        made_ready(server)
        server.put("beam_blanked", True)
        instrument = opened(server.port, tmp_path, Clock())
        server.deaf.add("stage_position")
        with pytest.raises(NotConfirmed, match=r"stage: asked for x_um = 120.0 um, it reads back 0.0 um"):
            instrument.stage.go_to("sample")


def test_the_stage_arrives_from_below_and_is_waited_for(tmp_path: Path) -> None:
    clock = Clock()
    with stand_in() as server:
        made_ready(server)
        server.put("beam_blanked", True)
        instrument = opened(server.port, tmp_path, clock)
        server.odd["GET stage_status"] = [(200, b'"MOVING"')] * 3
        instrument.stage.move_to(POSE)
        sent = [value["x"] for method, endpoint, value in server.asked if endpoint == "stage_position?method=MOVE"]
        assert sent == pytest.approx([8e-6, 10e-6])
        server.odd["GET stage_status"] = [(200, b'"MOVING"')] * 10_000
        with pytest.raises(DeviceFault, match="it is MOVING and not READY 120 s after it was sent"):
            instrument.stage.move_to(StagePose(x_um=0.0, y_um=0.0))


def test_a_blanker_that_does_not_blank_is_said_loudly(tmp_path: Path) -> None:
    with stand_in() as server:
        made_ready(server)
        instrument = opened(server.port, tmp_path, Clock())
        server.deaf.add("beam_blanked")
        with pytest.raises(DeviceFault, match="THE BEAM MAY STILL BE ON"):
            instrument.gate.blank()
        assert "THE BEAM MAY STILL BE ON" in make_safe(instrument, SafeLevel.HOLD, "test").words


def test_an_unblanking_that_went_wrong_ends_blanked(tmp_path: Path) -> None:
    with stand_in() as server:
        made_ready(server)
        server.put("beam_blanked", True)
        instrument = opened(server.port, tmp_path, Clock())
        server.odd["GET beam_blanked"] = [(200, b"null")]
        with pytest.raises(DeviceFault, match="answered None, which is not true or false"):
            instrument.gate.unblank(lease())
        assert server.get("beam_blanked") is True
        assert events(tmp_path) == ["unblank", "blank"]


def test_what_was_written_is_never_the_camera_nor_the_modes(tmp_path: Path) -> None:
    """All that the driver ever writes, over one round through its parts."""
    with stand_in() as server:
        made_ready(server)
        server.put("beam_blanked", True)
        _round(opened(server.port, tmp_path, Clock()), server)


def _round(instrument: TemscriptInstrument, server: StandIn) -> None:
    instrument.column.prepare(
        column(beam_shift_nm=(1.0, 1.0), stigmator_nm=(1.0, 1.0), diffraction_shift_mrad=(1.0, 1.0))
    )
    instrument.column.normalise()
    instrument.stage.go_to("sample")
    instrument.gate.unblank(lease())
    instrument.gate.blank()
    instrument.valves.close()
    written = {endpoint.partition("?")[0] for endpoint in server.written()}
    optics = {"spot_size_index", "magnification_index", "probe_defocus", "beam_shift"}
    coils = {"condenser_stigmator", "diffraction_shift", "normalize"}
    # The convergence angle stands where it is asked for.
    assert written == optics | coils | {"stage_position", "beam_blanked", "column_valves_open"}
