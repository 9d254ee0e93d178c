"""When did the software change, and which run was the first with it?"""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from db.models import Run, SoftwareEnvironment
from db.questions.plain import plain_value
from stem4d.errors import BadInput

LARGEST_PAGE = 300


def software_changes(session: Session, *, limit: int = 20, before: int | None = None) -> dict[str, Any]:
    """Software environments, newest first, each with its first run and what differs from the one before it.

    Returns
    -------
    dict
        `environments`, each with `id`, `python`, `code_revision`, `first_run`, `first_started` (None where no run used
        it) and `changed`: names of packages with the versions `from` and `to`; `next_before` for the next page.

    Raises
    ------
    BadInput
        For a page size beyond 1 to 300.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise BadInput(field="limit", value=limit, limit=f"1 to {LARGEST_PAGE} environments a page")
    used = aliased(Run)
    first = (
        select(func.min(used.id))
        .where(used.environment_id == SoftwareEnvironment.id)
        .correlate(SoftwareEnvironment)
        .scalar_subquery()
    )
    wanted = (
        select(SoftwareEnvironment, Run.name, Run.started)
        .outerjoin(Run, Run.id == first)
        .order_by(SoftwareEnvironment.id.desc())
        .limit(limit + 1)
    )
    if before is not None:
        wanted = wanted.where(SoftwareEnvironment.id < before)
    found = session.execute(wanted).all()
    # One more than the page, so that its last one has what came before it.
    older = [row[0] for row in found[1:]] + [None] * (1 if len(found) <= limit else 0)
    page = [
        {
            "id": one.id,
            "python": one.python,
            "code_revision": one.code_revision,
            "first_run": run,
            "first_started": plain_value(started),
            "changed": {} if previous is None else _changed(previous, one),
        }
        for (one, run, started), previous in zip(found[:limit], older, strict=False)
    ]
    return {"environments": page, "next_before": page[-1]["id"] if len(found) > limit else None}


def software_of(one: SoftwareEnvironment) -> dict[str, str]:
    """Versions by name, those of drivers as ``driver NAME``."""
    drivers = {f"driver {name}": release for name, release in (one.drivers or {}).items()}
    return {"python": one.python, "code_revision": one.code_revision, **one.packages, **drivers}


def _changed(old: SoftwareEnvironment, new: SoftwareEnvironment) -> dict[str, dict[str, str | None]]:
    facts = [software_of(one) for one in (old, new)]
    return {
        name: {"from": facts[0].get(name), "to": facts[1].get(name)}
        for name in sorted({*facts[0], *facts[1]})
        if facts[0].get(name) != facts[1].get(name)
    }
