"""What is written of a run's settings, data, quality, remedies and analyses."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.clock import Clock, utc_now
from db.models import (
    AnalysisResult,
    Dataset,
    DatasetLocation,
    DatasetParent,
    DeviceReading,
    DeviceSnapshot,
    QualityResult,
    Remedy,
)
from db.models.base import refuse_row
from db.rows import add_or_find, added, insert_into, inserted
from db.vocabulary import AnalysisVerdict, JsonValue, Phase, Purpose, Source, Stage, Verdict
from stem4d.errors import BadInput


@dataclass(frozen=True)
class Reading:
    """One setting of an instrument: value, unit, where the value comes from, when it was read."""

    name: str
    value: float | int | str | bool
    unit: str
    source: Source
    read_at: datetime


@dataclass(frozen=True)
class Figure:
    """One figure of quality; what could not be measured has the value None, never NaN."""

    metric: str
    verdict: Verdict
    message: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    uncertainty: float | None = None
    analysis: str | None = None


def add_snapshot(
    session: Session, *, run_id: int, phase: Phase, readings: Iterable[Reading], clock: Clock = utc_now
) -> int:
    """Record the instrument's settings before or after a run; numbers and texts are indexed by name."""
    snapshot = inserted(session, DeviceSnapshot, run_id=run_id, phase=phase, taken_at=clock())
    rows = []
    for reading in readings:
        number, text = _number_or_text(reading.value)
        rows.append(
            {
                "snapshot_id": snapshot,
                "name": reading.name,
                "number": number,
                "text": text,
                "unit": reading.unit,
                "source": reading.source,
                "read_at": reading.read_at,
            }
        )
    if rows:
        session.execute(_READINGS, rows)
    return snapshot


_READINGS = insert_into(DeviceReading)


def add_dataset(
    session: Session,
    *,
    run_id: int,
    pass_index: int,
    sha256: str,
    size_bytes: int,
    scan_shape: tuple[int, int],
    detector_shape: tuple[int, int],
    dtype: str,
    frames: int,
    complete: bool,
    purpose: Purpose = "acquisition",
    path: str | None = None,
    host: str = "",
    parents: Sequence[int] = (),
) -> int:
    """Register the data of one pass of a run, its place, and the ids of the datasets it was made from.

    The same run and pass again give the same id; `BadInput` if the content differs (sha256).
    """
    facts = {
        "sha256": sha256,
        "size_bytes": size_bytes,
        "scan_y": scan_shape[0],
        "scan_x": scan_shape[1],
        "det_y": detector_shape[0],
        "det_x": detector_shape[1],
        "dtype": dtype,
        "frames": frames,
        "complete": complete,
        "purpose": purpose,
    }
    dataset = add_or_find(session, Dataset, {"run_id": run_id, "pass_index": pass_index}, facts)
    if dataset.sha256 != sha256:
        raise BadInput(
            field=f"dataset of pass {pass_index}",
            value=sha256,
            limit=f"this pass was registered with the checksum {dataset.sha256}",
            remedy="Register other content as another pass",
        )
    if path is not None:
        add_or_find(session, DatasetLocation, {"dataset_id": dataset.id, "host": host, "path": path}, {})
    for parent in parents:
        add_or_find(session, DatasetParent, {"dataset_id": dataset.id, "parent_id": parent}, {})
    return int(dataset.id)


def next_pass(session: Session, *, run_id: int, first: int = 0) -> int:
    """The lowest number from ``first`` on above those of a run's datasets."""
    highest = session.scalar(select(func.max(Dataset.pass_index)).filter_by(run_id=run_id))
    return first if highest is None else max(first, highest + 1)


def add_quality(
    session: Session,
    *,
    run_id: int,
    stage: Stage,
    metric: str,
    verdict: Verdict,
    message: str,
    value: float | None = None,
    limit: float | None = None,
    unit: str = "",
    uncertainty: float | None = None,
    analysis: str | None = None,
) -> int:
    """Record one figure of quality."""
    figure = Figure(metric, verdict, message, value, limit, unit, uncertainty, analysis)
    return inserted(session, QualityResult, **_columns(run_id, stage, figure))


def add_figures(session: Session, *, run_id: int, stage: Stage, figures: Sequence[Figure]) -> None:
    """Record figures of quality in one statement."""
    rows = [_columns(run_id, stage, one) for one in figures]
    for row in rows:
        refuse_row("quality_result", row)
    if rows:
        session.execute(_FIGURES, rows)


_FIGURES = insert_into(QualityResult)


def _columns(run_id: int, stage: Stage, one: Figure) -> dict[str, Any]:
    # `limit` is a reserved word of SQL.
    facts = {"limit_value" if name == "limit" else name: value for name, value in vars(one).items()}
    return {"run_id": run_id, "stage": stage, **facts}


def add_remedy(
    session: Session,
    *,
    run_id: int,
    cause_metric: str,
    action: str,
    outcome: str,
    from_value: JsonValue = None,
    to_value: JsonValue = None,
    cost: str = "",
) -> int:
    """Record a change made because a figure was bad: what, from, to, at what cost, and what came of it."""
    row = Remedy(
        run_id=run_id,
        cause_metric=cause_metric,
        action=action,
        from_value=from_value,
        to_value=to_value,
        cost=cost,
        outcome=outcome,
    )
    return added(session, row).id


def add_analysis(
    session: Session,
    *,
    run_id: int,
    method: str,
    verdict: AnalysisVerdict,
    reason: str,
    path: str | None = None,
    summary: JsonValue = None,
) -> int:
    """Record what one analysis made of a run, and where its result lies."""
    row = AnalysisResult(run_id=run_id, method=method, verdict=verdict, reason=reason, path=path, summary=summary)
    return added(session, row).id


def _number_or_text(value: float | int | str | bool) -> tuple[float | None, str | None]:
    if isinstance(value, bool):
        return None, str(value).lower()
    if isinstance(value, str):
        return None, value
    # A device that reads back NaN is a fact worth keeping, but no number.
    return (float(value), None) if math.isfinite(value) else (None, str(value))
