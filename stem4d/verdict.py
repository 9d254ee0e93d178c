"""How a thing is judged: verdicts, the findings of a plan check and the results of a quality check."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Literal

from stem4d.model import Strict

Axis = Literal["reciprocal space", "intensity and dose", "real space and time", "instrument and calibration"]


class Verdict(StrEnum):
    """From best to worst; ``not_measurable`` is never a pass."""

    PASS = "pass"  # noqa: S105 - not a password
    NOT_MEASURABLE = "not_measurable"
    WARN = "warn"
    FAIL = "fail"


_ORDER = list(Verdict)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several verdicts; ``pass`` of none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.PASS)


class Change(Strict):
    """A parameter change that would mend something."""

    field: str
    value: float
    unit: str = ""
    needs_person: bool = False
    """True where it means realigning (a convergence angle): not possible unattended."""


class Finding(Strict):
    """What one rule says of one analysis of a plan."""

    rule: str
    axis: Axis
    analysis: str | None
    verdict: Verdict
    quantity: str
    """The quantity in words, as a microscopist would say it."""
    value: float | None
    limit: float | None
    sense: Literal["at most", "at least"] = "at most"
    """On which side of the limit the value has to be."""
    unit: str
    margin: float | None
    """How far inside the limit, as a fraction of it; negative outside."""
    message: str
    remedy: str = ""
    change: Change | None = None


class QualityResult(Strict):
    """What one quality check measured, and what that means for one analysis."""

    metric: str
    """Dotted name: ``saturation.disk``, ``descan.range``, ``drift.rate``, ``centring.offset``, ``dose.fluence``."""
    analysis: str | None
    verdict: Verdict
    value: float | None
    limit: float | None
    unit: str
    uncertainty: float | None = None
    message: str
