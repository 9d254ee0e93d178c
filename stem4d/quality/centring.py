"""Centring: whether the disk is wholly recorded, how far off the middle, and the angle that leaves (rules 1 to 3)."""

from collections.abc import Iterator
from math import hypot

from stem4d import optics
from stem4d.calibrate.correction import offset_from_middle_px
from stem4d.calibrate.disk import DiskFit
from stem4d.maps import RunMaps
from stem4d.plan import Orientation, Ptychography, Strain
from stem4d.quality.grade import DOUBT_SIGMAS, PASS_SIGMAS, grade, result
from stem4d.quality.regions import NEEDS_WHOLE_DISK, Subject, Wanted
from stem4d.rules.limits import ANGLE_TOLERANCE, LIMITS
from stem4d.verdict import QualityResult, Verdict


def check_centring(maps: RunMaps, subject: Subject) -> tuple[QualityResult, ...]:
    """Judge where the disk lies.

    ``centring.offset`` is the distance of the disk's centre from the middle of the detector, per axis the larger;
    ``centring.margin`` the room between the disk and the detector's nearest edge, for what needs the whole disk;
    ``centring.max_angle`` the largest angle recorded on all sides against the one that an analysis needs.
    """
    if maps.frames == 0 or not subject.fit.ok or subject.geometry is None:
        reason = "no frame was recorded" if maps.frames == 0 else f"no disk was found ({subject.fit.reason})"
        text = f"Centring is not known: {reason}."
        return tuple(result("centring.offset", each.name, Verdict.NOT_MEASURABLE, text) for each in subject.wanted)
    usable_px = subject.geometry.usable_px(subject.shape)
    results = []
    for wanted in subject.wanted:
        if wanted.kind != "virtual":
            results.append(_offset(usable_px, subject, wanted))
        if wanted.kind in NEEDS_WHOLE_DISK or (wanted.kind == "virtual" and wanted.uses_disk):
            results.append(_margin(usable_px, subject.fit, wanted))
        results.extend(_angle(usable_px, subject, wanted))
    return tuple(results)


def _offset(usable_px: float, subject: Subject, wanted: Wanted) -> QualityResult:
    """A warning only: what the offset costs is in the angle and the margin."""
    half = min(subject.shape) / 2
    limit = (LIMITS["pattern_centred"].soft or 0.0) * half
    offset = offset_from_middle_px(subject.fit.centre_px, (subject.shape[0], subject.shape[1]))
    value, delta = max(abs(off) for off in offset), subject.mrad_per_pixel
    text = f"The pattern lies {offset[0]:+z.2f} px (y) and {offset[1]:+z.2f} px (x) off the middle"
    if delta is None:
        text += f"; {usable_px:.1f} of {half:.1f} px are left on all sides"
    else:
        text += f", {hypot(*offset) * delta:.2f} mrad; "
        text += f"{usable_px * delta:.1f} of {half * delta:.1f} mrad are left on all sides"
        if subject.known.beam_energy_kev is not None and usable_px > 0:
            period = optics.half_period_limit_a(subject.known.beam_energy_kev, usable_px * delta)
            text += f", a half-period of {period:.2f} Å"
    error = max(subject.fit.centre_uncertainty_px)
    verdict, _ = grade(value, error, soft=limit)
    text += ": centre it with the diffraction shift, it costs nothing." if verdict is Verdict.WARN else "."
    if verdict is Verdict.NOT_MEASURABLE:
        text += f" The centre is known to {error:.2g} px only."
    return result(
        "centring.offset",
        wanted.name,
        verdict,
        text,
        value=value,
        limit=limit,
        unit="px",
        uncertainty=error,
    )


def _margin(usable_px: float, fit: DiskFit, wanted: Wanted) -> QualityResult:
    margin, wished = usable_px - fit.radius_px, LIMITS["disk_on_detector"].wanted
    error = hypot(fit.radius_uncertainty_px, max(fit.centre_uncertainty_px))
    doubt = DOUBT_SIGMAS * error
    if margin - PASS_SIGMAS * error >= wished:
        verdict, text = Verdict.PASS, f"The disk is wholly on the detector, with {margin:.1f} px to spare."
    elif margin + doubt < 0:
        verdict = Verdict.FAIL
        text = f"The detector's edge cuts {-margin:.1f} px off the bright-field disk: centre it and take it again."
    elif margin + doubt >= wished and doubt > wished / 2:
        verdict = Verdict.NOT_MEASURABLE
        text = f"Some {margin:.1f} ± {error:.1f} px lie between the disk and the detector's edge: too vague to judge."
    else:
        verdict = Verdict.WARN
        text = f"Only {margin:.1f} px lie between the disk and the detector's edge: movement may cut it. Centre it."
    return result(
        "centring.margin", wanted.name, verdict, text, value=margin, limit=wished, unit="px", uncertainty=error
    )


def _angle(usable_px: float, subject: Subject, wanted: Wanted) -> Iterator[QualityResult]:
    need, what = _needed_mrad(subject, wanted)
    if need is None or subject.mrad_per_pixel is None:
        return
    usable = usable_px * subject.mrad_per_pixel
    error = max(subject.fit.centre_uncertainty_px) * subject.mrad_per_pixel
    least, doubt = need * (1 - ANGLE_TOLERANCE), DOUBT_SIGMAS * error
    if usable - PASS_SIGMAS * error >= least:
        verdict, text = Verdict.PASS, f"{usable:.1f} mrad are recorded on all sides; {what} needs {need:.1f} mrad."
    else:
        centred_px = min(subject.shape) / 2
        mend = "centre the pattern" if centred_px * subject.mrad_per_pixel >= least else "use a shorter camera length"
        verdict = Verdict.FAIL if usable + doubt < least else Verdict.WARN
        text = f"Only {usable:.1f} mrad are recorded on all sides; {what} needs {need:.1f} mrad: {mend}."
    yield result(
        "centring.max_angle", wanted.name, verdict, text, value=usable, limit=need, unit="mrad", uncertainty=error
    )


def _needed_mrad(subject: Subject, wanted: Wanted) -> tuple[float | None, str]:
    if wanted.kind == "virtual" and wanted.asked is not None and subject.mrad_per_pixel is not None:
        return wanted.outer_px * subject.mrad_per_pixel, "this virtual detector"
    if subject.known.beam_energy_kev is None:
        return None, ""
    wavelength = optics.wavelength_a(subject.known.beam_energy_kev)
    if isinstance(wanted.asked, Ptychography):
        return wavelength / wanted.asked.target_d_a * 1e3, f"a period of {wanted.asked.target_d_a:g} Å"
    if isinstance(wanted.asked, Strain | Orientation) and subject.known.convergence_semi_angle_mrad is not None:
        spacing = wanted.asked.reflection_d_a
        return wavelength / spacing * 1e3 + subject.known.convergence_semi_angle_mrad, f"the {spacing:g} Å reflection"
    return None, ""
