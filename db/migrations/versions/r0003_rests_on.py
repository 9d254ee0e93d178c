"""Calibrations: which others were in force when one was measured."""

import sqlalchemy as sa
from alembic import op

revision = "0003_nightbeam_0.3.0"
down_revision = "0002_nightbeam_0.2.0"


def upgrade() -> None:
    """Add a column; of calibrations of before nobody knows."""
    op.add_column("calibration", sa.Column("rests_on", sa.JSON()))
