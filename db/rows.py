"""Small helpers of the recording functions: find or add a row, fetch one that must exist."""

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import Base
from db.models.base import clean_text
from stem4d.errors import BadInput

Row = TypeVar("Row", bound=Base)


def find_or_add(session: Session, table: type[Row], key: Mapping[str, Any], rest: Mapping[str, Any]) -> Row:
    """The row with this unique key, added with the other columns if it is not there."""
    found = session.scalars(select(table).filter_by(**key)).one_or_none()
    if found is not None:
        return found
    row = table(**key, **rest)
    if session.get_bind().dialect.name == "sqlite":
        # Its writer is alone: nobody adds the same in between, and a savepoint would be for nothing.
        return added(session, row)
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        # Another writer may have added the same key in between (PostgreSQL); anything else is an error.
        other = session.scalars(select(table).filter_by(**key)).one_or_none()
        if other is None:
            raise
        return other
    return row


def added(session: Session, row: Row) -> Row:
    """Insert a row now, so that its id is known and its constraints have been checked."""
    session.add(row)
    session.flush()
    return row


def existing(session: Session, table: type[Row], row_id: int) -> Row:
    """The row with this id, read afresh."""
    row = session.get(table, row_id, populate_existing=True)
    if row is None:
        raise BadInput(field=f"{table.__tablename__}_id", value=row_id, limit="no such row in the database")
    return row


def named(session: Session, table: type[Row], name: str, remedy: str) -> Row:
    """The row with this public name; an unknown one is answered with those beside it."""
    row = session.scalars(select(table).filter_by(name=name)).one_or_none()
    if row is None:
        beside = ", ".join(_beside(session, table, name))
        known = f"not in this database; the names closest to it are {beside}" if beside else "not in this database"
        raise BadInput(field=table.__tablename__, value=name, limit=known, remedy=remedy)
    return row


def _beside(session: Session, table: Any, name: str) -> list[str]:
    """Names beside one in their order, by their index: names of runs and nights are times."""
    text = clean_text(name)
    before = session.scalars(select(table.name).where(table.name < text).order_by(table.name.desc()).limit(2))
    after = session.scalars(select(table.name).where(table.name > text).order_by(table.name).limit(2))
    return [*reversed(before.all()), *after]


def distinct(session: Session, column: InstrumentedAttribute[str], *holds: Any) -> list[str]:
    """Distinct values, one step of an index each: there are few among many rows."""
    found: list[str] = []
    while True:
        wanted = select(column).where(*holds).order_by(column).limit(1)
        if found:
            wanted = wanted.where(column > found[-1])
        value = session.scalars(wanted).one_or_none()
        if value is None:
            return found
        found.append(value)
