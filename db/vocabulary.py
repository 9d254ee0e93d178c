"""The closed sets of words that the database stores, as types and as SQL checks."""

from typing import Any, Literal, get_args

NightState = Literal["running", "done", "stopped", "failed", "crashed"]
TargetState = Literal["pending", "running", "done", "mended", "marked", "refused", "skipped", "failed"]
RunState = Literal["running", "done", "mended", "marked", "refused", "stopped", "failed", "crashed"]
Purpose = Literal["acquisition", "calibration", "survey", "focus"]
Phase = Literal["before", "after"]
Source = Literal["measured", "commanded", "cached"]
Stage = Literal["plan", "online", "final"]
Verdict = Literal["pass", "warn", "fail", "not_measurable"]
WORST_FIRST: tuple[Verdict, ...] = ("fail", "warn", "not_measurable", "pass")
USABLE: tuple[Verdict, ...] = ("pass", "warn")
"""Verdicts of a calibration that a run may use."""
AnalysisVerdict = Literal["good", "doubtful", "not_possible"]
AskedBy = Literal["person", "schedule", "file", "event", "webhook", "run"]
"""What a flow is started by."""
LaunchState = Literal["running", "done", "warned", "refused", "failed", "stopped", "terminated", "lost"]

CLOSED_SETS = (NightState, TargetState, RunState, Purpose, Phase, Source, Stage, Verdict, AnalysisVerdict, LaunchState)

VACUUM = "vacuum"
"""The area that stands for no specimen: the stage position, and what exposures there are booked on."""

JsonValue = Any
"""A value that JSON can hold; ``db.models.base`` refuses NaN and infinity inside it."""


def words(kind: object) -> tuple[str, ...]:
    """The words of one of the sets above."""
    return get_args(kind)


def is_one_of(column: str, kind: object) -> str:
    """SQL that holds when the column has one of the words (or is null)."""
    return f"{column} IN ({', '.join(repr(word) for word in words(kind))})"
