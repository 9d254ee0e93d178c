"""Targets that a night broke off before they had ended, and what each took beside what was predicted."""

import sqlalchemy as sa
from alembic import op

revision = "0005_night_0.3.0"
down_revision = "0004_lease_0.3.0"


def upgrade() -> None:
    """Add columns, which are empty for the rows of before."""
    op.add_column("target", sa.Column("broken_off", sa.Boolean()))
    op.add_column("target", sa.Column("predicted_seconds", sa.Double()))
    op.add_column("target", sa.Column("actual_seconds", sa.Double()))
