"""Values that are no counts: pixels without numbers, values below zero, and what nothing can be said about."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stem4d.quality.counting import Pedestal
from stem4d.quality.grade import result
from stem4d.values import Reading
from stem4d.verdict import QualityResult, Verdict

ELECTRONS = ("dose.electrons", "dose.signal", "dose.noise", "saturation.rate")
"""Metrics that take counts for electrons."""

NOTHING = "Nothing is known of it: not one value of the recording is a number, all are NaN or infinite."


@dataclass(frozen=True)
class NotCounts:
    """How a recording was read whose values are no counts."""

    reading: Reading
    unit_known: bool
    """Whether somebody said what one electron adds, or the values are whole and never below zero."""


def check_values(found: NotCounts) -> Iterator[QualityResult]:
    """Tell pixels without numbers and values below zero, where there are any; both are counted and have no error."""
    survey = found.reading.survey
    touched, always = int((survey.invalid_by_pixel > survey.empty).sum()), int(survey.left_out.sum())
    pixels = survey.invalid_by_pixel.size
    if touched:
        text = f"{touched} of {pixels} pixels hold no number (NaN or infinite) in some frames that hold others."
        if always:
            text += f" {always} of them do so in more than half of the frames and are left out like bad pixels."
        yield result("pixels.invalid", None, Verdict.WARN, text, value=touched / pixels, limit=0.0, uncertainty=0.0)
    if survey.below_zero:
        values = survey.frames * pixels - survey.invalid
        part = survey.below_zero / values
        text = (
            f"{part:.1%} of the values lie below zero, down to {survey.lowest:.4g}: a dark level was subtracted. They "
            "are added as they are; a sum that stays below zero counts as 0."
        )
        yield result("frames.negative", None, Verdict.PASS, text, value=part, uncertainty=0.0)


def with_doubt(results: Iterable[QualityResult], found: NotCounts) -> Iterator[QualityResult]:
    """The same results, those taken back that the values cannot carry."""
    survey = found.reading.survey
    nothing = survey.frames > 0 and survey.invalid == survey.frames * survey.invalid_by_pixel.size
    for one in results:
        if nothing:
            counted = one.metric == "frames.invalid"
            text = one.message if counted else NOTHING
            value = one.value if counted else None
            yield result(one.metric, one.analysis, Verdict.NOT_MEASURABLE, text, value=value, unit=one.unit)
        elif one.metric in ELECTRONS and not found.unit_known and one.value is not None:
            yield one.model_copy(update={"verdict": Verdict.NOT_MEASURABLE, "message": _no_electrons(found)})
        else:
            yield one


def standing_on(results: Iterable[QualityResult], found: Pedestal) -> Iterator[QualityResult]:
    """The same results, those taken back that take counts for electrons, of counts that stand on a pedestal."""
    text = (
        f"Electrons are not known: the dimmest {found.pixels} pixels hold about {found.level:.2g} each in every frame, "
        "steadier than counted electrons can be: a pedestal, or values that were scaled. Subtract it, or give values "
        "of a counting detector."
    )
    for one in results:
        taken_back = one.metric in ELECTRONS and one.verdict is not Verdict.FAIL and one.value is not None
        change = {"verdict": Verdict.NOT_MEASURABLE, "message": text}
        yield one.model_copy(update=change) if taken_back else one


def _no_electrons(found: NotCounts) -> str:
    survey = found.reading.survey
    text = f"Electrons are not known: the values ({survey.lowest:.4g} to {survey.highest:.4g}) are no counts"
    if survey.electron() is None:
        return f"{text}, and their scatter does not tell what one electron adds."
    return f"{text}. By their scatter one electron adds about {found.reading.unit:.3g} or less."
