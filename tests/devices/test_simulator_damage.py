"""Areas that suffer under the beam: by the law, where the dose fell, over exposures and over servers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import maximum_filter

from devices.simulator.instrument import SimulatedInstrument
from devices.simulator.scene import frames_an_update, illumination_of, make_ready
from devices.simulator.source import SimulatedSource
from stem4d import optics
from stem4d.dose import electrons
from stem4d.errors import BadInput, DeviceFault
from stem4d.simulate.damage import Damage, bubbles, contamination_rad, small_step_e_per_a2
from stem4d.simulate.fluence import PIXEL_A, Fluence, on_tile, probe_radius_a
from tests.devices.simulator_world import (
    DELTA_MRAD,
    centres_px,
    column,
    exposed_frames,
    instrument_file,
    lease,
    opened,
    prepared,
    raster,
    received,
    run,
)

FILM = {"specimen": "amorphous", "seed": 3, "thickness_nm": 3.0}
SCAN = raster((16, 16), step_nm=0.2)
PASS_E_PER_A2 = electrons(50.0, 100.0) / 2.0**2
"""What a scan of `SCAN` leaves everywhere but on its border: 7800 e/Å²."""
CRITICAL = 20000.0


def damaged(home: Path, area: dict[str, Any] = FILM, **damage: Any) -> SimulatedInstrument:
    return opened(home, areas={"sample": {**area, "beam_damage": damage}})


def dark_field(frames: np.ndarray) -> np.ndarray:
    """Counts beyond 15 mrad, half as far again as the disk."""
    y, x = np.indices(frames.shape[1:]) - 15.5
    return frames[:, np.hypot(y, x) > 7.5].sum(1, dtype=float)


def one_pass(instrument: SimulatedInstrument, **changes: Any) -> np.ndarray:
    return exposed_frames(instrument, position="sample", **{"scan": SCAN, **changes})


def dose(source: SimulatedSource) -> Fluence:
    """What the area of the next exposure has received."""
    return source.state.doses.before(source.run.number, source.run.scene)


def test_high_angle_counts_decay_by_the_critical_fluence_over_passes(tmp_path: Path) -> None:
    # Of every frequency alike: single scattering then decays by the law itself.
    instrument = damaged(tmp_path, critical_e_per_a2=CRITICAL, critical_power=0.0)
    inner = np.s_[4:-4, 4:-4]
    counts = [dark_field(one_pass(instrument)).reshape(16, 16)[inner].sum() for _ in range(4)]
    fell = np.log(counts[:-1]) - np.log(counts[1:])
    # 1e4 counts each: 1.4 % of a ratio, over 0.39; scattering twice is 2 % of it. Three passes, four sigma of the mean.
    np.testing.assert_allclose(fell.mean(), PASS_E_PER_A2 / CRITICAL, rtol=0.06)
    np.testing.assert_allclose(fell, PASS_E_PER_A2 / CRITICAL, rtol=0.2)


def test_frames_depend_neither_on_batches_nor_on_how_often_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instrument = damaged(tmp_path, critical_e_per_a2=2000.0, bubble_onset_e_per_a2=3000.0)
    one_pass(instrument)
    source = prepared(instrument, position="sample", scan=SCAN)
    run(instrument, source)
    usual = received(source)
    for together in (5, 64, 1000):
        monkeypatch.setattr("devices.simulator.source.FRAMES_TOGETHER", together)
        np.testing.assert_array_equal(received(source), usual)
    with monkeypatch.context() as alone:
        alone.setattr("devices.simulator.scene.THREADS", 1)
        np.testing.assert_array_equal(received(source), usual)


def test_every_electron_of_lit_frames_is_in_the_dose_and_no_other(tmp_path: Path) -> None:
    instrument = damaged(tmp_path, critical_e_per_a2=CRITICAL)
    source = prepared(instrument, position="sample", scan=SCAN)
    instrument.detector.arm()
    instrument.scan.start()
    instrument.scan.wait()
    assert received(source).sum() == 0
    source = prepared(instrument, position="sample", scan=SCAN)
    assert dose(source).values.sum() == 0
    instrument.detector.arm()
    instrument.gate.unblank(lease())
    instrument.scan.start()
    with source.open() as frames:
        coming = frames.batches()
        assert next(coming).frames.sum((1, 2)).min() > 0
        instrument.gate.blank()
        lit = 64
        assert sum(int(batch.frames.sum()) for batch in coming) == 0
    instrument.scan.wait()
    fluence = dose(prepared(instrument, position="sample", scan=SCAN))
    total = fluence.values.sum(dtype=float) * PIXEL_A**2
    assert total == pytest.approx(lit * electrons(50.0, 100.0), rel=1e-5)
    # The first four rows of 16, which begin 1.5 nm above the middle.
    rows = fluence.values.sum(1, dtype=float)
    middle_a = (rows @ np.arange(len(rows)) / rows.sum() + fluence.origin[0]) * PIXEL_A
    assert middle_a == pytest.approx(-15 + 3, abs=0.01)
    # What the beam had not met scatters as in a first pass: 1.6e4 counts each, four sigma of their difference.
    new = damaged(tmp_path / "new", critical_e_per_a2=CRITICAL)
    later, fresh = (dark_field(one_pass(each)).reshape(16, 16) for each in (instrument, new))
    assert later[8:].sum() == pytest.approx(fresh[8:].sum(), rel=0.045)
    assert later[1:3].sum() < 0.85 * fresh[1:3].sum()


def opened_fresh(home: Path) -> SimulatedInstrument:
    return opened(home, areas={"sample": FILM})


def test_damage_is_followed_by_the_dose_of_the_places_that_are_hit(tmp_path: Path) -> None:
    """Steps of 4 nm get 20 e/Å² on average, but the few Å that the probe lights more than a tenth of the critical."""
    damage = Damage(critical_e_per_a2=2000.0)
    source = prepared(damaged(tmp_path), position="sample", scan=raster((4, 4), step_nm=4.0))
    light = illumination_of(source.run.scene)
    assert electrons(50.0, 100.0) / (np.pi * probe_radius_a(light) ** 2) > 4 * small_step_e_per_a2(damage)
    assert frames_an_update(source.run.scene, damage) == 4


def test_an_exposure_that_nobody_reads_damages_as_much(tmp_path: Path) -> None:
    damage = {"critical_e_per_a2": 8000.0}
    read, unread = (damaged(tmp_path / name, **damage) for name in ("read", "unread"))
    one_pass(read)
    run(unread, prepared(unread, position="sample", scan=SCAN))
    np.testing.assert_array_equal(one_pass(read), one_pass(unread))


def test_the_dose_outlives_the_server_and_is_of_its_area_alone(tmp_path: Path) -> None:
    damage = {"critical_e_per_a2": 8000.0}
    areas = {name: {**FILM, "beam_damage": damage} for name in ("sample", "other")}
    kept, restarted = (opened(tmp_path / name, areas=areas) for name in ("kept", "restarted"))
    for instrument in (kept, restarted):
        source = prepared(instrument, position="sample", scan=SCAN)
        run(instrument, source)
        instrument.close()
        source.state.doses.settle()
    restarted = opened(tmp_path / "restarted", areas=areas)
    kept.stage.go_to("other")
    assert dose(prepared(restarted, position="other", scan=SCAN)).values.sum() == 0
    kept = opened(tmp_path / "kept", areas=areas)
    prepared(kept, position="other", scan=SCAN)
    again = one_pass(restarted)
    np.testing.assert_array_equal(again, one_pass(kept))
    assert dark_field(again).sum() < 0.6 * dark_field(one_pass(opened_fresh(tmp_path / "fresh"))).sum()
    saved = next((tmp_path / "restarted").rglob("dose-sample.npz"))
    saved.write_bytes(b"torn")
    with pytest.raises(DeviceFault, match=r"dose-sample\.npz"):
        received(prepared_and_run(opened(tmp_path / "restarted", areas=areas)))


def prepared_and_run(instrument: SimulatedInstrument) -> SimulatedSource:
    source = prepared(instrument, position="sample", scan=SCAN)
    run(instrument, source)
    return source


def test_the_dose_holds_for_other_optics_and_other_fields(tmp_path: Path) -> None:
    instrument = damaged(tmp_path, critical_e_per_a2=CRITICAL, critical_power=0.0)
    one_pass(instrument)
    # Twice the camera length: other pixels, another tile; a finer and smaller field within the first.
    small = {"scan": raster((10, 10), step_nm=0.1), "column": column(camera_length_mm=100.0, probe_current_pa=1.0)}
    pairs = []
    for one in (instrument, opened_fresh(tmp_path / "fresh")):
        counts = 0.0
        for _ in range(4):
            frames = one_pass(one, **small)
            y, x = np.indices(frames.shape[1:]) - 15.5
            counts += frames[:, np.hypot(y, x) > 12].sum()
        pairs.append(counts)
    # 1 pA on 1 Å² leaves 624 e/Å² a pass: four passes see 1.5 of it on average. 2e3 counts: 3 % each.
    seen = (PASS_E_PER_A2 + 1.5 * 624) / CRITICAL
    assert np.log(pairs[1] / pairs[0]) == pytest.approx(seen, abs=0.12)


def test_bubbles_scatter_less_where_they_are_and_nowhere_else(tmp_path: Path) -> None:
    grown = {"bubble_onset_e_per_a2": 3000.0, "bubble_spacing_a": 20.0, "bubble_radius_a": 9.0, "bubble_phase_rad": 0.0}
    instrument = damaged(tmp_path, **grown)
    scan = raster((24, 24), step_nm=0.2)
    one_pass(instrument, scan=scan)
    source = prepared(instrument, position="sample", scan=scan)
    layout = make_ready(source.run.scene).move_to(0.0, 0.0)[1].layout
    assert layout is not None
    before = dose(source)
    run(instrument, source)
    left = dark_field(received(source))
    after = dose(prepared(instrument, position="sample", scan=scan))
    fresh = dark_field(one_pass(opened_fresh(tmp_path / "fresh"), scan=scan))
    places_a = (np.indices((24, 24)).reshape(2, -1).T - 11.5) * 2.0
    at = np.rint(places_a @ np.array(layout.to_px).T - layout.origin).astype(int)
    depths = []
    for fluence in (before, after):
        depth = bubbles(layout, on_tile(fluence, layout), Damage(**grown, seed=3))
        assert depth is not None
        depths.append(depth)
    # They grow on while the second pass lasts: inside from its beginning; outside, by the probe's radius, to its end.
    inside = depths[0][at[:, 0], at[:, 1]] > 0.8
    wide = maximum_filter(depths[1], round(3.0 / layout.view.pixel_a[0]) * 2 + 1)
    outside = wide[at[:, 0], at[:, 1]] == 0
    assert inside.sum() > 20
    assert outside.sum() > 20
    # Contrast falls to 0.2 to 0.36 of itself, counts by its square; the probe's rings reach out of the bubble.
    assert left[inside].sum() < 0.35 * fresh[inside].sum()
    assert left[outside].sum() == pytest.approx(fresh[outside].sum(), rel=0.06)


def test_shrinkage_draws_the_lattice_together_by_the_right_fraction(tmp_path: Path) -> None:
    lattice = {"specimen": "square", "seed": 3, "spacing_a": 4.0, "atom_phase_rad": 0.5}
    scan = raster((6, 48), step_nm=0.1)
    # All of the first dose's shrinkage is over by the second pass.
    instrument = damaged(tmp_path, lattice, shrinkage_per_e_per_a2=1e-4, shrinkage_limit=0.1)
    found = []
    for _ in range(2):
        row = dark_field(one_pass(instrument, scan=scan)).reshape(6, 48).sum(0)
        frequencies = np.linspace(0.2, 0.3, 2001)
        window = np.hanning(48) * (row - row.mean())
        power = np.abs(np.exp(-2j * np.pi * np.outer(frequencies, np.arange(48))) @ window)
        found.append(frequencies[np.argmax(power)])
    # 12 periods at a few per cent of noise: 0.3 %.
    assert found[1] == pytest.approx(0.25 / np.sqrt(1 - 0.1), rel=0.005)


def test_contamination_bends_the_beam_towards_the_middle_of_the_dose(tmp_path: Path) -> None:
    thin = {**FILM, "thickness_nm": 0.5}
    scan = raster((8, 32), step_nm=0.2)
    instrument = damaged(tmp_path, thin, contamination_rad_per_e_per_a2=2e-2)
    one_pass(instrument, scan=scan)
    source = prepared(instrument, position="sample", scan=scan)
    layout = make_ready(source.run.scene).move_to(0.0, 0.0)[1].layout
    assert layout is not None
    phase = contamination_rad(layout, on_tile(dose(source), layout), Damage(contamination_rad_per_e_per_a2=2e-2))
    run(instrument, source)
    fresh = one_pass(opened(tmp_path / "fresh", areas={"sample": thin}), scan=scan)
    bent = (centres_px(received(source)) - centres_px(fresh)).reshape(8, 32, 2)[0, :, 1] * DELTA_MRAD
    x_px = (np.arange(32) - 15.5) * 2.0 * layout.to_px[1][1] - layout.origin[1]
    y_px = -7.0 * layout.to_px[0][0] - layout.origin[0]
    slope = np.gradient(phase, layout.view.pixel_a[1], axis=1)[round(y_px), np.rint(x_px).astype(int)]
    # A phase gradient deflects by λ/2π of it; the first row has seen no dose of its own pass.
    expected = slope * optics.wavelength_a(200.0) / (2 * np.pi) * 1e3
    assert np.abs(expected).max() > 1
    assert np.polyfit(expected, bent, 1)[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("knob", "value"), [("critical_e_per_a2", 0.0), ("shrinkage_limit", 0.9), ("colour", 1.0)])
def test_damage_that_cannot_be_is_refused(knob: str, value: float) -> None:
    from devices.simulator.instrument import read_truth

    file = instrument_file(areas={"sample": {**FILM, "beam_damage": {knob: value}}})
    with pytest.raises(BadInput, match="damage"):
        read_truth(file)
