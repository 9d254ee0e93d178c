"""Scattering factors against X-ray ones through Mott and Bethe, potentials against the reference simulation."""

from pathlib import Path

import gemmi
import numpy as np
import pytest

from stem4d.errors import BadInput
from stem4d.scattering import debye_waller, potential_v_a3, scattering_factor_a

BETHE_PER_A = 0.0239337
"""m0 e²/(2π h² 4 ε0) [1/Å]: f_e = 0.02393 (Z - f_x)/s²."""


@pytest.mark.parametrize("element", ["C", "O", "Al", "Si", "S", "Ti", "Sr", "Mo", "Au"])
def test_electrons_scatter_as_x_rays_say_they_must(element: str) -> None:
    atom = gemmi.Element(element)
    s = np.linspace(0.2, 1.9, 40)
    x_ray = np.array([atom.it92.calculate_sf(float(each) ** 2) for each in s])
    expected = BETHE_PER_A * (atom.atomic_number - x_ray) / s**2
    # Two tables with different numbers of Gaussians: 2 % apart at most, above s = 1.
    np.testing.assert_allclose(scattering_factor_a(element, 2 * s), expected, rtol=0.025)


def test_thermal_motion_damps_the_amplitude() -> None:
    k = np.array([0.0, 1.0, 2.0])
    np.testing.assert_allclose(debye_waller(k, 0.8), np.exp(-0.8 * (k / 2) ** 2))
    ratio = potential_v_a3("Au", k, 0.8) / potential_v_a3("Au", k)
    np.testing.assert_allclose(ratio, debye_waller(k, 0.8))


def test_potentials_are_those_of_the_reference(recorded_data: Path) -> None:
    with np.load(recorded_data / "reference_abtem" / "d_MoS2_truth.npz") as truth:
        known = {name: truth[name] for name in truth.files}
    potential = known["projected_potential_VA"].T
    pixel_a = 30.0 / len(potential)
    k = np.fft.fftfreq(len(potential), pixel_a)
    radius = np.hypot(k[:, None], k)
    total = np.zeros(radius.shape, np.complex128)
    for number in np.unique(known["atoms_numbers"]):
        places = known["atoms_positions"][known["atoms_numbers"] == number]
        sums = np.exp(-2j * np.pi * np.outer(k, places[:, 1])) @ np.exp(-2j * np.pi * np.outer(places[:, 0], k))
        total += sums * potential_v_a3(gemmi.Element(int(number)).name, radius)
    # To 1.5 per Å, as far as the patterns of a 30 mrad probe at 80 kV reach.
    keep = radius < 1.5
    ours, theirs = (np.fft.ifft2(spectrum * keep).real for spectrum in (total / pixel_a**2, np.fft.fft2(potential)))
    # Another parametrisation (Lobato's); they differ by 2 % of an atom's height.
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.999
    assert np.polyfit(theirs.ravel(), ours.ravel(), 1)[0] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("element", ["Xx", "Unobtainium"])
def test_an_unknown_element_is_refused(element: str) -> None:
    with pytest.raises(BadInput, match="chemical symbol"):
        scattering_factor_a(element, np.zeros(1))
