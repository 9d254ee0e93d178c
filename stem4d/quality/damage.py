"""What the beam did to the specimen, from what its passes have in common and what not: fading, shrinkage, new features.

One pass alone cannot tell damage from the specimen: the verdict is then "not measurable".
"""

from collections.abc import Sequence
from math import hypot, sqrt

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from stem4d.calibrate.shift import white_noise
from stem4d.maps import RunMaps
from stem4d.predict import predict
from stem4d.quality.between import Between
from stem4d.quality.fading import Fading, critical_fluence, fit_common, fit_shares
from stem4d.quality.grade import DOUBT_SIGMAS, grade, result
from stem4d.quality.local_change import local_changes
from stem4d.quality.pass_images import Overlay, images_of
from stem4d.quality.regions import Subject
from stem4d.verdict import QualityResult, Verdict

Array = npt.NDArray[np.float64]

MOST_LOST = 0.1
"""Part of high-angle counts or of the power of fine detail that may be lost between the first pass and the last: a
tenth is what users of beam-sensitive specimens take for undamaged (habit)."""
CRITICAL_LOST = 1 - 1 / np.e
"""At the critical fluence, by its definition: later passes show another specimen (Egerton, Li and Malac 2004)."""
OPTIMUM = 2.5
"""Best exposure in critical fluences (Hayward and Glaeser 1979): more dose adds noise and no signal."""
MOST_AREA, AREA_FAILS = 0.02, 0.1
"""Change of the area: lengths by 1 % and by 5 %, as a scan step may be wrong without and with refinement."""
LARGEST_CHANGE = 9.0
"""Local change in standard deviations. Chance alone makes 4.4 among 1e5 places, and what a shrinking specimen leaves
beside its best fit up to 6, which passes."""
SPREAD_ERROR = 2.4
"""Relative standard error of the standard deviation itself, times the root of the positions it is taken from: of
smoothed white noise over half of fields of 16 to 64 positions each way."""
FINE = 0.5
"""Fine detail begins at this part of the Nyquist frequency of the scan."""


def check_damage(between: Between, subject: Subject) -> tuple[QualityResult, ...]:
    """Judge damage between the passes over one area.

    Parameters
    ----------
    between : Between
        The passes, compared by ``compare``.
    subject : Subject
        What is wanted and known.

    Returns
    -------
    tuple of QualityResult
        ``damage.decay`` of high-angle counts, ``damage.critical_fluence``, ``damage.detail`` of the images,
        ``damage.area`` of what the scan shows, ``damage.change`` in places. Of what cannot be compared the first alone.
    """
    if between.last is None:
        text = f"Damage is not known: {between.where}.{_hint(between.passes, subject)}"
        return (result("damage.decay", None, Verdict.NOT_MEASURABLE, text, limit=MOST_LOST),)
    return (
        _decay(between),
        _critical(between.fading, subject),
        _detail(between),
        _area(between.last),
        _change(between.last),
    )


def _decay(between: Between) -> QualityResult:
    fading, where = between.fading, between.where
    if fading is None:
        text = f"Damage is not known from high angles: {where}."
        return result("damage.decay", None, Verdict.NOT_MEASURABLE, text, limit=MOST_LOST)
    lost, error = fading.lost, fading.lost_uncertainty
    verdict, limit = grade(lost, error, soft=MOST_LOST, hard=CRITICAL_LOST)
    text = (
        f"Counts {where} fell by {lost:.1%} ± {error:.1%} between the first pass and the last, "
        f"as a share of all counts."
    )
    if verdict in (Verdict.WARN, Verdict.FAIL):
        text += " Lower the dose, use the first passes only, or weight them by dose."
    elif verdict is Verdict.NOT_MEASURABLE:
        text += f" That is too uncertain for the limit of {limit:.0%}: it takes more counts at high angles."
    return result("damage.decay", None, verdict, text, value=lost, limit=limit, uncertainty=error)


def _critical(fading: Fading | None, subject: Subject) -> QualityResult:
    """The critical fluence, and whether the budget lies beyond the best exposure."""
    name, unit = "damage.critical_fluence", "e/Å²"
    if fading is None or subject.plan is None:
        reason = "the dose of a pass is not known" if subject.plan is None else "no decay of high-angle counts is known"
        text = f"The critical fluence is not known: {reason}."
        return result(name, None, Verdict.NOT_MEASURABLE, text, unit=unit)
    budget = subject.plan.sample.fluence_budget_e_per_a2
    dose = predict(subject.plan).local_fluence_e_per_a2
    value, error, bound = critical_fluence(fading, dose, DOUBT_SIGMAS)
    ratio = budget / dose
    verdict, _ = grade(ratio * fading.rate, ratio * fading.rate_uncertainty, soft=OPTIMUM)
    limit = budget / OPTIMUM
    if value is None:
        text = f"High-angle counts do not surely decay: the critical fluence is above {bound:.3g} e/Å²."
    else:
        text = f"High-angle counts fall to 1/e within {value:.3g} ± {error:.2g} e/Å²."
    text += f" The budget of {budget:g} e/Å² asks for {limit:.3g} e/Å² or more: {OPTIMUM} critical fluences are best."
    if verdict is Verdict.WARN:
        text += " Lower the budget."
    return result(name, None, verdict, text, value=value, limit=limit, unit=unit, uncertainty=error)


def _detail(between: Between) -> QualityResult:
    """Loss of the images' fine detail, from the power that neighbouring passes have in common."""
    name, overlays = "damage.detail", between.overlays
    if len(between.passes) < 3:
        text = "Loss of fine detail is not known: it takes three passes to tell it from noise."
        return result(name, None, Verdict.NOT_MEASURABLE, text, limit=MOST_LOST)
    if any(one.reason and one.features for one in overlays):
        text = "Loss of fine detail is not known: the passes could not be laid over each other."
        return result(name, None, Verdict.NOT_MEASURABLE, text, limit=MOST_LOST)
    fading = fit_common(fine_detail(between), between.moments)
    if fading is None:
        text = "Loss of fine detail is not known: the passes have no fine detail in common."
        return result(name, None, Verdict.NOT_MEASURABLE, text, limit=MOST_LOST)
    lost, error = fading.lost, fading.lost_uncertainty
    verdict, limit = grade(lost, error, soft=MOST_LOST, hard=CRITICAL_LOST)
    text = (
        f"Fine detail (above {FINE:g} of the scan's Nyquist frequency) lost {lost:.1%} ± {error:.1%} of its power "
        f"between the first pass and the last."
    )
    return result(name, None, verdict, text, value=lost, limit=limit, uncertainty=error)


def fine_detail(between: Between) -> list[npt.NDArray[np.complex128]]:
    """Fine part of each pass's spectra, as the passes lie over the first."""
    shifts = [(0.0, 0.0), *(one.shift_px for one in between.overlays)]
    first = between.passes[0]
    return [_fine(one, first, shift) for one, shift in zip(between.passes, shifts, strict=True)]


def _fine(maps: RunMaps, first: RunMaps, shift_px: tuple[float, float]) -> npt.NDArray[np.complex128]:
    """Fine part of the spectra of all images, moved back, each in units of its noise."""
    seen = maps.recorded
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in seen.shape)) * seen
    ky, kx = np.meshgrid(*(fft.fftfreq(n) for n in seen.shape), indexing="ij")
    k = np.hypot(ky, kx)
    fine = (k >= FINE / 2) & (k <= 0.5) & ((ky > 0) | ((ky == 0) & (kx > 0)))
    turn = np.exp(2j * np.pi * (ky * shift_px[0] + kx * shift_px[1]))
    # Roots of counts go with the root of the current, centres of mass not at all.
    ours, theirs = float(maps.total[seen].mean()), float(first.total[first.recorded].mean())
    current = sqrt(theirs / ours) if ours > 0 else 1.0
    parts = []
    images, before = images_of(maps), images_of(first)
    for index, (image, old) in enumerate(zip(images, before, strict=True)):
        level = float((image * window).sum() / max(window.sum(), 1e-9))
        counts = index < len(images) - 2
        # Twice the root of counts has a noise of one already.
        noise = 1.0 if counts else white_noise(old, first.recorded)
        if noise > 0 and old[first.recorded].std() > 0:
            parts.append(fft.fft2((image - level) * window)[fine] * turn[fine] * (current if counts else 1.0) / noise)
    return np.concatenate(parts) if parts else np.zeros(0, np.complex128)


def _area(last: Overlay) -> QualityResult:
    if last.reason:
        text = f"A change of the specimen's size is not known: {last.reason}."
        return result("damage.area", None, Verdict.NOT_MEASURABLE, text, limit=MOST_AREA)
    change, error = last.area, last.area_uncertainty
    verdict, limit = grade(abs(change), error, soft=MOST_AREA, hard=AREA_FAILS)
    way = "shrank" if change < 0 else "grew"
    text = (
        f"What the last pass shows {way} by {abs(change):.2%} ± {error:.2%} of its area, by the fast axis alone "
        f"(the slow axis tells {(1 + last.stretch[0, 0]) ** 2 - 1:+.2%}, with the drift in it)."
    )
    return result("damage.area", None, verdict, text, value=abs(change), limit=limit, uncertainty=error)


def _change(last: Overlay) -> QualityResult:
    """The largest local change between the first pass and the last."""
    name, unit = "damage.change", "sigma"
    if last.reason and last.features:
        text = f"Local changes are not known: the passes could not be laid over each other ({last.reason})."
        return result(name, None, Verdict.NOT_MEASURABLE, text, limit=LARGEST_CHANGE, unit=unit)
    heights = local_changes(last)
    if heights is None:
        text = "Local changes are not known: the passes share too few positions."
        return result(name, None, Verdict.NOT_MEASURABLE, text, limit=LARGEST_CHANGE, unit=unit)
    top = float(heights.max())
    # What the spread's error makes of a height counts up to the limit: beyond it a change is none the less a change.
    error = hypot(1.0, SPREAD_ERROR * min(top, LARGEST_CHANGE) / sqrt(float(last.seen.sum())))
    verdict, limit = grade(top, error, soft=LARGEST_CHANGE)
    blobs = int(ndimage.label(heights > LARGEST_CHANGE)[1])
    y, x = (int(at) * last.positions for at in np.unravel_index(int(np.argmax(heights)), heights.shape))
    text = (
        f"The largest local change between the first pass and the last is {top:.1f} ± {error:.1f} standard deviations."
    )
    if verdict is Verdict.WARN:
        text += (
            f" {max(blobs, 1)} places changed, the strongest at position ({y}, {x}): look for bubbles, holes, or a "
            f"drift that brought in other places."
        )
    return result(name, None, verdict, text, value=top, limit=limit, unit=unit, uncertainty=error)


def _hint(passes: Sequence[RunMaps], subject: Subject) -> str:
    """What the one pass shows over its time, which the specimen may do as well."""
    image = passes[0].virtual.get("beyond_disk") if len(passes) == 1 else None
    if image is None or subject.geometry is None or image.shape[0] < 4:
        return ""
    seen = passes[0].recorded.all(axis=1)
    counts, totals = (part[seen].sum(axis=1).astype(np.float64) for part in (image, passes[0].total))
    if seen.sum() < 4 or not ((counts > 0) & (totals > 0)).all():
        return ""
    fading = fit_shares(counts, totals, np.linspace(0, 1, len(counts)))
    if fading is None or not abs(fading.rate) > DOUBT_SIGMAS * fading.rate_uncertainty:
        return ""
    way = "fell" if fading.lost > 0 else "rose"
    return (
        f" Over the scan the share of high-angle counts {way} by {abs(fading.lost):.0%}, "
        f"which the specimen does as well as damage."
    )
