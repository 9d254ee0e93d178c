"""What every revision needs to keep rows as they were written."""

from alembic import op


def refuse(table: str, act: str) -> None:
    """Make the database itself refuse to change or delete rows: corrections are further rows."""
    if op.get_context().dialect.name == "sqlite":
        body = f"BEGIN SELECT RAISE(ABORT, '{table}: {act} is refused, rows are kept as they were written'); END"
        op.execute(f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} {body}")
        return
    op.execute(
        "CREATE OR REPLACE FUNCTION nightbeam_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
        "'%: % is refused, rows are kept as they were written', TG_TABLE_NAME, TG_OP; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION nightbeam_refuse()"
    )
