"""Calibrations: residual, reason, evidence, withdrawal, stale ones that were accepted; the purpose of a data set."""

import sqlalchemy as sa
from alembic import op

from db.migrations.guards import refuse

revision = "0002_nightbeam_0.2.0"
down_revision = "0001_nightbeam_0.1.0"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)
JSON = sa.JSON()


def upgrade() -> None:
    """Add columns, whose defaults say what the rows of before are, and two tables."""
    op.add_column("calibration", sa.Column("residual", sa.Double()))
    op.add_column("calibration", sa.Column("reason", sa.Text()))
    op.add_column("calibration", sa.Column("curves", JSON))
    op.add_column("run_calibration", sa.Column("accepted_stale", sa.Text()))
    _add_purpose()
    op.create_table(
        "calibration_evidence",
        sa.Column("id", ID, primary_key=True),
        sa.Column("calibration_id", ID, sa.ForeignKey("calibration.id"), nullable=False),
        sa.Column("dataset_id", ID, sa.ForeignKey("dataset.id"), nullable=False),
        sa.UniqueConstraint("calibration_id", "dataset_id"),
    )
    op.create_index(None, "calibration_evidence", ["dataset_id"])
    op.create_table(
        "calibration_withdrawal",
        sa.Column("id", ID, primary_key=True),
        sa.Column("calibration_id", ID, sa.ForeignKey("calibration.id"), nullable=False, unique=True),
        sa.Column("by_run_id", ID, sa.ForeignKey("run.id")),
        sa.Column("withdrawn_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("withdrawn_at", TIME, nullable=False),
        sa.CheckConstraint("length(reason) > 0", name="reason"),
    )
    op.create_index(None, "calibration_withdrawal", ["by_run_id"])
    for table in ("calibration_evidence", "calibration_withdrawal"):
        refuse(table, "UPDATE")
        refuse(table, "DELETE")


def _add_purpose() -> None:
    """Say of every data set what it was taken for; those of before are all acquisitions."""
    check = "purpose IN ('acquisition', 'calibration', 'survey', 'focus')"
    if op.get_context().dialect.name == "sqlite":
        # SQLite adds a check only with its column, and Alembic would copy the table for it.
        op.execute(
            "ALTER TABLE dataset ADD COLUMN purpose TEXT DEFAULT 'acquisition' NOT NULL "
            f"CONSTRAINT ck_dataset_purpose CHECK ({check})"
        )
        return
    op.add_column("dataset", sa.Column("purpose", sa.Text(), nullable=False, server_default="acquisition"))
    op.create_check_constraint("purpose", "dataset", check)
