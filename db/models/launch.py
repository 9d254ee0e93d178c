"""The table of what was started by Prefect: each thing that asked, once, with the process that took it up."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped

from db.models.base import Base, Bytes, Id
from db.vocabulary import LaunchState, is_one_of


class Launch(Base):
    """One start of a deployed flow, by what asked for it; the same is not done twice however often it is asked."""

    __tablename__ = "launch"

    id: Mapped[Id]
    # What asked: a file, an event, a webhook, a run, a schedule, a person; and its own name for this one time.
    source: Mapped[str]
    key: Mapped[str]
    flow: Mapped[str]
    # Its name in Prefect, empty where the flow was called by itself: one event may start several.
    deployment: Mapped[str]
    # Prefect's flow run that has it, the last one where an earlier one's process died.
    flow_run_id: Mapped[str]
    attempt: Mapped[int]
    instrument: Mapped[str | None]
    # The public name of the night or run that came of it.
    name: Mapped[str | None]
    host: Mapped[str]
    pid: Mapped[Bytes]
    process_began: Mapped[str]
    began: Mapped[datetime]
    ended: Mapped[datetime | None]
    state: Mapped[LaunchState]
    reason: Mapped[str | None]

    __table_args__ = (
        UniqueConstraint("flow", "deployment", "source", "key"),
        Index(None, "flow_run_id"),
        Index(None, "state", "id"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint(is_one_of("state", LaunchState), name="state"),
        CheckConstraint("(state = 'running') = (ended IS NULL)", name="ended"),
    )
