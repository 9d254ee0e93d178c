"""Exposures that were booked and whose end nobody wrote: the owner that knew it has died, or could not tell."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Area, ExposureIntent, Run


@dataclass(frozen=True)
class OpenIntent:
    """One of them."""

    id: int
    name: str
    """Public name of the exposure: run and file."""
    run: str
    run_id: int
    area: str
    fluence_e_per_a2: float
    opened: datetime
    owner_token: int | None


def open_intents(session: Session, *, instrument: str) -> tuple[OpenIntent, ...]:
    """Those of an instrument's runs that have ended, oldest first."""
    rows = session.execute(
        select(ExposureIntent, Run.name, Area.name)
        .join(Run, Run.id == ExposureIntent.run_id)
        .join(Area, Area.id == ExposureIntent.area_id)
        .where(Run.instrument == instrument, Run.state != "running", ExposureIntent.closed.is_(None))
        .order_by(ExposureIntent.id)
    )
    return tuple(
        OpenIntent(
            intent.id,
            intent.token,
            run,
            intent.run_id,
            area,
            intent.fluence_e_per_a2,
            intent.opened,
            intent.owner_token,
        )
        for intent, run, area in rows
    )
