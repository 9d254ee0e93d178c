"""The instrument of a night, targets that it broke off before they had ended, and what each took beside its time."""

import sqlalchemy as sa
from alembic import op

revision = "0006_night_0.3.0"
down_revision = "0005_landed_0.3.0"


def upgrade() -> None:
    """Add columns, which are empty for the rows of before."""
    op.add_column("night", sa.Column("instrument", sa.Text()))
    op.add_column("target", sa.Column("broken_off", sa.Boolean()))
    op.add_column("target", sa.Column("predicted_seconds", sa.Double()))
    op.add_column("target", sa.Column("actual_seconds", sa.Double()))
