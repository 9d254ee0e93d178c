"""The schema's history: which revision a database has, and how it is brought to ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, inspect, text

from db.connect import answering, connect, for_writing, redacted
from stem4d.errors import BadInput

REVISIONS = (
    "0001_nightbeam_0.1.0",
    "0002_nightbeam_0.2.0",
    "0003_nightbeam_0.3.0",
    "0004_lease_0.3.0",
    "0005_landed_0.3.0",
    "0006_night_0.3.0",
    "0007_questions_0.3.0",
    "0008_sessions_0.3.0",
    "0009_events_0.3.0",
    "0010_launches_0.3.0",
)
"""Every revision, oldest first; its name carries the release that brought it, for the message of an older one."""

_UPGRADE_LOCK = 0x6E6967687462656D  # "nightbem": any number, the same for everyone who upgrades


@dataclass(frozen=True)
class Schema:
    """The revision of a database beside ours."""

    found: str | None
    needed: str
    state: Literal["current", "empty", "older", "newer", "foreign"]


def status(url: str) -> Schema:
    """The revision of the database at a URL; nothing is changed."""
    engine = connect(url)
    try:
        with answering(engine):
            return schema_of(engine)
    finally:
        engine.dispose()


def upgrade(url: str) -> Schema:
    """Bring a database, empty or older, to our revision in one transaction; several may try at once."""
    engine = connect(url)
    try:
        with answering(engine):
            return upgrade_engine(engine)
    finally:
        engine.dispose()


def schema_of(engine: Engine) -> Schema:
    """As `status`, of an engine."""
    needed = REVISIONS[-1]
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        if not tables:
            return Schema(None, needed, "empty")
        if "alembic_version" not in tables:
            return Schema(None, needed, "foreign")
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found == needed:
        return Schema(found, needed, "current")
    return Schema(found, needed, "older" if found in REVISIONS else "newer")


def upgrade_engine(engine: Engine) -> Schema:
    """As `upgrade`, of an engine."""
    # Imported here because every other command does without Alembic.
    from alembic import command
    from alembic.config import Config

    schema = schema_of(engine)
    if schema.state in ("newer", "foreign"):
        refuse_other_schema(engine, schema)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with for_writing(engine).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return schema_of(engine)


def refuse_other_schema(engine: Engine, schema: Schema) -> None:
    """Raise `BadInput` with the command to type unless the schema is ours."""
    if schema.state == "current":
        return
    if schema.state == "foreign":
        limit, remedy = "it holds tables, but not nightbeam's", "Give another database"
    elif schema.state == "newer":
        _, _, release = str(schema.found).rpartition("_")
        limit = f"its schema is {schema.found}, newer than {schema.needed}, the newest that this nightbeam knows"
        remedy = f"Run `pip install 'nightbeam>={release}'`" if release[:1].isdigit() else "Use a newer nightbeam"
    else:
        limit = f"its schema is {schema.found or 'empty'}, this nightbeam needs {schema.needed}"
        remedy = "Run `nightbeam db upgrade`"
    raise BadInput(field="database", value=redacted(engine.url), limit=limit, remedy=remedy)
