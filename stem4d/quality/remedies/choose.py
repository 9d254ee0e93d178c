"""Which remedy: the table from metrics to actions, and the first of them that policy, dose, time and attempts allow."""

from collections.abc import Callable, Mapping, Sequence

from stem4d.dose import BUDGET_TOLERANCE
from stem4d.plan import Action
from stem4d.predict import predict
from stem4d.quality.remedies.area import spare_area, to_spare
from stem4d.quality.remedies.counts import reduce_current, reduce_dwell, split_passes
from stem4d.quality.remedies.leave import end_night, skip
from stem4d.quality.remedies.recalibrate import correct_descan, recentre, replace_calibration
from stem4d.quality.remedies.remedy import NoRemedy, Remedy, Situation, changed
from stem4d.quality.remedies.settle import settle
from stem4d.quality.remedies.track import track
from stem4d.verdict import QualityResult, Verdict

Try = Callable[[Situation, Sequence[QualityResult]], Remedy | NoRemedy]

ACTIONS: Mapping[Action, Try] = {
    "reduce_dwell": reduce_dwell,
    "reduce_current": reduce_current,
    "split_passes": split_passes,
    "recentre": recentre,
    "correct_descan": correct_descan,
    "replace_calibration": replace_calibration,
    "spare_area": spare_area,
    "settle": settle,
    "track": track,
    "end_night": end_night,
    "skip": skip,
}
LAST: tuple[Action, ...] = ("end_night", "skip")
"""What is done about anything, where it is allowed and nothing else mends it."""
TABLE: tuple[tuple[str, tuple[Action, ...]], ...] = (
    ("dose.fluence", ("spare_area",)),
    ("dose.electrons", ()),
    ("saturation.rate", ("reduce_current",)),
    ("saturation.", ("reduce_dwell", "reduce_current", "split_passes")),
    ("damage.", ("spare_area",)),
    ("contamination.", ("spare_area",)),
    ("descan.range", ("correct_descan",)),
    ("descan.strain", ("correct_descan",)),
    ("descan.", ()),
    ("centring.", ("recentre",)),
    ("drift.", ("split_passes", "track", "settle")),
    ("pixels.", ("replace_calibration",)),
    ("beam.", ("spare_area",)),
    ("frames.", ()),
)
"""Metrics by the beginning of their names, the worst first, and what may mend them. One failing figure is mended in an
attempt: the next attempt is judged again."""

NOT_MENDABLE = {
    "frames.missing": "frames were lost between detector and disk: that is for the machine, not for the plan",
    "dose.fluence": "the specimen has had more than its budget: no further exposure is allowed",
    "dose.electrons": "there was no beam: that is for the column, not for the plan",
    "descan.residual": "what is left of the movement is no plane: map it in vacuum and take it out in analysis",
    "dose.noise": "it takes more electrons, and more dose is not given without being asked",
}


def propose(now: Situation) -> Remedy | NoRemedy:
    """The remedy for the worst of what failed, the first in the policy's order that the area can bear.

    Where the area itself cannot bear another exposure and the policy allows it, the change is made on a spare area.
    """
    failed = [one for one in now.results if one.verdict is Verdict.FAIL]
    if not failed:
        return NoRemedy("nothing failed")
    prefix, candidates = next(
        ((prefix, actions) for prefix, actions in TABLE if any(one.metric.startswith(prefix) for one in failed)),
        (failed[0].metric, ()),
    )
    causes = [one for one in failed if one.metric.startswith(prefix)]
    policy = now.plan.quality.remedies
    reasons: list[str] = []
    if candidates and now.means.attempts_left < 1:
        reasons.append(f"all {now.plan.quality.max_attempts} attempts that the plan allows were made")
        candidates = ()
    for action in sorted((one for one in candidates if one in policy), key=policy.index):
        found = _bounded(now, ACTIONS[action](now, causes))
        if isinstance(found, Remedy):
            return found
        reasons.append(found.reason)
    for action in (one for one in LAST if one in policy):
        found = ACTIONS[action](now, causes)
        if isinstance(found, Remedy):
            return found.model_copy(update={"reason": "; ".join(reasons) or found.reason})
    for action in (one for one in candidates if one not in policy):
        if isinstance(found := _bounded(now, ACTIONS[action](now, causes)), Remedy):
            reasons.append(f"{action} would mend it, and the plan's policy does not allow that")
    metric = causes[0].metric
    known = NOT_MENDABLE.get(metric)
    return NoRemedy("; ".join([*([known] if known else []), *reasons]) or f"nothing is known to mend {metric}")


def _bounded(now: Situation, found: Remedy | NoRemedy) -> Remedy | NoRemedy:
    """A remedy with what it takes, where dose and time allow it."""
    if isinstance(found, NoRemedy):
        return found
    next_plan = predict(changed(now.plan, found))
    seconds = found.seconds + next_plan.total_time_s
    if seconds > now.means.seconds_left:
        return NoRemedy(
            f"{found.action} would mend it, but takes {seconds:.3g} s, and of the {now.plan.quality.max_mending_min:g} "
            f"min for mending {max(now.means.seconds_left, 0.0):.3g} s are left"
        )
    needed = found.fluence_e_per_a2 + next_plan.total_fluence_e_per_a2 * now.booked_ratio
    on_spare = any(isinstance(each.after, str) for each in found.changes)
    left = now.means.fluence_left_e_per_a2
    if not on_spare and needed > left * (1 + BUDGET_TOLERANCE):
        moved = to_spare(now, needed) if "spare_area" in now.plan.quality.remedies else NoRemedy("")
        if isinstance(moved, NoRemedy):
            why = f"; {moved.reason}" if now.plan.sample.spare_areas and moved.reason else ""
            return NoRemedy(
                f"{found.action} would mend it, but exposing again takes {needed:.4g} e/Å² and the area has "
                f"{max(left, 0.0):.4g} e/Å² left{why}"
            )
        found = found.model_copy(update={"changes": (moved, *found.changes)})
        on_spare = True
    of = "of what the spare area has left" if on_spare else f"of the {left:.4g} e/Å² that are left"
    update = {
        "fluence_e_per_a2": needed,
        "seconds": seconds,
        "cost": f"{found.cost}; {needed:.4g} {'e/Å² ' if on_spare else ''}{of}",
    }
    return found.model_copy(update=update)
