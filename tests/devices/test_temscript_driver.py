"""The column over temscript's server: units, limits, read-back, stage, beam.

Each test runs on the stand-in and, slowly, on temscript's own server with its Null microscope.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from devices import registry
from devices.beside import ColumnDriver, open_other
from devices.protocols import BeamWitness, Instrument, NormalisingColumn, PosedStage
from devices.registry import GROUP
from devices.safety import SafeLevel, make_safe
from devices.temscript.instrument import TemscriptInstrument
from stem4d.approach import StagePose
from stem4d.errors import DeviceFault, DoseRefused, LimitViolation, NotConfirmed
from stem4d.instrument import InstrumentFile
from storage.documents import load_model
from tasks.column import confirm
from tests.devices.simulator_world import exposure, raster
from tests.devices.temscript_server import Server, made_ready, null_microscope, stand_in
from tests.devices.temscript_world import column, file_of, lease, opened

ROOT = Path(__file__).parents[2]
KINDS = ["stand-in", pytest.param("temscript", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]


@pytest.fixture(scope="module", params=KINDS)
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    with stand_in() if request.param == "stand-in" else null_microscope() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    made_ready(running)
    running.put("beam_blanked", False)
    running.put("stage_position", dict.fromkeys("xyzab", 0.0))
    return running


@pytest.fixture
def microscope(server: Server, tmp_path: Path) -> Iterator[TemscriptInstrument]:
    with closing(opened(server.port, tmp_path)) as instrument:
        instrument.gate.blank()
        yield instrument


def flat(readings: Any) -> dict[str, Any]:
    return {reading.name: reading.value for reading in readings}


def test_it_is_an_instrument_that_opens_without_changing_anything(server: Server, tmp_path: Path) -> None:
    instrument = opened(server.port, tmp_path)
    assert isinstance(instrument, Instrument)
    assert isinstance(instrument, BeamWitness)
    assert isinstance(instrument.stage, PosedStage)
    assert isinstance(instrument.column, NormalisingColumn)
    assert instrument.gate.is_blanked() is False
    instrument.leave()
    assert server.get("beam_blanked") is False


def test_every_value_arrives_in_the_servers_units(microscope: TemscriptInstrument, server: Server) -> None:
    asked = column(
        focus_correction_nm=5.0,
        beam_shift_nm=(100.0, -40.0),
        diffraction_shift_mrad=(1.5, -2.0),
        stigmator_nm=(3.0, -4.0),
    )
    read = microscope.column.prepare(asked)
    there = {
        name: server.get(name)
        for name in (
            "convergence_angle", "probe_defocus", "spot_size_index", "magnification_index", "indicated_camera_length",
            "beam_shift", "diffraction_shift", "condenser_stigmator",
        )
    }  # fmt: skip
    # Overfocus is positive there, underfocus here; (x, y) there, (y, x) here; turned by a quarter, as the settings say.
    assert there["probe_defocus"] == pytest.approx(30e-9)
    assert there["beam_shift"] == pytest.approx([-100e-9, -40e-9])
    assert there["diffraction_shift"] == pytest.approx([-2e-3, 1.5e-3])
    assert there["condenser_stigmator"] == pytest.approx([0.06, -0.04])
    assert there["convergence_angle"] == pytest.approx(21.4e-3)
    assert (there["spot_size_index"], there["magnification_index"]) == (9, 3)
    assert there["indicated_camera_length"] == pytest.approx(0.3)
    confirm("column", asked, read)


def test_a_snapshot_names_value_unit_time_and_source(microscope: TemscriptInstrument) -> None:
    microscope.column.prepare(column(beam_shift_nm=(100.0, -40.0)))
    readings = microscope.column.snapshot()
    told = {reading.name: (reading.value, reading.unit, reading.source) for reading in readings}
    assert told["defocus_nm"] == (pytest.approx(-35.0), "nm", "commanded")
    assert told["beam_shift_x_nm"] == (pytest.approx(-40.0), "nm", "commanded")
    assert told["probe_current_pa"] == (20.0, "pA", "cached")
    assert told["beam_energy_kev"] == (200.0, "keV", "measured")
    assert told["camera_length_mm"] == (pytest.approx(300.0), "mm", "measured")
    assert all(reading.read_at.tzinfo for reading in readings)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (column(beam_energy_kev=80.0), "beam_energy_kev = 80.0 keV"),
        (column(beam_energy_kev=300.0), r"beam_energy_kev = 300.0 keV .*200 as it stands; the high tension is changed"),
        (column(convergence_semi_angle_mrad=15.0), "convergence_semi_angle_mrad = 15.0 mrad .*21.4, 27.6"),
        (column(camera_length_mm=200.0), "camera_length_mm = 200.0 mm"),
        (column(probe_current_pa=50.0), "probe_current_pa = 50.0 pA .*one of 2, 20, 100"),
        (column(defocus_nm=499.0, focus_correction_nm=2.0), "defocus_nm = 501.0 nm .*-500 to 500"),
        (column(spherical_aberration_mm=1.2), "spherical_aberration_mm = 1.2 mm .*cannot change"),
        (column(beam_shift_nm=(0.0, 2001.0)), "beam_shift_nm = 2001.0 nm .*-2000 to 2000"),
        (column(stigmator_nm=(51.0, 0.0)), "stigmator_nm = 51.0 nm"),
        (column(diffraction_shift_mrad=(0.0, -20.1)), "diffraction_shift_mrad = -20.1 mrad"),
        (column(descan_mrad_per_nm=((0.1, 0.0), (0.0, 0.0))), "descan_mrad_per_nm = 0.1 mrad/nm"),
    ],
)
def test_what_is_out_of_reach_is_refused_and_nothing_is_changed(
    microscope: TemscriptInstrument, setting: Any, words: str
) -> None:
    microscope.column.prepare(column())
    before = flat(microscope.column.snapshot())
    with pytest.raises(LimitViolation, match=words):
        microscope.column.prepare(setting)
    assert flat(microscope.column.snapshot()) == before


def test_a_value_that_was_clipped_without_a_word_is_an_error(microscope: TemscriptInstrument) -> None:
    # The file's table is wrong: this microscope has eleven spots.
    with pytest.raises(NotConfirmed, match=r"column: asked for spot_index = 12, it reads back 11"):
        microscope.column.prepare(column(probe_current_pa=2.0))


def test_a_microscope_in_another_mode_is_left_in_it(microscope: TemscriptInstrument, server: Server) -> None:
    server.put("projection_mode", "IMAGING")
    with pytest.raises(DeviceFault, match="projection_mode is IMAGING and has to be DIFFRACTION; change it at the"):
        microscope.column.prepare(column())
    assert server.get("projection_mode") == "IMAGING"


def test_the_stage_goes_by_name_and_to_poses(microscope: TemscriptInstrument, server: Server) -> None:
    stage = microscope.stage
    assert stage.position() == ""
    assert stage.go_to("sample") == stage.position() == "sample"
    there = server.get("stage_position")
    assert (there["x"], there["y"], there["z"]) == pytest.approx((10e-6, -20e-6, 5e-6))
    assert there["a"] == pytest.approx(0.0349066, rel=1e-5)
    pose = StagePose(x_um=12.0, y_um=-18.0, z_um=5.0, alpha_deg=2.0)
    assert stage.move_to(pose).model_dump() == pytest.approx(pose.model_dump(), abs=1e-9)
    assert stage.go_to("sample") == "sample", "it stands there already"
    assert stage.pose().x_um == pytest.approx(12.0)
    assert stage.go_to("vacuum") == stage.position() == "vacuum"
    server.put("stage_position", {"x": 1e-4})
    assert stage.position() == "", "somebody moved it by hand"


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        (StagePose(x_um=901.0, y_um=0.0), "x_um = 901.0 um .*-898 to 900"),
        (StagePose(x_um=-899.0, y_um=0.0), "x_um = -899.0 um .*-898 to 900"),
        # The file allows it, the microscope does not, and would go to its limit and say nothing.
        (StagePose(x_um=0.0, y_um=1500.0), r"y_um = 1500\.0 um .*-998 to 1000"),
        (StagePose(x_um=0.0, y_um=-999.0), r"y_um = -999\.0 um .*-998 to 1000"),
        (StagePose(x_um=0.0, y_um=0.0, beta_deg=1.0), "beta_deg = 1.0 deg .*0 to 0"),
        (StagePose(x_um=0.0, y_um=0.0, alpha_deg=30.1), "alpha_deg = 30.1 deg .*-30 to 30"),
    ],
)
def test_a_pose_out_of_reach_is_refused_and_the_stage_stays(
    microscope: TemscriptInstrument, server: Server, pose: StagePose, words: str
) -> None:
    before = server.get("stage_position")
    with pytest.raises(LimitViolation, match=words):
        microscope.stage.move_to(pose)
    assert server.get("stage_position") == before


def test_a_position_that_nobody_stored_is_refused(microscope: TemscriptInstrument) -> None:
    with pytest.raises(LimitViolation, match=r"position = 'sampel' .*one of sample, vacuum"):
        microscope.stage.go_to("sampel")


def test_neither_stage_nor_lenses_move_under_the_beam(microscope: TemscriptInstrument, server: Server) -> None:
    microscope.gate.unblank(lease())
    before = server.get("stage_position")
    for action in (lambda: microscope.stage.go_to("vacuum"), microscope.column.normalise):
        with pytest.raises(DeviceFault, match="blanked alone; blank it first"):
            action()
    assert server.get("stage_position") == before
    microscope.gate.blank()
    microscope.column.normalise()


def test_the_beam_goes_through_under_a_lease_and_no_other(microscope: TemscriptInstrument, server: Server) -> None:
    gate = microscope.gate
    gate.unblank(lease(token=7))
    assert server.get("beam_blanked") is False
    gate.blank()
    assert server.get("beam_blanked") is True
    assert gate.newest_token() == 7
    assert gate.see_owner(4) == 4
    assert gate.see_owner(3) == 4
    for refused, words in (
        (lease(token=8, lasts_s=-1.0, owner_token=4), "expired"),
        (lease(token=6, owner_token=4), "carries token 6, but 7 was seen"),
        (lease(token=8, owner_token=3), "another owner has taken"),
    ):
        with pytest.raises(DoseRefused, match=words):
            gate.unblank(refused)
        assert server.get("beam_blanked") is True


def test_a_later_session_knows_tokens_and_what_was_left(server: Server, tmp_path: Path) -> None:
    first = opened(server.port, tmp_path)
    first.gate.blank()
    first.stage.go_to("sample")
    first.gate.see_owner(2)
    first.gate.unblank(lease(token=9, owner_token=2))
    first.leave()
    second = opened(server.port, tmp_path)
    assert second.found is not None
    assert second.found.area == "sample"
    assert second.gate.newest_token() == 9
    assert second.stage.position() == "sample"
    with pytest.raises(DoseRefused):
        second.gate.unblank(lease(token=10, owner_token=1))
    second.close()
    second.close()
    third = opened(server.port, tmp_path)
    assert third.found is None
    third.leave()


def test_closed_valves_keep_the_beam_blanked(microscope: TemscriptInstrument, server: Server) -> None:
    microscope.valves.close()
    microscope.valves.close()
    assert server.get("column_valves_open") is False
    with pytest.raises(DeviceFault, match="column valves are closed: open them at the microscope"):
        microscope.gate.unblank(lease())
    assert server.get("beam_blanked") is True


def test_there_is_no_scan_engine_and_no_detector(microscope: TemscriptInstrument) -> None:
    with pytest.raises(DeviceFault, match=r"no scan engine .*no scan was prepared"):
        microscope.scan.prepare(raster())
    with pytest.raises(DeviceFault, match=r"no detector for a scan.*settings\.column\.driver = temscript"):
        microscope.detector.prepare(exposure(raster()))
    report = make_safe(microscope, SafeLevel.SHELTER, "a test")
    assert report == make_safe(microscope, SafeLevel.SHELTER, "a test")
    assert report.safe


OTHER_PROCESS = """
import sys
from pathlib import Path
from devices.safety import SafeLevel, make_safe
from devices.temscript import open_instrument
from stem4d.instrument import InstrumentFile
instrument = open_instrument(InstrumentFile.model_validate_json(sys.stdin.read()), Path(sys.argv[1]))
print([make_safe(instrument, SafeLevel.SHELTER, "from elsewhere").safe for _ in range(2)], instrument.found.area)
instrument.leave()
"""


@pytest.mark.slow  # the conformance checks have another process in every run
def test_another_process_makes_it_safe(microscope: TemscriptInstrument, server: Server, tmp_path: Path) -> None:
    microscope.gate.unblank(lease())
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)],
        input=file_of(server.port).model_dump_json(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "[True, True] sample\n", done.stderr
    assert (server.get("beam_blanked"), server.get("column_valves_open")) == (True, False)
    assert microscope.gate.is_blanked() is True


def test_the_example_file_opens_and_can_be_set(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = load_model(ROOT / "plans" / "instruments" / "temscript.toml", InstrumentFile)
    file = example.model_copy(update={"settings": {**example.settings, "port": server.port}})
    points = EntryPoints([EntryPoint("temscript", "devices.temscript:open_instrument", GROUP)])
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    with closing(registry.open_instrument(file, tmp_path)) as microscope:
        asked = column(defocus_nm=120.0, probe_current_pa=50.0, camera_length_mm=400.0)
        confirm("column", asked, microscope.column.prepare(asked))
        microscope.gate.blank()
        assert microscope.stage.go_to("lamella-1") == "lamella-1"
    # Beside a detector of another driver.
    with closing(open_other(file.model_copy(update={"driver": "simplon"}), tmp_path, ColumnDriver(
        driver="temscript", settings=file.settings
    ))) as other:  # fmt: skip
        assert other.gate.is_blanked()
        assert isinstance(other, TemscriptInstrument)


@pytest.mark.slow
def test_the_watchdog_blanks_when_its_owner_is_gone(
    microscope: TemscriptInstrument, server: Server, tmp_path: Path
) -> None:
    # Under a name of its own, whatever is installed.
    about = tmp_path / "site" / "tried-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tried\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[nightbeam.devices]\ntried = devices.temscript:open_instrument\n")
    path = tmp_path / "instrument.json"
    path.write_text(file_of(server.port).model_copy(update={"driver": "tried"}).model_dump_json())
    paths = f"{about.parent}{os.pathsep}{ROOT}"
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "devices.watchdog", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths, "NIGHTBEAM_HOME": str(tmp_path)},
        text=True,
        bufsize=1,
    ) as watchdog:
        assert watchdog.stdin is not None
        assert watchdog.stdout is not None
        watchdog.stdin.write("open\n")
        assert "ready" in watchdog.stdout.readline()
        microscope.gate.unblank(lease())
        assert server.get("beam_blanked") is False, "that it watches changes nothing"
        watchdog.stdin.close()  # as when its owner is killed
        assert "acted" in watchdog.stdout.readline()
        assert watchdog.wait(20) == 0
    assert server.get("beam_blanked") is True
    assert '"safe"' in (tmp_path / "instruments" / "test-tem" / "safety.jsonl").read_text()
