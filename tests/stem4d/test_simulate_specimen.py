"""Specimens: atoms where they belong, at any sampling, on a tile of bounded size."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stem4d.errors import BadInput
from stem4d.optics import interaction_rad_per_v_a
from stem4d.simulate.atoms import atoms, lattice_a
from stem4d.simulate.scanning import turn
from stem4d.simulate.specimen import Specimen
from stem4d.simulate.transmission import (
    LARGEST_TILE,
    TILE_PIXELS,
    Layout,
    View,
    lay_out,
    phase_rad,
    transmit,
    whole_cells,
)

STRAIGHT = ((1.0, 0.0), (0.0, 1.0))
BOX = ((-120.0, 120.0), (-120.0, 120.0))


def view(pixel_a: float, window: int = 64) -> View:
    return View((window, window), window * pixel_a, STRAIGHT)


def make(
    specimen: Specimen, pixel_a: float, kev: float = 200, region_a: float | None = None
) -> tuple[np.ndarray, Layout]:
    """Phase of the first slice with the specimen's origin at pixel (0, 0), modulo the tile."""
    region = None if region_a is None else np.array([[-region_a, -region_a], [region_a, region_a]])
    layout = lay_out(specimen, view(pixel_a), region)
    return np.roll(phase_rad(specimen, layout, kev)[0], layout.origin, (0, 1)), layout


@given(side_a=st.floats(1.5, 100), pixel_a=st.floats(0.05, 1.5), angle=st.floats(-180, 180))
def test_tiles_hold_whole_cells_of_nearly_the_right_size(side_a: float, pixel_a: float, angle: float) -> None:
    cell = turn(angle) * side_a / pixel_a
    if side_a / pixel_a > TILE_PIXELS:
        return
    shape, distortion = whole_cells(cell, TILE_PIXELS, view(pixel_a))
    numbers = np.linalg.inv(distortion @ cell) @ np.diag(shape)
    assert 640 <= min(shape) <= max(shape) <= TILE_PIXELS
    np.testing.assert_allclose(numbers, np.rint(numbers), atol=1e-6)
    # The nearest of all cells' corners is at most half a cell's diagonal away.
    assert np.abs(distortion - np.eye(2)).max() < 0.75 * side_a / pixel_a / 640 + 1e-9


@pytest.mark.parametrize(("kind", "period_y"), [("square", 1), ("hexagonal", sqrt(3))])
def test_lattices_have_their_spacing(kind: str, period_y: float) -> None:
    phase, layout = make(Specimen(kind, spacing_a=3.9), 0.163)
    power = np.abs(np.fft.fft2(phase))
    for axis, period in ((0, period_y), (1, 1.0)):
        row = power[:, 0] if axis == 0 else power[0]
        frequencies = np.fft.fftfreq(layout.shape[axis], 0.163)
        strong = frequencies[(row > 0.01 * power[1:, 1:].max()) & (frequencies > 0)]
        # Strain by fitting the tile: 2e-4.
        orders = strong * 3.9 * period
        assert len(orders) > 3
        np.testing.assert_allclose(orders, np.rint(orders), rtol=2e-4)


def test_an_atom_is_at_the_field_centre_and_as_strong_as_asked() -> None:
    # Far apart, so that the mean that is taken off is small: 1.5e-3 of the peak.
    centre, _ = make(Specimen("square", spacing_a=12.0, atom_phase_rad=0.5), 0.05)
    assert np.unravel_index(np.argmax(centre), centre.shape)[0] % round(12 / 0.05) == 0
    # Less what lies beyond the grid's 10 per Å and the mean.
    assert centre[0, 0] == pytest.approx(0.5, rel=0.02)
    # Point-symmetric about the atom: 2e-5 of the peak is single precision.
    np.testing.assert_allclose(centre[1:8, 1:8], centre[-1:-8:-1, -1:-8:-1], atol=1e-5)


def test_phase_scales_with_the_interaction_constant() -> None:
    specimen = Specimen("hexagonal", spacing_a=3.2, atom_phase_rad=0.5)
    ratio = make(specimen, 0.15, 80, 10.0)[0].max() / make(specimen, 0.15, 200, 10.0)[0].max()
    assert ratio == pytest.approx(interaction_rad_per_v_a(80) / interaction_rad_per_v_a(200), rel=1e-5)


EVERY_KIND = [
    Specimen("random", seed=7, spacing_a=6.0),
    Specimen("amorphous", seed=3, thickness_nm=2.0),
    Specimen("crystal", material="SrTiO3", thickness_nm=2.0, angle_deg=17.0),
    Specimen("polycrystal", seed=3, thickness_nm=3.0, grain_nm=2.0),
    Specimen("mos2", seed=5, angle_deg=-8.0, vacancy_fraction=0.05),
    Specimen("biological", seed=2),
]


@pytest.mark.parametrize("specimen", EVERY_KIND, ids=lambda each: each.kind)
def test_a_specimen_is_the_same_at_any_sampling_and_in_any_region(specimen: Specimen) -> None:
    pictures = []
    for pixel_a, region_a in ((0.2, 12.0), (0.4, 25.0)):
        whole, layout = make(specimen, pixel_a, region_a=region_a)
        assert not layout.repeats
        # Compared up to 0.7 per Å, which both grids hold.
        k = [np.fft.fftfreq(n, pixel_a) for n in whole.shape]
        smooth = np.fft.ifft2(np.fft.fft2(whole) * np.exp(-((k[0][:, None] ** 2 + k[1] ** 2) / 0.3**2))).real
        box = round(16 / pixel_a)
        picture = np.roll(smooth, (box // 2, box // 2), (0, 1))[:box, :box][:: round(0.4 / pixel_a)]
        pictures.append(picture[:, :: round(0.4 / pixel_a)])
    # What is left is the tail of the smoothing over the tiles' different seams, and their means.
    assert np.corrcoef(pictures[0].ravel(), pictures[1].ravel())[0, 1] > 0.9999
    assert np.ptp(pictures[0]) == pytest.approx(np.ptp(pictures[1]), rel=0.01)


@pytest.mark.parametrize("specimen", [EVERY_KIND[i] for i in (0, 1, 3, 5)], ids=lambda each: each.kind)
def test_another_seed_is_another_specimen(specimen: Specimen) -> None:
    one, other = (make(replace(specimen, seed=seed), 0.4, region_a=12)[0] for seed in (specimen.seed, 99))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3


def test_vacancies_are_light_sites_and_as_many_as_asked() -> None:
    groups = list(atoms(Specimen("square", seed=2, vacancy_fraction=0.1), BOX))
    assert (groups[0].weight == 1).all()
    count = len(groups[1].weight)
    # Binomial; four sigma.
    assert np.sum(groups[1].weight == 0) == pytest.approx(0.1 * count, abs=4 * sqrt(0.09 * count))


def test_modulation_is_slow_and_within_its_amplitude() -> None:
    heavy = next(atoms(Specimen("square", seed=2, modulation=0.3), BOX))
    assert 0.05 < np.ptp(heavy.weight) <= 0.6
    # The shortest period is 17 Å, 4.25 cells of 4 Å: a step changes it by less than 2π/4.25 of the amplitude.
    row = heavy.weight[heavy.y_a == 0][np.argsort(heavy.x_a[heavy.y_a == 0])]
    assert len(row) > 50
    assert np.abs(np.diff(row)).max() < 0.3 * 2 * np.pi / 4.25


@pytest.mark.parametrize("window", [64, 300, 1100])
@pytest.mark.parametrize("region_a", [None, 20.0, 1e5])
def test_the_tile_is_bounded(window: int, region_a: float | None) -> None:
    grid = view(0.1, window)
    region = None if region_a is None else np.array([[-region_a, 0.0], [region_a, region_a]])
    layout = lay_out(Specimen("square"), grid, region)
    assert max(layout.shape) <= max(LARGEST_TILE if region_a else TILE_PIXELS, 1.5 * window)
    assert min(layout.shape) >= window
    assert layout.repeats == (region_a != 20.0)
    made = transmit(np.zeros((1, *layout.shape), np.float32) + 0.1, layout, 2.0)
    assert made.values.shape == (1, layout.shape[0] + window, layout.shape[1] + window)
    np.testing.assert_array_equal(made.values[:, -window:], made.values[:, :window])


def test_a_cell_that_no_tile_holds_is_refused() -> None:
    with pytest.raises(BadInput, match=r"at most 51\.2"):
        make(Specimen("square", spacing_a=60), 0.05)


@pytest.mark.parametrize(
    ("specimen", "field"),
    [
        (Specimen("crystal", material="Unobtainium"), "specimen.material"),
        (Specimen("amorphous", thickness_nm=0.0), "specimen.thickness_nm"),
        (Specimen("square", slices=3), "specimen.slices"),
        (Specimen("strained", material="Al"), "scan region"),
    ],
)
def test_what_cannot_be_is_refused(specimen: Specimen, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        make(specimen, 0.2)
    assert refused.value.field == field


def test_honeycomb_cell() -> None:
    lattice = lattice_a(Specimen("hexagonal", spacing_a=3.0))
    assert lattice is not None
    np.testing.assert_allclose(lattice, [[3.0 * sqrt(3), 0], [0, 3.0]])
    groups = list(atoms(Specimen("hexagonal", spacing_a=3.0), ((-12, 12), (-12, 12))))
    heavy, light = (
        np.concatenate([np.stack([g.y_a, g.x_a], 1) for g in groups if (g.weight[0] == 1) == strong])
        for strong in (True, False)
    )
    inner = heavy[np.abs(heavy).max(axis=1) < 5]
    distance = np.hypot(*(inner[:, None] - light[None]).transpose(2, 0, 1))
    # Every heavy atom has three light neighbours at a/√3.
    np.testing.assert_allclose(np.sort(distance, axis=1)[:, :3], 3.0 / sqrt(3), rtol=1e-12)
