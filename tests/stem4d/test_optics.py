"""The optics formulas against hand-computed figures (docs/rules.md, section of formulas)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stem4d import optics

PRINTED = 6e-3
"""Reference figures are printed to three digits or two: half a unit of the last one is at most 0.6 %."""


@pytest.mark.parametrize(
    ("kev", "wavelength"), [(60, 0.048661), (80, 0.041757), (120, 0.033492), (200, 0.025079), (300, 0.0196875)]
)
def test_wavelength(kev: float, wavelength: float) -> None:
    # Printed to five digits: half a unit of the last.
    assert optics.wavelength_a(kev) == pytest.approx(wavelength, abs=5e-7)


@pytest.mark.parametrize(("kev", "sigma"), [(80, 1.00871e-3), (200, 7.28840e-4), (300, 6.52622e-4)])
def test_interaction_constant(kev: float, sigma: float) -> None:
    # Values tabulated for electron microscopy, six digits.
    assert optics.interaction_rad_per_v_a(kev) == pytest.approx(sigma, rel=2e-5)


@pytest.mark.parametrize(
    ("value", "figure"),
    [
        (optics.rayleigh_radius_a(300, 27.6), 0.435),
        (optics.rayleigh_radius_a(300, 4.0), 3.00),
        (optics.diffraction_fwhm_a(300, 27.6), 0.364),
        (optics.defocused_probe_diameter_a(300, 4.0, 1500), 120.0),
        (optics.defocused_probe_diameter_a(300, 27.6, 20), 11.07),
        (optics.defocused_probe_diameter_a(300, 4.0, 0), 6.00),
        # Cs 1 mm, 100 nm: rays at 10 mrad meet the axis, those at 5.77 mrad lie 3.849 Å off; diffraction 2.40 Å.
        (optics.defocused_probe_diameter_a(300, 10, 100, 1.0), 8.064),
        (optics.defocused_probe_diameter_a(300, 10, -100, 1.0), 40.07),
        (optics.depth_of_field_a(300, 27.6), 25.85),
        (optics.depth_of_field_a(300, 4.0), 1230.0),
        (optics.single_slice_thickness_a(300, 0.2), 10.57),
        (optics.single_slice_thickness_a(300, 1.5), 594.0),
        (optics.half_period_limit_a(300, 6.5), 1.514),
        (optics.half_period_limit_a(300, 50.9), 0.1934),
        (optics.window_a(300, 50.9 / 96), 37.1),
        (optics.window_a(300, 6.5 / 96), 291.0),
        (optics.mrad_per_pixel(100, 188), 0.532),
        (optics.disk_radius_px(27.6, 0.53), 52.1),
        (optics.source_size_a(30, 27.6, 2e13), 0.2825),
        (optics.source_size_a(100, 27.6, 2e13), 0.5158),
        (optics.source_size_a(100, 1.5, 2e13), 9.49),
    ],
)
def test_lengths_and_angles(value: float, figure: float) -> None:
    assert value == pytest.approx(figure, rel=PRINTED)


@pytest.mark.parametrize(
    ("step", "diameter", "linear", "area"),
    [(20, 120, 0.833, 0.789), (0.33, 11.0, 0.970, 0.962), (0, 10, 1, 1), (10, 10, 0, 0), (20, 10, -1, 0)],
)
def test_overlap(step: float, diameter: float, linear: float, area: float) -> None:
    assert optics.linear_overlap(step, diameter) == pytest.approx(linear, abs=5e-4)
    assert optics.area_overlap(step, diameter) == pytest.approx(area, abs=5e-4)


def test_largest_angle_centred_and_off_centre() -> None:
    # 192 px of 0.53021 mrad: 96 px to the edge, 60 px when the pattern lies 36 px off.
    assert optics.max_angle_mrad(192, 0.53021) == pytest.approx(50.90, abs=5e-3)
    assert optics.max_angle_mrad(192, 0.53021, 36) == optics.max_angle_mrad(192, 0.53021, -36)
    assert optics.max_angle_mrad(192, 0.53021, 36) == pytest.approx(31.81, abs=5e-3)
    assert optics.max_angle_mrad(192, 0.53021, 96) == pytest.approx(0)


@given(st.floats(10, 1500), st.floats(10, 1500))
def test_wavelength_falls_with_energy(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert optics.wavelength_a(high) <= optics.wavelength_a(low)


@given(st.floats(1, 50), st.floats(-2000, 2000), st.floats(-5, 5))
def test_largest_displacement_is_that_of_all_rays(alpha_mrad: float, defocus_nm: float, cs_mm: float) -> None:
    alpha = np.linspace(0, alpha_mrad * 1e-3, 1001)
    rays_a = np.abs(10 * defocus_nm * alpha - 1e7 * cs_mm * alpha**3)
    found = optics.largest_displacement_a(alpha_mrad, defocus_nm, cs_mm)
    # Flat where it turns, and the edge leads where that is within half of it: the nearest of 1000 rays misses the
    # maximum by 1.5e-6 of it at the worst.
    assert rays_a.max() * (1 - 1e-12) <= found <= rays_a.max() * (1 + 1e-5) + 1e-9


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.floats(0.1, 100))
def test_area_overlap_falls_with_step_and_stays_below_linear_plus(diameter: float, first: float, second: float) -> None:
    near, far = sorted((first, second))
    assert optics.area_overlap(far, diameter) <= optics.area_overlap(near, diameter) + 1e-12
    # Two discs share less of their area than of their diameter.
    assert optics.area_overlap(near, diameter) <= max(optics.linear_overlap(near, diameter), 0) + 1e-12
