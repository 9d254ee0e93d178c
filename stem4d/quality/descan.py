"""Descan: how far the pattern moves over the scan, against what each analysis bears (rule 21)."""

from math import hypot

import numpy as np

from stem4d.calibrate.descan import DescanFit, fit_descan
from stem4d.maps import RunMaps
from stem4d.optics import wavelength_a
from stem4d.quality.grade import grade, result
from stem4d.quality.regions import Subject, Wanted
from stem4d.rules.descan import Bearable, Movement, bearable
from stem4d.verdict import QualityResult, Verdict


def check_descan(maps: RunMaps, subject: Subject) -> tuple[QualityResult, ...]:
    """Judge the movement of the centre of mass over the field, for every wanted analysis.

    A limit stated in the policy is hard. The others warn: a movement that was mapped can be taken out in analysis;
    it fails only where the pattern leaves the detector or, for a virtual detector, its mask.
    """
    fit = fit_descan(maps.com_y_px, maps.com_x_px, maps.recorded, subject.known.scan_step_nm or 1.0)
    if not np.isfinite(fit.range_px):
        text = f"Descan is not known: {fit.reason}."
        return tuple(
            result("descan.range", each.name, Verdict.NOT_MEASURABLE, text, unit="px") for each in subject.wanted
        )
    return tuple(_judge(fit, subject, each) for each in subject.wanted)


def _judge(fit: DescanFit, subject: Subject, wanted: Wanted) -> QualityResult:
    found = _bearable(subject, wanted)
    text = _figures(fit, subject)
    if found is None:
        verdict, limit = Verdict.NOT_MEASURABLE, None
        text += f" What that means is not known: no bright-field disk was found ({subject.fit.reason})."
    else:
        soft, hard = (None if one is None else one * found.of_px for one in (found.limit.soft, found.limit.hard))
        gone = _off_detector_px(subject, wanted)
        hard = min((one for one in (hard, gone) if one is not None), default=None)
        verdict, limit = grade(fit.range_px, fit.range_uncertainty_px, soft=soft, hard=hard)
        text += f" Limit: {found.why}."
        if verdict in (Verdict.FAIL, Verdict.WARN):
            text += " Calibrate the descan in vacuum, or subtract the fitted plane where the analysis allows it."
    if not fit.ok and verdict is Verdict.PASS:
        verdict, text = Verdict.NOT_MEASURABLE, f"{text} Only partly known: {fit.reason}."
    return result(
        "descan.range",
        wanted.name,
        verdict,
        text,
        value=fit.range_px,
        limit=limit,
        unit="px",
        uncertainty=fit.range_uncertainty_px,
    )


def _figures(fit: DescanFit, subject: Subject) -> str:
    text = f"The pattern moves {fit.range_px:.3f} ± {fit.range_uncertainty_px:.3f} px over the field"
    if subject.mrad_per_pixel is not None:
        text += f" ({fit.range_px * subject.mrad_per_pixel:.3g} mrad)"
    return f"{text}; {fit.residual_rms_px:.3f} px rms are left about the plane."


def _off_detector_px(subject: Subject, wanted: Wanted) -> float | None:
    """Movement that takes the disk over the detector's edge; none for what does not look into it."""
    if subject.geometry is None or not wanted.uses_disk:
        return None
    room = subject.geometry.usable_px(subject.shape) - subject.geometry.radius_px
    # The field's middle sees half of the movement to each side; a disk already cut is the centring's to judge.
    return 2 * room if room > 0 else None


def _bearable(subject: Subject, wanted: Wanted) -> Bearable | None:
    plan = subject.plan
    edges = [edge for edge in (wanted.inner_px, wanted.outer_px) if 0 < edge < hypot(*subject.shape)]
    known = Movement(
        radius_px=subject.geometry.radius_px if subject.geometry is not None else None,
        mrad_per_pixel=subject.mrad_per_pixel,
        wavelength_a=wavelength_a(plan.optics.beam_energy_kev) if plan is not None else None,
        defocus_nm=plan.optics.defocus_nm if plan is not None else None,
        edges_px=edges,
    )
    return bearable(wanted.kind, wanted.asked, known, stated_px=subject.policy.max_descan_px)
