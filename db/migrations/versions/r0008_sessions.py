"""Sessions at an instrument, where areas lie, drivers of the software, priority and owner of a target."""

import sqlalchemy as sa
from alembic import op

from db.migrations.guards import refuse

revision = "0008_sessions_0.3.0"
down_revision = "0007_questions_0.3.0"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add a table and columns, which are empty for the rows of before."""
    op.create_table(
        "session",
        sa.Column("id", ID, primary_key=True),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("owner_token", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("began", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("instrument", "owner_token"),
    )
    for act in ("UPDATE", "DELETE"):
        refuse("session", act)
    if op.get_bind().dialect.name == "sqlite":
        # Alembic would copy the whole table for a column with a foreign key.
        op.execute("ALTER TABLE run ADD COLUMN session_id INTEGER CONSTRAINT fk_run_session_id REFERENCES session (id)")
    else:
        op.add_column("run", sa.Column("session_id", ID, sa.ForeignKey("session.id")))
    op.create_index(None, "run", ["session_id", "id"])
    op.add_column("area", sa.Column("pose", sa.JSON()))
    op.add_column("area", sa.Column("thumbnail", sa.Text()))
    op.add_column("target", sa.Column("priority", sa.Integer()))
    op.add_column("target", sa.Column("owner_token", sa.BigInteger()))
    op.add_column("software_environment", sa.Column("drivers", sa.JSON()))
