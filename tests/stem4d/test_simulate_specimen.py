"""Specimens: atoms where they belong, at any sampling, on a tile of bounded size."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stem4d.errors import BadInput
from stem4d.optics import interaction_rad_per_v_a
from stem4d.simulate.specimen import TILE_PIXELS, Specimen, Tile, atoms, cell_a, tile, whole_cells


def phase(made: Tile) -> np.ndarray:
    """Phase of one period [rad], pixel (0, 0) first."""
    return np.angle(made.values[: made.shape[0], : made.shape[1]])


def make(specimen: Specimen, pixel_a: float, limit_per_a: float | None = None, kev: float = 200) -> Tile:
    return tile(specimen, kev, (pixel_a, pixel_a), (64, 64), limit_per_a or 0.5 / pixel_a)


@given(side_a=st.floats(1.5, 100), pixel_a=st.floats(0.05, 1.5))
def test_tiles_hold_whole_cells_of_the_right_size(side_a: float, pixel_a: float) -> None:
    pixels, cells = whole_cells(side_a, pixel_a, 640, TILE_PIXELS)
    assert 640 <= pixels <= TILE_PIXELS
    # A range of 384 pixels that holds a whole number of cells holds it to half a pixel.
    if side_a < 384 * pixel_a:
        assert abs(pixels * pixel_a - cells * side_a) <= 0.5 * pixel_a * (1 + 1e-9)


@pytest.mark.parametrize(("kind", "period_y"), [("square", 1), ("hexagonal", sqrt(3))])
def test_lattices_have_their_spacing(kind: str, period_y: float) -> None:
    made = make(Specimen(kind, spacing_a=3.9), 0.163)
    power = np.abs(np.fft.fft2(phase(made)))
    for axis, period in ((0, period_y), (1, 1.0)):
        row = power[:, 0] if axis == 0 else power[0]
        frequencies = np.fft.fftfreq(made.shape[axis], 0.163)
        strong = frequencies[(row > 0.01 * power[1:, 1:].max()) & (frequencies > 0)]
        # Strain by fitting the tile: 1e-4.
        orders = strong * 3.9 * period
        assert len(orders) > 3
        np.testing.assert_allclose(orders, np.rint(orders), rtol=1e-4)


def test_an_atom_is_at_the_field_centre_and_as_strong_as_asked() -> None:
    # Far apart, so that the mean that is taken off is small: 1.5e-3 of the peak.
    made = make(Specimen("square", spacing_a=12.0, atom_phase_rad=0.5), 0.05)
    centre = phase(made)
    assert np.unravel_index(np.argmax(centre), centre.shape)[0] % round(12 / 0.05) == 0
    # Less what lies beyond the band limit of 10 per Å and the mean.
    assert centre[0, 0] == pytest.approx(0.5, rel=0.02)
    # Point-symmetric about the atom: 1e-5 of the peak is single precision.
    np.testing.assert_allclose(centre[1:8, 1:8], centre[-1:-8:-1, -1:-8:-1], atol=1e-5)


def test_phase_scales_with_the_interaction_constant() -> None:
    specimen = Specimen("hexagonal", spacing_a=3.2, atom_phase_rad=0.5)
    ratio = phase(make(specimen, 0.15, kev=80)).max() / phase(make(specimen, 0.15, kev=200)).max()
    # The band limit acts on exp(iφ), which is not linear: 1e-3.
    assert ratio == pytest.approx(interaction_rad_per_v_a(80) / interaction_rad_per_v_a(200), rel=2e-3)


def test_random_atoms_stand_at_the_same_places_at_any_sampling() -> None:
    specimen = Specimen("random", seed=7, spacing_a=6.0, atom_phase_rad=0.5)
    pictures = []
    for pixel_a in (0.1, 0.2):
        whole = phase(make(specimen, pixel_a, limit_per_a=1.5))
        box = round(24 / pixel_a)
        pictures.append(np.roll(whole, (box // 2, box // 2), (0, 1))[:box, :box][:: round(0.2 / pixel_a)])
    fine, coarse = pictures[0][:, ::2], pictures[1]
    # The fits of whole cells differ by up to 1e-4, which moves an atom 12 Å out by 0.001 Å.
    assert np.corrcoef(fine.ravel(), coarse.ravel())[0, 1] > 0.999
    other = phase(make(Specimen("random", seed=8, spacing_a=6.0, atom_phase_rad=0.5), 0.2, limit_per_a=1.5))
    assert abs(np.corrcoef(np.roll(other, (60, 60), (0, 1))[:120, :120].ravel(), coarse.ravel())[0, 1]) < 0.2


def test_vacancies_are_light_sites_and_as_many_as_asked() -> None:
    placed = atoms(Specimen("square", seed=2, vacancy_fraction=0.1), (60, 60))
    heavy, light = placed[:3600], placed[3600:]
    assert (heavy[:, 2] == 1).all()
    # Binomial: 360 ± 18; four sigma.
    assert np.sum(light[:, 2] == 0) == pytest.approx(360, abs=72)


def test_modulation_is_slow_and_within_its_amplitude() -> None:
    placed = atoms(Specimen("square", seed=2, modulation=0.3), (40, 40))[:1600]
    strength = placed[:, 2].reshape(40, 40)
    assert 0.05 < np.ptp(strength) <= 0.6
    # The shortest period is 17 Å, 4.25 cells of 4 Å: a step changes it by less than 2π/4.25 of the amplitude.
    assert np.abs(np.diff(strength, axis=0)).max() < 0.3 * 2 * np.pi / 4.25


@pytest.mark.parametrize("window", [64, 300, 1100])
def test_the_tile_is_bounded(window: int) -> None:
    made = tile(Specimen("square"), 200, (0.1, 0.1), (window, window), 2.0)
    assert max(made.shape) <= max(TILE_PIXELS, 1.5 * window)
    assert min(made.shape) >= window
    assert made.values.shape == (made.shape[0] + window, made.shape[1] + window)
    np.testing.assert_array_equal(made.values[-window:], made.values[:window])


def test_a_cell_that_no_tile_holds_is_refused() -> None:
    with pytest.raises(BadInput, match=r"at most 51\.2"):
        make(Specimen("square", spacing_a=60), 0.05)


def test_honeycomb_cell() -> None:
    assert cell_a(Specimen("hexagonal", spacing_a=3.0)) == (3.0 * sqrt(3), 3.0)
    placed = atoms(Specimen("hexagonal", spacing_a=3.0), (6, 6)) * [3.0 * sqrt(3), 3.0, 1]
    heavy, light = placed[placed[:, 2] == 1], placed[placed[:, 2] < 1]
    inner = heavy[np.abs(heavy[:, :2]).max(axis=1) < 5]
    distance = np.hypot(*(inner[:, None, :2] - light[None, :, :2]).transpose(2, 0, 1))
    # Every heavy atom has three light neighbours at a/√3.
    np.testing.assert_allclose(np.sort(distance, axis=1)[:, :3], 3.0 / sqrt(3), rtol=1e-12)
