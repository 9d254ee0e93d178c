"""Draws the trade-off of a suggestion: least fluence and time against the target, and what stops finer ones."""

from math import log10

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from stem4d.suggest import Suggestion, TradePoint
from web.report.figures.canvas import INK, TEXT_PT
from web.report.text import number, unit_sign

_FLUENCE, _TIME, _ASKED, _LIMIT, _NOT = "#1f5fa8", "#b7791f", "#2fa37d", "#b3261e", "#fbe9e7"


def trade_figure(found: Suggestion) -> Figure:
    """Two panels over one axis of targets, finer to the left."""
    figure = Figure(figsize=(7.2, 5.6), facecolor="white", layout="constrained")
    title = found.goal.title or found.goal.name
    figure.suptitle(title, fontsize=TEXT_PT + 3, fontweight="bold", color=INK, parse_math=False)
    points = found.curve
    if not points:
        figure.text(0.5, 0.5, "No analysis of this goal states a target to vary.", ha="center", color=INK)
        return figure
    upper, lower = figure.subplots(2, 1, sharex=True)
    budget = found.goal.sample.fluence_budget_e_per_a2
    _curve(upper, points, [each.fluence_e_per_a2 for each in points], _FLUENCE, "least fluence [e⁻/Å²]", budget)
    upper.axhline(budget, color=_LIMIT, linewidth=1.4, label=f"budget {number(budget, 3)}")
    minutes = found.goal.time_available_min
    available_s = None if minutes is None else 60 * minutes
    _curve(lower, points, [each.time_s for each in points], _TIME, "time [s]", available_s)
    if available_s is not None:
        lower.axhline(available_s, color=_LIMIT, linewidth=1.4, label=f"available {number(available_s, 3)}")
    unit = "" if points[0].unit == "strain" else f" [{unit_sign(points[0].unit)}]"
    lower.set_xlabel(_axis_name(points[0].unit) + unit, fontsize=TEXT_PT, color=INK)
    for axes in (upper, lower):
        _asked(axes, points, found.feasible)
        axes.legend(fontsize=TEXT_PT - 1, frameon=False, labelcolor=INK)
    return figure


def _axis_name(unit: str) -> str:
    return {"Å": "target period", "strain": "strain precision", "nm": "smallest feature"}.get(unit, "target")


def _curve(
    axes: Axes,
    points: tuple[TradePoint, ...],
    values: list[float | None],
    colour: str,
    label: str,
    limit: float | None,
) -> None:
    known = [(point.target, value) for point, value in zip(points, values, strict=True) if value is not None]
    if known:
        axes.plot(*zip(*known, strict=True), marker="o", color=colour, linewidth=1.6, markersize=4)
        axes.set_yscale("log")
        shown = [value for _, value in known] + ([limit] if limit is not None else [])
        # At least a decade: what hardly changes must not look steep.
        spread = max(0.5 - log10(max(shown) / min(shown)) / 2, 0.1)
        axes.set_ylim(min(shown) / 10**spread, max(shown) * 10**spread)
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: number(tick)))
    axes.set_xscale("log")
    axes.set_xlim(points[0].target * 0.9, points[-1].target * 1.1)
    axes.set_xticks([point.target for point in points[::2]], [number(point.target, 3) for point in points[::2]])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylabel(label, fontsize=TEXT_PT, color=INK)
    axes.tick_params(labelsize=TEXT_PT - 1, colors=INK, width=0.6, length=3)
    axes.grid(color="#e3e6ea", linewidth=0.6)
    axes.set_axisbelow(True)
    blocked = [point for point in points if not point.feasible]
    if blocked:
        edge = min((point.target for point in points if point.feasible), default=points[-1].target * 1.1)
        axes.axvspan(points[0].target * 0.9, edge * 0.97, color=_NOT, label=f"not possible: {blocked[-1].limited_by}")


def _asked(axes: Axes, points: tuple[TradePoint, ...], feasible: bool) -> None:
    asked = next(point.target for point in points if point.relaxed_by == 1)
    word = "asked" if feasible else "asked: not possible"
    axes.axvline(asked, color=_ASKED, linewidth=1.6, linestyle="--", label=word)
