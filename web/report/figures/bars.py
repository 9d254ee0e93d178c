"""Draws bars: dose against the budget of an area, and a night's targets over time."""

from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from web.report.figures.canvas import INK, TEXT_PT, Drawing, drawn, legend_below, plot_axes
from web.report.text import duration, number

_OTHERS, _NOW, _OPEN, _OVER, _GRID = "#9aa5b1", "#1f5fa8", "#ffffff", "#b3261e", "#e3e6ea"
_STATE_COLOURS = {
    "done": "#2b7a4b",
    "mended": "#1f5fa8",
    "marked": "#b7791f",
    "refused": "#6b7280",
    "skipped": "#9aa5b1",
    "failed": "#b3261e",
}


def dose_bar(others_e_per_a2: float, delivered_e_per_a2: float, budget_e_per_a2: float, area: str) -> Drawing:
    """Highest fluence of an area by this run and by other exposures, against what it may receive [e/Å²]."""
    title = f"Dose of area {area} [e⁻/Å²]"
    axes = plot_axes(title, 1.5, left_in=0.2)
    total = others_e_per_a2 + delivered_e_per_a2
    others, own = (number(value, 3) for value in (others_e_per_a2, delivered_e_per_a2))
    line: dict[str, Any] = {"edgecolor": INK, "linewidth": 0.6}
    axes.barh(0, others_e_per_a2, color=_OTHERS, label=f"other exposures {others}", **line)
    axes.barh(0, delivered_e_per_a2, left=others_e_per_a2, color=_NOW, label=f"this run {own}", **line)
    axes.axvline(budget_e_per_a2, color=_OVER, linewidth=1.8, label=f"budget {number(budget_e_per_a2, 3)}")
    axes.set_xlim(0, max(total, budget_e_per_a2) * 1.06)
    axes.set_ylim(-0.55, 0.55)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: number(tick)))
    legend_below(axes, axes.get_legend_handles_labels()[0], columns=3)
    share = f"{number(100 * total / budget_e_per_a2, 3)} % of the budget"
    said = f"{title}: {others} by other exposures, {own} by this run, of {number(budget_e_per_a2, 3)} allowed; {share}."
    return drawn(axes, title, said)


@dataclass(frozen=True)
class Span:
    """One target on the night's time line; times since the night began [s]."""

    name: str
    state: str
    start_s: float
    end_s: float


def time_line(spans: tuple[Span, ...]) -> Drawing:
    """When each target of a night ran and how it ended."""
    title = "Targets over the night [min]"
    axes = plot_axes(title, 1.05 + 0.38 * len(spans), left_in=1.35)
    for row, span in enumerate(spans):
        left, width = span.start_s / 60, max(span.end_s - span.start_s, 0.0) / 60
        colour = _STATE_COLOURS.get(span.state, _OPEN)
        axes.barh(row, width, left=left, height=0.6, color=colour, edgecolor=INK, linewidth=0.6)
    axes.set_yticks(range(len(spans)), [f"{_short(span.name)}\n{span.state}" for span in spans], fontsize=TEXT_PT - 1)
    axes.set_ylim(len(spans) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel("time since the night began [min]", fontsize=TEXT_PT, color=INK)
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    said = "; ".join(f"{s.name}, {s.state}, {duration(s.end_s - s.start_s)}" for s in spans)
    return drawn(axes, title, f"{title}, in order: {said}.")


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
