"""From a goal to a plan: what to set, what it costs, and what gives where nothing can answer the question."""

from stem4d.errors import BadInput
from stem4d.goal import Goal
from stem4d.instrument import InstrumentFacts
from stem4d.plan import Virtual
from stem4d.rules import check
from stem4d.rules.limits import RESERVE_BYTES
from stem4d.suggest.answer import Collision, Relaxation, Suggestion, TradePoint
from stem4d.suggest.curve import trade_off
from stem4d.suggest.notes import notes
from stem4d.suggest.relax import collision
from stem4d.suggest.search import Search

__all__ = ["Collision", "Relaxation", "Suggestion", "TradePoint", "suggest"]


def suggest(
    goal: Goal,
    instrument: InstrumentFacts,
    *,
    free_bytes: int | None = None,
    reserve_bytes: float = RESERVE_BYTES.value,
) -> Suggestion:
    """Propose parameters for a goal; the same goal gets the same answer.

    Parameters
    ----------
    goal : Goal
        What is to be learnt, and what may be spent.
    instrument : InstrumentFacts
        What the instrument has.
    free_bytes : int, optional
        Room for the data.
    reserve_bytes : float
        What of that room an acquisition leaves free: the setting ``disk_reserve_gb``, in bytes.

    Returns
    -------
    Suggestion
        The best plan found, or the nearest miss with what collides.

    Raises
    ------
    BadInput
        Where the goal names an energy or detector that the instrument has not, contradicts itself, or no combination
        of the instrument's settings keeps the disk on a detector.
    """
    _consistent(goal)
    search = Search(goal, instrument, free_bytes, reserve_bytes)
    best = search.best()
    if best is None:
        raise BadInput(
            field="field_nm",
            value=goal.field_nm,
            limit="no setting of the instrument gives a scan of it: too many positions, or no aperture and camera "
            "length keep the disk on a detector",
            remedy="Ask for a smaller field, a coarser target, or add camera lengths to the instrument file",
        )
    return Suggestion(
        goal=goal,
        feasible=not best.failing,
        plan=best.plan,
        check=check(best.plan, instrument, None, free_bytes, reserve_bytes=reserve_bytes),
        curve=trade_off(search),
        collision=collision(search, best) if best.failing else None,
        notes=notes(goal, instrument, best),
    )


def _consistent(goal: Goal) -> None:
    names = [each.name for wanted in goal.analyses if isinstance(wanted, Virtual) for each in wanted.detectors]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(field="analyses", value=", ".join(twice), limit="virtual detectors must have different names")
    for index, wanted in enumerate(goal.analyses):
        feature_nm = getattr(wanted, "smallest_feature_nm", None)
        if feature_nm is not None and feature_nm > min(goal.field_nm):
            raise BadInput(
                field=f"analyses.{index}.smallest_feature_nm",
                value=feature_nm,
                limit=f"larger than the field of view, {min(goal.field_nm):g}",
                unit="nm",
                remedy="Ask for a larger field_nm, or a smaller feature",
            )
        period_a = getattr(wanted, "target_d_a", None)
        if period_a is not None and period_a / 10 > min(goal.field_nm):
            raise BadInput(
                field=f"analyses.{index}.target_d_a",
                value=period_a,
                limit=f"longer than the field of view, {10 * min(goal.field_nm):g}",
                unit="Å",
                remedy="Ask for a larger field_nm, or a finer period",
            )
