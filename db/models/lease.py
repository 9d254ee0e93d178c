"""The tables of who owns an instrument, and owned it before, and of the sessions that ran something on it."""

from datetime import datetime

from sqlalchemy import CheckConstraint, UniqueConstraint
from sqlalchemy.orm import Mapped

from db.models.base import Base, Bytes, Id


class Lease(Base):
    """One owner's time with an instrument; the row with the highest token is the one that counts."""

    __tablename__ = "lease"

    id: Mapped[Id]
    instrument: Mapped[str]
    # Fencing: it only grows, and a device that has seen a higher one refuses this owner.
    token: Mapped[Bytes]
    owner: Mapped[str]
    host: Mapped[str]
    pid: Mapped[Bytes]
    # The number alone is given out again: see `storage.processes.ProcessMark.began`.
    process_began: Mapped[str]
    # These times are by the database's clock, which all hosts share.
    taken: Mapped[datetime]
    expires: Mapped[datetime]
    released: Mapped[datetime | None]
    ended_by: Mapped[str | None]

    __table_args__ = (
        # It serves the look for the newest, too, and makes two that take at one moment collide.
        UniqueConstraint("instrument", "token"),
        CheckConstraint("token >= 1", name="token"),
        CheckConstraint("expires >= taken", name="expires"),
        CheckConstraint("(released IS NULL) = (ended_by IS NULL)", name="released"),
    )


class InstrumentSession(Base):
    """One owner's time with an instrument in which something ran; when it ended stands in the lease of its token."""

    __tablename__ = "session"

    id: Mapped[Id]
    instrument: Mapped[str]
    owner_token: Mapped[Bytes]
    owner: Mapped[str]
    host: Mapped[str]
    began: Mapped[datetime]

    __table_args__ = (UniqueConstraint("instrument", "owner_token"),)
