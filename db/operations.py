"""What a session records, as small documents that name everything by keys of ours: they need no database to be made."""

import json
from datetime import datetime
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal, get_args
from uuid import uuid4

from pydantic import Field, TypeAdapter, model_validator

from db.clock import utc_now
from db.models.base import clean_text, refuse_unstorable
from db.vocabulary import (
    AnalysisVerdict,
    JsonValue,
    NightState,
    Phase,
    Purpose,
    RunState,
    Source,
    Stage,
    TargetState,
    Verdict,
)
from stem4d.model import Strict


class Part(Strict):
    """Anything that is recorded: texts and numbers that both databases, and JSON, give back as they were."""

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for name, value in given.items():
            # A journal would keep NaN as null: what no database takes is refused before it is kept anywhere.
            refuse_unstorable(name, value)
        return _cleaned(given)


class AreaKey(Part):
    """An area by the names of its sample and itself; its budget is for where it is not registered yet."""

    sample: str
    name: str
    fluence_budget_e_per_a2: float


class DatasetKey(Part):
    """A data set by its run and its number there."""

    run: str
    pass_index: int


class CalibrationKey(Part):
    """A calibration by the run that measured it, its kind, and when."""

    run: str
    kind: str
    measured_at: datetime


class CostFacts(Part):
    """What a run takes, predicted or actual; None where it is not known."""

    seconds: float | None = None
    size_bytes: int | None = None
    fluence_e_per_a2: float | None = None


class Environment(Part):
    """Interpreter, packages with versions, code revision, releases of drivers."""

    python: str
    packages: dict[str, str]
    code_revision: str
    drivers: dict[str, str] | None = None


class SessionFacts(Part):
    """The session that a run belongs to: the token of its lease, who has it, and since when."""

    owner_token: int
    owner: str
    host: str
    began: datetime


class Operation(Part):
    """One step of the record: applied as a whole, and once, whatever becomes of the answer."""

    urgent: ClassVar[bool] = False
    """Whether an outbox on a full disk has to take it all the same."""

    key: str = Field(default_factory=lambda: uuid4().hex, max_length=64)
    at: datetime = Field(default_factory=utc_now)
    """When it happened, whenever it is applied."""


class RegisterArea(Operation):
    """An area that exposures are to be booked on."""

    kind: Literal["area"] = "area"
    area: AreaKey
    specimen: bool = True
    """False where nothing can be harmed."""
    pose: dict[str, float] | None = None
    """Where its plan says that it lies on the stage."""
    thumbnail: str | None = None
    """The survey of it that its plan names."""


class OpenRun(Operation):
    """A run begins."""

    kind: Literal["open_run"] = "open_run"
    run: str
    plan_name: str
    plan_json: str
    area: AreaKey
    instrument: str
    target: int | None = None
    attempt: int = 1
    parent: str | None = None
    flow_run_id: str | None = None
    environment: Environment
    session: SessionFacts | None = None
    predicted: CostFacts | None = None


class FinishRun(Operation):
    """A run ends."""

    urgent: ClassVar[bool] = True
    kind: Literal["finish_run"] = "finish_run"
    run: str
    state: RunState
    reason: str = ""
    actual: CostFacts | None = None
    took_s: float | None = None


class AddEvent(Operation):
    """Something happened."""

    kind: Literal["event"] = "event"
    event: str
    message: str
    data: JsonValue = None
    run: str | None = None
    target: int | None = None
    night: int | None = None


class OpenIntent(Operation):
    """An exposure that may begin."""

    urgent: ClassVar[bool] = True
    kind: Literal["intent"] = "intent"
    run: str
    area: AreaKey
    purpose: Purpose
    token: str
    fluence_e_per_a2: float
    budget_tolerance: float = 0.0
    owner_token: int | None = None


class CloseIntent(Operation):
    """What an exposure delivered."""

    urgent: ClassVar[bool] = True
    kind: Literal["close_intent"] = "close_intent"
    token: str
    delivered_e_per_a2: float
    electrons: float | None = None
    reason: str = ""


class AddDataset(Operation):
    """The file of a pass or scan."""

    urgent: ClassVar[bool] = True
    kind: Literal["dataset"] = "dataset"
    dataset: DatasetKey
    sha256: str
    size_bytes: int
    scan_shape: tuple[int, int]
    detector_shape: tuple[int, int]
    dtype: str
    frames: int
    complete: bool
    purpose: Purpose = "acquisition"
    path: str
    host: str


class ReadingFacts(Part):
    """One setting of an instrument."""

    name: str
    value: bool | int | float | str
    unit: str
    source: Source
    read_at: datetime

    @model_validator(mode="before")
    @classmethod
    def _told(cls, given: Any) -> Any:
        # A device that reads back NaN is a fact worth keeping, but no number.
        value = given.get("value")
        return {**given, "value": str(value)} if isinstance(value, float) and not isfinite(value) else given


class AddSnapshot(Operation):
    """All settings of the instrument before or after a run."""

    kind: Literal["snapshot"] = "snapshot"
    run: str
    phase: Phase
    readings: tuple[ReadingFacts, ...]


class Figure(Part):
    """One figure of quality beside its limit."""

    metric: str
    verdict: Verdict
    message: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    uncertainty: float | None = None
    analysis: str | None = None


class AddQuality(Operation):
    """Figures that were judged together."""

    kind: Literal["quality"] = "quality"
    run: str
    stage: Stage
    figures: tuple[Figure, ...]


class AddRemedy(Operation):
    """A change that was made because a figure was bad."""

    kind: Literal["remedy"] = "remedy"
    run: str
    cause_metric: str
    action: str
    from_value: JsonValue = None
    to_value: JsonValue = None
    cost: str = ""
    outcome: str


class AddAnalysis(Operation):
    """What one analysis made of a run."""

    kind: Literal["analysis"] = "analysis"
    run: str
    method: str
    verdict: AnalysisVerdict
    reason: str
    path: str | None = None
    summary: JsonValue = None


class AddCalibration(Operation):
    """A calibration that a run measured."""

    kind: Literal["calibration"] = "calibration"
    calibration: CalibrationKey
    mode_key: str
    instrument: str
    value: JsonValue
    uncertainty: JsonValue = None
    residual: float | None = None
    reason: str = ""
    curves: JsonValue = None
    unit: str
    valid_until: datetime | None = None
    verdict: Verdict
    evidence: tuple[DatasetKey | int, ...] = ()
    rests_on: tuple[CalibrationKey | int, ...] | None = None
    of: tuple[CalibrationKey | int, ...] = ()
    """The calibrations that it was worked out from: their numbers go into ``value`` under this name."""


class Use(Part):
    """A calibration that is used, and as what."""

    calibration: CalibrationKey | int
    role: str
    accepted_stale: str | None = None


class UseCalibrations(Operation):
    """The calibrations that a run uses."""

    kind: Literal["use"] = "use"
    run: str
    uses: tuple[Use, ...]


class Withdraw(Operation):
    """Calibrations of a run that its data contradict."""

    kind: Literal["withdraw"] = "withdraw"
    run: str
    roles: tuple[str, ...]
    reason: str


class SetTarget(Operation):
    """A target of a night goes on."""

    kind: Literal["target"] = "target"
    target: int
    state: TargetState
    reason: str = ""
    broken_off: bool = False
    """Whether it was the night that ended, and not this target: the same command takes it up again."""
    predicted_s: float | None = None
    """What it was to take now that it ends [s], and what it took; both or none."""
    actual_s: float | None = None
    owner_token: int | None = None
    """Of the lease under which it is taken up."""


class FinishNight(Operation):
    """A night ends."""

    urgent: ClassVar[bool] = True
    kind: Literal["finish_night"] = "finish_night"
    night: int
    state: NightState
    reason: str = ""


AnyOperation = Annotated[
    RegisterArea
    | OpenRun
    | FinishRun
    | AddEvent
    | OpenIntent
    | CloseIntent
    | AddDataset
    | AddSnapshot
    | AddQuality
    | AddRemedy
    | AddAnalysis
    | AddCalibration
    | UseCalibrations
    | Withdraw
    | SetTarget
    | FinishNight,
    Field(discriminator="kind"),
]
KINDS: tuple[type[Operation], ...] = get_args(get_args(AnyOperation)[0])
_ADAPTER: TypeAdapter[AnyOperation] = TypeAdapter(AnyOperation)


def as_text(operation: Operation) -> str:
    """An operation as one line of ASCII."""
    return json.dumps(operation.model_dump(mode="json"), separators=(",", ":"), allow_nan=False)


def from_text(text: str) -> AnyOperation:
    """The reverse of ``as_text``; raises `pydantic.ValidationError` for what is no operation of ours."""
    # What a validator has looked at before is no JSON any more to pydantic, which then takes no list for a tuple.
    return _ADAPTER.validate_json(text, strict=False)


def _cleaned(given: Any) -> Any:
    """Texts as the database keeps them: JSON and pydantic take no lone surrogates."""
    if isinstance(given, str):
        return clean_text(given)
    if isinstance(given, dict):
        return {_cleaned(key): _cleaned(value) for key, value in given.items()}
    if isinstance(given, list | tuple):
        return type(given)(_cleaned(part) for part in given)
    return given
