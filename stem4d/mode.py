"""The settings that a calibration holds for, written so that the same settings always give the same text."""

from collections.abc import Iterable, Mapping
from math import isclose

from stem4d import optics
from stem4d.instrument import InstrumentFacts
from stem4d.plan import Plan

Setting = float | int | str | bool | tuple[float, ...]

DIGITS = 6
"""Significant digits of a number in a key: finer than any setting is kept, coarser than what arithmetic leaves."""
TOLD_BY_COLUMN = ("projector_mode", "condenser_mode", "gun_flashed_at", "beam_shift_nm", "magnification")
"""Settings that no plan states: they are in a key where the column reports a reading of that name."""


def mode_settings(
    plan: Plan, facts: InstrumentFacts | None = None, told: Mapping[str, Setting] | None = None
) -> dict[str, Setting]:
    """Every setting that any calibration may depend on.

    Parameters
    ----------
    plan : Plan
        Optics, scan, exposure and detector.
    facts : InstrumentFacts, optional
        Names the aperture, the spot and the detector's threshold where it knows them.
    told : mapping, optional
        What the column reports of itself by name; only ``TOLD_BY_COLUMN`` is looked at.
    """
    told, beam, detector = told or {}, plan.optics, plan.detector
    settings: dict[str, Setting] = {
        "beam_energy_kev": beam.beam_energy_kev,
        "convergence_semi_angle_mrad": beam.convergence_semi_angle_mrad,
        "camera_length_mm": beam.camera_length_mm,
        "defocus_nm": beam.defocus_nm,
        "probe_current_pa": beam.probe_current_pa,
        "field_nm": plan.scan.field_nm,
        "scan_rotation_deg": plan.scan.rotation_deg,
        "dwell_time_us": plan.exposure.dwell_time_us,
        "exposure_time_us": plan.exposure.live_time_us,
        "detector": detector.name,
        "detector_shape": detector.shape,
        "pixel_pitch_um": detector.pixel_pitch_um,
        "bit_depth": detector.bit_depth,
        "sample": plan.sample.name,
        "area": plan.sample.area,
    }
    settings |= {name: told[name] for name in TOLD_BY_COLUMN if name in told}
    return settings | _named_by(facts, plan)


def _named_by(facts: InstrumentFacts | None, plan: Plan) -> dict[str, Setting]:
    if facts is None:
        return {}
    named: dict[str, Setting] = {}
    for aperture in facts.apertures:
        if isclose(aperture.convergence_semi_angle_mrad, plan.optics.convergence_semi_angle_mrad, rel_tol=1e-6):
            named["aperture"] = aperture.name
    spot = facts.spot(plan.optics.probe_current_pa)
    if spot is not None:
        named["spot"] = spot.name
    detector = facts.detector(plan.detector.name)
    if detector is not None and detector.threshold_kev is not None:
        named["threshold_kev"] = detector.threshold_kev
    return named


def mode_key(settings: Mapping[str, Setting], names: Iterable[str]) -> str:
    """The key of some settings, in the order of ``names``; a setting that is not known is not in it.

    >>> mode_key({"camera_length_mm": 106.4, "field_nm": (2.56, 2.5600000000001)}, ("field_nm", "camera_length_mm"))
    'field_nm=(2.56, 2.56); camera_length_mm=106.4'
    """
    return "; ".join(f"{name}={_written(settings[name])}" for name in names if name in settings)


def _written(value: Setting) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(_written(each) for each in value)})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        # Adding zero turns -0.0 into 0.0.
        return f"{value + 0.0:.{DIGITS}g}"
    return value.replace(";", ",").replace("=", ":")


def nominal_mrad_per_pixel(plan: Plan) -> float:
    """Angle per pixel [mrad] from pitch and camera length alone, whatever the plan says was calibrated."""
    return optics.mrad_per_pixel(plan.detector.pixel_pitch_um, plan.optics.camera_length_mm)
