"""What did a specimen receive? Its areas with their budgets, what was delivered, and in how many runs."""

from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from db.models import Area, DoseEntry, ExposureIntent, Run, Sample
from db.rows import named


def sample_dose(session: Session, *, sample: str) -> dict[str, Any]:
    """Every area of a specimen, in the order of registration; raises `BadInput` for an unknown specimen.

    Returns
    -------
    dict
        `sample`, `registered` and `areas`, each with `name`, `fluence_budget_e_per_a2`, `delivered_e_per_a2`,
        `reserved_e_per_a2` (booked by exposures that are not closed), `left_e_per_a2` (below zero where more was given)
        and `runs` on it.
    """
    row = named(session, Sample, sample, "`nightbeam runs` lists the specimens with their runs")
    given = (
        select(
            ExposureIntent.area_id,
            func.sum(func.coalesce(DoseEntry.delivered_e_per_a2, 0.0)).label("delivered"),
            func.sum(case((DoseEntry.id.is_(None), ExposureIntent.fluence_e_per_a2), else_=0.0)).label("reserved"),
        )
        .outerjoin(DoseEntry, DoseEntry.intent_id == ExposureIntent.id)
        .where(ExposureIntent.area_id.in_(select(Area.id).filter_by(sample_id=row.id)))
        .group_by(ExposureIntent.area_id)
        .subquery()
    )
    ran = select(func.count(Run.id)).where(Run.area_id == Area.id).scalar_subquery()
    found = session.execute(
        select(Area, given.c.delivered, given.c.reserved, ran)
        .outerjoin(given, given.c.area_id == Area.id)
        .where(Area.sample_id == row.id)
        .order_by(Area.id)
    )
    areas = []
    for area, delivered, reserved, runs in found:
        spent, booked = float(delivered or 0.0), float(reserved or 0.0)
        areas.append(
            {
                "name": area.name,
                "fluence_budget_e_per_a2": area.fluence_budget_e_per_a2,
                "delivered_e_per_a2": spent,
                "reserved_e_per_a2": booked,
                "left_e_per_a2": area.fluence_budget_e_per_a2 - spent - booked,
                "runs": runs,
            }
        )
    return {"sample": row.name, "registered": row.registered.isoformat(), "areas": areas}
