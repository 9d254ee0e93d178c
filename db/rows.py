"""Small helpers of the recording functions: find or add a row, fetch one that must exist."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import Executable, Insert, Result, Select, Table, bindparam, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import Base
from db.models.base import clean_text, refuse_row
from stem4d.errors import BadInput

Row = TypeVar("Row", bound=Base)


def find_or_add(session: Session, table: type[Base], key: Mapping[str, Any], rest: Mapping[str, Any]) -> Any:
    """The columns of the row with this unique key, added with the other columns if it is not there."""
    found = session.execute(_by_key(table, tuple(key)), key).one_or_none()
    return add_or_find(session, table, key, rest) if found is None else found


def add_or_find(session: Session, table: type[Base], key: Mapping[str, Any], rest: Mapping[str, Any]) -> Any:
    """As `find_or_add`, of a row that is seldom there."""
    added = add_new(session, table, tuple(key), [{**key, **rest}]).one_or_none()
    return session.execute(_by_key(table, tuple(key)), key).one() if added is None else added


def add_new(
    session: Session, table: type[Base], key: tuple[str, ...], rows: Sequence[Mapping[str, Any]]
) -> Result[Any]:
    """Add rows but those whose unique key is there already; gives the columns of those that were added."""
    for row in rows:
        refuse_row(table.__tablename__, row)
    # What was added to the session before comes first, as the rows may refer to it.
    session.flush()
    return session.execute(_insert(session.get_bind().dialect.name, table, key), rows)


@cache
def _by_key(table: type[Base], key: tuple[str, ...]) -> Select[Any]:
    columns = table.__table__.c
    return select(*columns).where(*(columns[name] == bindparam(name, type_=columns[name].type) for name in key))


@cache
def _insert(dialect: str, table: type[Base], key: tuple[str, ...]) -> Executable:
    own_insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    plain: Any = table.__table__
    return own_insert(plain).on_conflict_do_nothing(index_elements=key).returning(*plain.c)


def inserted(session: Session, table: type[Base], **values: Any) -> int:
    """Insert a row now, as `added` does but without an object of it, in half the time; gives its number."""
    refuse_row(table.__tablename__, values)
    session.flush()
    return int(session.execute(_numbered(table), values).scalar_one())


def insert_into(table: type[Base]) -> Insert:
    """The statement that inserts rows, given as dictionaries, without objects of them."""
    return insert(cast(Table, table.__table__))


@cache
def _numbered(table: type[Base]) -> Executable:
    (number,) = table.__table__.primary_key
    return insert_into(table).returning(number)


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
    row: Row | None = session.scalars(_by_name(table), {"name": name}).one_or_none()
    if row is None:
        raise unknown(session, table, name, remedy)
    return row


@cache
def _by_name(table: Any) -> Select[Any]:
    return select(table).where(table.name == bindparam("name", type_=table.name.type))


def unknown(session: Session, table: type[Row], name: str, remedy: str) -> BadInput:
    """What is said of a name that no row has."""
    beside = ", ".join(_beside(session, table, name))
    known = f"not in this database; the names closest to it are {beside}" if beside else "not in this database"
    return BadInput(field=table.__tablename__, value=name, limit=known, remedy=remedy)


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
