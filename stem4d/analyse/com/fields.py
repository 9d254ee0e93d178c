"""What a deflection says of fields: projected electric and magnetic fields, potential and phase.

x, y and the direction of the beam are right-handed: the scan is seen along the beam.
"""

from math import pi

from stem4d import optics

FLUX_T_NM2 = 4135.667696
"""h/e [T nm²] (CODATA 2018)."""


def phase_gradient_per_mrad(beam_energy_kev: float) -> float:
    """Phase gradient [rad/nm] of a deflection of 1 mrad, 2πθ/λ."""
    return 2 * pi * 1e-3 / (optics.wavelength_a(beam_energy_kev) / 10)


def projected_field_v_per_mrad(beam_energy_kev: float) -> float:
    """∫E dz [V] along a deflection of 1 mrad, negative: an electron goes against the field.

    θ = -∫E dz e/(p v), with p v/e = 2π/(λσ) = E (E + 2mc²)/(E + mc²).
    """
    return -phase_gradient_per_mrad(beam_energy_kev) / interaction_rad_per_v_nm(beam_energy_kev)


def projected_induction_t_nm_per_mrad(beam_energy_kev: float) -> float:
    """Size of ∫B dz [T nm] of a deflection of 1 mrad, hθ/(eλ).

    The force -e v × B has B_y = +h θ_x/(eλ) and B_x = -h θ_y/(eλ).
    """
    return FLUX_T_NM2 * 1e-3 / (optics.wavelength_a(beam_energy_kev) / 10)


def interaction_rad_per_v_nm(beam_energy_kev: float) -> float:
    """σ [rad/(V nm)]."""
    return 10 * optics.interaction_rad_per_v_a(beam_energy_kev)
