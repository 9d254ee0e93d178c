"""The dose ledger: an exposure is booked before it begins, and what it delivered is written when it has ended."""

import math
from dataclasses import dataclass

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from db.clock import Clock, utc_now
from db.models import Area, DoseEntry, ExposureIntent, Run, Sample
from db.rows import existing, inserted
from db.vocabulary import Purpose
from stem4d.errors import BadInput, DoseRefused

# Sums of many floats may miss a budget that they meet exactly on paper by their rounding, some 1e-16 for each term. A
# billionth covers millions of terms and is far below what any probe current is known to.
ROUNDING = 1e-9


@dataclass(frozen=True)
class AreaFluence:
    """The fluence account of an area [e/Å²]: `reserved` is what open intents may still deliver."""

    budget_e_per_a2: float
    delivered_e_per_a2: float
    reserved_e_per_a2: float

    @property
    def left_e_per_a2(self) -> float:
        """What may still be booked; negative if more was delivered than the budget allowed."""
        return self.budget_e_per_a2 - self.delivered_e_per_a2 - self.reserved_e_per_a2


def area_id(session: Session, *, sample: str, area: str) -> int | None:
    """Id of an area by its own name and its sample's; None where it was never used."""
    wanted = select(Area.id).join(Sample, Area.sample_id == Sample.id).where(Sample.name == sample, Area.name == area)
    return session.scalars(wanted).one_or_none()


_exposure, _entry = ExposureIntent.__table__.c, DoseEntry.__table__.c
_EXPOSURES = (
    select(_exposure.fluence_e_per_a2, _entry.delivered_e_per_a2)
    .outerjoin(DoseEntry.__table__, _entry.intent_id == _exposure.id)
    .where(_exposure.area_id == bindparam("area"))
)


_LOCKED = select(Area).where(Area.id == bindparam("area")).with_for_update()
_KNOWN = select(ExposureIntent).where(ExposureIntent.token == bindparam("token", type_=ExposureIntent.token.type))


def area_fluence(session: Session, *, area_id: int) -> AreaFluence:
    """The account of an area: delivered fluence of closed intents, intended fluence of open ones."""
    return fluence_of(session, existing(session, Area, area_id))


def fluence_of(session: Session, area: Area) -> AreaFluence:
    """As `area_fluence`, of an area that was read already."""
    # One statement, so one view: an intent closed by another session between two of them would be in neither. Summed
    # here and not in SQL: both databases then give the same figure, and a huge one gives infinity, not an error.
    exposures = session.execute(_EXPOSURES, {"area": area.id}).all()
    return AreaFluence(
        budget_e_per_a2=area.fluence_budget_e_per_a2,
        delivered_e_per_a2=sum((delivered for _, delivered in exposures if delivered is not None), start=0.0),
        reserved_e_per_a2=sum((intended for intended, delivered in exposures if delivered is None), start=0.0),
    )


def open_intent(
    session: Session,
    *,
    run_id: int,
    area_id: int,
    purpose: Purpose,
    token: str,
    fluence_e_per_a2: float,
    budget_tolerance: float = 0.0,
    happened: bool = False,
    owner_token: int | None = None,
    clock: Clock = utc_now,
) -> int:
    """Book an exposure of an area; to be committed before the beam is unblanked.

    Parameters
    ----------
    run_id, area_id : int
        Whose exposure it is, and of what.
    purpose : {"acquisition", "calibration", "survey", "focus"}
        All of them count against the same budget.
    token : str
        Unique name of this exposure. The same token with the same figures gives the same intent, so that a caller
        whose commit was not acknowledged may ask again.
    fluence_e_per_a2 : float
        The most that the exposure can deliver, [e/Å²].
    budget_tolerance : float
        Fraction of the budget by which it may be exceeded.
    happened : bool
        True for an exposure that was made while the database was away: it is booked, whatever budget and run say.
    owner_token : int or None
        Fencing token of the owner: the column's log that has it is the witness of this exposure.

    Returns
    -------
    int
        Id of the intent.

    Raises
    ------
    DoseRefused
        If delivered + reserved + this one > budget * (1 + tolerance); nothing was booked.
    BadInput
        If a figure is no fluence, the run has ended, or the token belongs to another exposure.
    """
    fluence = _checked("fluence_e_per_a2", fluence_e_per_a2)
    tolerance = _checked("budget_tolerance", budget_tolerance, unit="")
    # The lock makes the check and the insert one step on PostgreSQL; on SQLite the writer's transaction already is.
    area = session.scalars(_LOCKED, {"area": area_id}).one_or_none()
    run = existing(session, Run, run_id)
    if area is None:
        raise BadInput(field="area_id", value=area_id, limit="no such row in the database")
    known = session.scalars(_KNOWN, {"token": token}).one_or_none()
    if known is not None:
        if (known.run_id, known.area_id, known.purpose, known.fluence_e_per_a2) != (run_id, area_id, purpose, fluence):
            raise BadInput(field="token", value=token, limit="already belongs to another exposure")
        return known.id
    if run.state != "running" and not happened:
        raise BadInput(field=f"run {run.name}", value=run.state, limit="only a running run may expose")
    if not happened:
        account = fluence_of(session, area)
        spent = account.delivered_e_per_a2 + account.reserved_e_per_a2
        if spent + fluence > account.budget_e_per_a2 * (1 + tolerance) * (1 + ROUNDING):
            raise DoseRefused(_refusal(session, area, account, purpose, fluence, tolerance))
    return inserted(
        session,
        ExposureIntent,
        run_id=run_id,
        area_id=area_id,
        purpose=purpose,
        token=token,
        fluence_e_per_a2=fluence,
        opened=clock(),
        owner_token=owner_token,
    )


def close_intent(
    session: Session,
    *,
    intent_id: int,
    delivered_e_per_a2: float,
    electrons: float | None = None,
    reason: str = "",
    clock: Clock = utc_now,
) -> None:
    """Write what an exposure delivered and end its reservation.

    Parameters
    ----------
    intent_id : int
        From `open_intent`.
    delivered_e_per_a2 : float
        Delivered fluence [e/Å²]; it may be more than was intended, and is then booked in full.
    electrons : float or None
        Electrons on the specimen, if known.
    reason : str
        Why less was delivered than intended; needed in that case.

    Raises
    ------
    BadInput
        If less was delivered and no reason is given, or the intent was closed before with another figure.
    """
    delivered = _checked("delivered_e_per_a2", delivered_e_per_a2)
    counted = None if electrons is None else _checked("electrons", electrons, unit="e")
    intent = existing(session, ExposureIntent, intent_id)
    if delivered < intent.fluence_e_per_a2 and not reason:
        raise BadInput(
            field="delivered_e_per_a2",
            value=delivered,
            limit=f"less than the {intent.fluence_e_per_a2:g} e/Å² that were intended",
            unit="e/Å²",
            remedy="Say why, or book the intended fluence",
        )
    if intent.closed is not None:
        entry = session.scalars(select(DoseEntry).filter_by(intent_id=intent_id)).one()
        if entry.delivered_e_per_a2 != delivered:
            raise BadInput(
                field="delivered_e_per_a2",
                value=delivered,
                limit=f"this exposure was closed with {entry.delivered_e_per_a2:g} e/Å²",
                unit="e/Å²",
            )
        return
    intent.closed = clock()
    inserted(
        session,
        DoseEntry,
        intent_id=intent_id,
        area_id=intent.area_id,
        intended_e_per_a2=intent.fluence_e_per_a2,
        delivered_e_per_a2=delivered,
        electrons=counted,
        reason=reason or None,
        recorded=intent.closed,
    )


def _checked(field: str, value: float, unit: str = "e/Å²") -> float:
    if isinstance(value, bool) or not (math.isfinite(value) and value >= 0):
        raise BadInput(field=field, value=value, limit="a finite number, 0 or more", unit=unit)
    return float(value)


def _refusal(
    session: Session, area: Area, account: AreaFluence, purpose: Purpose, fluence: float, tolerance: float
) -> str:
    sample = existing(session, Sample, area.sample_id)
    allowed = f" (tolerance {tolerance:.3g} of it)" if tolerance else ""
    return (
        f"area {area.name} of sample {sample.name}: {purpose} needs {fluence:.6g} e/Å², and of its budget of "
        f"{account.budget_e_per_a2:.6g} e/Å²{allowed} {account.left_e_per_a2:.6g} e/Å² are left "
        f"({account.delivered_e_per_a2:.6g} delivered, {account.reserved_e_per_a2:.6g} reserved by open exposures). "
        "Lower the dose or choose another area"
    )
