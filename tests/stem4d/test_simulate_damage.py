"""Damage: dose is kept, detail fades by the law, layers grow, areas shrink, bubbles come after their onset."""

from dataclasses import replace

import numpy as np
import pytest

from stem4d.errors import BadInput
from stem4d.simulate.damage import Damage, bubbles, critical_e_per_a2, damaged, damaged_phase_rad, expose, no_fluence
from stem4d.simulate.patterns import Illumination, patterns, prepare
from stem4d.simulate.probe import Aberrations
from stem4d.simulate.specimen import Specimen
from stem4d.simulate.transmission import Layout, phase_rad

SKEWED = ((1.0, 0.1), (0.0, -1.0))
LIGHT = Illumination(200.0, 10.0, Aberrations(), (48, 48), SKEWED)
FILM = Specimen("amorphous", seed=3, thickness_nm=3.0)
REGION = np.array([[-6.0, -6.0], [6.0, 6.0]])


@pytest.fixture(scope="module")
def layout() -> Layout:
    made = prepare(LIGHT, FILM, 0, REGION).layout
    assert made is not None
    return made


def even(layout: Layout, fluence: float) -> np.ndarray:
    return np.full(layout.shape, fluence, np.float32)


def test_every_electron_is_in_the_fluence_where_it_fell(layout: Layout) -> None:
    places = np.array([[1.3, -2.7], [1.3, -2.7], [-4.0, 3.0]])
    fluence = expose(no_fluence(layout), layout, places[:2], 100.0, 4.0)
    fluence = expose(fluence, layout, places[2:], np.array([50.0]), 4.0)
    step_y, step_x = layout.view.pixel_a
    assert fluence.sum(dtype=np.float64) * step_y * step_x == pytest.approx(250, rel=1e-5)
    for place, electrons in ((places[0], 200.0), (places[2], 50.0)):
        at = 10 * place @ np.array(layout.to_px).T - layout.origin
        # A Gaussian of radial rms 4 Å has its peak at 1/(π 16 Å²), less a part of a pixel's curvature.
        peak = fluence[tuple(np.rint(at).astype(int))]
        assert peak == pytest.approx(electrons / (np.pi * 16), rel=0.02)


def test_the_same_dose_in_batches_is_the_same_fluence(layout: Layout) -> None:
    places = np.random.default_rng(1).uniform(-5, 5, (60, 2))
    once = expose(no_fluence(layout), layout, places, 10.0, 5.0)
    parts = no_fluence(layout)
    for first in range(0, 60, 20):
        parts = expose(parts, layout, places[first : first + 20], 10.0, 5.0)
    np.testing.assert_allclose(parts, once, atol=1e-5 * once.max())


def test_detail_fades_by_the_law_and_fine_detail_first(layout: Layout) -> None:
    phase = phase_rad(FILM, layout, 200.0)
    damage = Damage(critical_e_per_a2=100.0, critical_power=1.0)
    changed = damaged_phase_rad(phase, layout, even(layout, 60.0), damage)
    q = [np.fft.fftfreq(n, size) for n, size in zip(layout.shape, layout.view.pixel_a, strict=True)]
    k = layout.view.k_per_a(q[0][:, None], q[1][None, :])
    before, after = np.abs(np.fft.fft2(phase[0])), np.abs(np.fft.fft2(changed[0]))
    for low, high in ((0.2, 0.4), (0.75, 1.25)):
        band = (k > low + 0.01) & (k < high - 0.01)
        expected = np.exp(-60.0 / 2 / critical_e_per_a2(damage, np.array((low + high) / 2)))
        np.testing.assert_allclose(after[band], expected * before[band], atol=1e-3 * before[band].max())
    assert critical_e_per_a2(damage, np.array(0.25)) == pytest.approx(400)


def test_detail_of_one_angstrom_fades_by_the_critical_fluence_itself(layout: Layout) -> None:
    phase = phase_rad(FILM, layout, 200.0)
    changed = damaged_phase_rad(phase, layout, even(layout, 100.0), Damage(critical_e_per_a2=100.0))
    q = [np.fft.fftfreq(n, size) for n, size in zip(layout.shape, layout.view.pixel_a, strict=True)]
    detail = np.abs(layout.view.k_per_a(q[0][:, None], q[1][None, :]) - 1.0) < 0.02
    before, after = (np.sum(np.abs(np.fft.fft2(one[0])[detail]) ** 2) for one in (phase, changed))
    # Single precision.
    assert after / before == pytest.approx(np.exp(-1), rel=1e-4)


def test_high_angle_counts_decay_with_dose_and_only_where_it_fell() -> None:
    bench = prepare(LIGHT, FILM, 0, REGION)
    assert bench.layout is not None
    phase = phase_rad(FILM, bench.layout, 200.0)
    places = np.stack(np.meshgrid(np.arange(-5, -1, 0.2), np.arange(-5, 5, 0.2), indexing="ij"), -1).reshape(-1, 2)
    fluence = expose(no_fluence(bench.layout), bench.layout, places, 3000.0, 5.0)
    after = damaged(bench, phase, fluence, Damage(critical_e_per_a2=150.0))
    y, x = np.indices((48, 48)) - 23.5
    dark = np.hypot(y, x) > 13
    exposed, fresh = np.array([[-3.0, 0.0], [-2.5, 1.0]]), np.array([[4.0, 0.0], [3.5, 2.0]])
    still = np.zeros((2, 2))
    assert patterns(after, exposed, still)[:, dark].sum() < 0.3 * patterns(bench, exposed, still)[:, dark].sum()
    assert patterns(after, fresh, still)[:, dark].sum() == pytest.approx(
        patterns(bench, fresh, still)[:, dark].sum(), rel=0.01
    )
    # Nothing is absorbed: what leaves the dark field is in the disk.
    assert patterns(after, exposed, still).sum() > patterns(bench, exposed, still).sum()


def test_no_damage_changes_nothing(layout: Layout) -> None:
    phase = phase_rad(FILM, layout, 200.0)
    np.testing.assert_array_equal(damaged_phase_rad(phase, layout, even(layout, 1e4), Damage()), phase)
    every = Damage(100.0, 1.0, 1e-3, 1e-3, bubble_onset_e_per_a2=10.0)
    # Splitting into bands and putting together again rounds: single precision.
    unchanged = damaged_phase_rad(phase, layout, no_fluence(layout), every)
    np.testing.assert_allclose(unchanged, phase, atol=1e-5 * np.abs(phase).max())


def test_contamination_grows_with_the_dose_and_is_smooth(layout: Layout) -> None:
    phase = phase_rad(FILM, layout, 200.0)
    damage = Damage(contamination_rad_per_e_per_a2=1e-3)
    fluence = expose(no_fluence(layout), layout, np.zeros((1, 2)), 1e7, 10.0)
    one = damaged_phase_rad(phase, layout, fluence, damage)[0] - phase[0]
    two = damaged_phase_rad(phase, layout, 2 * fluence, damage)[0] - phase[0]
    np.testing.assert_allclose(two, 2 * one, atol=1e-4 * two.max())
    # All of the dose, 1e7 e of 1e-3 rad Å²/e, as a Gaussian of 30 Å along each axis; the probe's 10 Å add in squares.
    # The tile is as good as endless: 1 % of it comes back from beyond.
    assert one.max() == pytest.approx(1e4 / (2 * np.pi * (30.0**2 + 10.0**2 / 2)), rel=0.02)
    assert np.abs(np.diff(one, axis=0)).max() < one.max() * layout.view.pixel_a[0] / 30


def test_the_area_shrinks_towards_the_middle_of_the_dose(layout: Layout) -> None:
    damage = Damage(shrinkage_per_e_per_a2=1e-3, shrinkage_limit=0.2)
    y, x = (np.arange(n, dtype=np.float32) for n in layout.shape)
    middle = [(n - 1) / 2 for n in layout.shape]
    spots = np.zeros((1, *layout.shape), np.float32)
    for off in (-60, 60):
        spots[0] += np.exp(-((y[:, None] - middle[0] - off) ** 2 + (x - middle[1]) ** 2) / 32)
    shrunk = damaged_phase_rad(spots, layout, even(layout, 100.0), damage)[0]
    half = round(middle[0])
    lines = shrunk.sum(1, dtype=np.float64)
    found = [np.sum(lines[part] * y[part]) / lines[part].sum() for part in (slice(half), slice(half, None))]
    lost = 0.2 * (1 - np.exp(-0.1 / 0.2))
    assert found[1] - found[0] == pytest.approx(120 * np.sqrt(1 - lost), abs=0.05)


@pytest.mark.parametrize("repeats", [False, True])
def test_what_shrinks_comes_back_on_the_other_side_only_where_the_tile_repeats(layout: Layout, repeats: bool) -> None:
    damage = Damage(shrinkage_per_e_per_a2=1e-3, shrinkage_limit=0.2)
    border = np.zeros((1, *layout.shape), np.float32)
    border[0, : layout.shape[0] // 8] = 1.0
    shrunk = damaged_phase_rad(border, replace(layout, repeats=repeats), even(layout, 1000.0), damage)[0]
    # 0.2 of the area is lost, a tenth of the lines: half a tenth is drawn in on either side.
    assert (shrunk[-1].max() > 0.5) == repeats
    assert (shrunk[0].min() > 0.5) != repeats


def test_bubbles_grow_from_their_onset_and_scatter_less(layout: Layout) -> None:
    damage = Damage(bubble_onset_e_per_a2=50.0, bubble_spacing_a=40.0, bubble_radius_a=15.0, seed=2)
    assert bubbles(layout, even(layout, 50.0), damage) is None
    areas = []
    for fluence in (60.0, 100.0, 150.0):
        depth = bubbles(layout, even(layout, fluence), damage)
        assert depth is not None
        areas.append((depth > 0).mean())
    assert 0 < areas[0] < areas[1] < areas[2] < 0.8
    phase = phase_rad(FILM, layout, 200.0)
    inside = np.asarray(bubbles(layout, even(layout, 150.0), damage)) > 0.8
    changed = damaged_phase_rad(phase, layout, even(layout, 150.0), replace(damage, bubble_phase_rad=0.0))
    assert changed[0][inside].std() < 0.4 * phase[0][inside].std()


def test_maps_of_another_tile_are_refused(layout: Layout) -> None:
    bench = prepare(LIGHT, FILM, 0, REGION)
    with pytest.raises(BadInput, match="must be on the specimen's tile"):
        damaged(bench, phase_rad(FILM, layout, 200.0), np.zeros((8, 8), np.float32), Damage())
