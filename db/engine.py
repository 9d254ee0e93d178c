"""Open the database, refuse one of another schema, and give sessions that read or write."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from db.connect import answering, connect, for_reading, for_writing, keep_to_its_file
from db.migrations import refuse_other_schema, schema_of, upgrade_engine

__all__ = ["Engine", "Session", "open_engine", "reader", "writer"]


def open_engine(url: str, *, new: bool = True) -> Engine:
    """Open a database whose schema is ours; a new SQLite file is given the schema, everything else is refused.

    ``new`` is False where there has to be one: a file that is not there is away then, and none is made in its place.
    """
    engine = connect(url)
    try:
        if not new:
            keep_to_its_file(engine)
        with answering(engine):
            schema = schema_of(engine)
            if schema.state == "empty" and engine.dialect.name == "sqlite":
                schema = upgrade_engine(engine)
            refuse_other_schema(engine, schema)
        if new:
            keep_to_its_file(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def writer(engine: Engine) -> Iterator[Session]:
    """A session in one transaction that holds the write lock (SQLite), committed at the end unless it raises."""
    with answering(engine), Session(for_writing(engine)) as session, session.begin():
        yield session


@contextmanager
def reader(engine: Engine) -> Iterator[Session]:
    """A session in one read-only transaction: everything read in it belongs to one moment."""
    with answering(engine), Session(for_reading(engine)) as session, session.begin():
        yield session
