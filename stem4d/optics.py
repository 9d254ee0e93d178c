"""Relativistic electron optics: wavelength, probe, depth, overlap, angles. Formulas only, scalars in and out.

Lengths are in Å here because the formulas are; plans carry nm. Sources: docs/conventions.md and the article's
figures (see plans/case_a.yaml and plans/case_b.yaml), which the tests hold these functions to.
"""

from math import acos, pi, sqrt

HC_EV_A = 12398.419843320026
"""Planck constant times speed of light [eV Å] (CODATA 2018)."""
ELECTRON_REST_ENERGY_EV = 510998.95
"""Electron rest energy [eV] (CODATA 2018)."""
ELEMENTARY_CHARGE_C = 1.602176634e-19
"""Charge of an electron [C] (SI 2019)."""
ELECTRONS_PER_PA_US = 1e-18 / ELEMENTARY_CHARGE_C
"""Electrons in one pA µs, 6.2415 (SI 2019)."""


def wavelength_a(beam_energy_kev: float) -> float:
    """Relativistic electron wavelength [Å]: λ = hc / sqrt(E (E + 2 m c²))."""
    energy_ev = beam_energy_kev * 1e3
    return HC_EV_A / sqrt(energy_ev * (energy_ev + 2 * ELECTRON_REST_ENERGY_EV))


def interaction_rad_per_v_a(beam_energy_kev: float) -> float:
    """Interaction constant σ [rad/(V Å)]: σ = (2π/λ) (E + mc²) / (E (E + 2 mc²)) (Kirkland, eq. 5.6)."""
    energy_ev = beam_energy_kev * 1e3
    total = energy_ev + ELECTRON_REST_ENERGY_EV
    return 2 * pi / wavelength_a(beam_energy_kev) * total / (energy_ev * (energy_ev + 2 * ELECTRON_REST_ENERGY_EV))


def rayleigh_radius_a(beam_energy_kev: float, convergence_semi_angle_mrad: float) -> float:
    """Radius of the diffraction-limited probe, to its first zero [Å]: 0.61 λ/α."""
    return 0.61 * wavelength_a(beam_energy_kev) / (convergence_semi_angle_mrad * 1e-3)


def diffraction_fwhm_a(beam_energy_kev: float, convergence_semi_angle_mrad: float) -> float:
    """Full width at half maximum of the diffraction-limited probe [Å]: 0.51 λ/α."""
    return 0.51 * wavelength_a(beam_energy_kev) / (convergence_semi_angle_mrad * 1e-3)


def source_size_a(probe_current_pa: float, convergence_semi_angle_mrad: float, brightness_a_per_m2_sr: float) -> float:
    """Source diameter at the specimen [Å] from the conservation of brightness: (2/(πα)) sqrt(I/B)."""
    alpha = convergence_semi_angle_mrad * 1e-3
    return 2 / (pi * alpha) * sqrt(probe_current_pa * 1e-12 / brightness_a_per_m2_sr) * 1e10


def largest_displacement_a(
    convergence_semi_angle_mrad: float, defocus_nm: float, spherical_aberration_mm: float
) -> float:
    """Largest displacement of a ray within the aperture [Å]: of |Δf α - Cs α³|, at the edge or where it turns."""
    edge, focus_a, spherical_a = convergence_semi_angle_mrad * 1e-3, defocus_nm * 10, spherical_aberration_mm * 1e7
    at_edge = abs(focus_a * edge - spherical_a * edge**3)
    turns_at2 = focus_a / (3 * spherical_a) if spherical_a else 0.0
    return max(at_edge, 2 / 3 * abs(focus_a) * sqrt(turns_at2)) if 0 < turns_at2 < edge**2 else at_edge


def defocused_probe_diameter_a(
    beam_energy_kev: float,
    convergence_semi_angle_mrad: float,
    defocus_nm: float,
    spherical_aberration_mm: float = 0.0,
) -> float:
    """Diameter of the illuminated patch [Å].

    Twice the largest displacement of a ray in quadrature with twice the Rayleigh radius, which takes over near focus.
    """
    geometric = 2 * largest_displacement_a(convergence_semi_angle_mrad, defocus_nm, spherical_aberration_mm)
    return sqrt(geometric**2 + (2 * rayleigh_radius_a(beam_energy_kev, convergence_semi_angle_mrad)) ** 2)


def depth_of_field_a(beam_energy_kev: float, convergence_semi_angle_mrad: float) -> float:
    """Depth of field of the probe [Å]: λ/α²."""
    return wavelength_a(beam_energy_kev) / (convergence_semi_angle_mrad * 1e-3) ** 2


def single_slice_thickness_a(beam_energy_kev: float, half_period_a: float) -> float:
    """Thickness a single slice can carry at a half-period h [Å]: 5.2 h²/λ."""
    return 5.2 * half_period_a**2 / wavelength_a(beam_energy_kev)


def max_angle_mrad(detector_pixels: int, mrad_per_pixel: float, offset_px: float = 0.0) -> float:
    """Largest angle recorded on all sides [mrad] once the pattern is recentred by cropping: (N/2 - |c|) δ."""
    return (detector_pixels / 2 - abs(offset_px)) * mrad_per_pixel


def half_period_limit_a(beam_energy_kev: float, angle_mrad: float) -> float:
    """Smallest half-period that an angle carries [Å]: λ / (2 θ)."""
    return wavelength_a(beam_energy_kev) / (2 * angle_mrad * 1e-3)


def window_a(beam_energy_kev: float, mrad_per_pixel: float) -> float:
    """Real-space window that one detector pixel's sampling can hold [Å]: λ/δ."""
    return wavelength_a(beam_energy_kev) / (mrad_per_pixel * 1e-3)


def linear_overlap(step_a: float, diameter_a: float) -> float:
    """Linear overlap of neighbouring probes, 1 - s/D; negative when they are apart."""
    return 1 - step_a / diameter_a


def area_overlap(step_a: float, diameter_a: float) -> float:
    """Shared area of two neighbouring discs as a fraction of one: (2 acos x - 2 x sqrt(1 - x²))/π, x = s/D."""
    x = min(step_a / diameter_a, 1.0)
    return (2 * acos(x) - 2 * x * sqrt(1 - x * x)) / pi


def mrad_per_pixel(pixel_pitch_um: float, camera_length_mm: float) -> float:
    """Angle one detector pixel covers [mrad]: pitch / camera length."""
    return pixel_pitch_um / camera_length_mm


def disk_radius_px(convergence_semi_angle_mrad: float, mrad_per_pixel: float) -> float:
    """Radius of the bright-field disk on the detector [px]: α/δ."""
    return convergence_semi_angle_mrad / mrad_per_pixel
