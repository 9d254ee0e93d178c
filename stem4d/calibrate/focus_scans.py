"""Which scans tell the focus: a far one that takes in large errors, and a near one that is exact."""

from dataclasses import dataclass
from math import sqrt

from stem4d import optics
from stem4d.errors import BadInput

FAR_DEPTHS, NEAR_DEPTHS = 8.0, 2.5
"""Underfocus of the scans in depths of field: errors up to half of it are found."""
REACH_STEPS = 4.0
"""Steps that the outermost image of a far scan moves: few, so that its field is large and slopes on it are small."""
NEAR_STEP = 0.5
"""Step of a near scan over λ/α: every wave of the specimen that the aperture passes is sampled."""
FILLED = 0.65
"""Part of the window λ/δ that the defocused probe may fill: an error of half as much underfocus is to fit in, too."""


@dataclass(frozen=True)
class FocusScan:
    """One scan that tells the focus."""

    defocus_nm: float
    """Underfocus, in which what is wrong adds [nm]."""
    step_nm: float

    @property
    def reach_nm(self) -> float:
        """Largest error that it finds [nm]; see `tilt_search.SEARCHED`."""
        return 0.5 * self.defocus_nm


def focus_scans(
    beam_energy_kev: float, convergence_semi_angle_mrad: float, mrad_per_pixel: float, most_defocus_nm: float
) -> tuple[FocusScan, FocusScan]:
    """The far scan and the near one.

    Parameters
    ----------
    beam_energy_kev, convergence_semi_angle_mrad, mrad_per_pixel : float
        Of the plan [keV], [mrad], [mrad].
    most_defocus_nm : float
        Largest underfocus that the column has room for [nm].

    Raises
    ------
    BadInput
        Where a probe of the near scan's underfocus does not fit into the window, or the column does not reach it.
    """
    alpha = convergence_semi_angle_mrad * 1e-3
    depth = optics.depth_of_field_a(beam_energy_kev, convergence_semi_angle_mrad) / 10
    wave = optics.wavelength_a(beam_energy_kev) / 10 / alpha
    window = optics.window_a(beam_energy_kev, mrad_per_pixel) / 10
    ray = 2 * optics.rayleigh_radius_a(beam_energy_kev, convergence_semi_angle_mrad) / 10
    room = sqrt(max((FILLED * window) ** 2 - ray**2, 0.0)) / (2 * alpha)
    near, most = NEAR_DEPTHS * depth, min(room, most_defocus_nm)
    if most < near:
        what = "the window λ/δ" if room < most_defocus_nm else "the range of the column"
        raise BadInput(
            field="optics.camera_length_mm" if room < most_defocus_nm else "optics.defocus_nm",
            value=most,
            limit=f"{what} leaves that much underfocus to focus by; it takes {near:.4g}",
            unit="nm",
            remedy="Use a longer camera length, or leave approach.focus_area out",
        )
    far = min(FAR_DEPTHS * depth, most)
    return FocusScan(far, max(far * alpha / REACH_STEPS, NEAR_STEP * wave)), FocusScan(near, NEAR_STEP * wave)
