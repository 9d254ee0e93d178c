"""Rows whose words match a text: an FTS5 table on SQLite, indices of word vectors on PostgreSQL (`r0007_questions`)."""

import re
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, column, func, literal_column, select, table, text
from sqlalchemy.orm import Session

from db.models import Base, Calibration, Night, Plan, Run, Sample, Target
from stem4d.errors import BadInput

Kind = Literal["run", "night", "target", "plan", "sample", "calibration"]
MOST_WORDS = 20
LONGEST = 200
COMMON = 5000
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


def matching(session: Session, kind: Kind, given: str, *, limit: int, before: int | None = None) -> Select[tuple[int]]:
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
        rows = table("fulltext_words", column("rowid"))
        asked = " ".join(f'"{word}"' for word in words)
        wanted = select((rows.c.rowid - first).label("id")).where(
            text("fulltext_words MATCH :asked").bindparams(asked=f"{asked}*"),
            rows.c.rowid >= first,
            rows.c.rowid < last,
        )
        return wanted.order_by(rows.c.rowid.desc()).limit(limit)
    model, _columns = KINDS[kind]
    number = model.__table__.c.id
    asked = " & ".join(words)
    vector: ColumnElement[Any] = literal_column(vector_of(kind))
    found = select(number.label("id")).where(vector.op("@@")(func.to_tsquery(literal_column("'simple'"), f"{asked}:*")))
    if before is not None:
        found = found.where(number < before)
    # By its number a row is looked at in turn, until enough have matched. That is right for common words alone, and
    # PostgreSQL cannot tell which are: so it is told, by an order that only rows from the index can be put in.
    order = number if _common(session, found) else number + 0
    return found.order_by(order.desc()).limit(limit)


def _common(session: Session, found: Select[tuple[int]]) -> bool:
    """Whether more rows match than are soon put in order; asked of the index of words and nothing else."""
    switches = ("enable_seqscan", "enable_indexscan")
    session.execute(select(*(func.set_config(name, "off", True) for name in switches)))
    count = session.scalar(select(func.count()).select_from(found.limit(COMMON + 1).subquery())) or 0
    session.execute(select(*(func.set_config(name, "on", True) for name in switches)))
    return count > COMMON


def vector_of(kind: Kind) -> str:
    """The SQL of the words of a row on PostgreSQL, word by word as its index has it."""
    _model, (name, more) = KINDS[kind]
    joined = f"{kind}.{name}" if more is None else f"{kind}.{name} || ' ' || coalesce({kind}.{more}, '')"
    return f"to_tsvector('simple'::regconfig, translate({joined}, '{SPLIT}', '{' ' * (len(SPLIT) - 1)}'))"
