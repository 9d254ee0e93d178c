"""Saturation by place: whether pixels stood at full scale where an analysis looks (rule 6)."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps
from stem4d.quality.clipping import clipped_share
from stem4d.quality.grade import result
from stem4d.quality.regions import NEEDS_WHOLE_DISK, USES_BRAGG_DISKS, PatternGeometry, Subject, Wanted
from stem4d.verdict import QualityResult, Verdict

ROOM_FOR_DARK_FIELD = 0.1
"""Part of the detector that must lie clear of clipping for a dark-field image of a file without a plan."""


@dataclass(frozen=True)
class _Clipping:
    """Where a recording stood at full scale."""

    maps: RunMaps
    subject: Subject
    full_scale: int
    ever: Mask
    """Good pixels that stood at full scale in at least one frame."""

    def readings(self, ever: Mask) -> float:
        """Pixels at full scale a frame, on average, among some of those that ever were.

        From each pixel's own mean, scaled so that all pixels together give what was counted frame by frame.
        """
        if not ever.any():
            return 0.0
        share = np.maximum(clipped_share(self.maps.mean_pattern, self.full_scale), 1 / self.maps.frames)
        # The frame-by-frame count may have been made before the mask was known: take the bad pixels out of it.
        bad = (self.maps.max_pattern >= self.full_scale) & self.subject.bad_pixels
        counted = float(self.maps.saturated_px[self.maps.recorded].mean()) - float(share[bad].sum())
        scale = counted / float(share[self.ever].sum()) if counted > 0 else 1.0
        return float(np.minimum(share[ever] * scale, 1.0).sum())


def check_saturation(maps: RunMaps, subject: Subject) -> tuple[QualityResult, ...]:
    """Judge clipping for every wanted analysis.

    The value is the part of the pixels looked at that stood at full scale in at least one frame, from the maximum
    pattern, bad pixels left out. Above the policy's limit it fails where clipping was common, and warns where single
    frames reached full scale, so rarely that the part of all readings stays below the limit.
    """
    if maps.frames == 0:
        return tuple(_unknown(each, "no frame was recorded") for each in subject.wanted)
    if subject.full_scale is None:
        reason = "nobody knows the counter's full scale; state its bit depth"
        return tuple(_unknown(each, reason) for each in subject.wanted)
    clipping = _Clipping(maps, subject, subject.full_scale, clipped_pixels(maps, subject))
    return (*_whole(clipping), *(one for wanted in subject.wanted for one in _for_analysis(clipping, wanted)))


def clipped_pixels(maps: RunMaps, subject: Subject) -> Mask:
    """Good pixels (det_y, det_x) that stood at full scale in at least one frame; none where that is not known."""
    if subject.full_scale is None:
        return np.zeros(subject.shape, np.bool_)
    ever: Mask = (maps.max_pattern >= subject.full_scale) & ~subject.bad_pixels
    return ever


def _whole(clipping: _Clipping) -> Iterator[QualityResult]:
    """The figures of the whole detector, for information: the place decides, not the number."""
    good, number = int((~clipping.subject.bad_pixels).sum()), int(clipping.ever.sum())
    yield result(
        "saturation.anywhere",
        None,
        Verdict.PASS if good else Verdict.NOT_MEASURABLE,
        f"{number} of {good} pixels stood at full scale ({clipping.full_scale}) in at least one frame.",
        value=number / good if good else None,
    )
    counts = clipping.maps.saturated_px[clipping.maps.recorded]
    yield result(
        "saturation.per_frame",
        None,
        Verdict.PASS,
        f"{counts.min()} to {counts.max()} saturated pixels a frame, {counts.mean():.4g} on average; "
        f"{int((counts > 0).sum())} of {counts.size} frames have any.",
        value=float(counts.mean()),
        unit="px",
    )


def _for_analysis(clipping: _Clipping, wanted: Wanted) -> Iterator[QualityResult]:
    subject = clipping.subject
    if subject.geometry is None:
        number = int(clipping.ever.sum())
        if number:
            yield _unknown(wanted, f"{number} pixels are clipped, but there is no disk ({subject.fit.reason})")
        else:
            limit = subject.policy.max_saturated_fraction
            text = "No pixel reached full scale anywhere."
            yield result(_metric(wanted), wanted.name, Verdict.PASS, text, value=0.0, limit=limit)
    elif wanted.kind in NEEDS_WHOLE_DISK:
        yield _judge(clipping, wanted, subject.disk(), "the bright-field disk", "saturation.disk")
    elif wanted.kind in USES_BRAGG_DISKS:
        yield _judge(clipping, wanted, subject.beyond_disk(), "the pattern beyond the direct beam", "saturation.bragg")
        yield _judge(clipping, wanted, subject.disk(), "the direct beam", "saturation.disk", worst=Verdict.WARN)
    elif wanted.asked is None and not wanted.uses_disk:
        yield _any_dark_field(clipping, wanted, subject.geometry)
    else:
        region = subject.region(wanted.inner_px, wanted.outer_px)
        yield _judge(clipping, wanted, region, "this virtual detector", "saturation.mask")


def _judge(
    clipping: _Clipping, wanted: Wanted, region: Mask, place: str, metric: str, worst: Verdict = Verdict.FAIL
) -> QualityResult:
    looked_at = int(region.sum())
    if looked_at == 0:
        return _unknown(wanted, f"no good pixel is left in {place}: it is masked or off the detector", metric)
    subject, limit = clipping.subject, clipping.subject.policy.max_saturated_fraction
    ever = clipping.ever & region
    value, readings = int(ever.sum()) / looked_at, clipping.readings(ever)
    text = (
        f"{int(ever.sum())} of {looked_at} pixels in {place} stood at full scale ({clipping.full_scale}) "
        f"in at least one of {clipping.maps.frames} frames, about {readings:.4g} px a frame."
    )
    if value <= limit:
        verdict = Verdict.PASS
    elif readings <= limit * looked_at:
        verdict = Verdict.WARN
        text += " It was rare: look at the brightest frames before you quantify."
    else:
        verdict = worst
        text += " " + _advice(wanted, worst)
    return result(metric, wanted.name, verdict, text + subject.doubt, value=value, limit=limit)


def _advice(wanted: Wanted, worst: Verdict) -> str:
    if worst is Verdict.WARN:
        return "The direct beam's place is doubtful: take the origin from Friedel pairs of disks."
    if wanted.kind == "virtual":
        return "This image is too dark where the specimen is brightest: shorten the dwell or lower the current."
    if wanted.kind in USES_BRAGG_DISKS:
        return "A clipped disk has no sharp position: shorten the dwell or lower the current."
    return "What was clipped cannot be put back: shorten the dwell or lower the current, and take it again."


def _any_dark_field(clipping: _Clipping, wanted: Wanted, geometry: PatternGeometry) -> QualityResult:
    """A file has no planned annulus: say from which angle on a dark-field image is clear of clipping."""
    subject, limit = clipping.subject, clipping.subject.policy.max_saturated_fraction
    distance = geometry.distance_px(subject.shape)
    outside = subject.region(wanted.inner_px, inf)
    total = int(outside.sum())
    if total < ROOM_FOR_DARK_FIELD * outside.size:
        return _unknown(wanted, "the disk fills the detector, there is no dark field")
    ever = clipping.ever & outside
    value = int(ever.sum()) / total
    text = (
        f"{int(ever.sum())} of {total} pixels outside the disk (from {wanted.inner_px:.1f} px) were clipped in a frame."
    )
    if value <= limit:
        return result("saturation.mask", wanted.name, Verdict.PASS, text, value=value, limit=limit)
    inner = float(np.ceil(distance[ever].max())) + 1
    mrad = "" if subject.mrad_per_pixel is None else f" ({inner * subject.mrad_per_pixel:.1f} mrad)"
    text += f" From {inner:.0f} px{mrad} outward none was:"
    if (outside & (distance >= inner)).sum() < ROOM_FOR_DARK_FIELD * outside.size:
        verdict, text = Verdict.FAIL, f"{text} too little of the detector is left for a dark-field image."
    else:
        verdict, text = Verdict.WARN, f"{text} choose an inner angle beyond that."
    return result("saturation.mask", wanted.name, verdict, text, value=value, limit=limit)


def _metric(wanted: Wanted) -> str:
    if wanted.kind == "virtual":
        return "saturation.mask"
    return "saturation.bragg" if wanted.kind in USES_BRAGG_DISKS else "saturation.disk"


def _unknown(wanted: Wanted, reason: str, metric: str = "") -> QualityResult:
    text = f"Saturation is not known: {reason}."
    return result(metric or _metric(wanted), wanted.name, Verdict.NOT_MEASURABLE, text)
