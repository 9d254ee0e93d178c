"""The dose and noise formulas against hand-computed figures and Poisson draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stem4d import dose

PRINTED = 6e-3
"""Reference figures are printed to two or three digits."""


@pytest.mark.parametrize(
    ("value", "figure"),
    [
        (dose.electrons(1, 1), 6.2415),
        (dose.electrons(1, 1e6 / 30e3), 208.05),
        (dose.electrons(1, 1e6 / 120e3), 52.01),
        (dose.average_fluence_e_per_a2(1, 33.3, 2.0), 0.5196),
        (dose.average_fluence_e_per_a2(30, 33, 0.033), 5.674e4),
        # 4 mrad in focus: a spot of 6.00 Å, 28.3 Å², in 400 Å².
        (dose.local_fluence_e_per_a2(1, 33.3, 2.0, 6.00) / dose.average_fluence_e_per_a2(1, 33.3, 2.0), 14.15),
        # 27.6 mrad at 0.53 mrad/px: a disk of 8520 px.
        (dose.electrons_per_disk_pixel(dose.electrons(100, 1e6), 27.6 / 0.53), 73.25e3),
        # A 1.5 mrad disk on 50 px.
        (dose.electrons_per_disk_pixel(dose.electrons(100, 1e6), (50 / np.pi) ** 0.5), 12.48e6),
        (dose.peak_counts(100, 1.0), 150.0),
        (dose.peak_counts(3, 3.0), 24.0),
        (dose.centre_of_mass_noise_mrad(21.4, 2e4), 0.0757),
        (dose.dose_limited_period_a(10, 0.2, 3, 1, 1), 4.743),
        (dose.dose_limited_period_a(30, 0.1, 3, 1e4, 1), 0.0548),
        (2.5 * dose.critical_exposure_e_per_a2(3.0, 300), 10.84),
        (2.5 * dose.critical_exposure_e_per_a2(5.8, 300), 18.46),
        (2.5 * dose.critical_exposure_e_per_a2(10, 300), 35.35),
        (dose.critical_exposure_e_per_a2(3.0, 200) / dose.critical_exposure_e_per_a2(3.0, 300), 0.8),
    ],
)
def test_figures(value: float, figure: float) -> None:
    assert value == pytest.approx(figure, rel=PRINTED)


def test_centre_of_mass_noise_is_that_of_a_poisson_disk() -> None:
    radius_px, electrons, frames = 12.0, 2000.0, 3000
    y, x = np.mgrid[-15:16, -15:16]
    disk = x**2 + y**2 <= radius_px**2
    rng = np.random.default_rng(3)
    counts = rng.poisson(electrons * disk / disk.sum(), size=(frames, 31, 31))
    centre_x = (counts * x).sum((1, 2)) / counts.sum((1, 2))
    # The scatter of 3000 draws is itself known to 1/sqrt(6000) = 1.3 %; a pixelated disk adds less than 1 %.
    assert centre_x.std() == pytest.approx(dose.centre_of_mass_noise_mrad(radius_px, electrons), rel=0.05)


def test_crest_of_a_poisson_disk_stays_below_the_peak() -> None:
    mean = 40.0
    draws = np.random.default_rng(4).poisson(mean, size=1_000_000)
    # 5 sigma is passed about 3 times in a million by a skewed Poisson at 40; 6 sigma would be a mistake to require.
    assert np.mean(draws > dose.peak_counts(mean, 1.0)) < 1e-5


@given(st.floats(1e-3, 1e3), st.floats(0.1, 1e4), st.floats(1e-2, 10), st.floats(0.1, 100))
def test_local_fluence_is_never_below_average(current: float, dwell: float, step: float, diameter: float) -> None:
    average = dose.average_fluence_e_per_a2(current, dwell, step)
    assert dose.local_fluence_e_per_a2(current, dwell, step, diameter) >= average * (1 - 1e-12)


@given(st.floats(0.1, 100), st.floats(0.1, 100))
def test_fine_detail_takes_less_exposure(first: float, second: float) -> None:
    fine, coarse = sorted((first, second))
    assert dose.critical_exposure_e_per_a2(fine, 300) <= dose.critical_exposure_e_per_a2(coarse, 300)
