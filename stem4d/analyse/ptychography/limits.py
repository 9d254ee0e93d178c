"""What makes a reconstruction doubtful or impossible before it is begun: thickness, overlap, window, electrons."""

from collections.abc import Iterator

from stem4d import optics
from stem4d.analyse.method import Given, NotPossible
from stem4d.analyse.ptychography.options import PtychographyOptions
from stem4d.rules.limits import LIMITS

FARTHEST = 3.0
"""Thicknesses that one slice carries beyond which it describes nothing (acquisition rule 15)."""
HAND_OVER = "hand the data over to a multislice engine: nightbeam analyse RUN --method ptychography --handover DIR"


def half_period_a(given: Given, options: PtychographyOptions, size: int) -> float:
    """Half-period that a slice has to carry [Å]: half the target, or what the cropped detector's edge carries."""
    if options.target_d_a is not None:
        return options.target_d_a / 2
    return optics.half_period_limit_a(given.beam_energy_kev, size / 2 * given.mrad_per_pixel)


def refuse(given: Given, options: PtychographyOptions, scan_shape: tuple[int, int], size: int) -> None:
    """Raise NotPossible where no single slice, no probe or no overlap in two directions is there."""
    if options.model == "multislice":
        raise NotPossible(f"Multislice ptychography is not computed here: {HAND_OVER}.")
    if given.defocus_nm is None:
        raise NotPossible("The defocus is not known, and with it the probe to begin from: calibrate it, or say it.")
    if min(scan_shape) < 3:
        raise NotPossible(
            f"A scan of {scan_shape[0]} x {scan_shape[1]} positions overlaps in one direction only: "
            "at least 3 rows and 3 columns are needed."
        )
    carried = optics.single_slice_thickness_a(given.beam_energy_kev, half_period_a(given, options, size))
    if given.thickness_nm is not None and 10 * given.thickness_nm > FARTHEST * carried:
        raise NotPossible(
            f"Too thick: {10 * given.thickness_nm:.3g} Å, while one slice carries {carried:.3g} Å "
            f"(5.2 h²/λ, half-period h = {half_period_a(given, options, size):.3g} Å) and nothing beyond "
            f"{FARTHEST:g} times that. Name a coarser target_d_a, or {HAND_OVER}."
        )


def doubts(given: Given, options: PtychographyOptions, size: int, electrons: float) -> Iterator[str]:
    """What the acquisition leaves to be desired, in words."""
    half = half_period_a(given, options, size)
    carried = optics.single_slice_thickness_a(given.beam_energy_kev, half)
    if given.thickness_nm is not None and 10 * given.thickness_nm > carried:
        yield (
            f"{10 * given.thickness_nm:.3g} Å are thicker than the {carried:.3g} Å that one slice carries at a "
            f"half-period of {half:.3g} Å"
        )
    if given.scan_rotation_deg is None:
        yield "nobody measured the rotation between scan and detector; 0 was taken"
    if given.mirrored is None:
        yield "nobody measured whether the detector is mirrored; that it is not was taken"
    diameter = probe_a(given)
    overlap = 100 * optics.linear_overlap(10 * max(given.scan_step_nm), diameter)
    if overlap < LIMITS["probe_overlap"].wanted:
        yield f"neighbouring probes overlap by {overlap:.0f} %, {LIMITS['probe_overlap'].wanted:g} are wanted"
    window = optics.window_a(given.beam_energy_kev, given.mrad_per_pixel) / diameter
    if window < LIMITS["window"].wanted:
        yield f"the window is {window:.2g} probe diameters wide, {LIMITS['window'].wanted:g} are wanted"
    if electrons < (least := LIMITS["electrons_per_pattern/ptychography"].wanted):
        yield f"{electrons:.3g} electrons in a pattern, {least:g} are wanted"


def probe_a(given: Given) -> float:
    """Diameter of the illuminated patch [Å]."""
    return optics.defocused_probe_diameter_a(
        given.beam_energy_kev, given.convergence_semi_angle_mrad, given.defocus_nm or 0.0
    )
