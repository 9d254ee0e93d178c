"""Tables of what a run left behind: data, quality, remedies, analyses."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import Base, Bytes, DatasetId, Id, Json, RunId, Sha256
from db.vocabulary import AnalysisVerdict, Purpose, Stage, Verdict, is_one_of


class Dataset(Base):
    """The frames of one pass of a run, or of one scan of a calibration."""

    __tablename__ = "dataset"

    id: Mapped[Id]
    run_id: Mapped[RunId]
    pass_index: Mapped[int]
    sha256: Mapped[Sha256] = mapped_column(index=True)
    size_bytes: Mapped[Bytes]
    scan_y: Mapped[int]
    scan_x: Mapped[int]
    det_y: Mapped[int]
    det_x: Mapped[int]
    dtype: Mapped[str]
    frames: Mapped[int]
    complete: Mapped[bool]
    purpose: Mapped[Purpose] = mapped_column(server_default="acquisition")

    __table_args__ = (
        UniqueConstraint("run_id", "pass_index"),
        CheckConstraint("length(sha256) = 64", name="sha256"),
        CheckConstraint("scan_y >= 1 AND scan_x >= 1 AND det_y >= 1 AND det_x >= 1", name="shape"),
        CheckConstraint("pass_index >= 0 AND size_bytes >= 0 AND frames >= 0", name="counts"),
        CheckConstraint(is_one_of("purpose", Purpose), name="purpose"),
    )


class DatasetLocation(Base):
    """A place where a dataset lies."""

    __tablename__ = "dataset_location"

    id: Mapped[Id]
    dataset_id: Mapped[DatasetId]
    path: Mapped[str]
    host: Mapped[str]

    __table_args__ = (UniqueConstraint("dataset_id", "host", "path"),)


class DatasetParent(Base):
    """A dataset made from another one."""

    __tablename__ = "dataset_parent"

    id: Mapped[Id]
    dataset_id: Mapped[DatasetId]
    parent_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))

    __table_args__ = (
        UniqueConstraint("dataset_id", "parent_id"),
        Index(None, "parent_id"),
        CheckConstraint("dataset_id <> parent_id", name="not_itself"),
    )


class QualityResult(Base):
    """One figure of a run's quality, held against its limit."""

    __tablename__ = "quality_result"

    id: Mapped[Id]
    run_id: Mapped[RunId]
    stage: Mapped[Stage]
    metric: Mapped[str]
    analysis: Mapped[str | None]
    value: Mapped[float | None]
    # `limit` is a reserved word: people who write SQL by hand would have to quote it.
    limit_value: Mapped[float | None]
    unit: Mapped[str]
    uncertainty: Mapped[float | None]
    verdict: Mapped[Verdict]
    message: Mapped[str]

    __table_args__ = (
        Index(None, "run_id", "stage"),
        Index(None, "metric", "verdict"),
        CheckConstraint(is_one_of("stage", Stage), name="stage"),
        CheckConstraint(is_one_of("verdict", Verdict), name="verdict"),
    )


class Remedy(Base):
    """A change that was made because a figure was bad, and what came of it."""

    __tablename__ = "remedy"

    id: Mapped[Id]
    run_id: Mapped[RunId]
    cause_metric: Mapped[str]
    action: Mapped[str]
    from_value: Mapped[Json | None]
    to_value: Mapped[Json | None]
    cost: Mapped[str]
    outcome: Mapped[str]

    __table_args__ = (Index(None, "run_id"),)


class AnalysisResult(Base):
    """What one analysis made of a run."""

    __tablename__ = "analysis_result"

    id: Mapped[Id]
    run_id: Mapped[RunId]
    method: Mapped[str]
    verdict: Mapped[AnalysisVerdict]
    reason: Mapped[str]
    path: Mapped[str | None]
    summary: Mapped[Json | None]

    __table_args__ = (
        Index(None, "run_id"),
        Index(None, "method", "verdict"),
        CheckConstraint(is_one_of("verdict", AnalysisVerdict), name="verdict"),
    )
