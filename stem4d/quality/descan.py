"""Descan: how far the pattern moves over the scan, against what each analysis bears (rule 21)."""

from collections.abc import Iterator
from math import hypot

import numpy as np

from stem4d.maps import RunMaps
from stem4d.optics import wavelength_a
from stem4d.plan import Strain
from stem4d.quality.grade import DOUBT_SIGMAS, grade, result
from stem4d.quality.movement import Moved, movement_of
from stem4d.quality.regions import Subject, Wanted
from stem4d.rules.descan import Bearable, Movement, bearable
from stem4d.rules.limits import LIMITS
from stem4d.verdict import QualityResult, Verdict

CUT_FOLLOWS = 0.15
"""Relative standard error of the movement of a disk that the detector's edge cuts: cut by an eighth of its radius, its
centre of mass follows across the edge by three quarters, cut by a third by two thirds."""
RMS_SPAN = 4.0
"""Peak to peak over rms of what is left: between 2.8 of a sine and 5 of a residue with tails (habit)."""


def check_descan(maps: RunMaps, subject: Subject) -> tuple[QualityResult, ...]:
    """Judge the movement of the centre of mass over the field, for every wanted analysis.

    ``descan.range`` is the largest distance between two places of the pattern, by a plane or, where the data show
    one, a quadratic surface. A limit stated in the policy is hard. The others warn: a movement that was mapped can be
    taken out in analysis; it fails only where the pattern leaves the detector or, for a virtual detector, its mask.
    ``descan.strain`` is the strain that it would fake with one origin for all patterns, where a plan wants strain.
    ``descan.residual`` is what neither the model nor noise explains: movement of another shape, or the specimen's own
    deflections, which centres of mass cannot tell apart.
    """
    moved = movement_of(maps, subject.known.scan_step_nm)
    if not np.isfinite(moved.range_px):
        text = f"Descan is not known: {moved.reason}."
        return tuple(
            result("descan.range", each.name, Verdict.NOT_MEASURABLE, text, unit="px") for each in subject.wanted
        )
    ranges = [_judge(moved, subject, each) for each in subject.wanted]
    strains = [one for each in subject.wanted for one in _strain(moved, subject, each)]
    return (*ranges, *strains, *_residual(moved, [one.limit for one in ranges if one.limit is not None]))


def furthest_px(results: tuple[QualityResult, ...]) -> float:
    """How far the pattern moves by the results of one pass [px]; 0 where nobody knows."""
    return max((one.value or 0.0 for one in results if one.metric == "descan.range"), default=0.0)


def _judge(moved: Moved, subject: Subject, wanted: Wanted) -> QualityResult:
    found, error = _bearable(subject, wanted), moved.range_uncertainty_px
    text = _figures(moved, subject)
    if found is None:
        verdict, limit = Verdict.NOT_MEASURABLE, None
        text += f" What that means is not known: no bright-field disk was found ({subject.fit.reason})."
    else:
        soft, hard = (None if one is None else one * found.of_px for one in (found.limit.soft, found.limit.hard))
        gone = _off_detector_px(subject, wanted)
        hard = min((one for one in (hard, gone) if one is not None), default=None)
        verdict, limit = grade(moved.range_px, moved.range_uncertainty_px, soft=soft, hard=hard)
        if _cut(subject) and not _surely(moved, limit):
            # The disk moves at least so far; how much further is what is not known.
            error = hypot(error, CUT_FOLLOWS * moved.range_px)
            verdict, limit = grade(moved.range_px, error, soft=soft, hard=hard)
        text += f" Limit: {found.why}."
        if verdict in (Verdict.FAIL, Verdict.WARN):
            model = "surface" if moved.curved else "plane"
            text += f" Calibrate the descan in vacuum, or subtract the fitted {model} where the analysis allows it."
    if verdict is Verdict.PASS and (doubt := moved.reason or _cut(subject)):
        verdict, text = Verdict.NOT_MEASURABLE, f"{text} Only partly known: {doubt}."
    return result(
        "descan.range",
        wanted.name,
        verdict,
        text,
        value=moved.range_px,
        limit=limit,
        unit="px",
        uncertainty=error,
    )


def _surely(moved: Moved, limit: float | None) -> bool:
    """Whether the movement surely exceeds a limit."""
    return limit is not None and moved.range_px - DOUBT_SIGMAS * moved.range_uncertainty_px > limit


def _cut(subject: Subject) -> str:
    """Why the centres of mass move less than the disk, in words; empty where they do not."""
    if subject.geometry is None:
        return ""
    room_px = subject.geometry.usable_px(subject.shape) - subject.geometry.radius_px
    return "the detector's edge cuts the disk, whose centre of mass moves less than it" if room_px < 0 else ""


def _strain(moved: Moved, subject: Subject, wanted: Wanted) -> Iterator[QualityResult]:
    """Strain that the movement fakes at the wanted reflection, if one origin serves all patterns."""
    asked, delta = wanted.asked, subject.mrad_per_pixel
    if not isinstance(asked, Strain) or delta is None or subject.known.beam_energy_kev is None:
        return
    reflection_px = wavelength_a(subject.known.beam_energy_kev) / asked.reflection_d_a * 1e3 / delta
    value, error = moved.range_px / reflection_px, moved.range_uncertainty_px / reflection_px
    text = f"With one origin for all patterns the movement would fake a strain of {value:.2e} ± {error:.1e}"
    text += f" over the field at the {asked.reflection_d_a:g} Å reflection ({reflection_px:.1f} px)"
    if asked.origin == "per_pattern":
        verdict, limit = (Verdict.PASS if moved.ok else Verdict.NOT_MEASURABLE), None
        text += "; the origin is to be found in each pattern, which takes it out."
    else:
        most = LIMITS["descan_residual/fixed"].wanted * asked.target_strain
        verdict, limit = grade(value, error, hard=most)
        if verdict is Verdict.PASS and (moved.reason or _cut(subject)):
            verdict = Verdict.NOT_MEASURABLE
        text += f". Limit: {LIMITS['descan_residual/fixed'].wanted:g} of the target strain."
    yield result("descan.strain", wanted.name, verdict, text, value=value, limit=limit, uncertainty=error)


def _residual(moved: Moved, limits: list[float]) -> Iterator[QualityResult]:
    """Never an alarm: deflections of a specimen are no fault."""
    beyond, limit = moved.beyond_model_px, min(limits, default=None)
    model = "surface" if moved.curved else "plane"
    if beyond is None or limit is None:
        why = "too few positions show what a surface leaves" if beyond is None else "no limit is known"
        yield result("descan.residual", None, Verdict.NOT_MEASURABLE, f"Not judged: {why}.", value=beyond, unit="px")
        return
    # Rms against a limit from peak to peak: a smooth residue of this rms spans about four of it.
    verdict = Verdict.PASS if RMS_SPAN * beyond <= limit else Verdict.NOT_MEASURABLE
    text = f"{beyond:.3f} px rms beyond noise are left about the {model}"
    if verdict is Verdict.PASS:
        text += ": taking it off corrects the descan."
    else:
        text += ": movement of another shape, or the specimen's own deflections. A scan in vacuum tells them apart."
    yield result("descan.residual", None, verdict, text, value=beyond, limit=limit / RMS_SPAN, unit="px")


def _figures(moved: Moved, subject: Subject) -> str:
    text = f"The pattern moves {moved.range_px:.3f} ± {moved.range_uncertainty_px:.3f} px over the field"
    if subject.mrad_per_pixel is not None:
        text += f" ({moved.range_px * subject.mrad_per_pixel:.3g} mrad)"
    if moved.curved:
        text += ", along a curve"
    return f"{text}; {moved.residual_rms_px:.3f} px rms are left about the {'surface' if moved.curved else 'plane'}."


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
