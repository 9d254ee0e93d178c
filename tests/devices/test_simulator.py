"""The simulated instrument behind the protocols: limits, order, leases, clocks, and what a second process sees."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.protocols import Instrument
from devices.simulator.instrument import open_here
from stem4d.errors import BadInput, DeviceFault, DoseRefused, LimitViolation
from stem4d.instrument import InstrumentFile
from storage.documents import load_model
from tests.devices.server_world import entries, log_of
from tests.devices.simulator_world import (
    AREA,
    Clock,
    column,
    exposed_frames,
    exposure,
    lease,
    opened,
    prepared,
    raster,
    received,
    run,
)


def test_it_is_an_instrument_and_prepare_returns_what_was_asked(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    assert isinstance(instrument, Instrument)
    assert instrument.name == "test-stem"
    asked = column(defocus_nm=-7.5, diffraction_shift_mrad=(1.0, -2.0), descan_mrad_per_nm=((0.1, 0.2), (0.3, 0.4)))
    assert instrument.column.prepare(asked) == asked
    assert instrument.scan.prepare(raster()) == raster()
    assert instrument.detector.prepare(exposure(raster())) == exposure(raster())
    assert instrument.stage.go_to("sample") == "sample"
    readings = {reading.name: reading for reading in instrument.column.snapshot()}
    assert readings["defocus_nm"].value == -7.5
    assert (readings["descan_xy_mrad_per_nm"].value, readings["descan_xy_mrad_per_nm"].unit) == (0.3, "mrad/nm")
    gauges = {"vacuum_pascal", "emission_ua", "cryo_fill_s"}
    assert {reading.source for name, reading in readings.items() if name not in gauges} == {"commanded"}
    assert {readings[name].source for name in gauges} == {"measured"}


@pytest.mark.parametrize(
    ("ask", "setting", "limit"),
    [
        (lambda i: i.column.prepare(column(beam_energy_kev=300.0)), "beam_energy_kev = 300.0 keV", "one of 80, 200"),
        (lambda i: i.column.prepare(column(convergence_semi_angle_mrad=9.9)), "angle_mrad = 9.9 mrad", "one of 10"),
        (lambda i: i.column.prepare(column(camera_length_mm=51.0)), "camera_length_mm = 51.0 mm", "one of 50, 100"),
        (lambda i: i.column.prepare(column(defocus_nm=20.1)), "defocus_nm = 20.1 nm", "-20 to 20"),
        (lambda i: i.column.prepare(column(probe_current_pa=0.9)), "probe_current_pa = 0.9 pA", "1 to 100"),
        (
            lambda i: i.column.prepare(column(diffraction_shift_mrad=(0.0, 61.0))),
            "diffraction_shift_mrad = 61.0 mrad",
            "-60 to 60",
        ),
        (lambda i: i.scan.prepare(raster(dwell_time_us=9.0)), "dwell_time_us = 9.0 us", "10 to 1000"),
        (lambda i: i.scan.prepare(raster((10, 201))), "field_nm = 20.1", "0 to 20"),
        (lambda i: i.detector.prepare(exposure(raster(), detector="dog")), "detector = 'dog'", "one of cam, slit"),
        (lambda i: i.detector.prepare(exposure(raster(), shape=(32, 24))), "shape = (32, 24) px", "32 x 32"),
        (lambda i: i.detector.prepare(exposure(raster(), bit_depth=16)), "bit_depth = 16 bit", "one of 6, 12"),
        (
            lambda i: i.detector.prepare(exposure(raster(), exposure_time_us=40.0)),
            "exposure_time_us = 40.0 us",
            "at least 50",
        ),
        (lambda i: i.stage.go_to("nowhere"), "position = 'nowhere'", "one of vacuum, sample"),
    ],
)
def test_out_of_range_is_refused_and_nothing_changes(
    tmp_path: Path, ask: Callable[[Instrument], object], setting: str, limit: str
) -> None:
    instrument = opened(tmp_path)
    before_source = prepared(instrument)
    state = (
        [(reading.name, reading.value) for reading in instrument.column.snapshot()],
        instrument.stage.position(),
        instrument.detector.facts,
    )
    noted = len(entries(tmp_path))
    with pytest.raises(LimitViolation) as refused:
        ask(instrument)
    assert setting in str(refused.value)
    assert limit in str(refused.value)
    assert len(entries(tmp_path)) == noted
    assert state == (
        [(reading.name, reading.value) for reading in instrument.column.snapshot()],
        instrument.stage.position(),
        instrument.detector.facts,
    )
    # What had been prepared before still is: the exposure goes through.
    run(instrument, before_source)
    assert len(received(before_source)) == 24


def test_a_second_detector_of_the_file_can_be_used(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    frames = exposed_frames(instrument, detector="slit", shape=(32, 24), bit_depth=6)
    assert (frames.shape, frames.dtype.name) == ((24, 32, 24), "uint8")
    assert instrument.detector.facts.name == "slit"


STEPS: dict[str, Callable[[Instrument, Clock], object]] = {
    "source": lambda i, _: i.detector.source(),
    "arm": lambda i, _: i.detector.arm(),
    "start": lambda i, _: i.scan.start(),
    "wait": lambda i, _: i.scan.wait(),
    "stop scan": lambda i, _: i.scan.ensure_stopped(),
    "stop detector": lambda i, _: i.detector.ensure_stopped(),
    "unblank": lambda i, clock: i.gate.unblank(lease(clock)),
    "blank": lambda i, _: i.gate.blank(),
    "raster": lambda i, _: i.scan.prepare(raster()),
    "detector": lambda i, _: i.detector.prepare(exposure(raster())),
}


@settings(max_examples=60, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(STEPS)), max_size=14))
def test_out_of_turn_is_a_fault_and_everything_else_works(tmp_path_factory: Any, names: list[str]) -> None:
    clock = Clock()
    instrument = opened(tmp_path_factory.mktemp("home"), clock)
    instrument.column.prepare(column())
    has_raster = has_exposure = sourced = armed = running = False
    blanked = True
    for name in names:
        allowed = {
            "source": has_raster and has_exposure,
            "arm": sourced,
            "start": has_raster and armed and not running,
            "wait": running,
            "raster": not running,
            "detector": not armed,
        }.get(name, True)
        if allowed:
            STEPS[name](instrument, clock)
        else:
            with pytest.raises(DeviceFault):
                STEPS[name](instrument, clock)
            continue
        has_raster |= name == "raster"
        has_exposure |= name == "detector"
        blanked = name == "blank" or (blanked and name != "unblank")
        if name in ("source", "arm", "detector"):
            sourced = name == "source"
            armed |= name == "arm"
        if name == "start":
            running = True
        if name == "wait":
            # Simulated time stands still after an accelerated scan: the column gates the beam by itself.
            blanked = True
        if name == "wait" or (name == "stop scan" and running) or (name == "stop detector" and (armed or sourced)):
            running = armed = False
            sourced &= name != "stop detector"
        assert instrument.gate.is_blanked() == blanked
    instrument.close()
    assert instrument.gate.is_blanked()


def test_exposures_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    prepared(instrument)
    instrument.detector.prepare(exposure(raster(), frames=23))
    with pytest.raises(DeviceFault, match="prepared for 23 frames, the raster has 24"):
        instrument.detector.source()
    instrument.detector.prepare(exposure(raster(), exposure_time_us=101.0))
    with pytest.raises(DeviceFault, match="longer than the raster's dwell"):
        instrument.detector.source()


def test_what_the_simulation_cannot_hold_is_refused_before_the_beam(tmp_path: Path) -> None:
    instrument = opened(tmp_path, descan_error_mrad_per_nm=[[80.0, 0.0], [0.0, 80.0]])
    with pytest.raises(BadInput, match="pattern shift"):
        prepared(instrument, scan=raster((40, 40)))
    # 60 nm of astigmatism spread the probe over 12 Å and its diffraction limit; the window holds 12.5 Å.
    with pytest.raises(BadInput, match=r"optics.defocus_nm"):
        prepared(opened(tmp_path, aberrations={"astigmatism_nm": 60.0}))
    assert instrument.gate.is_blanked()
    assert "expose" not in {entry["event"] for entry in entries(tmp_path)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"lasts_s": 0.0}, "expired"), ({"lasts_s": -5.0}, "expired 5 s"), ({"token": 6}, "token 6")],
)
def test_the_gate_refuses_stale_leases_and_stays_blanked(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    clock = Clock()
    instrument = opened(tmp_path, clock)
    instrument.gate.unblank(lease(clock, token=7))
    instrument.gate.blank()
    with pytest.raises(DoseRefused, match=message):
        instrument.gate.unblank(lease(clock, **{"token": 7, **changes}))
    assert instrument.gate.is_blanked()


def test_leases_run_out_in_real_time_not_in_simulated(tmp_path: Path) -> None:
    clock = Clock()
    instrument = opened(tmp_path, clock)
    held = lease(clock, lasts_s=60)
    instrument.pause(3600)
    instrument.gate.unblank(held)
    instrument.gate.blank()
    clock.now_s += 60
    with pytest.raises(DoseRefused):
        instrument.gate.unblank(held)


def test_simulated_time_passes_with_scans_and_pauses_only(tmp_path: Path) -> None:
    clock = Clock()
    instrument = opened(tmp_path, clock)
    source = prepared(instrument)
    assert instrument.now_s() == 0
    run(instrument, source)
    assert instrument.now_s() == pytest.approx(4 * (6 * 100 + 50) * 1e-6)
    instrument.pause(2.5)
    assert instrument.now_s() == pytest.approx(2.5026)
    assert clock.now_s == 1000.0
    with pytest.raises(BadInput):
        instrument.pause(-1.0)


def test_real_speed_waits_for_the_scan(tmp_path: Path) -> None:
    clock = Clock()
    instrument = opened(tmp_path, clock, speed="real")
    source = prepared(instrument)
    run(instrument, source)
    assert clock.now_s == pytest.approx(1000.0026)
    assert instrument.now_s() == pytest.approx(0.0026)


def test_the_log_tells_beam_times_tokens_and_fluence(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    run(instrument, prepared(instrument))
    log = {entry["event"]: entry for entry in entries(tmp_path)}
    assert log["unblank"] | {"area": "sample", "token": 1, "fluence_e_per_a2": 100.0} == log["unblank"]
    assert log["blank"]["simulated_s"] - log["unblank"]["simulated_s"] == pytest.approx(0.0026)
    assert log["column"]["setting"]["optics"]["probe_current_pa"] == 50.0
    # The truth is in nobody's reach.
    assert "descan_error" not in json.dumps(entries(tmp_path))


def test_a_new_session_opens_the_valves_and_goes_on_in_time_tokens_and_runs(tmp_path: Path) -> None:
    first = opened(tmp_path)
    run(first, prepared(first, position="sample"))
    first.valves.close()
    ended_s = first.now_s()
    first.close()
    first.close()
    second = opened(tmp_path)
    assert second.now_s() == ended_s
    assert second.stage.position() == "sample"
    with pytest.raises(DoseRefused):
        second.gate.unblank(lease(token=0))
    second.gate.unblank(lease())
    assert prepared(second).run.number == 2


def test_a_torn_line_in_the_log_does_not_stop_a_session(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.gate.unblank(lease(token=3))
    with log_of(tmp_path).open("a") as log:
        log.write('{"event": "blank", "simul')
    second = opened(tmp_path)
    assert second.gate.is_blanked() is False


def test_a_scan_that_was_cut_off_has_run_to_its_end(tmp_path: Path) -> None:
    first = opened(tmp_path)
    prepared(first)
    first.detector.arm()
    first.gate.unblank(lease())
    first.scan.start()
    second = opened(tmp_path)
    # Nobody knows how many frames came: no more than the raster's 2.6 ms have.
    assert second.now_s() == pytest.approx(0.0026)
    assert second.gate.is_blanked() is False
    second.scan.ensure_stopped()
    second.gate.blank()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sed": 4}, "sed"),
        ({"areas": {"vacuum": AREA}}, "vacuum"),
        ({"areas": {"a": {**AREA, "specimen": "dog"}}}, "specimen"),
        ({"areas": {"a": {**AREA, "atom_phase_rad": float("nan")}}}, "atom_phase_rad"),
        ({"hot_pixels": [[3, 24]]}, "hot_pixels"),
        ({"dead_pixels": 1.5}, "dead_pixels"),
        ({"speed": "fast"}, "speed"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        opened(tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_the_demo_instrument_opens(tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "plans" / "instruments" / "demo.toml"
    instrument = open_here(load_model(path, InstrumentFile), tmp_path)
    for area in ("lamella-1", "flake-1", "grain-2", "edge-3", "hole-1", "vacuum"):
        assert instrument.stage.go_to(area) == area
