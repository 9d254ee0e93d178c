"""Calibrations that the data contradict, measured again before the next attempt."""

from collections.abc import Sequence

from stem4d.plan import Plan
from stem4d.quality.dose import MOST_OF_PLANNED
from stem4d.quality.grade import DOUBT_SIGMAS
from stem4d.quality.pixels import METRIC as MASK
from stem4d.quality.remedies.remedy import NoRemedy, Remedy, Situation
from stem4d.verdict import QualityResult, Verdict

ALIGNMENT = ("centre", "descan")
"""Measured in one vacuum scan: what moved the pattern may have moved either."""
REPLACED_BY: tuple[tuple[str, tuple[str, ...]], ...] = (("pixels.", ("pixel_mask",)),)
"""Metrics and the calibrations that they contradict, of those that a run measures by itself."""


def contradicted(one: QualityResult, descan_range_px: float) -> tuple[str, ...]:
    """Kinds of calibration that a figure of a run's data contradicts, whatever is done about it.

    ``descan_range_px`` is what the calibration itself says is left of the movement: no more than that is no news.
    """
    if one.metric == MASK and one.verdict is Verdict.WARN:
        return ("pixel_mask",)
    if one.metric == "descan.range" and one.verdict is Verdict.FAIL and one.value is not None:
        surely = one.value - DOUBT_SIGMAS * (one.uncertainty or 0.0)
        return ("descan",) if surely > descan_range_px else ()
    if one.metric == "dose.electrons" and one.verdict is Verdict.WARN and one.value and one.limit:
        # No specimen adds electrons: more than the calibrated beam holds is a beam that has changed.
        return ("current",) if one.value > MOST_OF_PLANNED * one.limit else ()
    return ()


def recentre(now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """The pattern shifted back to the middle of the detector, after a vacuum scan."""
    if not any(one.metric in ("centring.margin", "centring.offset") or off_centre(one, now.plan) for one in causes):
        return NoRemedy("it takes a shorter camera length, which is another plan")
    return _again("recentre", causes[0].metric, ALIGNMENT, "the pattern lies off the middle of the detector")


def correct_descan(_now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """Descan measured and corrected again."""
    return _again("correct_descan", causes[0].metric, ALIGNMENT, "the pattern moves over the field")


def replace_calibration(_now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """Another calibration that the data contradict, measured again."""
    metric = causes[0].metric
    kinds = next((kinds for prefix, kinds in REPLACED_BY if metric.startswith(prefix)), ())
    if not kinds:
        return NoRemedy(f"no calibration that a run measures by itself mends {metric}")
    return _again("replace_calibration", metric, kinds, f"the data contradict the calibration of {', '.join(kinds)}")


def off_centre(one: QualityResult, plan: Plan) -> bool:
    """Whether an angle is missing that a centred pattern would have."""
    centred = min(plan.detector.shape) / 2 * plan.mrad_per_pixel
    return one.metric == "centring.max_angle" and one.limit is not None and centred >= one.limit


def _again(action: str, cause: str, kinds: tuple[str, ...], what: str) -> Remedy:
    return Remedy.model_validate(
        {
            "action": action,
            "cause": cause,
            "withdraws": kinds,
            "reason": f"{what}: the calibration no longer holds and is made again before the next exposure",
            "cost": "a calibration in vacuum",
        }
    )
