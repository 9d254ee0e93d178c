"""Why did a night end, and what became of the targets that it did not finish?"""

from collections import Counter
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Event, Night, Target
from db.questions.night import night_row
from db.questions.plain import plain, plain_rows

GOT = ("done", "mended")
LAST_EVENTS = 10


def why_stopped(session: Session, *, night: str | None = None) -> dict[str, Any]:
    """The end of a night by its public name, of the latest without one; raises `BadInput` if there is none.

    Returns
    -------
    dict
        `night`, `state`, `exit_reason`, `started`, `ended`, `counts` of targets by state, `not_got`: the targets that
        are neither done nor mended, in their order, each with `name`, `state`, `reason`, `broken_off` and whether that
        was expected; `last_events`: the last ten that belong to no run and tell of no target.
    """
    row: Night = night_row(session, name=night)
    targets = session.scalars(select(Target).filter_by(night_id=row.id).order_by(Target.position)).all()
    events = session.scalars(
        select(Event)
        .filter_by(night_id=row.id, run_id=None)
        # What became of the targets stands above.
        .where(Event.kind != "target_state")
        .order_by(Event.sequence.desc())
        .limit(LAST_EVENTS)
    )
    return {
        "night": row.name,
        **plain(row, "id", "name", "sha256", "canonical_json"),
        "counts": dict(Counter(one.state for one in targets)),
        "not_got": [
            {
                "name": one.name,
                "state": one.state,
                "reason": one.reason,
                "broken_off": bool(one.broken_off),
                "as_expected": None if one.expected_state is None else one.state == one.expected_state,
            }
            for one in targets
            if one.state not in GOT
        ],
        "last_events": plain_rows(list(events)[::-1], "night_id", "run_id", "data"),
    }
