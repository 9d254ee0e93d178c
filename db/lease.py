"""The lease of an instrument: one owner across hosts, with a fencing token that only grows.

A row expires by the database's clock. SQLite serves one host, PostgreSQL several; on one host the kernel's lock
(`devices.lease`) comes first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import Lease
from stem4d.errors import BadInput, InstrumentTaken
from storage.processes import ProcessMark, lives

LEASE_S = 120.0
"""How long a lease holds after it was renewed [s]: what another host waits for when the owner's has gone."""

ITS_OWNER = "its owner"
"""Who ended a lease that was given back."""

Now = Callable[[Session], datetime]
"""Gives the time by the database's clock."""
Lives = Callable[[ProcessMark], bool | None]
"""Whether a process is there; None where that cannot be told."""


@dataclass(frozen=True)
class Owner:
    """Who has an instrument, or had it last."""

    instrument: str
    token: int
    owner: str
    process: ProcessMark
    taken: datetime
    expires: datetime
    expired: bool
    """By the database's clock."""

    @property
    def words(self) -> str:
        """For a person."""
        since = f"{self.taken:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.owner}, process {self.process.pid} on {self.process.host}, since {since}"


def database_now(session: Session) -> datetime:
    """The time by the database's clock, as it is now and not at the transaction's beginning."""
    if session.get_bind().dialect.name == "sqlite":
        told = str(session.scalar(text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")))
        return datetime.fromisoformat(told).replace(tzinfo=UTC)
    told_at: datetime = session.scalars(select(func.clock_timestamp())).one()
    return told_at.astimezone(UTC)


def take(
    session: Session,
    *,
    instrument: str,
    owner: str,
    process: ProcessMark,
    lasts_s: float = LEASE_S,
    by_force: bool = False,
    lives: Lives = lives,
    now: Now = database_now,
) -> int:
    """Become the owner of an instrument; gives the fencing token, one above the last owner's.

    Parameters
    ----------
    instrument : str
        Its name.
    owner : str
        Who takes it, in words for others.
    process : ProcessMark
        The process that takes it.
    lasts_s : float
        When it expires unless it is renewed [s].
    by_force : bool
        Also from an owner whose lease holds, if its process is not known to live: a person has looked.
    lives : callable
        Tells whether the last owner's process is there: a dead one's lease ends at once.
    now : callable
        The database's clock.

    Raises
    ------
    BadInput
        While another owner's lease holds: who, on which host, since when, and how to take over.
    """
    last = _newest(session, instrument, lock=True)
    moment = now(session)
    if last is not None and last.released is None:
        there = lives(_process(last))
        if there or (there is None and last.expires > moment and not by_force):
            raise _held(_owner(last, moment), there=bool(there))
        last.released, last.ended_by = (
            moment,
            f"taken over by {owner}" + ("" if there is None else ", its process died"),
        )
    token = last.token + 1 if last is not None else 1
    row = Lease(
        instrument=instrument,
        token=token,
        owner=owner,
        host=process.host,
        pid=process.pid,
        process_began=process.began,
        taken=moment,
        expires=moment + timedelta(seconds=lasts_s),
    )
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        # PostgreSQL: somebody else took it between the look and this row, and has committed it.
        session.expire_all()
        other = _newest(session, instrument, lock=False)
        if other is None or other.token < token:
            raise
        raise _held(_owner(other, now(session)), there=True) from None
    return token


def renew(
    session: Session, *, instrument: str, token: int, lasts_s: float = LEASE_S, now: Now = database_now
) -> datetime:
    """Hold on to a lease; gives when it expires now. One that expired and that nobody has taken since goes on.

    Raises
    ------
    InstrumentTaken
        Where somebody else has taken the instrument: who, and since when.
    """
    row = _own(session, instrument, token)
    row.expires = max(row.expires, now(session) + timedelta(seconds=lasts_s))
    return row.expires


def raise_above(session: Session, *, instrument: str, token: int, seen: int) -> int:
    """Give an owner a token above one that the instrument has seen; gives it.

    An instrument remembers tokens that a new or restored database does not know.

    Raises
    ------
    InstrumentTaken
        Where somebody else has taken the instrument.
    """
    row = _own(session, instrument, token)
    row.token = max(row.token, seen + 1)
    return row.token


def release(session: Session, *, instrument: str, token: int, now: Now = database_now) -> None:
    """Give an instrument back; nothing is done where somebody else has taken it, or it was given back before."""
    row = session.scalars(select(Lease).filter_by(instrument=instrument, token=token).with_for_update()).one_or_none()
    if row is not None and row.released is None:
        row.released, row.ended_by = now(session), ITS_OWNER


def owner_before(session: Session, *, instrument: str, token: int) -> Owner | None:
    """Who had an instrument before an owner and did not give it back by itself; None where it was given back."""
    row = session.scalars(
        select(Lease).where(Lease.instrument == instrument, Lease.token < token).order_by(Lease.token.desc()).limit(1)
    ).one_or_none()
    return None if row is None or row.ended_by == ITS_OWNER else _owner(row, row.expires)


def owners(session: Session, *, now: Now = database_now) -> tuple[Owner, ...]:
    """Who has an instrument at the moment, an owner that expired and was not followed by another among them."""
    newest = select(Lease.instrument, func.max(Lease.token).label("token")).group_by(Lease.instrument).subquery()
    rows = session.scalars(
        select(Lease)
        .join(newest, (newest.c.instrument == Lease.instrument) & (newest.c.token == Lease.token))
        .where(Lease.released.is_(None))
        .order_by(Lease.instrument)
    ).all()
    moment = now(session) if rows else datetime.now(UTC)
    return tuple(_owner(row, moment) for row in rows)


def _own(session: Session, instrument: str, token: int) -> Lease:
    """The row of an owner that still is one."""
    row = _newest(session, instrument, lock=True)
    if row is None or row.token < token:
        raise InstrumentTaken(f"{instrument}: the database has no lease with token {token}; it is not the one it was")
    if row.token > token:
        raise InstrumentTaken(f"{instrument} was taken over by {_owner(row, row.taken).words}; stop here")
    if row.released is not None:
        raise InstrumentTaken(f"{instrument}: the lease with token {token} was ended by {row.ended_by}; stop here")
    return row


def _newest(session: Session, instrument: str, *, lock: bool) -> Lease | None:
    wanted = select(Lease).filter_by(instrument=instrument).order_by(Lease.token.desc()).limit(1)
    # SQLite's writers hold a lock on everything already.
    return session.scalars(
        (wanted.with_for_update() if lock else wanted).execution_options(populate_existing=True)
    ).one_or_none()


def _process(row: Lease) -> ProcessMark:
    return ProcessMark(row.host, row.pid, row.process_began)


def _owner(row: Lease, moment: datetime) -> Owner:
    expired = row.expires <= moment
    return Owner(row.instrument, row.token, row.owner, _process(row), row.taken, row.expires, expired)


def _held(one: Owner, *, there: bool) -> BadInput:
    if there:
        remedy = f"Wait for it to end, or stop it on {one.process.host}; the instrument is free then"
    else:
        remedy = (
            f"If it has ended, wait until {one.expires:%H:%M:%S} UTC, when its lease does; or see that its process "
            f"has ended and the beam is blanked, and run `nightbeam recover --take-over {one.instrument}`"
        )
    return BadInput(
        field="instrument",
        value=one.instrument,
        limit=f"one owner at a time; held by {one.words}",
        remedy=remedy,
    )
