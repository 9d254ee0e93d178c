"""The table of which operations were applied, so that none is applied twice."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import PORTABLE_ID, Base


class Landed(Base):
    """An operation that was applied: the key that its maker gave it, and the row that came of it where one did."""

    __tablename__ = "landed"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    row_id: Mapped[int | None] = mapped_column(PORTABLE_ID)
    landed: Mapped[datetime]
