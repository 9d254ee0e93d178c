"""Whether a column is one of some numbers, as one parameter or a list of the database: not each of them bound."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Dialect, ScalarSelect, Select, Text, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine


class _Numbers(TypeDecorator[Sequence[int]]):
    """Numbers: an array for PostgreSQL, for SQLite the JSON of one."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else ARRAY(BigInteger))

    def process_bind_param(self, value: Sequence[int] | None, dialect: Dialect) -> Any:
        return json.dumps(list(value or ())) if dialect.name == "sqlite" else list(value or ())


class _Among(FunctionElement[Any]):
    # Of no type: for SQLite a Boolean would be compared with 1, which no index serves.
    name = "among"
    inherit_cache = True


@compiles(_Among, "sqlite")
def _of_sqlite(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, given = element.clauses
    found = compiler.process(given, **options)
    listed = found if isinstance(given, ScalarSelect) else " ".join(("(SELECT value FROM json_each(", found, "))"))
    return f"{compiler.process(column, **options)} IN {listed}"


@compiles(_Among, "postgresql")
def _of_postgresql(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, given = element.clauses
    found = compiler.process(given, **options)
    listed = f"ARRAY{found}" if isinstance(given, ScalarSelect) else found
    return f"{compiler.process(column, **options)} = ANY ({listed})"


def among(column: Any, ids: Sequence[int] | Select[tuple[int]] | str) -> ColumnElement[Any]:
    """Whether a column is one of some numbers, of those that are selected, or of those given under a name later.

    What is selected is listed first, and never joined.
    """
    if isinstance(ids, Select):
        return _Among(column, ids.scalar_subquery().correlate(None))
    if isinstance(ids, str):
        return _Among(column, bindparam(ids, type_=_Numbers()))
    return _Among(column, bindparam(None, ids, type_=_Numbers(), unique=True))
