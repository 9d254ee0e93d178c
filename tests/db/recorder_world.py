"""What the tests of the recorder share: one of each operation, a database with moods, and all of its rows."""

import re
import sqlite3
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.exc import OperationalError

from db import record
from db.engine import reader, writer
from db.models import Base
from db.operations import (
    AddAnalysis,
    AddCalibration,
    AddDataset,
    AddEvent,
    AddQuality,
    AddRemedy,
    AddSnapshot,
    AreaKey,
    CalibrationKey,
    CloseIntent,
    CostFacts,
    DatasetKey,
    Environment,
    Figure,
    FinishNight,
    FinishRun,
    OpenIntent,
    OpenRun,
    Operation,
    ReadingFacts,
    RegisterArea,
    SessionFacts,
    SetTarget,
    Use,
    UseCalibrations,
    Withdraw,
)

AREA = AreaKey(sample="gold-on-carbon", name="a1", fluence_budget_e_per_a2=100.0)
"""As the world of these tests has it."""
DRIVERS = {"simulator": "nightbeam 0.3.0"}
BEGAN = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)


class Flaky(AbstractContextManager["Flaky"]):
    """Gives a database's connections a mood: ``away`` refuses to begin, ``lose reply`` fails after the commit.

    ``after N MOOD`` begins with the transaction after the next N.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine, self.mood = engine, "apply"
        self._committed = False

    def __enter__(self) -> "Flaky":
        event.listen(self._engine, "begin", self._begin)
        event.listen(self._engine, "commit", self._commit)
        return self

    def __exit__(self, *_error: object) -> None:
        event.remove(self._engine, "begin", self._begin)
        event.remove(self._engine, "commit", self._commit)

    def _begin(self, _connection: Connection) -> None:
        if self.mood.startswith("after "):
            _after, count, *mood = self.mood.split()
            self.mood = " ".join(mood) if count == "1" else f"after {int(count) - 1} {' '.join(mood)}"
            return
        if self.mood == "away":
            raise self._gone()

    def _commit(self, connection: Connection) -> None:
        if self.mood == "lose reply":
            dbapi: Any = connection.connection.dbapi_connection
            dbapi.commit()
            raise self._gone()

    def _gone(self) -> OperationalError:
        gone = sqlite3.OperationalError("the connection was lost")
        gone.sqlite_errorcode = sqlite3.SQLITE_IOERR
        return OperationalError("", None, gone)


def night_of(engine: Engine) -> tuple[int, int]:
    """A night and its target."""
    with writer(engine) as session:
        plan = record.register_plan(session, name="case-a", canonical_json="{}", clock=lambda: BEGAN)
        night = record.start_night(session, name="n20261122-204139-0001", canonical_json="{}", clock=lambda: BEGAN)
        return night, record.add_target(session, night_id=night, position=0, name="first", plan_id=plan)


def operations_of(run: str, target: int | None, night: int | None) -> tuple[Operation, ...]:
    """A whole run with one of each kind at least, in the order of a session."""
    moment = iter(range(10_000))

    def at() -> datetime:
        return BEGAN + timedelta(seconds=next(moment))

    measured, known = BEGAN + timedelta(hours=1), DatasetKey(run=run, pass_index=1000)
    centre = CalibrationKey(run=run, kind="centre", measured_at=measured)
    vacuum = AreaKey(sample=AREA.sample, name="vacuum", fluence_budget_e_per_a2=1e12)
    shape: dict[str, Any] = {"scan_shape": (2, 3), "detector_shape": (8, 8), "dtype": "uint16", "frames": 6}
    where: dict[str, Any] = {"complete": True, "host": "here", "size_bytes": 1234}
    angle = CalibrationKey(run=run, kind="convergence_semi_angle", measured_at=measured)
    return (
        RegisterArea(area=AREA, pose={"x_um": 12.5, "alpha_deg": 0.0}, thumbnail="r20261121-201500-0003", at=at()),
        OpenRun(
            run=run,
            plan_name="case-a",
            plan_json='{"defocus_nm":-12.5}',
            area=AREA,
            instrument="simulator",
            target=target,
            environment=Environment(python="3.11", packages={"numpy": "2.0"}, code_revision="abc", drivers=DRIVERS),
            session=SessionFacts(owner_token=3, owner="ada (nightbeam night)", host="here", began=BEGAN),
            predicted=CostFacts(seconds=60.0, size_bytes=2**40, fluence_e_per_a2=40.0),
            at=at(),
        ),
        SetTarget(target=target or 1, state="running", owner_token=3, at=at()),
        AddSnapshot(
            run=run,
            phase="before",
            readings=(
                ReadingFacts(name="spot", value=3, unit="", source="measured", read_at=BEGAN),
                ReadingFacts(name="defocus", value=-12.5, unit="nm", source="commanded", read_at=BEGAN),
                ReadingFacts(name="pressure", value=float("nan"), unit="Pa", source="measured", read_at=BEGAN),
                ReadingFacts(name="screen", value=True, unit="", source="cached", read_at=BEGAN),
                ReadingFacts(name="mode", value="STEM", unit="", source="measured", read_at=BEGAN),
            ),
            at=at(),
        ),
        RegisterArea(area=vacuum, specimen=False, at=at()),
        OpenIntent(run=run, area=vacuum, purpose="calibration", token=f"{run}/v", fluence_e_per_a2=1e6, at=at()),
        CloseIntent(token=f"{run}/v", delivered_e_per_a2=1e6, electrons=5e6, at=at()),
        AddDataset(dataset=known, sha256="c" * 64, purpose="calibration", path="/v.h5", at=at(), **shape, **where),
        AddCalibration(
            calibration=centre,
            mode_key="300 kV",
            instrument="simulator",
            value={"centre_px": [3.5, 3.25], "radius_px": 2.0},
            uncertainty={"radius_px": 0.01},
            residual=0.5,
            unit="px",
            valid_until=measured + timedelta(days=1),
            verdict="pass",
            evidence=(known,),
            at=at(),
        ),
        AddCalibration(
            calibration=angle,
            mode_key="300 kV",
            instrument="simulator",
            value={"convergence_semi_angle_mrad": 20.0, "of": [-1]},
            unit="mrad",
            verdict="warn",
            reason="wide",
            of=(centre,),
            rests_on=(centre,),
            evidence=(known,),
            at=at(),
        ),
        UseCalibrations(
            run=run,
            uses=(Use(calibration=centre, role="centre"), Use(calibration=angle, role="angle", accepted_stale="old")),
            at=at(),
        ),
        OpenIntent(run=run, area=AREA, purpose="acquisition", token=f"{run}/1", fluence_e_per_a2=40.0, at=at()),
        AddEvent(event="told", message="half of it", data={"share": 0.5}, run=run, target=target, night=night, at=at()),
        CloseIntent(token=f"{run}/1", delivered_e_per_a2=12.5, reason="stopped", at=at()),
        AddDataset(dataset=DatasetKey(run=run, pass_index=0), sha256="a" * 64, path="/1.h5", at=at(), **shape, **where),
        AddQuality(
            run=run,
            stage="final",
            figures=(
                Figure(metric="dose.signal", verdict="pass", message="good", value=3.0, limit=1.0, unit="e"),
                Figure(metric="drift.rate", verdict="fail", message="fast", uncertainty=0.1, analysis="com"),
            ),
            at=at(),
        ),
        Withdraw(run=run, roles=("centre", "descan"), reason="the data contradict it", at=at()),
        AddRemedy(run=run, cause_metric="drift.rate", action="wait", to_value={"s": 60}, outcome="tried", at=at()),
        AddAnalysis(run=run, method="com", verdict="doubtful", reason="drift", summary={"mean": 0.1}, at=at()),
        FinishRun(
            run=run,
            state="marked",
            reason="it drifts",
            actual=CostFacts(seconds=1.5, size_bytes=1234, fluence_e_per_a2=12.5),
            took_s=80.0,
            at=at(),
        ),
        SetTarget(target=target or 1, state="marked", reason="it drifts", at=at()),
        FinishNight(night=night or 1, state="done", reason="1 marked", at=at()),
    )


def rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Everything that a database holds, but when it landed."""
    with reader(engine) as session:
        return {
            name: [dict(row._mapping) for row in session.execute(select(table).order_by(*table.primary_key))]
            for name, table in Base.metadata.tables.items()
            if name != "landed"
        }


def renumbered(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The same rows numbered from 1 without gaps: PostgreSQL skips numbers of a sequence when it has crashed."""
    keys = {name: next(iter(Base.metadata.tables[name].primary_key)).name for name in found}
    place = {name: {row[keys[name]]: at for at, row in enumerate(rows, 1)} for name, rows in found.items()}
    renamed = {}
    for name, rows_of in found.items():
        points = {
            column.name: key.column.table.name for column in Base.metadata.tables[name].c for key in column.foreign_keys
        }
        points[keys[name]] = name
        renamed[name] = [
            {
                column: place[points[column]].get(value)
                if column in points
                else _renumbered({"of": value}, place)["of"]
                if column == "rests_on" and value
                else _renumbered(value, place)
                for column, value in row.items()
            }
            for row in rows_of
        ]
    return renamed


def _renumbered(value: Any, place: dict[str, dict[int, int]]) -> Any:
    """The same of numbers of calibrations and data sets in texts and JSON."""
    calibration, dataset = place["calibration"], place["dataset"]
    if isinstance(value, str):
        return re.sub(r"(?<=number )\d+", lambda found: str(calibration[int(found[0])]), value)
    if isinstance(value, dict):
        of = {
            "of": lambda numbers: [calibration[one] for one in numbers],
            "calibration_id": lambda number: calibration[number],
            "datasets": lambda numbers: [dataset[one] for one in numbers],
        }
        return {key: of[key](part) if key in of else part for key, part in value.items()}
    return value
