"""Which operations were applied: a record that comes a second time makes no second row."""

import sqlalchemy as sa
from alembic import op

from db.migrations.guards import refuse

revision = "0005_landed_0.3.0"
down_revision = "0004_lease_0.3.0"


def upgrade() -> None:
    """Add a table; what was recorded before has no keys and needs none."""
    op.create_table(
        "landed",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("row_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
        sa.Column("landed", sa.DateTime(timezone=True), nullable=False),
    )
    for act in ("UPDATE", "DELETE"):
        refuse("landed", act)
