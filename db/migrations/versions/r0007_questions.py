"""Indices for questions at a million runs, and the words that are searched."""

import json

import sqlalchemy as sa
from alembic import op

from db.migrations.guards import refuse

revision = "0007_questions_0.3.0"
down_revision = "0006_night_0.3.0"

WORDS = {
    "run": ("name", "exit_reason"),
    "night": ("name", "exit_reason"),
    "target": ("name", "reason"),
    "plan": ("name", None),
    "sample": ("name", None),
    "calibration": ("kind", "reason"),
}
STRIDE = 2**48
SPLIT = "-_./:,;()[]{}<>=+*%&#@!?|~^`$\"''\\"


def upgrade() -> None:
    """Add indices, and for SQLite a table of words that triggers keep."""
    op.create_index(None, "run", ["instrument", "id"])
    op.create_index(None, "run", ["actual_fluence_e_per_a2"])
    op.drop_index("ix_run_environment_id", "run")
    op.create_index(None, "run", ["environment_id", "id"])
    op.create_index(None, "analysis_result", ["method", "verdict"])
    op.create_index(
        None,
        "run_calibration",
        ["run_id"],
        sqlite_where=sa.text("accepted_stale IS NOT NULL"),
        postgresql_where=sa.text("accepted_stale IS NOT NULL"),
    )
    old = sa.text("rests_on IS NULL")
    op.create_index("ix_calibration_unrecorded", "calibration", ["instrument"], sqlite_where=old, postgresql_where=old)
    _bases()
    if op.get_bind().dialect.name == "sqlite":
        _words_of_sqlite()
    else:
        for table, (name, more) in WORDS.items():
            joined = f"{name} || ' ' || coalesce({more}, '')" if more else name
            blanks = " " * (len(SPLIT) - 1)
            vector = f"to_tsvector('simple'::regconfig, translate({joined}, '{SPLIT}', '{blanks}'))"
            op.execute(sa.text(f"CREATE INDEX fulltext_{table} ON {table} USING gin ({vector})".replace(":", r"\:")))


def _bases() -> None:
    """What calibrations rest on as rows, so that it can be asked from the other end."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    table = op.create_table(
        "calibration_basis",
        sa.Column("id", number, primary_key=True),
        sa.Column("calibration_id", number, sa.ForeignKey("calibration.id"), nullable=False),
        sa.Column("basis_id", number, sa.ForeignKey("calibration.id"), nullable=False),
        sa.UniqueConstraint("calibration_id", "basis_id"),
    )
    op.create_index(None, "calibration_basis", ["basis_id"])
    for act in ("UPDATE", "DELETE"):
        refuse("calibration_basis", act)
    found = op.get_bind().execute(
        sa.text("SELECT id, rests_on FROM calibration WHERE rests_on IS NOT NULL ORDER BY id")
    )
    rows = [
        {"calibration_id": one, "basis_id": basis}
        for one, given in found
        for basis in sorted(set(json.loads(given) if isinstance(given, str) else given))
    ]
    if rows:
        op.bulk_insert(table, rows)


def _words_of_sqlite() -> None:
    op.execute("CREATE VIRTUAL TABLE fulltext_words USING fts5(words, tokenize = 'unicode61 remove_diacritics 0')")
    for number, (table, (name, more)) in enumerate(WORDS.items()):
        row = f"{STRIDE * number} + NEW.id"
        words = f"NEW.{name} || ' ' || coalesce(NEW.{more}, '')" if more else f"NEW.{name}"
        add = "INSERT INTO fulltext_words(rowid, words)"
        op.execute(" ".join((add, "SELECT", f"{row}, {words}", "FROM", table, "AS NEW")))
        begun = f"CREATE TRIGGER fulltext_{table}"
        op.execute(" ".join((begun + "_added AFTER INSERT ON", table, "BEGIN", add, f"VALUES ({row}, {words}); END")))
        if more:
            change = ("UPDATE fulltext_words SET words =", words, "WHERE rowid =", f"{row}; END")
            op.execute(" ".join((begun + "_changed AFTER UPDATE OF", more, "ON", table, "BEGIN", *change)))
