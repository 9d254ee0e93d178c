"""What Prefect starts, once for each thing that asked for it."""

import sqlalchemy as sa
from alembic import op

from db.migrations.guards import refuse

revision = "0010_launches_0.3.0"
down_revision = "0009_events_0.3.0"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
STATES = "'running', 'done', 'warned', 'refused', 'failed', 'stopped', 'terminated', 'lost'"


def upgrade() -> None:
    """Add a table, and an index that finds runs by Prefect's flow run."""
    op.create_table(
        "launch",
        sa.Column("id", ID, primary_key=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("deployment", sa.Text(), nullable=False),
        sa.Column("flow_run_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("instrument", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("process_began", sa.Text(), nullable=False),
        sa.Column("began", TIME, nullable=False),
        sa.Column("ended", TIME),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.UniqueConstraint("flow", "deployment", "source", "key"),
        sa.CheckConstraint("attempt >= 1", name="attempt"),
        sa.CheckConstraint(f"state IN ({STATES})", name="state"),
        sa.CheckConstraint("(state = 'running') = (ended IS NULL)", name="ended"),
    )
    op.create_index(None, "launch", ["flow_run_id"])
    op.create_index(None, "launch", ["state", "id"])
    op.create_index(None, "run", ["flow_run_id"])
    refuse("launch", "DELETE")
