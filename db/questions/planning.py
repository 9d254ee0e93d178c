"""Tell PostgreSQL that the statements of a question are planned once, whatever they ask for."""

from sqlalchemy import text
from sqlalchemy.orm import Session

_ONCE = text("SET LOCAL plan_cache_mode TO force_generic_plan")


def plan_once(session: Session) -> None:
    """Until the end of this transaction a statement that comes again keeps its plan; `db.connect` says why not always.

    For questions that look up rows by their keys alone: planning takes longer than that.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(_ONCE)
