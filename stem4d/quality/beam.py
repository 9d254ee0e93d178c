"""The beam during a run: dropouts, slow drift and flicker of its current, as far as the specimen lets them be seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, hypot, isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps
from stem4d.quality.dropouts import DROP_PART, Dropouts, find_dropouts
from stem4d.quality.grade import DOUBT_SIGMAS, grade, result
from stem4d.quality.row_factors import Factors, between_passes, within_pass
from stem4d.verdict import QualityResult, Verdict

MOST_LOST = 0.01
"""Part of the positions that may have had less than half of the beam: they are as good as missing (habit)."""
MOST_DRIFT = 0.05
"""Change of the current over the recording that totals still normalise without a second thought (habit)."""
MOST_FLICKER = 0.02
"""Rms change of the current from row to row: cold field emission has 1 to 5 % (lit.)."""
ROWS_ABOUT = 2
"""Rows above and below a stretch that tell its dark field."""
RISE_OF_LOSS = 0.2
"""Rise of the dark field over the counts that a stretch lost: what a specimen scatters over the edge of a detector leaves
at least as much within it (habit). Atoms make the dark field vary by much less."""
MOST_CLIPPED = 0.05
"""Part of the counts at full scale beyond which the totals no longer follow the current."""
TOLD = 5


@dataclass(frozen=True)
class _Seen:
    """One pass without its steady pixels, and the stretches that the beam dropped."""

    maps: RunMaps
    total: npt.NDArray[np.float64]
    dropouts: Dropouts
    scattered: int
    """Stretches that only scattered more: the specimen's."""
    clipped_part: float
    """Part of the counts in pixels at full scale, which do not follow the current."""
    rings: bool
    """Whether bright and dark field can be held against each other."""

    @property
    def steady(self) -> Mask:
        """Positions with their beam."""
        steady: Mask = self.maps.recorded & ~self.dropouts.affected & (self.total > 0)
        return steady


def check_beam(
    passes: Sequence[RunMaps],
    started_s: Sequence[float],
    pass_time_s: float | None,
    not_counted: Mask | None = None,
    electrons_per_count: tuple[float, float] = (1.0, 0.0),
) -> tuple[QualityResult, ...]:
    """Judge dropouts, drift and flicker of the current.

    Parameters
    ----------
    passes : sequence of RunMaps
        The passes over one area, in order.
    started_s : sequence of float
        When each began, on any one clock [s].
    pass_time_s : float or None
        How long a pass takes [s]; None where nobody knows.
    not_counted : ndarray of bool, shape (det_y, det_x), optional
        Steady pixels that the totals hold and no electron made.
    electrons_per_count : tuple of float
        What the counting rate cost, and its error; counts change by so much less than the current does.
    """
    seen = [_seen(maps, not_counted) for maps in passes]
    if not any(one.total.any() for one in seen):
        text = "The beam is not judged: not one electron was recorded."
        return tuple(
            result(metric, None, Verdict.NOT_MEASURABLE, text)
            for metric in ("beam.dropouts", "beam.drift", "beam.flicker")
        )
    if any(one.clipped_part > MOST_CLIPPED for one in seen):
        reason = "the totals do not follow the current, as part of the pattern was clipped"
        return (_dropouts(seen, reason), _unknown("beam.drift", reason), _unknown("beam.flicker", reason))
    return (_dropouts(seen), _drift(seen, started_s, pass_time_s, electrons_per_count), _flicker(seen))


def _seen(maps: RunMaps, not_counted: Mask | None) -> _Seen:
    beside = 0.0 if not_counted is None else float(maps.mean_pattern[not_counted].sum())
    total = np.where(maps.recorded, np.maximum(maps.total.astype(np.float64) - beside, 0.0), 0.0)
    found = find_dropouts(total, maps.recorded)
    rings = {"disk", "beyond_disk"} <= set(maps.virtual)
    kept = [stretch for stretch in found.stretches if not (rings and _scatters(maps, found, stretch))]
    beams = np.zeros(total.size, np.bool_)
    for first, end, _ in kept:
        beams[first:end] = True
    beam_only = beams.reshape(total.shape)
    ours = Dropouts(found.affected & beam_only, found.lost & beam_only, tuple(kept), found.smallest_part)
    clipped = _clipped_counts(maps, not_counted)
    clipped_part = min(clipped / float(total.sum()), 1.0) if total.any() else 0.0
    return _Seen(maps, total, ours, len(found.stretches) - len(kept), clipped_part, rings)


def _clipped_counts(maps: RunMaps, not_counted: Mask | None) -> float:
    """Counts of all frames in pixels at full scale, without those that are to be left out."""
    full = maps.full_scale or 0
    always = 0 if not_counted is None else int((not_counted & (maps.max_pattern >= full)).sum())
    return float(np.maximum(maps.saturated_px[maps.recorded].astype(np.float64) - always, 0).sum()) * full


def _scatters(maps: RunMaps, found: Dropouts, stretch: tuple[int, int, float]) -> bool:
    """Whether a stretch lost counts to scattering: the dark field then rises, which a current that falls cannot do.

    It is held against the same columns of the rows about it. That the dark field stays proves nothing: hot pixels and
    background stay too.
    """
    first, end, level = stretch
    height, columns = maps.scan_shape
    inside = np.zeros(height * columns, np.bool_)
    inside[first:end] = True
    within = inside.reshape(height, columns) & maps.recorded
    rows = np.arange(height)
    near = (rows >= first // columns - ROWS_ABOUT) & (rows <= (end - 1) // columns + ROWS_ABOUT)
    rest = near[:, None] & within.any(axis=0) & maps.recorded & ~found.affected
    # As many positions of each column as the stretch has.
    weight = within.sum(axis=0) / np.maximum(rest.sum(axis=0), 1)
    dark = maps.virtual["beyond_disk"].astype(np.float64)
    now = float(dark[within].sum())
    usual, usual_variance = (float((dark * rest * weight**power).sum()) for power in (1, 2))
    if not usual > 0 or not rest.any():
        return False
    counted = float(maps.total[within].sum())
    lost = counted * (1 - level) / max(level, 1e-3)
    return now - usual > max(DOUBT_SIGMAS * sqrt(now + usual_variance), RISE_OF_LOSS * lost)


def _dropouts(seen: Sequence[_Seen], hidden: str = "") -> QualityResult:
    positions = sum(int(one.maps.recorded.sum()) for one in seen)
    stretches = [stretch for one in seen for stretch in one.dropouts.stretches]
    affected = sum(int(one.dropouts.affected.sum()) for one in seen)
    lost = sum(int(one.dropouts.lost.sum()) for one in seen)
    smallest = max((one.dropouts.smallest_part for one in seen if isfinite(one.dropouts.smallest_part)), default=nan)
    columns = seen[0].maps.scan_shape[1]
    # A beam that is gone for one row has to show.
    frames = ceil(max(smallest, 0.0) ** 2) if isfinite(smallest) else 0
    scattered = sum(one.scattered for one in seen)
    if not stretches and hidden:
        return _unknown("beam.dropouts", hidden)
    if not stretches and not 0 < frames <= max(columns, 2):
        text = "Dropouts of the beam are not known: it takes more positions, or more counts in each."
        return result("beam.dropouts", None, Verdict.NOT_MEASURABLE, text)
    if not stretches:
        text, verdict = "The beam did not drop out.", Verdict.PASS
        text += f" A single frame that lost {max(smallest, DROP_PART):.0%} would be seen." if smallest < 1 else (
            f" It takes {frames} dark frames in a row to be seen."
        )
    else:
        verdict = Verdict.FAIL if lost > MOST_LOST * positions else Verdict.WARN
        told = ", ".join(
            f"frames {first} to {end - 1} at {level:.0%}" for first, end, level in sorted(stretches)[:TOLD]
        )
        more = f" and {len(stretches) - TOLD} more" if len(stretches) > TOLD else ""
        text = (
            f"The current fell in {len(stretches)} stretch(es) of {affected} positions, {lost} of them below half: "
            f"{told}{more}. A part of the specimen that fills whole rows looks the same. Look at the gun; take these "
            "positions out, or divide by the totals."
        )
    if scattered:
        text += f" {scattered} stretch(es) lost counts to scattering only: the specimen's."
    # Each end of a stretch is known to about a position.
    error = sqrt(2 * len(stretches)) / positions if positions else None
    return result(
        "beam.dropouts", None, verdict, text, value=affected / positions, limit=0.0, uncertainty=error
    )


def _drift(
    seen: Sequence[_Seen],
    started_s: Sequence[float],
    pass_time_s: float | None,
    electrons_per_count: tuple[float, float],
) -> QualityResult:
    steepness, doubt = electrons_per_count
    several = len(seen) > 1
    counted, spread = (
        _between(seen, started_s, pass_time_s) if several else within_pass(seen[0].total, seen[0].steady).line
    )
    change, error = counted * steepness, hypot(spread * steepness, counted * doubt)
    if not isfinite(change):
        return _unknown("beam.drift", "it takes four rows with counts")
    if several:
        text = f"The current changes by {change:+.1%} ± {error:.1%} over the recording, by the counts of the same places"
        verdict, limit = grade(abs(change), error, soft=MOST_DRIFT)
        text += ", by the current or by damage." if verdict is not Verdict.PASS else "."
    else:
        text = f"The counts change by {change:+.1%} ± {error:.1%} from the first row to the last."
        verdict, limit = grade(abs(change), error, soft=MOST_DRIFT)
        if verdict is Verdict.WARN and not _common(seen[0], counted, spread):
            verdict = Verdict.NOT_MEASURABLE
            text += " Whether the beam or the specimen changed cannot be told from one pass: take two."
        elif verdict is Verdict.WARN:
            text += " Bright and dark field change together, as with the current."
    if verdict is Verdict.WARN:
        text += " Divide by the totals; let the gun settle."
    return result("beam.drift", None, verdict, text, value=abs(change), limit=limit, uncertainty=error)


def _between(
    seen: Sequence[_Seen], started_s: Sequence[float], pass_time_s: float | None
) -> tuple[float, float]:
    """Change of the current from the first start to the last end, by places that all passes saw, and its error."""
    logs, errors = [], []
    first = seen[0]
    for one in seen[1:]:
        both = first.steady & one.steady
        before, after = float(first.total[both].sum()), float(one.total[both].sum())
        if not before > 0 or not after > 0:
            return nan, nan
        logs.append(np.log(after / before))
        errors.append(sqrt(1 / before + 1 / after))
    times = np.array(started_s[1:]) - started_s[0]
    slope = float((times * logs).sum() / (times**2).sum())
    misfit = np.array(logs) - slope * times
    scatter = float(np.sqrt((misfit**2).sum() / max(len(logs) - 1, 1)))
    error = max(max(errors), scatter) / float(np.sqrt((times**2).sum()))
    # Not rendered: pauses between the passes belong to the recording.
    whole_s = float(times[-1]) + (pass_time_s if pass_time_s is not None else float(np.diff(started_s).min()))
    return float(np.expm1(slope * whole_s)), error * whole_s


def _common(one: _Seen, change: float, error: float) -> bool:
    """Whether bright and dark field change by the same factor, and are known well enough to say so."""
    if not one.rings:
        return False
    bright, dark = (
        within_pass(one.maps.virtual[name].astype(np.float64), one.steady) for name in ("disk", "beyond_disk")
    )
    known = sqrt(bright.change_uncertainty**2 + dark.change_uncertainty**2 + error**2)
    if not isfinite(known) or known > abs(change) / 2:
        return False
    return abs(bright.change - dark.change) < max(2 * known, abs(change) / 4)


def _flicker(seen: Sequence[_Seen]) -> QualityResult:
    several = len(seen) > 1
    factors: Factors = (
        between_passes(seen[0].total, seen[1].total, seen[0].steady & seen[1].steady)
        if several
        else within_pass(seen[0].total, seen[0].steady)
    )
    if not isfinite(factors.flicker):
        return _unknown("beam.flicker", "it takes four rows with counts")
    verdict, limit = grade(factors.flicker, factors.flicker_uncertainty, soft=MOST_FLICKER)
    text = f"The counts of a row change by {factors.flicker:.2%} rms to the next beyond their noise."
    if verdict is Verdict.WARN and not several:
        verdict = Verdict.NOT_MEASURABLE
        text += " Whether the beam flickers or the specimen changes from row to row cannot be told from one pass."
    elif verdict is Verdict.WARN:
        text += " The beam flickers: divide by the totals, and look at the gun."
    return result(
        "beam.flicker",
        None,
        verdict,
        text,
        value=factors.flicker,
        limit=limit,
        uncertainty=factors.flicker_uncertainty,
    )


def _unknown(metric: str, reason: str) -> QualityResult:
    return result(metric, None, Verdict.NOT_MEASURABLE, f"{metric.split('.')[1].capitalize()} of the beam is not known: {reason}.")


