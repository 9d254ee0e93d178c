"""Crystals, rings, strain and films: what calibrations will take as known must be there."""

from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.spatial

from stem4d import optics
from stem4d.errors import BadInput
from stem4d.lattice_constants import GOLD_A
from stem4d.scattering import potential_v_a3
from stem4d.simulate.atoms import atoms
from stem4d.simulate.crystals import CARBON_PER_A3, CELLS
from stem4d.simulate.patterns import Illumination, isotropic, patterns, prepare
from stem4d.simulate.probe import Aberrations
from stem4d.simulate.specimen import Specimen
from stem4d.simulate.strain import Displacement, strain_at
from stem4d.simulate.transmission import View, lay_out, phase_rad


def placed(specimen: Specimen, half_a: float) -> np.ndarray:
    """Atoms (n, 3), (z, y, x) [Å], of a square around the origin."""
    groups = atoms(specimen, ((-half_a, half_a), (-half_a, half_a)))
    places = np.concatenate([np.stack([g.z_a, g.y_a, g.x_a], axis=1) for g in groups])
    return places[np.all(np.abs(places[:, 1:]) <= half_a, axis=1)]


def test_grains_are_whole_and_have_the_bulk_lattice_constant() -> None:
    places = placed(Specimen("polycrystal", seed=4, grain_nm=4.0, thickness_nm=6.0), 60.0)
    inner = np.all(np.abs(places[:, 1:]) < 55, axis=1)
    distance, _ = scipy.spatial.cKDTree(places).query(places[inner], 13)
    # In a grain of 4 nm most atoms have all twelve neighbours at a/√2, exactly.
    full = np.abs(distance[:, 1:] / (GOLD_A / sqrt(2)) - 1).max(axis=1) < 1e-9
    assert full.mean() > 0.4
    # Grains fill the film: as dense as the bulk, but for surfaces.
    assert len(places) / (120**2 * 60) == pytest.approx(4 / GOLD_A**3, rel=0.05)


@pytest.mark.slow
def test_rings_have_the_radii_of_gold() -> None:
    pixel_a, side = 0.5, 960.0
    view = View((64, 64), 64 * pixel_a, ((1.0, 0.0), (0.0, 1.0)))
    layout = lay_out(Specimen("polycrystal"), view, np.array([[-side / 2] * 2, [side / 2] * 2]))
    off = []
    for seed in range(2):
        phase = phase_rad(Specimen("polycrystal", seed=seed, grain_nm=8.0, thickness_nm=16.0), layout, 200.0)[0]
        frequency = [np.fft.fftfreq(n, pixel_a) for n in phase.shape]
        k = np.hypot(frequency[0][:, None], frequency[1])
        power = np.abs(scipy.fft.fft2(phase)) ** 2 / potential_v_a3("Au", k, CELLS["Au"].thermal_b_a2["Au"]) ** 2
        for h2 in (3, 4, 8, 11):
            radius = sqrt(h2) / GOLD_A
            near = np.abs(k - radius) < 0.012
            off.append(np.sum(power[near] * k[near]) / np.sum(power[near]) / radius - 1)
    # Some 1000 spots, each 0.5 to 1 % of the radius wide and lopsided as its grain is: 3e-4, and the powder's own
    # shift of -(width/radius)², 1e-4 for the first ring.
    assert abs(np.mean(off)) < 4e-4
    assert np.abs(off).max() < 3e-3


@pytest.mark.parametrize(("material", "spacing_a"), [("Al", 4.0495 / 2), ("Si", 5.43102 / sqrt(8)), ("Au", GOLD_A / 2)])
def test_bragg_disks_stand_where_the_lattice_puts_them(material: str, spacing_a: float) -> None:
    setup = Illumination(200.0, 1.5, Aberrations(), (128, 128), isotropic(0.3))
    crystal = Specimen("crystal", material=material, thickness_nm=3.0, angle_deg=30.0 if material != "Si" else 75.0)
    bench = prepare(setup, crystal, 0, np.array([[-1.0, -1.0], [1.0, 1.0]]))
    frame = patterns(bench, np.array([[0.2, 0.1]]), np.zeros((1, 2)))[0]
    # The first reflection along the axis that angle_deg turned, x towards y: at 30 degrees from x, downwards.
    g = optics.wavelength_a(200.0) / spacing_a * 1e3
    at = np.array([np.sin(np.pi / 6), np.cos(np.pi / 6)]) * g / 0.3 + 63.5
    y, x = np.indices(frame.shape)
    disk = np.hypot(y - at[0], x - at[1]) < 8
    found = np.array([np.sum(frame[disk] * y[disk]), np.sum(frame[disk] * x[disk])]) / frame[disk].sum()
    assert frame[disk].sum() > 0.003
    # A disk of 5 px, tails of its neighbours included.
    np.testing.assert_allclose(found, at, atol=0.06)


def test_strain_is_what_the_atoms_show() -> None:
    field = Displacement(
        ((0.01, 0.004), (-0.002, -0.005)), ((1e-4, 2e-4, 0.0), (-1e-4, 0.0, 3e-4)), 0.02, 6.0, (2.0, -3.0)
    )
    places = placed(Specimen("strained", material="Al", thickness_nm=0.3, displacement=field), 150.0)[:, 1:]
    tree = scipy.spatial.cKDTree(places)
    for centre in np.random.default_rng(5).uniform(-120, 120, (8, 2)):
        near = places[tree.query(places[tree.query(centre)[1]], 9)[1]]
        middle = near[0]
        rest = (near[1:] - middle) / (4.0495 / 2)
        # Seen along [001] the columns of aluminium are a square lattice of a/2.
        whole = np.rint(rest)
        f = np.linalg.lstsq(whole, (near[1:] - middle) / (4.0495 / 2), rcond=None)[0].T
        told = strain_at(field, middle / 10)
        a = np.radians(told.rotation_deg)
        turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
        expected = turn @ np.array([[1 + told.eyy, told.exy], [told.exy, 1 + told.exx]])
        # Eight neighbours around an atom: gradients cancel, the inclusion's curvature leaves (3 Å/w)² of 2 %.
        np.testing.assert_allclose(f, expected, atol=5e-5)


def test_too_much_strain_is_refused() -> None:
    with pytest.raises(BadInput, match=r"specimen.displacement.*gradient must stay within 0\.15"):
        strain_at(Displacement(((0.3, 0.0), (0.0, 0.0))), np.zeros((1, 2)))


def test_mos2_is_that_of_the_reference(recorded_data: Path) -> None:
    with np.load(recorded_data / "reference_abtem" / "d_MoS2_truth.npz") as truth:
        numbers, places = truth["atoms_numbers"], truth["atoms_positions"]
    groups = list(atoms(Specimen("mos2"), ((-15.0, 15.0), (-15.0, 15.0))))
    count = {name: sum(len(g.z_a) for g in groups if g.species == name) for name in ("Mo", "S")}
    assert count["S"] == 2 * count["Mo"]
    heights = sorted({round(float(z), 3) for g in groups for z in g.z_a})
    known = np.unique(np.round(places[np.isin(numbers, (16, 42)), 2], 2))
    # 3.19 Å there, 3.172 Å measured.
    np.testing.assert_allclose(np.diff(heights), np.diff(known)[:2], atol=0.02)
    metal = np.concatenate([np.stack([g.y_a, g.x_a], 1) for g in groups if g.species == "Mo"])
    sulfur = np.concatenate([np.stack([g.y_a, g.x_a], 1) for g in groups if g.species == "S"])
    distance = scipy.spatial.cKDTree(sulfur).query(metal[np.abs(metal).max(1) < 10], 7)[0]
    # Six sulphur atoms, two above another, at a/√3 and none else near.
    np.testing.assert_allclose(distance[:, :6], 3.160 / sqrt(3), rtol=1e-9)
    assert distance[:, 6].min() > 3


def test_carbon_is_as_dense_as_told_and_has_no_bragg_peaks() -> None:
    film = Specimen("amorphous", seed=1, thickness_nm=4.0)
    assert len(placed(film, 60.0)) / (120**2 * 40) == pytest.approx(CARBON_PER_A3, rel=0.01)
    view = View((64, 64), 64 * 0.5, ((1.0, 0.0), (0.0, 1.0)))
    phase = phase_rad(film, lay_out(film, view, np.array([[-100.0] * 2, [100.0] * 2])), 200.0)[0]
    power = np.abs(scipy.fft.fft2(phase)) ** 2
    frequency = [np.fft.fftfreq(n, 0.5) for n in phase.shape]
    k = np.hypot(frequency[0][:, None], frequency[1])
    ring = power[(k > 0.4) & (k < 0.55)]
    # Speckle: exponential, whose largest of n values is ln n means, and hardly ever twice that.
    assert ring.max() / ring.mean() < 2 * np.log(ring.size)


def test_ice_has_its_rms() -> None:
    view = View((64, 64), 64 * 2.0, ((1.0, 0.0), (0.0, 1.0)))
    film = Specimen("biological", seed=1, rms_rad=0.05)
    phase = phase_rad(film, lay_out(film, view, np.array([[-1000.0] * 2, [1000.0] * 2])), 200.0)
    # A thousand globules: 3 %.
    assert phase.std() == pytest.approx(0.05, rel=0.1)
