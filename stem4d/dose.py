"""Electrons: per pattern, per pixel, per specimen area, with their noise, and a dose lease as a value."""

from dataclasses import dataclass
from math import pi, sqrt

from stem4d.optics import ELECTRONS_PER_PA_US

SPECIMEN_CREST = 3.0
"""Peak over mean of a bright-field disk on a specimen, 2 to 5 (habit); the first rows measure it."""
BUDGET_TOLERANCE = 0.01
"""A fluence may pass its budget by this fraction: probe currents are not known better."""


def electrons(probe_current_pa: float, time_us: float) -> float:
    """Electrons that a current carries in a time."""
    return probe_current_pa * time_us * ELECTRONS_PER_PA_US


def average_fluence_e_per_a2(probe_current_pa: float, dwell_time_us: float, step_nm: float) -> float:
    """Fluence averaged over the scanned area [e/Å²]: I t_dwell / (e s²)."""
    return electrons(probe_current_pa, dwell_time_us) / (step_nm * 10) ** 2


def local_fluence_e_per_a2(
    probe_current_pa: float, dwell_time_us: float, step_nm: float, probe_diameter_a: float
) -> float:
    """Fluence where it is highest [e/Å²]: I t_dwell / (e min(s², πD²/4)).

    When the step is larger than the probe, the illuminated spots get more than the average.
    """
    area_a2 = min((step_nm * 10) ** 2, pi * probe_diameter_a**2 / 4)
    return electrons(probe_current_pa, dwell_time_us) / area_a2


def electrons_per_disk_pixel(electrons_per_pattern: float, disk_radius_px: float) -> float:
    """Mean electrons in a pixel of the bright-field disk: N / (π r²)."""
    return electrons_per_pattern / (pi * disk_radius_px**2)


def peak_counts(mean_counts: float, crest: float) -> float:
    """Counts a pixel must hold without clipping: crest x mean + 5 sigma (Poisson)."""
    peak = crest * mean_counts
    return peak + 5 * sqrt(peak)


def dose_limited_period_a(
    fluence_e_per_a2: float, contrast: float, signal_to_noise: float, repeats: float, dqe: float
) -> float:
    """Smallest period that counting statistics allow [Å] (Rose): SNR / (C sqrt(F DQE n))."""
    return signal_to_noise / (contrast * sqrt(fluence_e_per_a2 * dqe * repeats))


def critical_exposure_e_per_a2(period_a: float, beam_energy_kev: float) -> float:
    """Exposure beyond which a vitrified specimen loses a period [e/Å²]: 0.245 k^-1.665 + 2.81 at 300 kV.

    Grant and Grigorieff, eLife 4 (2015); scaled by 0.8 at 200 kV and below. The optimum is about 2.5 times this.
    """
    critical = 0.245 * float((1 / period_a) ** -1.665) + 2.81
    return critical if beam_energy_kev > 250 else 0.8 * critical


def centre_of_mass_noise_mrad(convergence_semi_angle_mrad: float, electrons_in_disk: float) -> float:
    """Shot noise of the centre of mass per axis [mrad]: α/(2 sqrt(n))."""
    return convergence_semi_angle_mrad / (2 * sqrt(electrons_in_disk))


def strain_noise(disk_radius_px: float, reflection_px: float, electrons_per_disk: float, disks: float) -> float:
    """Shot noise of strain from disk positions: σ_pos/(g_px sqrt(disks)), σ_pos = (r_px/2)/sqrt(n_disk).

    Centres of mass of disks; edge-sensitive estimators are about 2.4 times better.
    """
    return disk_radius_px / 2 / sqrt(electrons_per_disk) / (reflection_px * sqrt(disks))


@dataclass(frozen=True)
class DoseLease:
    """Leave to unblank over one area: minted after its intent was committed, refused by the gate once expired.

    ``expires_monotonic_s`` is on the real monotonic clock: an accelerated simulation cannot stretch it.
    """

    area: str
    fluence_e_per_a2: float
    token: int
    expires_monotonic_s: float
    owner_token: int = 0
    """Fencing token of the instrument's owner; 0 where it has none, which is below that of any owner."""
    exposure: str = ""
    """Public name of the exposure that was booked for it."""
