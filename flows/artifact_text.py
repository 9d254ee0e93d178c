"""What Prefect shows of a run and of a night, in the words of their pages: rows and markdown, all of it bounded."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from flows.markdown import escaped, rows_of
from stem4d.plan import Plan
from web.report.judged import headline, judged
from web.report.tables import EMPTY, Cell, chip, metric
from web.report.text import number
from web.report.values import RunReport

MOST_ROWS = 300
MOST_FOUND = 20
"""Figures that fail or warn, on the page of a run; the table has all of them."""
ON_A_LINE = 70
"""Characters of a cell that Prefect's page shows without scrolling."""
MOST_PICTURE = 60_000
"""Characters of a picture."""


class TargetEnd(NamedTuple):
    """A target of a night, how it ended and why."""

    target: str
    state: str
    reason: str


def quality_rows(report: RunReport) -> list[dict[str, str]]:
    """Figures of the recorded data against their limits, the worst first; Prefect shows texts as markdown."""
    tables = judged("", report.quality)
    rows = (*tables.open.rows, *tables.passed.rows)
    if not rows:
        return [dict.fromkeys(tables.open.headers, EMPTY) | {tables.open.headers[-1]: "nothing was judged"}]
    return [dict(zip(tables.open.headers, map(_cell, row), strict=True)) for row in rows[:MOST_ROWS]]


def _cell(cell: Cell) -> str:
    return escaped(cell.chip.word if cell.chip else cell.text)


def run_markdown(report: RunReport, plan: Plan, picture: bytes | None, page: Path | None, web_url: str | None) -> str:
    """A run: its picture, what was asked, a verdict for each analysis, why it ended, dose, and where more of it is."""
    title = escaped(report.plan_title or report.plan)
    parts = [
        f"# {title}",
        f"**{escaped(chip(report.state).word)}**{_why(report.exit_reason)}",
        _picture(picture),
        f"Specimen {escaped(report.sample)}, area {escaped(report.area)}, attempt {report.attempt}. {_asked(plan)}",
        "\n".join(_analyses(report)),
        "\n".join(_found(report)),
        rows_of(("Area", "This run [e⁻/Å²]", "Others", "Budget"), tuple(_dose(report))),
        *_links("runs", report.run, page, web_url),
    ]
    return "\n\n".join(part for part in parts if part)


def night_markdown(
    name: str, title: str, reason: str, ended: Sequence[TargetEnd], page: Path | None, web_url: str | None
) -> str:
    """A night: its targets in the order in which they ended, with states and reasons."""
    told = ended[:MOST_ROWS]
    rows = tuple((escaped(one.target), escaped(one.state), escaped(one.reason or EMPTY, ON_A_LINE)) for one in told)
    cut = [f"- **{escaped(one.target)}**: {escaped(one.reason)}" for one in told if len(one.reason) > ON_A_LINE]
    more = f"{len(ended) - MOST_ROWS} more stand on its page." if len(ended) > MOST_ROWS else ""
    parts = [f"# {escaped(title)}", escaped(reason), rows_of(("Target", "Ended", "Why"), rows), "\n".join(cut), more]
    return "\n\n".join(part for part in (*parts, *_links("nights", name, page, web_url)) if part)


def _why(reason: str | None) -> str:
    return f": {escaped(reason)}" if reason else ""


def _picture(picture: bytes | None) -> str:
    if picture is None:
        return "No frame was recorded."
    text = b64encode(picture).decode()
    alt = "Virtual bright-field image of the first pass"
    return f"![{alt}](data:image/png;base64,{text})" if len(text) <= MOST_PICTURE else f"{alt}: too large to show here."


def _asked(plan: Plan) -> str:
    scan, optics, exposure = plan.scan, plan.optics, plan.exposure
    said = (
        f"{scan.shape[0]} × {scan.shape[1]} positions, {scan.step_nm:g} nm apart",
        f"{exposure.dwell_time_us:g} µs each" + (f", {exposure.passes} passes" if exposure.passes > 1 else ""),
        f"{optics.beam_energy_kev:g} kV, {optics.convergence_semi_angle_mrad:g} mrad, {optics.probe_current_pa:g} pA",
    )
    wanted = ", ".join(dict.fromkeys(one.kind for one in plan.analyses))
    return escaped(f"Asked for: {wanted}; {'; '.join(said)}.")


def _analyses(report: RunReport) -> Iterator[str]:
    """A line for each analysis; not a table, whose long cells Prefect's page cuts."""
    data = {name: one.word for name, one in headline(report.quality)[0]}
    results = {one.method: one for one in report.analyses}
    for name in dict.fromkeys((*data, *results)):
        found = results.get(name)
        result = f"; {chip(found.verdict).word}: {found.reason}" if found else ""
        yield f"- **{escaped(name)}**: data {escaped(data.get(name, 'not judged'))}{escaped(result)}"


def _found(report: RunReport) -> Iterator[str]:
    """What fails, and then what warns."""
    worst = [one for verdict in ("fail", "warn") for one in report.quality if one.verdict == verdict]
    for one in worst[:MOST_FOUND]:
        yield f"- {chip(one.verdict).word}, {escaped(metric(one.metric))}: {escaped(one.message)}"


def _dose(report: RunReport) -> Iterator[tuple[str, str, str, str]]:
    for one in report.doses:
        figures = (one.delivered_e_per_a2, one.others_e_per_a2, one.budget_e_per_a2)
        yield (escaped(one.area), *(number(each, 3) for each in figures))  # type: ignore[misc]


def _links(kind: str, name: str, page: Path | None, web_url: str | None) -> Iterator[str]:
    if web_url:
        yield f"[The page of {name} in nightbeam serve]({web_url}/{kind}/{name})"
    if page:
        # A browser opens no file for a page that came from elsewhere: the path is for whoever is there.
        yield f"Report: {escaped(page, 1000)}"
