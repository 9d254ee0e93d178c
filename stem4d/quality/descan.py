"""Descan: how far the pattern moves over the scan, against what each analysis bears (rule 21)."""

from dataclasses import dataclass
from math import hypot, inf

import numpy as np

from stem4d.calibrate.descan import DescanFit, fit_descan
from stem4d.maps import RunMaps
from stem4d.plan import CentreOfMass, TiltCorrected
from stem4d.quality.grade import grade, result
from stem4d.quality.regions import Subject, Wanted
from stem4d.rules.limits import LIMITS
from stem4d.verdict import QualityResult, Verdict

LEAST_ROOM = 0.05
"""A mask whose edge lies on the disk's edge still bears a movement of this part of the disk's radius (habit)."""


@dataclass(frozen=True)
class _Bearable:
    """Largest movement of the pattern that an analysis bears, peak to peak [px]."""

    limit_px: float
    why: str


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
    bearable = _bearable(subject, wanted)
    text = _figures(fit, subject)
    if bearable is None:
        verdict, limit = Verdict.NOT_MEASURABLE, None
        text += f" What that means is not known: no bright-field disk was found ({subject.fit.reason})."
    else:
        stated = subject.policy.max_descan_px is not None
        soft, hard = (None, bearable.limit_px) if stated else (bearable.limit_px, _off_detector_px(subject, wanted))
        verdict, limit = grade(fit.range_px, fit.range_uncertainty_px, soft=soft, hard=hard)
        text += f" Limit: {bearable.why}."
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


def _bearable(subject: Subject, wanted: Wanted) -> _Bearable | None:
    if subject.policy.max_descan_px is not None:
        return _Bearable(subject.policy.max_descan_px, "stated in the plan's quality policy")
    by_pixel = LIMITS["descan_residual/ptychography"].wanted
    whole_pixels = _Bearable(by_pixel, f"{by_pixel:g} px, unless the movement is modelled or mapped and removed")
    if isinstance(wanted.asked, CentreOfMass):
        smallest = wanted.asked.smallest_deflection_mrad
        if smallest is not None and subject.mrad_per_pixel is not None:
            part = LIMITS["descan_residual/com"].wanted
            return _Bearable(part * smallest / subject.mrad_per_pixel, f"{part:g} of the smallest deflection wanted")
    if isinstance(wanted.asked, TiltCorrected) and subject.plan is not None:
        blur_a = (subject.mrad_per_pixel or 0.0) * 1e-3 * abs(subject.plan.optics.defocus_nm) * 10
        bearable = max(by_pixel, wanted.asked.target_d_a / 2 / blur_a if blur_a > 0 else 0.0)
        return _Bearable(min(bearable, subject.plan.disk_radius_px), "tilts mixed by less than half the target period")
    if wanted.kind in ("strain", "orientation", "virtual"):
        return _by_disk(subject, wanted)
    return whole_pixels


def _by_disk(subject: Subject, wanted: Wanted) -> _Bearable | None:
    if subject.geometry is None:
        return None
    radius = subject.geometry.radius_px
    if wanted.kind != "virtual":
        part = LIMITS["descan_residual/strain"].wanted
        return _Bearable(part * radius, f"{part:g} of the disk's radius, the origin being found in each pattern")
    edges = [edge for edge in (wanted.inner_px, wanted.outer_px) if 0 < edge < hypot(*subject.shape)]
    room = min((abs(edge - radius) for edge in edges), default=inf)
    room = max(min(room, radius), LEAST_ROOM * radius)
    return _Bearable(2 * room, "the disk's edge must not cross the virtual detector's")
