"""What a report page shows, as plain values: a run and a night. ``None`` is what was not measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Picture:
    """An encoded picture with its text alternative; size in CSS pixels."""

    title: str
    alt: str
    media_type: str
    data: bytes
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Plate:
    """Pictures that belong together, with what there is to say of all of them."""

    title: str
    pictures: tuple[Picture, ...]
    note: str = ""


@dataclass(frozen=True)
class StoryLine:
    """One event; ``target`` says whose it was in a night."""

    time: datetime
    kind: str
    message: str
    target: str = ""


@dataclass(frozen=True)
class Parameter:
    """One setting of the plan, or a figure that follows from it."""

    section: str
    name: str
    value: Any
    unit: str = ""


@dataclass(frozen=True)
class Judgement:
    """A figure held against its limit, for one analysis or for all."""

    metric: str
    analysis: str | None
    value: float | None
    limit: float | None
    unit: str
    verdict: str
    message: str
    uncertainty: float | None = None


@dataclass(frozen=True)
class CalibrationUsed:
    """A calibration that the run relied on. ``standing``: how it stood at the start, and whether a newer one exists."""

    kind: str
    role: str
    value: Any
    uncertainty: Any
    unit: str
    verdict: str
    measured_at: datetime
    standing: str
    used_for: str = ""


@dataclass(frozen=True)
class Withdrawn:
    """A calibration that the run's data contradicted: no run uses it any more."""

    number: int
    kind: str
    reason: str


@dataclass(frozen=True)
class RemedyTaken:
    """A change made because a figure was bad."""

    cause: str
    action: str
    before: Any
    after: Any
    cost: str
    outcome: str


@dataclass(frozen=True)
class DoseAccount:
    """Highest fluence of an area [e/Å²]: by what the page is about, by everything else, and what it may receive."""

    sample: str
    area: str
    budget_e_per_a2: float
    others_e_per_a2: float
    intended_e_per_a2: float
    delivered_e_per_a2: float
    reserved_e_per_a2: float = 0.0
    """What exposures that were never closed may have delivered."""

    @property
    def remaining_e_per_a2(self) -> float:
        """What the area has left; negative when its budget was passed."""
        return self.budget_e_per_a2 - self.others_e_per_a2 - self.delivered_e_per_a2 - self.reserved_e_per_a2


@dataclass(frozen=True)
class Exposure:
    """One exposure; ``delivered_e_per_a2`` is None while nobody knows what it gave."""

    purpose: str
    area: str
    opened: datetime
    intended_e_per_a2: float
    delivered_e_per_a2: float | None
    electrons: float | None
    reason: str | None


@dataclass(frozen=True)
class Cost:
    """What something was expected to take, or took."""

    seconds: float | None = None
    size_bytes: int | None = None
    fluence_e_per_a2: float | None = None


@dataclass(frozen=True)
class DataFile:
    """The frames of one pass on disk."""

    path: str
    size_bytes: int
    sha256: str
    shape: tuple[int, int, int, int]
    dtype: str
    complete: bool


@dataclass(frozen=True)
class AnalysisOutcome:
    """What one analysis can do with the data."""

    method: str
    verdict: str
    reason: str
    summary: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class EvidenceShown:
    """A picture of what figures of quality were taken from, with these figures and what there is to say of it."""

    picture: Picture
    verdict: str
    figures: tuple[tuple[str, str, str], ...]
    """Each figure in words, its verdict, and how it stands to its limit."""
    note: str = ""


@dataclass(frozen=True)
class EvidenceGroup:
    """The evidence of figures that belong together: to be seen, and what passed, to be unfolded."""

    title: str
    open: tuple[EvidenceShown, ...]
    passed: tuple[EvidenceShown, ...]


@dataclass(frozen=True)
class RunReport:
    """Everything a run's page shows."""

    run: str
    plan: str
    plan_title: str
    plan_sha256: str
    sample: str
    area: str
    instrument: str
    state: str
    verdict: str | None
    exit_reason: str | None
    attempt: int
    started: datetime
    ended: datetime | None
    software: tuple[tuple[str, str], ...] = ()
    night: str | None = None
    parent: str | None = None
    story: tuple[StoryLine, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    findings: tuple[Judgement, ...] = ()
    quality: tuple[Judgement, ...] = ()
    calibrations: tuple[CalibrationUsed, ...] = ()
    remedies: tuple[RemedyTaken, ...] = ()
    doses: tuple[DoseAccount, ...] = ()
    exposures: tuple[Exposure, ...] = ()
    predicted: Cost = Cost()
    actual: Cost = Cost()
    files: tuple[DataFile, ...] = ()
    analyses: tuple[AnalysisOutcome, ...] = ()
    plates: tuple[Plate, ...] = ()
    missing_pictures: str = ""
    """Why there are no pictures, or not all of them."""
    evidence: tuple[EvidenceGroup, ...] = ()
    withdrawn: tuple[Withdrawn, ...] = ()
    lacking: tuple[str, ...] = ()
    """Kinds of calibration that the analyses need and that were not there."""
    attempts: tuple[Mapping[str, Any], ...] = ()
    """Of the target up to this run's end, as ``db.questions.attempts`` tells of them."""


@dataclass(frozen=True)
class RunLink:
    """A run of a target, and its page beside this one if there is one."""

    run: str
    state: str
    verdict: str | None
    page: str | None


@dataclass(frozen=True)
class TargetLine:
    """One target of a night: how it was to end, how it ended, and at what cost."""

    position: int
    name: str
    plan: str
    state: str
    expected: str | None
    reason: str | None
    mended: tuple[str, ...]
    predicted: Cost
    actual: Cost
    runs: tuple[RunLink, ...]
    waits: bool = False
    """Whether the night was broken off before it ended: the same night may go on with it."""
    has_data: bool = False
    """Whether frames of its specimen are there, however it ended."""
    analyses: tuple[AnalysisOutcome, ...] = ()
    """The last result of each method."""
    night_predicted_s: float | None = None
    """What it was to take of the night, with what it takes beside its beam."""
    night_took_s: float | None = None


@dataclass(frozen=True)
class NightReport:
    """Everything a night's page shows."""

    night: str
    title: str
    instrument: str
    state: str
    exit_reason: str | None
    started: datetime
    ended: datetime | None
    sha256: str
    targets: tuple[TargetLine, ...]
    story: tuple[StoryLine, ...]
    doses: tuple[DoseAccount, ...]
    predicted: Cost
    actual: Cost
    story_note: str = ""
    plates: tuple[Plate, ...] = ()
    software: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CalibrationShown:
    """One calibration as it was measured, with its fit drawn on its data."""

    number: int
    kind: str
    verdict: str
    reason: str
    value: Any
    uncertainty: Any
    unit: str
    residual: float | None
    mode_key: str
    measured_at: datetime
    valid_until: datetime | None
    standing: str
    evidence: tuple[str, ...]
    nominal: Mapping[str, float] = field(default_factory=dict)
    """What the plan has, by the name of the value."""
    off_middle_px: tuple[float, float] | None = None
    """(y, x): where the disk lies after correction, less the middle of the detector."""
    plates: tuple[Plate, ...] = ()
    missing_pictures: str = ""


@dataclass(frozen=True)
class CalibrationReport:
    """Everything that the page of a run's calibrations shows."""

    run: str
    plan: str
    instrument: str
    state: str
    exit_reason: str | None
    started: datetime
    written: datetime
    shown: tuple[CalibrationShown, ...]
