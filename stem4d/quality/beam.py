"""The beam during a run: whether its current dropped out, drifted or flickered."""

from collections.abc import Sequence
from math import ceil, isfinite, nan, sqrt

from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps
from stem4d.quality.beam_seen import Seen, seen_of
from stem4d.quality.current import judge_drift, judge_flicker, unknown
from stem4d.quality.dropouts import DROP_PART
from stem4d.quality.grade import result
from stem4d.verdict import QualityResult, Verdict

MOST_LOST = 0.01
"""Part of the positions that may have had less than half of the beam: they are as good as missing (habit)."""
MOST_CLIPPED = 0.05
"""Part of the counts at full scale beyond which the totals no longer follow the current."""
TOLD = 5


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
    seen = [seen_of(maps, not_counted) for maps in passes]
    if not any(one.total.any() for one in seen):
        text = "The beam is not judged: not one electron was recorded."
        return tuple(
            result(metric, None, Verdict.NOT_MEASURABLE, text)
            for metric in ("beam.dropouts", "beam.drift", "beam.flicker")
        )
    if any(one.clipped_part > MOST_CLIPPED for one in seen):
        reason = "the totals do not follow the current, as part of the pattern was clipped"
        return (_dropouts(seen, reason), unknown("beam.drift", reason), unknown("beam.flicker", reason))
    return (_dropouts(seen), judge_drift(seen, started_s, pass_time_s, electrons_per_count), judge_flicker(seen))


def _dropouts(seen: Sequence[Seen], hidden: str = "") -> QualityResult:
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
        return unknown("beam.dropouts", hidden)
    if not stretches and not 0 < frames <= max(columns, 2):
        text = "Dropouts of the beam are not known: it takes more positions, or more counts in each."
        return result("beam.dropouts", None, Verdict.NOT_MEASURABLE, text)
    if not stretches:
        text, verdict = "The beam did not drop out.", Verdict.PASS
        text += (
            f" A single frame that lost {max(smallest, DROP_PART):.0%} would be seen."
            if smallest < 1
            else (f" It takes {frames} dark frames in a row to be seen.")
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
    return result("beam.dropouts", None, verdict, text, value=affected / positions, limit=0.0, uncertainty=error)
