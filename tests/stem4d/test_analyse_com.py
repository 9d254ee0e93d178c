"""Centre of mass: deflections, noise and curl against known truth."""

from dataclasses import replace

import numpy as np
import pytest
from quality_world import Truth, recording

from stem4d import optics
from stem4d.analyse.com import Deflection, deflection, summarise_deflection
from stem4d.calibrate.descan import fit_descan
from stem4d.errors import BadInput

STEP_NM, ENERGY_KEV = 0.05, 200.0


def _phase(shape: tuple[int, int]) -> tuple[np.ndarray, Deflection]:
    """Two smooth atoms, and the deflection θ = (λ/2π) ∇φ by exact derivatives [mrad]."""
    y, x = np.meshgrid(*((np.arange(n) + 0.5) * STEP_NM for n in shape), indexing="ij")
    phase, gradient = np.zeros(shape), [np.zeros(shape), np.zeros(shape)]
    for at, size, height in (((0.7, 0.9), 0.25, 1.0), ((1.3, 1.6), 0.35, 0.6)):
        atom = height * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * size**2))
        phase += atom
        for axis, distance in enumerate((y - at[0], x - at[1])):
            gradient[axis] -= atom * distance / size**2
    scale = optics.wavelength_a(ENERGY_KEV) / 10 / (2 * np.pi) * 1e3  # rad/nm to mrad
    return phase, Deflection(gradient[0] * scale, gradient[1] * scale)


def test_a_gradient_field_has_no_curl_and_a_turned_one_has() -> None:
    _, found = _phase((40, 50))
    straight = summarise_deflection(found, 1e6, 20.0)
    turned = summarise_deflection(Deflection(found.x_mrad, -found.y_mrad), 1e6, 20.0)
    # Central differences of an exact gradient commute but at the border.
    assert straight.curl_rms_per_position_mrad < 0.02 * straight.divergence_rms_per_position_mrad
    assert turned.curl_rms_per_position_mrad == pytest.approx(straight.divergence_rms_per_position_mrad)


def test_noise_in_vacuum_is_the_counting_noise_and_the_descan_is_taken_off() -> None:
    truth = Truth(scan=(20, 20), background=0.0, descan=((0.1, 0.0), (0.02, -0.1)))
    maps = recording(3, **vars(truth))
    fit = fit_descan(maps.com_y_px, maps.com_x_px, maps.recorded, 0.1)
    found = deflection(maps, 1.0, 0.1, fit)
    summary = summarise_deflection(found, float(maps.total.mean()), truth.radius)
    # 800 values: their rms is known to 2.5 %; the blurred edge makes the disk's second moment 1 % larger.
    assert summary.rms_mrad == pytest.approx(summary.noise_mrad, rel=0.1)
    assert summary.noise_mrad == pytest.approx(10 / (2 * np.sqrt(3000)), rel=0.02)
    # The mean size of a two-dimensional normal deviate is sqrt(π/2) of its sigma.
    assert summary.mean_magnitude_mrad == pytest.approx(summary.rms_mrad * np.sqrt(np.pi / 2), rel=0.05)
    assert summarise_deflection(deflection(maps, 1.0), 3000, 10.0).rms_mrad > 4 * summary.rms_mrad


def test_a_known_centre_or_the_mean_is_the_origin() -> None:
    maps = recording(1, offset=(2.0, -1.0))
    about = deflection(maps, 0.5, centre_px=(23.5, 23.5))
    # The background of 46 counts beside 3000 pulls the centre of mass back by 1.5 %.
    assert np.nanmean(about.y_mrad) == pytest.approx(1.0, abs=0.03)
    assert np.nanmean(about.x_mrad) == pytest.approx(-0.5, abs=0.03)
    assert np.nanmean(deflection(maps, 0.5).y_mrad) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("scan", [(1, 1), (1, 12)])
def test_few_positions_give_what_is_known(scan: tuple[int, int]) -> None:
    maps = recording(0, scan=scan)
    found = summarise_deflection(deflection(maps, 1.0), 3000, 10.0)
    assert found.positions == scan[0] * scan[1]
    assert np.isnan(found.curl_rms_per_position_mrad)
    assert "mrad" in found.text


def test_without_centres_of_mass_nothing_is_claimed() -> None:
    maps = recording(0)
    gone = replace(maps, com_y_px=np.full_like(maps.com_y_px, np.nan))
    found = deflection(gone, 1.0)
    assert np.isnan(found.magnitude_mrad).all()
    assert summarise_deflection(found, 0.0, 10.0).positions == 0


def test_an_angle_per_pixel_of_zero_is_refused() -> None:
    with pytest.raises(BadInput):
        deflection(recording(0), 0.0)
