"""Figures held against their limits, as a page shows them: the headline, what has to be read, what is folded away."""

from collections.abc import Sequence
from dataclasses import dataclass

from web.report.tables import EMPTY, Cell, Chip, Table, chip, metric
from web.report.text import listed, quantity
from web.report.values import Judgement


@dataclass(frozen=True)
class Judged:
    """Figures held against their limits: what has to be read, and what passed, to be unfolded."""

    open: Table
    passed: Table


def judged(caption: str, items: Sequence[Judgement]) -> Judged:
    """Figures held against their limits, worst first, those that passed apart."""
    severity = ["fail", "warn", "not_measurable"]
    ordered = sorted(items, key=lambda item: severity.index(item.verdict) if item.verdict in severity else 0)
    passed = [item for item in ordered if item.verdict == "pass"]
    count = f"{len(passed)} of {len(items)} figures are within their limits"
    return Judged(
        _judgements(caption, [item for item in ordered if item.verdict != "pass"]),
        _judgements(f"{caption}: {count}", passed),
    )


def headline(items: Sequence[Judgement]) -> tuple[list[tuple[str, Chip]], str]:
    """A chip for each analysis, and what of the whole run could not be measured."""
    order = ["pass", "not_measurable", "warn", "fail"]
    unknown = [metric(item.metric) for item in items if item.analysis is None and item.verdict == "not_measurable"]
    counted = [item for item in items if item.analysis is not None or item.verdict != "not_measurable"]
    names = sorted({item.analysis for item in counted if item.analysis is not None})
    chips = []
    for name in names:
        verdicts = [item.verdict for item in counted if item.analysis in (name, None) and item.verdict in order]
        chips.append((name, chip(max(verdicts, key=order.index))))
    return chips, listed(dict.fromkeys(unknown)) if unknown else ""


def _judgements(caption: str, items: Sequence[Judgement]) -> Table:
    rows = tuple(
        (
            Cell(metric(item.metric)),
            Cell(chip=chip(item.verdict)),
            Cell(quantity(item.value, item.unit, item.uncertainty), figure=True),
            Cell(EMPTY if item.limit is None else quantity(item.limit, item.unit), figure=True),
            Cell(item.analysis or "all"),
            Cell(item.message),
        )
        for item in items
    )
    return Table(caption, ("Quantity", "Verdict", "Figure", "Limit", "For analysis", "What it means"), rows)
