"""Events of a night that belong to none of its runs are found by an index."""

from alembic import op

revision = "0009_events_0.3.0"
down_revision = "0008_sessions_0.3.0"


def upgrade() -> None:
    """Put one index in the place of another."""
    op.create_index(None, "event", ["night_id", "run_id"])
    op.drop_index("ix_event_night_id", "event")
