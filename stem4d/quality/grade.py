"""From a figure with its uncertainty to a verdict, and small words for messages."""

from math import isfinite

from stem4d.verdict import QualityResult, Verdict

DOUBT_SIGMAS = 2.5
"""A figure that is not this many standard errors beyond its limit is doubtful: an alarm costs dose and time."""
PASS_SIGMAS = 1.645
"""A figure passes this many standard errors within its limit, where it is 95 % sure to hold it (one-sided)."""


def grade(
    value: float, uncertainty: float, *, soft: float | None = None, hard: float | None = None
) -> tuple[Verdict, float | None]:
    """Verdict on a figure that must not exceed its limits, and the limit that decided.

    Surely above the hard limit fails, surely above the soft one warns. Less than PASS_SIGMAS standard errors below the
    stricter limit it warns too, unless DOUBT_SIGMAS of them are more than half of the limit: then nothing was measured.
    """
    limits = [limit for limit in (soft, hard) if limit is not None]
    if not limits or not isfinite(value):
        return Verdict.NOT_MEASURABLE, min(limits, default=None)
    strictest = min(limits)
    doubt = DOUBT_SIGMAS * uncertainty if isfinite(uncertainty) else float("inf")
    if hard is not None and value - doubt > hard:
        return Verdict.FAIL, hard
    if soft is not None and value - doubt > soft:
        return Verdict.WARN, soft
    if value + PASS_SIGMAS * uncertainty <= strictest:
        return Verdict.PASS, strictest
    return (Verdict.NOT_MEASURABLE if doubt > strictest / 2 else Verdict.WARN), strictest


def grade_least(value: float, uncertainty: float, *, soft: float) -> tuple[Verdict, float]:
    """Verdict on a figure that has to reach a limit; surely below it warns, and within its doubt too, as for `grade`.

    Where the doubt is more than half of the limit and the value not surely below it, nothing was measured.
    """
    doubt = DOUBT_SIGMAS * uncertainty if isfinite(uncertainty) else float("inf")
    if not isfinite(value):
        return Verdict.NOT_MEASURABLE, soft
    if value - PASS_SIGMAS * uncertainty >= soft:
        return Verdict.PASS, soft
    unknown = value + doubt >= soft and doubt > soft / 2
    return (Verdict.NOT_MEASURABLE if unknown else Verdict.WARN), soft


def result(
    metric: str,
    analysis: str | None,
    verdict: Verdict,
    message: str,
    *,
    value: float | None = None,
    limit: float | None = None,
    unit: str = "",
    uncertainty: float | None = None,
) -> QualityResult:
    """A quality result; figures that are not finite are left out."""
    return QualityResult(
        metric=metric,
        analysis=analysis,
        verdict=verdict,
        value=_finite(value),
        limit=_finite(limit),
        unit=unit,
        uncertainty=_finite(uncertainty),
        message=" ".join(message.split()),
    )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and isfinite(value) else None
