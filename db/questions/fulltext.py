"""Rows whose words match a text: an FTS5 table on SQLite, indices of word vectors on PostgreSQL (`r0007_questions`)."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, Text, bindparam, column, func, literal_column, select, table, text
from sqlalchemy.orm import Session

from db.models import Base, Calibration, Night, Plan, Run, Sample, Target
from stem4d.errors import BadInput

Kind = Literal["run", "night", "target", "plan", "sample", "calibration"]
MOST_WORDS = 20
LONGEST = 200
COMMON = 1000
"""Of a word that more rows have, the newest are soon found by looking at one after another."""
STRIDE = 2**48
"""The FTS5 table holds all kinds, each in a range of row numbers of this length, in the order of `KINDS`."""

KINDS: dict[Kind, tuple[type[Base], tuple[str, str | None]]] = {
    "run": (Run, ("name", "exit_reason")),
    "night": (Night, ("name", "exit_reason")),
    "target": (Target, ("name", "reason")),
    "plan": (Plan, ("name", None)),
    "sample": (Sample, ("name", None)),
    "calibration": (Calibration, ("kind", "reason")),
}
"""What is searched of which table."""
SPLIT = "-_./:,;()[]{}<>=+*%&#@!?|~^`$\"''\\"
"""Characters that PostgreSQL's parser would join words by; as they stand in an SQL text."""


def words_of(given: str) -> list[str]:
    """The words of a text, as both databases keep them; raises `BadInput` where there are none, or too many."""
    if len(given) > LONGEST:
        raise BadInput(field="text", value=f"{given[:20]}...", limit=f"at most {LONGEST} characters")
    found = re.findall(r"[^\W_]+", given.lower())
    if not 1 <= len(found) <= MOST_WORDS:
        raise BadInput(
            field="text", value=given, limit=f"1 to {MOST_WORDS} words of letters and digits", remedy="Name a word"
        )
    return found


def matching(session: Session, kind: Kind, given: str, *, limit: int, before: int | None = None) -> list[int]:
    """Numbers of rows of a kind that have all words of a text, newest first; the last word may be the beginning of one.

    Raises
    ------
    BadInput
        For a text without words, or with more than 20.
    """
    words = words_of(given)
    if session.get_bind().dialect.name == "sqlite":
        first = STRIDE * list(KINDS).index(kind)
        last = first + STRIDE if before is None else first + min(max(before, 0), STRIDE)
        asked = " ".join(f'"{word}"' for word in words)
        found = session.scalars(_OF_SQLITE, {"asked": f"{asked}*", "first": first, "last": last, "limit": limit})
        return [row - first for row in found]
    asked = " & ".join(words)
    bounds = {"asked": f"{asked}:*", "before": 2**63 - 1 if before is None else before, "limit": limit}
    rows = session.execute(_of_index(kind, COMMON), bounds).all()
    if not rows or rows[0].matches <= COMMON:
        return [row.id for row in rows]
    return list(session.scalars(_one_by_one(kind, words), bounds))


_words = table("fulltext_words", column("rowid"))
_OF_SQLITE = (
    select(_words.c.rowid)
    .where(
        text("fulltext_words MATCH :asked"),
        _words.c.rowid >= bindparam("first"),
        _words.c.rowid < bindparam("last"),
    )
    .order_by(_words.c.rowid.desc())
    .limit(bindparam("limit"))
)
_QUERY = func.to_tsquery(literal_column("'simple'"), bindparam("asked", type_=Text()))


@cache
def _of_index(kind: Kind, common: int) -> Select[Any]:
    """The newest that match, by the index of words, with how many do; of those that are common some, in no order."""
    number = KINDS[kind][0].__table__.c.id
    vector: ColumnElement[Any] = literal_column(vector_of(text_of(kind)))
    found = select(number.label("id")).where(vector.op("@@")(_QUERY), number < bindparam("before"))
    # Apart, so that they are planned as if all were wanted, by the index: PostgreSQL cannot tell which words are
    # common, and would look at one row after another for the first of them.
    every = found.cte().prefix_with("MATERIALIZED", dialect="postgresql")
    few = select(every.c.id).limit(common + 1).subquery()
    counted = func.count().over().label("matches")
    return select(few.c.id, counted).order_by(few.c.id.desc()).limit(bindparam("limit"))


def _one_by_one(kind: Kind, words: Sequence[str]) -> Select[tuple[int]]:
    """Rows looked at one after another from the newest on, until enough have matched.

    Most have not even the letters, which is soon seen.
    """
    number = KINDS[kind][0].__table__.c.id
    rows = select(number, literal_column(text_of(kind)).label("text")).where(number < bindparam("before"))
    # Without the offset all that match would be put in order first.
    each = rows.order_by(number.desc()).offset(0).subquery("each_row")
    letters = (func.lower(each.c.text).contains(word, autoescape=True) for word in words if word.isascii())
    matches = literal_column(vector_of("each_row.text")).op("@@")(_QUERY)
    return select(each.c.id).where(*letters, matches).order_by(each.c.id.desc()).limit(bindparam("limit"))


def vector_of(sql: str) -> str:
    """The SQL of the words of a text on PostgreSQL, word by word as the index has them."""
    return f"to_tsvector('simple'::regconfig, translate({sql}, '{SPLIT}', '{' ' * (len(SPLIT) - 1)}'))"


def text_of(kind: Kind) -> str:
    """The SQL of what is searched of a row."""
    _model, (name, more) = KINDS[kind]
    return f"{kind}.{name}" if more is None else f"{kind}.{name} || ' ' || coalesce({kind}.{more}, '')"
