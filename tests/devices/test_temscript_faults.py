"""What goes wrong between the driver and temscript's server, each time with a clear error and the beam blanked."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from devices.column_log import ColumnLog
from devices.safety import SafeLevel, make_safe
from devices.temscript.instrument import TemscriptInstrument
from stem4d.approach import StagePose
from stem4d.errors import BadInput, DeviceFault, NotConfirmed
from tests.devices.temscript_server import StandIn, made_ready, stand_in
from tests.devices.temscript_world import column, lease, opened

SOON_S = 0.2
"""An answer that is there comes within milliseconds, and one that is not is waited for this long."""


@pytest.fixture
def server() -> Iterator[StandIn]:
    with stand_in() as running:
        made_ready(running)
        yield running


@pytest.fixture
def microscope(server: StandIn, tmp_path: Path) -> Iterator[TemscriptInstrument]:
    instrument = opened(server.port, tmp_path, answer_timeout_s=SOON_S, stage_timeout_s=SOON_S)
    instrument.gate.blank()
    server.asked.clear()
    yield instrument
    instrument.leave()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, b"<html>"), r"GET /v1/beam_blanked at 127\.0\.0\.1:\d+ answered 500: 'Internal Server Error'"),
        ((404, b""), "answered 404"),
        ((200, b"<html>welcome</html>"), "answered 200, but not in JSON: '<html>welcome"),
        ((200, b"[" * 100_000), "not in JSON"),
        ((200, b"0"), "answered 0, which is not true or false"),
        ((200, b"null"), "answered None, which is not true or false"),
        ((204, b""), "answered 204, but not in JSON"),
        ((200, b" " * 2_000_000), "more than 1048576 bytes"),
        ((307, b""), "answered 307"),
    ],
)
def test_an_answer_that_is_none_is_named(
    microscope: TemscriptInstrument, server: StandIn, answer: tuple[int, bytes], words: str
) -> None:
    server.odd["GET beam_blanked"] = [answer]
    with pytest.raises(DeviceFault, match=words):
        microscope.gate.is_blanked()
    assert microscope.gate.is_blanked()


@pytest.mark.parametrize("figure", [b"NaN", b"Infinity", b"1e400", b"9" * 400, b"true", b'"0.02"', b"[0.02]", b"{}"])
def test_what_is_no_figure_is_never_taken_for_one(
    microscope: TemscriptInstrument, server: StandIn, figure: bytes
) -> None:
    server.odd["GET convergence_angle"] = [(200, figure)]
    with pytest.raises(DeviceFault, match=r"GET /v1/convergence_angle at .* answered"):
        microscope.column.prepare(column())
    assert "convergence_angle" not in server.written()


@pytest.mark.parametrize("pair", [b"[1, NaN]", b"[1]", b"[1, 2, 3]", b"0", b'{"x": 1, "y": 2}'])
def test_what_is_no_pair_is_named(microscope: TemscriptInstrument, server: StandIn, pair: bytes) -> None:
    server.odd["GET beam_shift"] = [(200, pair)]
    with pytest.raises(DeviceFault, match=r"GET /v1/beam_shift at .* answered"):
        microscope.column.snapshot()


@pytest.mark.parametrize(
    ("position", "words"),
    [
        (b'{"x": NaN}', "not in JSON"),
        (b'{"x": 0, "y": 0, "z": 0}', "has the axes x, y, z; x, y, z and a are needed"),
        (b'{"x": [0, 1], "y": 0, "z": 0, "a": 0}', "are needed"),
        (b'{"x": 7, "y": 0, "z": 0, "a": 0}', "where no stage can be"),
        (b'{"x": "far", "y": 0, "z": 0, "a": 0}', "not finite numbers by axis"),
        (b"[]", "not finite numbers by axis"),
        (b'{"x": %s, "y": 0, "z": 0, "a": 0}' % (b"9" * 400), "not finite numbers by axis"),
    ],
)
def test_a_position_that_is_none_is_named(
    microscope: TemscriptInstrument, server: StandIn, position: bytes, words: str
) -> None:
    server.odd["GET stage_position"] = [(200, position)]
    with pytest.raises(DeviceFault, match=words):
        microscope.stage.pose()


def test_a_read_that_got_lost_is_asked_again_and_a_write_is_not(
    microscope: TemscriptInstrument, server: StandIn
) -> None:
    server.odd["GET voltage"] = [None, None]
    microscope.column.prepare(column())
    server.asked.clear()
    server.odd["PUT normalize"] = [None]
    with pytest.raises(DeviceFault, match=r"PUT /v1/normalize at .*: no answer"):
        microscope.column.normalise()
    assert server.written() == ["normalize"]
    server.odd["GET voltage"] = [None, None, None]
    with pytest.raises(DeviceFault, match=r"GET /v1/voltage at .*: no answer"):
        microscope.column.snapshot()


def test_what_is_asked_of_a_busy_server_is_done_when_it_is_free(
    microscope: TemscriptInstrument, server: StandIn
) -> None:
    microscope.gate.unblank(lease())
    server.held.clear()
    server.odd["GET busy"] = [None]
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"http://127.0.0.1:{server.port}/v1/busy", timeout=SOON_S, trust_env=False)
    with pytest.raises(DeviceFault, match=r"PUT /v1/beam_blanked at .*: no answer .* 0\.2 s were allowed"):
        microscope.gate.blank()
    assert server.values["beam_blanked"] is False, "it answers one after the other, as the real one does"
    server.held.set()
    assert microscope.column.snapshot(), "asked after it, and so answered after it"
    assert server.values["beam_blanked"] is True


def test_nobody_there_is_said_at_once(tmp_path: Path) -> None:
    with stand_in() as gone:
        port = gone.port
    with pytest.raises(DeviceFault, match=r"GET /v1/version at 127\.0\.0\.1:\d+: no answer \(ConnectError"):
        opened(port, tmp_path)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.0.10", "has version '1.0.10'; a 2.x from 2.1 on is needed. Update it there"),
        ("2.0.1", "from 2.1 on"),
        ("3.0.0", "a 2.x"),
        ("newest", "is not the version of a temscript server"),
    ],
)
def test_another_server_is_no_microscope(server: StandIn, tmp_path: Path, version: str, words: str) -> None:
    server.values["version"] = version
    with pytest.raises(DeviceFault, match=words):
        opened(server.port, tmp_path)


def test_a_server_that_ended_leaves_every_step_attempted(server: StandIn, tmp_path: Path) -> None:
    with stand_in() as ending:
        made_ready(ending)
        microscope = opened(ending.port, tmp_path)
    report = make_safe(microscope, SafeLevel.SHELTER, "a test")
    assert [bool(step.error) for step in report.steps] == [
        step.name in ("blank the beam", "close the column valves") for step in report.steps
    ]
    assert "THE BEAM MAY STILL BE ON" in report.words
    with pytest.raises(DeviceFault, match="no answer"):
        microscope.close()
    microscope.close()


def test_a_blanker_that_does_nothing_is_found_out(microscope: TemscriptInstrument, server: StandIn) -> None:
    microscope.gate.unblank(lease())
    server.deaf.add("beam_blanked")
    with pytest.raises(DeviceFault, match="asked for beam_blanked = True, it reads back False: THE BEAM MAY STILL BE"):
        microscope.gate.blank()
    assert not make_safe(microscope, SafeLevel.HOLD, "a test").safe
    server.deaf.clear()
    microscope.gate.blank()


def test_valves_that_stay_open_are_found_out(microscope: TemscriptInstrument, server: StandIn) -> None:
    server.deaf.add("column_valves_open")
    with pytest.raises(DeviceFault, match="column valves: asked to close, they read back open"):
        microscope.valves.close()


def test_a_beam_that_somebody_blanked_by_hand_was_not_left_on(
    microscope: TemscriptInstrument, server: StandIn, tmp_path: Path
) -> None:
    microscope.gate.unblank(lease())
    server.put("beam_blanked", True)
    later = opened(server.port, tmp_path)
    assert later.found is None
    later.leave()


def test_blanking_is_tried_again_where_no_answer_came(microscope: TemscriptInstrument, server: StandIn) -> None:
    microscope.gate.unblank(lease())
    server.odd["PUT beam_blanked"] = [None]
    server.asked.clear()
    microscope.gate.blank()
    assert server.written() == ["beam_blanked", "beam_blanked"]
    assert server.values["beam_blanked"] is True


def test_an_unblanking_whose_answer_is_lost_is_blanked_and_known_of(
    microscope: TemscriptInstrument, server: StandIn, tmp_path: Path
) -> None:
    server.odd["PUT beam_blanked"] = [(500, b"")]
    with pytest.raises(DeviceFault, match=r"PUT /v1/beam_blanked at .* answered 500"):
        microscope.gate.unblank(lease(token=5))
    assert server.values["beam_blanked"] is True
    assert server.written() == ["beam_blanked", "beam_blanked"]
    events = [entry["event"] for entry in ColumnLog(tmp_path / "instruments" / "test-tem").entries()]
    assert events[-2:] == ["unblank", "blank"]
    assert microscope.gate.newest_token() == 5


def test_a_beam_that_does_not_come_on_is_an_error(microscope: TemscriptInstrument, server: StandIn) -> None:
    server.deaf.add("beam_blanked")
    with pytest.raises(DeviceFault, match="asked for beam_blanked = False, it reads back True"):
        microscope.gate.unblank(lease())


def test_without_room_for_the_log_no_beam_goes_through(
    microscope: TemscriptInstrument, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ColumnLog, "_write", full)
    with pytest.raises(DeviceFault, match="the disk is full"):
        microscope.gate.unblank(lease())
    assert server.written() == []
    microscope.gate.blank()


def test_a_stage_that_stops_short_is_found_out(microscope: TemscriptInstrument, server: StandIn) -> None:
    # What it says of its limits is not where it stops.
    server.values["stage_limits"]["y"] = [-2e-3, 2e-3]
    with pytest.raises(NotConfirmed, match=r"stage: asked for y_um = 1500\.0 um, it reads back 1000\.0 um"):
        microscope.stage.move_to(StagePose(x_um=0.0, y_um=1500.0))


def test_a_stage_that_does_not_come_to_rest_is_named(microscope: TemscriptInstrument, server: StandIn) -> None:
    server.values["stage_status"] = "WOBBLING"
    with pytest.raises(DeviceFault, match=r"it is WOBBLING and not READY 0\.2 s after it was sent"):
        microscope.stage.go_to("vacuum")


def test_the_stage_comes_from_below_in_one_method(microscope: TemscriptInstrument, server: StandIn) -> None:
    microscope.stage.go_to("sample")
    moves = [(endpoint, value) for method, endpoint, value in server.asked if method == "PUT"]
    assert [endpoint for endpoint, _value in moves] == ["stage_position?method=MOVE"] * 2
    (first, second) = (value for _endpoint, value in moves)
    assert (first["x"], first["y"]) == pytest.approx((8e-6, -22e-6))
    assert set(second) == {"x", "y"}, "what stands already is not sent again"


def test_a_column_that_stands_as_asked_is_not_touched(microscope: TemscriptInstrument, server: StandIn) -> None:
    asked = column(beam_shift_nm=(1 / 3, 17.77), diffraction_shift_mrad=(0.1, 1 / 7), stigmator_nm=(0.3, 1.1))
    microscope.column.prepare(asked)
    server.asked.clear()
    microscope.column.prepare(asked)
    assert server.written() == []
    microscope.column.prepare(asked.model_copy(update={"beam_shift_nm": (0.0, 0.0)}))
    assert server.written() == ["beam_shift"]


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("convergence_angle", r"column: asked for convergence_semi_angle_mrad = 21\.4 mrad, it reads back 10\.0 mrad"),
        ("probe_defocus", r"asked for defocus_nm = -35\.0 nm, it reads back -?0\.0 nm"),
        ("beam_shift", r"asked for beam_shift_y_nm = 9\.0 nm, it reads back -?0\.0 nm"),
        ("diffraction_shift", r"asked for diffraction_shift_y_mrad = 1\.0 mrad"),
        ("condenser_stigmator", r"asked for stigmator_along_nm = 2\.0 nm"),
        ("magnification_index", r"asked for camera_length_index = 3, it reads back 10"),
    ],
)
def test_whatever_reads_back_otherwise_is_named(
    microscope: TemscriptInstrument, server: StandIn, endpoint: str, words: str
) -> None:
    server.deaf.add(endpoint)
    asked = column(beam_shift_nm=(9.0, 0.0), diffraction_shift_mrad=(1.0, 0.0), stigmator_nm=(2.0, 0.0))
    with pytest.raises(NotConfirmed, match=words):
        microscope.column.prepare(asked)


@pytest.mark.parametrize(("off", "refused"), [(0.9e-3, False), (1.1e-3, True)])
def test_the_tolerance_of_what_is_read_back_is_a_thousandth(
    microscope: TemscriptInstrument, server: StandIn, off: float, refused: bool
) -> None:
    server.deaf.add("convergence_angle")
    server.values["convergence_angle"] = 21.4e-3 * (1 + off)
    if refused:
        with pytest.raises(NotConfirmed):
            microscope.column.prepare(column())
    else:
        read = microscope.column.prepare(column())
        assert read.optics.convergence_semi_angle_mrad == pytest.approx(21.4 * (1 + off))


def test_an_index_that_means_another_length_is_found_out(microscope: TemscriptInstrument, server: StandIn) -> None:
    microscope.column.prepare(column())
    server.values["indicated_camera_length"] = 0.285
    with pytest.raises(NotConfirmed, match=r"camera_length_mm = 300\.0 mm, it reads back 285\.0 mm"):
        microscope.column.prepare(column())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": "a/b"}, "settings: host"),
        ({"focus_positive": "up"}, "settings: focus_positive"),
        ({"focuss": "defocus"}, "settings: focuss"),
        ({"spots": []}, "settings.spots: .*needs at least one"),
        ({"spots": [{"index": 1, "probe_current_pa": 1.0}, {"index": 1, "probe_current_pa": 2.0}]}, "index may stand"),
        ({"camera_lengths": [{"index": 1, "camera_length_mm": 100.0}]}, "facts state camera_length_mm 300, of which"),
        ({"beam_shift_axes": [[1.0, 1.0], [1.0, 1.0]]}, "settings.beam_shift_axes: .*inverted"),
        ({"beam_shift_axes": [[0.0, 0.0], [0.0, 0.0]]}, "settings.beam_shift_axes: .*inverted"),
        ({"stigmator_per_nm": None}, "settings.stigmator_per_nm: .*Measure it"),
    ],
)
def test_settings_that_are_wrong_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        opened(1, tmp_path, **changes)


def test_a_log_that_was_begun_anew_is_read_anew(microscope: TemscriptInstrument, tmp_path: Path) -> None:
    assert microscope.gate.see_owner(6) == microscope.gate.see_owner(6) == 6
    with closing(ColumnLog(tmp_path / "instruments" / "test-tem").path.open("w")):
        pass
    assert microscope.gate.see_owner(2) == 2


def test_only_the_blanker_takes_the_beam_away_and_no_mode_or_camera_is_touched(
    microscope: TemscriptInstrument, server: StandIn
) -> None:
    microscope.column.prepare(column(beam_shift_nm=(9.0, 0.0)))
    microscope.stage.go_to("sample")
    server.asked.clear()
    microscope.gate.unblank(lease())
    microscope.gate.blank()
    microscope.gate.blank()
    assert set(server.written()) == {"beam_blanked"}
    server.asked.clear()
    make_safe(microscope, SafeLevel.SHELTER, "a test")
    assert set(server.written()) == {"beam_blanked", "column_valves_open"}
