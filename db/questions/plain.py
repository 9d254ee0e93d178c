"""Rows as plain dictionaries that JSON can hold."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import inspect

from db.models import Base


def plain(row: Base, *leave_out: str) -> dict[str, Any]:
    """The columns of a row, times as ISO 8601 in UTC, without the columns to leave out."""
    values = {attribute.key: getattr(row, attribute.key) for attribute in inspect(type(row)).column_attrs}
    return {key: plain_value(value) for key, value in values.items() if key not in leave_out}


def plain_rows(rows: Iterable[Base], *leave_out: str) -> list[dict[str, Any]]:
    """As `plain`, of many rows."""
    return [plain(row, *leave_out) for row in rows]


def plain_value(value: Any) -> Any:
    """A value that JSON can hold."""
    return value.isoformat() if isinstance(value, datetime) else value
