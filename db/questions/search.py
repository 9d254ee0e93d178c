"""Where does a word stand? Specimens, plans, nights, targets, runs and calibrations by name and by why they ended."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Calibration, Night, Plan, Run, Sample, Target
from db.questions.fulltext import Kind, matching, words_of
from db.questions.plain import plain_value
from stem4d.errors import BadInput

LARGEST_PAGE = 300
BESIDE = 20
"""Of each kind but runs so many are shown, the newest."""


def search(session: Session, *, text: str, limit: int = 50, before: int | None = None) -> dict[str, Any]:
    """Everything whose words are those of a text, newest first; the last word may be the beginning of one.

    Returns
    -------
    dict
        `words` as they were looked for; `runs` (`name`, `state`, `exit_reason`, `started`), a page of at most ``limit``
        with `next_before`; and, on the first page, `samples`, `plans`, `nights`, `targets` and `calibrations`, at most
        20 of each.

    Raises
    ------
    BadInput
        For a text without words, or a page size beyond 1 to 300.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise BadInput(field="limit", value=limit, limit=f"1 to {LARGEST_PAGE} runs a page")
    ids = matching(session, "run", text, limit=limit + 1, before=before)
    page = ids[:limit]
    runs = session.execute(
        select(Run.name, Run.state, Run.exit_reason, Run.started).where(Run.id.in_(page)).order_by(Run.id.desc())
    )
    told: dict[str, Any] = {
        "words": words_of(text),
        "runs": [
            {"name": name, "state": state, "exit_reason": reason, "started": plain_value(started)}
            for name, state, reason, started in runs
        ],
        "next_before": page[-1] if len(ids) > limit else None,
    }
    if before is None:
        for kind, (plural, rows) in _BESIDE.items():
            found = matching(session, kind, text, limit=BESIDE)
            told[plural] = rows(session, found) if found else []
    return told


def _samples(session: Session, ids: list[int]) -> list[dict[str, Any]]:
    found = session.execute(select(Sample).where(Sample.id.in_(ids)).order_by(Sample.id.desc())).scalars()
    return [{"name": one.name, "registered": plain_value(one.registered)} for one in found]


def _plans(session: Session, ids: list[int]) -> list[dict[str, Any]]:
    found = session.execute(select(Plan.name, Plan.sha256).where(Plan.id.in_(ids)).order_by(Plan.id.desc()))
    return [{"name": name, "sha256": sha256} for name, sha256 in found]


def _nights(session: Session, ids: list[int]) -> list[dict[str, Any]]:
    found = session.execute(
        select(Night.name, Night.state, Night.exit_reason).where(Night.id.in_(ids)).order_by(Night.id.desc())
    )
    return [{"name": name, "state": state, "exit_reason": reason} for name, state, reason in found]


def _targets(session: Session, ids: list[int]) -> list[dict[str, Any]]:
    found = session.execute(
        select(Target.name, Target.state, Target.reason, Night.name)
        .join(Night, Target.night_id == Night.id)
        .where(Target.id.in_(ids))
        .order_by(Target.id.desc())
    )
    return [{"name": name, "state": state, "reason": reason, "night": night} for name, state, reason, night in found]


def _calibrations(session: Session, ids: list[int]) -> list[dict[str, Any]]:
    found = session.execute(select(Calibration).where(Calibration.id.in_(ids)).order_by(Calibration.id.desc()))
    return [
        {
            "id": one.id,
            "kind": one.kind,
            "instrument": one.instrument,
            "verdict": one.verdict,
            "reason": one.reason,
            "measured_at": plain_value(one.measured_at),
        }
        for one in found.scalars()
    ]


_BESIDE: dict[Kind, tuple[str, Callable[[Session, list[int]], list[dict[str, Any]]]]] = {
    "sample": ("samples", _samples),
    "plan": ("plans", _plans),
    "night": ("nights", _nights),
    "target": ("targets", _targets),
    "calibration": ("calibrations", _calibrations),
}
