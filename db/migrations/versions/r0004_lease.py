"""Who owns an instrument, with a token that only grows; whose exposure each booking is."""

import sqlalchemy as sa
from alembic import op

from db.migrations.guards import refuse

revision = "0004_lease_0.3.0"
down_revision = "0003_nightbeam_0.3.0"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add a table and a column, which is empty for the rows of before."""
    op.add_column("exposure_intent", sa.Column("owner_token", sa.BigInteger()))
    op.create_table(
        "lease",
        sa.Column("id", ID, primary_key=True),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("process_began", sa.Text(), nullable=False),
        sa.Column("taken", TIME, nullable=False),
        sa.Column("expires", TIME, nullable=False),
        sa.Column("released", TIME),
        sa.Column("ended_by", sa.Text()),
        sa.UniqueConstraint("instrument", "token"),
        sa.CheckConstraint("token >= 1", name="token"),
        sa.CheckConstraint("expires >= taken", name="expires"),
        sa.CheckConstraint("(released IS NULL) = (ended_by IS NULL)", name="released"),
    )
    refuse("lease", "DELETE")
