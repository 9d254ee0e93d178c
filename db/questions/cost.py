"""What was predicted of a run or of a night, and what did it take: time, bytes and fluence?"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Run, Target
from db.questions.night import COSTS, cost_sums, night_row
from db.rows import named


def cost_of_run(session: Session, *, run: str) -> dict[str, Any]:
    """One run, as a line of `cost_of_night`; raises `BadInput` for an unknown one."""
    return _line(named(session, Run, run, "`nightbeam runs` lists them"), None)


def cost_of_night(session: Session, *, night: str | None = None) -> dict[str, Any]:
    """Every run of a night, the latest without a name, in the order of its targets, and their sums.

    Returns
    -------
    dict
        `night`; `runs`, each with `run`, `target`, `state`, and `predicted` and `actual` ``seconds``, ``bytes`` and
        ``fluence_e_per_a2``, None where not known; `targets` with `predicted_seconds` and `actual_seconds`, overheads
        and further attempts included; `sums` over the runs of which both are known, with their number.
    """
    row = night_row(session, name=night)
    found = session.execute(
        select(Run, Target.name)
        .join(Target, Run.target_id == Target.id)
        .where(Target.night_id == row.id)
        .order_by(Target.position, Run.id)
    )
    lines = [_line(run, target) for run, target in found]
    targets = session.execute(
        select(Target.name, Target.predicted_seconds, Target.actual_seconds)
        .filter_by(night_id=row.id)
        .order_by(Target.position)
    )
    return {
        "night": row.name,
        "runs": lines,
        "targets": [
            {"target": name, "predicted_seconds": predicted, "actual_seconds": actual}
            for name, predicted, actual in targets
        ],
        "sums": cost_sums(
            {cost: [(line["predicted"][cost], line["actual"][cost]) for line in lines] for cost in COSTS}
        ),
    }


def _line(run: Run, target: str | None) -> dict[str, Any]:
    return {
        "run": run.name,
        "target": target,
        "state": run.state,
        "predicted": {cost: getattr(run, f"predicted_{cost}") for cost in COSTS},
        "actual": {cost: getattr(run, f"actual_{cost}") for cost in COSTS},
    }
