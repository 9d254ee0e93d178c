"""Saturation by rate: how many electrons a second the brightest pixels had to count, against what they can (rule 6)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps
from stem4d.quality.grade import grade, result
from stem4d.quality.peaks import steady_peak
from stem4d.quality.regions import USES_BRAGG_DISKS, Subject, Wanted
from stem4d.rules.limits import LIMITS
from stem4d.verdict import QualityResult, Verdict

METRIC = "saturation.rate"
LOSS_AT_LIMIT = 0.1
"""Part of the counts that are lost at the rate which detector facts state."""
LARGEST_LOSS = 0.3
"""Loss beyond which nothing is put back (Knoll, Radiation Detection, 4th ed., ch. 4)."""
LOSS_ERROR = 0.2
"""Error of what is put back: rates of data sheets are good to a fifth (habit)."""
BRIGHTEST = 0.9
"""The rate is that of the region's pixel at this quantile: a tenth of them counts faster."""
BRIGHT_FRAMES = 3
"""A pixel on a specimen is bright in about one frame of so many; up to ten of it is the error (habit)."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Counting:
    """The peak counts of a frame in each pixel, and what the detector can count in that time."""

    mean: Array
    """Mean counts of a frame."""
    peak: Array
    error: Array
    clipped: Mask
    frames: int
    live_s: float
    limit_hz: float


def check_rate(maps: RunMaps, subject: Subject) -> Iterator[QualityResult]:
    """Judge the counting rate for every wanted analysis.

    The value is the rate that the brightest tenth of the pixels reached in single frames, from the largest count of
    each, which is taken for the largest of as many Poisson counts. Above the detector's limit more than a tenth of the
    electrons was not counted, and most of them where the pattern was brightest.
    """
    if reason := _not_known(maps, subject):
        yield result(METRIC, None, Verdict.NOT_MEASURABLE, f"The counting rate is not judged: {reason}.", unit="1/s")
        return
    counting = _counting(maps, subject)
    for wanted in subject.wanted:
        yield from _for_analysis(counting, subject, wanted)


def peak_rate_hz(maps: RunMaps, subject: Subject) -> Array | None:
    """Rate of each pixel in its brightest frames (det_y, det_x) [1/s], as it is judged; None where it is not."""
    if _not_known(maps, subject):
        return None
    counting = _counting(maps, subject)
    return np.asarray(counting.peak / counting.live_s)


def counts_put_back(passes: Sequence[RunMaps], subject: Subject) -> tuple[float, float]:
    """Electrons over counts of the whole pattern, by the detector's stated rate, and the error of that.

    Non-paralysable, n = m / (1 - m τ), with the τ that loses a tenth at the stated rate. 1 where nothing is known.
    """
    plan, facts = subject.plan, subject.detector
    frames = sum(maps.frames for maps in passes)
    if plan is None or facts is None or facts.integrates or frames == 0:
        return 1.0, 0.0
    whole: Array = np.stack([maps.sum_pattern for maps in passes]).sum(axis=0, dtype=np.float64)
    counts = whole[~subject.bad_pixels] / frames
    full = facts.max_count_rate_per_px_hz * plan.exposure.live_time_us * 1e-6 / LOSS_AT_LIMIT
    electrons = counts / (1 - np.minimum(counts / full, LARGEST_LOSS))
    factor = float(electrons.sum() / counts.sum()) if counts.sum() > 0 else 1.0
    return factor, LOSS_ERROR * (factor - 1)


def _not_known(maps: RunMaps, subject: Subject) -> str:
    if maps.frames == 0:
        return "no frame was recorded"
    if subject.plan is None and (subject.live_time_s is None or subject.max_count_rate_hz is None):
        return "it takes the time in which a frame counts and the rate at which the detector loses a tenth"
    if subject.plan is not None and subject.max_count_rate_hz is None:
        return f"nobody said at which rate {subject.plan.detector.name} loses counts"
    return ""


def _counting(maps: RunMaps, subject: Subject) -> _Counting:
    live_s, limit_hz = subject.live_time_s, subject.max_count_rate_hz
    assert live_s is not None
    assert limit_hz is not None
    good = ~subject.bad_pixels
    few, some, most = (
        _smooth(steady_peak(maps.max_pattern, maps.frames / part), good)
        for part in (BRIGHT_FRAMES**2, BRIGHT_FRAMES, 1)
    )
    mean = _smooth(maps.mean_pattern, good)
    clipped = np.zeros(good.shape, np.bool_)
    if subject.full_scale is not None:
        clipped = (maps.max_pattern >= subject.full_scale) & good
    return _Counting(
        mean=mean,
        peak=np.maximum(some, mean),
        error=(few - most) / 2,
        clipped=clipped,
        frames=maps.frames,
        live_s=live_s,
        limit_hz=limit_hz,
    )


def _smooth(values: npt.NDArray[np.floating], good: Mask) -> Array:
    """Mean of the good ones among nine pixels: the largest of many noisy ones is none to go by."""
    weight = ndimage.uniform_filter(good.astype(np.float64), 3, mode="constant")
    around = ndimage.uniform_filter(np.where(good, values, 0.0).astype(np.float64), 3, mode="constant")
    smooth: Array = np.divide(around, weight, out=np.zeros(good.shape), where=weight > 0.5 / 9)
    return smooth


def _for_analysis(counting: _Counting, subject: Subject, wanted: Wanted) -> Iterator[QualityResult]:
    if subject.geometry is None:
        text = f"The counting rate is not judged: there is no disk ({subject.fit.reason})."
        yield result(METRIC, wanted.name, Verdict.NOT_MEASURABLE, text, unit="1/s")
        return
    if wanted.kind in USES_BRAGG_DISKS:
        beyond = LIMITS["bragg_count_rate"]
        yield _judge(counting, subject, wanted, subject.beyond_disk(), "the brightest Bragg disk", hard=beyond.hard)
        soft = LIMITS[f"count_rate/{wanted.kind}"].soft
        yield _judge(counting, subject, wanted, subject.disk(), "the direct beam", soft=soft)
        return
    limit = LIMITS.get(f"count_rate/{wanted.kind}", LIMITS["count_rate/com"])
    region, place = (
        (subject.region(wanted.inner_px, wanted.outer_px), "this virtual detector")
        if wanted.kind == "virtual"
        else (subject.disk(), "the bright-field disk")
    )
    yield _judge(counting, subject, wanted, region, place, soft=limit.soft, hard=limit.hard)


def _judge(
    counting: _Counting,
    subject: Subject,
    wanted: Wanted,
    region: Mask,
    place: str,
    soft: float | None = None,
    hard: float | None = None,
) -> QualityResult:
    if not region.any():
        text = f"The counting rate in {place} is not known: no good pixel is left in it."
        return result(METRIC, wanted.name, Verdict.NOT_MEASURABLE, text, unit="1/s")
    level = np.quantile(counting.peak[region], BRIGHTEST) if wanted.kind not in USES_BRAGG_DISKS else None
    peak = float(counting.peak[region].max() if level is None else level)
    at = np.abs(np.where(region, counting.peak, np.inf) - peak).argmin()
    rate, limit_hz = peak / counting.live_s, counting.limit_hz
    # The counts that the peak comes from, over nine pixels, and what is not known of the specimen.
    error = sqrt(float(counting.error.flat[at]) ** 2 + peak / 9) / counting.live_s
    limits = {"soft": _times(soft, limit_hz), "hard": _times(hard, limit_hz)}
    verdict, limit = grade(rate, error, **limits)
    if verdict in (Verdict.WARN, Verdict.NOT_MEASURABLE):
        # Peaks of few counts are known badly; where the mean of all frames is beyond the limit that does not matter.
        mean = float(counting.mean.flat[at])
        sure, decided = grade(mean / counting.live_s, sqrt(mean / (9 * counting.frames)) / counting.live_s, **limits)
        if sure in (Verdict.WARN, Verdict.FAIL):
            verdict, limit = sure, decided
    text = f"The brightest pixels of {place} count {rate:.3g} ± {error:.2g} /s; a tenth is lost at {limit_hz:.3g} /s."
    if counting.clipped[region].mean() > 1 - BRIGHTEST:
        text += " It is a lower bound: they were clipped."
        if verdict is Verdict.PASS:
            verdict = Verdict.NOT_MEASURABLE
    elif verdict in (Verdict.WARN, Verdict.FAIL):
        text += " Lower the current or use a longer camera length: a shorter dwell does not change the rate."
    told = subject.known.max_count_rate_per_px_hz is not None
    if subject.detector is not None and not subject.detector.verified and not told:
        text += " That limit is not verified."
    return result(
        METRIC, wanted.name, verdict, text + subject.doubt, value=rate, limit=limit, unit="1/s", uncertainty=error
    )


def _times(part: float | None, of: float) -> float | None:
    return None if part is None else part * of
