"""Turns evidence into pictures with the figures that they are evidence for, and tells what has none."""

from collections.abc import Iterable, Sequence

from stem4d.quality.evidence.values import Evidence, Panel, verdict_of
from stem4d.verdict import QualityResult, Verdict, worst
from web.report.figures.canvas import as_picture
from web.report.figures.evidence import evidence
from web.report.tables import metric
from web.report.text import listed, quantity
from web.report.values import EvidenceGroup, EvidenceShown, Judgement


def drawn_evidence(groups: Iterable[Evidence], results: Sequence[QualityResult]) -> tuple[EvidenceGroup, ...]:
    """All pictures, groups with the worst verdicts first; what passed comes after what did not."""
    made = []
    for group in groups:
        shown = [_shown(panel, results) for panel in group.panels]
        passed = [one for one in shown if one.verdict == Verdict.PASS]
        opened = [one for one in shown if one.verdict != Verdict.PASS]
        made.append(EvidenceGroup(group.group, tuple(opened), tuple(passed)))
    order = list(Verdict)
    return tuple(sorted(made, key=lambda one: -order.index(worst(Verdict(each.verdict) for each in one.open))))


def _shown(panel: Panel, results: Sequence[QualityResult]) -> EvidenceShown:
    verdict = verdict_of(panel, results)
    assert verdict is not None
    figures: dict[tuple[str, str, str], list[str]] = {}
    for one in results:
        if one.metric in panel.metrics and one.verdict is not Verdict.NOT_MEASURABLE:
            said = quantity(one.value, one.unit, one.uncertainty)
            limit = "" if one.limit is None else f"; limit {quantity(one.limit, one.unit)}"
            figures.setdefault((metric(one.metric), one.verdict.value, f"{said}{limit}"), []).append(one.analysis or "")
    told = tuple(
        (f"{name}{f' for {listed(whose)}' if all(whose) else ''}", judged, said)
        for (name, judged, said), whose in figures.items()
    )
    # What is folded need not be as sharp: it makes most of the pictures.
    picture = as_picture(evidence(panel), 1.5 if verdict is Verdict.PASS else 2.0)
    return EvidenceShown(picture, verdict.value, told, panel.note)


def without_picture(items: Sequence[Judgement]) -> tuple[tuple[str, str], ...]:
    """What was not measured and so has no picture: the figures in words, and why."""
    reasons: dict[str, list[str]] = {}
    for one in items:
        if one.verdict == Verdict.NOT_MEASURABLE:
            reasons.setdefault(one.message, []).append(metric(one.metric))
    return tuple((listed(dict.fromkeys(names)), reason) for reason, names in reasons.items())
