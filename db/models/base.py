"""The declarative base, the column types, and the check that no NaN and no unzoned time is stored."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from sqlalchemy import JSON, BigInteger, Connection, DateTime, Dialect, Double, ForeignKey, Integer, MetaData, String
from sqlalchemy import Text as SqlText
from sqlalchemy import event as sa_event
from sqlalchemy.orm import DeclarativeBase, Mapper, mapped_column
from sqlalchemy.types import TypeDecorator

from db.vocabulary import CLOSED_SETS
from stem4d.errors import BadInput


class UtcDateTime(TypeDecorator[datetime]):
    """A UTC time to the microsecond: the same aware value goes in and comes out on SQLite and PostgreSQL."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone cannot be stored: {value!r}")
        utc = value.astimezone(UTC)
        # SQLite keeps text; without the zone it sorts as it should.
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class CleanText(TypeDecorator[str]):
    """Text that both databases take: NUL and lone surrogates (from device messages, file names) are escaped."""

    impl = SqlText
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean_text(value)


def clean_text(value: str) -> str:
    """A text as it is stored: what PostgreSQL or UTF-8 does not take is escaped."""
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


PORTABLE_ID = BigInteger().with_variant(Integer(), "sqlite")

Id = Annotated[int, mapped_column(PORTABLE_ID, primary_key=True)]
Bytes = Annotated[int, mapped_column(BigInteger)]
Sha256 = Annotated[str, mapped_column(String(64))]
Json = Annotated[Any, mapped_column(JSON(none_as_null=True))]

SampleId = Annotated[int, mapped_column(ForeignKey("sample.id"))]
AreaId = Annotated[int, mapped_column(ForeignKey("area.id"))]
PlanId = Annotated[int, mapped_column(ForeignKey("plan.id"))]
NightId = Annotated[int, mapped_column(ForeignKey("night.id"))]
TargetId = Annotated[int, mapped_column(ForeignKey("target.id"))]
SessionId = Annotated[int, mapped_column(ForeignKey("session.id"))]
RunId = Annotated[int, mapped_column(ForeignKey("run.id"))]
EnvironmentId = Annotated[int, mapped_column(ForeignKey("software_environment.id"))]
IntentId = Annotated[int, mapped_column(ForeignKey("exposure_intent.id"))]
CalibrationId = Annotated[int, mapped_column(ForeignKey("calibration.id"))]
SnapshotId = Annotated[int, mapped_column(ForeignKey("device_snapshot.id"))]
DatasetId = Annotated[int, mapped_column(ForeignKey("dataset.id"))]

NAMING = {
    "pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
}


class Base(DeclarativeBase):
    """Base of every table."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        float: Double(),
        str: CleanText(),
        datetime: UtcDateTime(),
        # Plain text held by check constraints: a new word is then a new constraint, not a new column type.
        **dict.fromkeys(CLOSED_SETS, SqlText()),
    }


def refuse_unstorable(field: str, value: object) -> None:
    """Raise `BadInput` for a number that one of the databases would not give back as it was."""
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput(field=field, value=value, limit="a finite number, or null where nothing was measured")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise BadInput(field=field, value=value, limit="an integer of at most 64 bits")
    if isinstance(value, dict):
        for key, part in value.items():
            refuse_unstorable(f"{field}.{key}", part)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            refuse_unstorable(f"{field}[{index}]", part)


@sa_event.listens_for(Base, "before_insert", propagate=True)
@sa_event.listens_for(Base, "before_update", propagate=True)
def _check_row(mapper: Mapper[Any], connection: Connection, row: Base) -> None:
    refuse_row(str(mapper.local_table), {one.key: row.__dict__.get(one.key) for one in mapper.column_attrs})


def refuse_row(table: str, values: Mapping[str, object]) -> None:
    """As `refuse_unstorable`, of the columns of a row that is about to be written."""
    # SQLite would turn NaN into NULL and PostgreSQL keep it: neither says what was measured.
    for name, value in values.items():
        refuse_unstorable(f"{table}.{name}", value)
