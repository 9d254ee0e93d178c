"""Draws a figure of a calibration over time, with its errors, its limit, and what was withdrawn."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from io import StringIO
from math import isfinite
from textwrap import fill
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from stem4d.calibrate.limits import LIMITS
from web.report.figures.canvas import INK, TEXT_PT
from web.report.measured_words import unit_for, words_of

_GOOD, _OTHER, _GONE, _LIMIT = "#14508f", "#b7791f", "#b3261e", "#6b4500"


def figures_of(found: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the figures that calibrations have: numbers, parts of lists, and the residual of the fit."""
    names: dict[str, None] = {}
    for one in found:
        names |= dict.fromkeys(_values(one["value"]))
        if one["residual"] is not None:
            names["residual"] = None
    return list(names)


def history_svg(found: Sequence[dict[str, Any]], kind: str, figure: str) -> str:
    """One figure over the time of measurement as SVG text; withdrawn ones are crosses, doubtful ones hollow."""
    drawing = Figure(figsize=(7.2, 2.6), facecolor="white", layout="constrained")
    axes = drawing.add_subplot()
    label, unit = _said(figure)
    points: dict[str, list[tuple[datetime, float, float]]] = {"usable": [], "doubtful": [], "withdrawn": []}
    for one in found:
        value = one["residual"] if figure == "residual" else _values(one["value"]).get(figure)
        if value is None:
            continue
        error = 0.0 if figure == "residual" else _values(one["uncertainty"]).get(figure) or 0.0
        which = "withdrawn" if one["withdrawn"] else "usable" if one["verdict"] == "pass" else "doubtful"
        points[which].append((datetime.fromisoformat(one["measured_at"]), value, error))
    styles: dict[str, dict[str, Any]] = {
        "usable": {"marker": "o", "color": _GOOD},
        "doubtful": {"marker": "o", "color": _OTHER, "markerfacecolor": "white"},
        "withdrawn": {"marker": "x", "color": _GONE},
    }
    for which, style in styles.items():
        if points[which]:
            at, values, errors = zip(*points[which], strict=True)
            axes.errorbar(at, values, yerr=errors, markersize=5, linewidth=1.0, label=which, linestyle="", **style)
    _draw_limit(axes, found, kind, figure, points["usable"])
    axes.set_ylabel(fill(label, 34) + (f" [{unit}]" if unit else ""), fontsize=TEXT_PT, color=INK, parse_math=False)
    _widen(axes, [one[0] for each in points.values() for one in each])
    locator = AutoDateLocator(maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.tick_params(labelsize=TEXT_PT - 1, colors=INK)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(color="#e3e6ea", linewidth=0.7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=TEXT_PT - 1, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    buffer = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": f"{kind}{figure}"}):
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _widen(axes: Axes, at: list[datetime]) -> None:
    """Give points that are close in time room about them: no axis is made of one moment."""
    if at and max(at) - min(at) < timedelta(hours=1):
        axes.set_xlim(date2num(min(at) - timedelta(hours=1)), date2num(max(at) + timedelta(hours=1)))


def _said(figure: str) -> tuple[str, str]:
    """A figure in words with which part of it, and its unit."""
    name, places = _parted(figure)
    words = words_of(name)
    at = [int(place) for place in re.findall(r"[0-9]+", places)]
    # Parts are named row by row; matrices of ours are 2 x 2.
    number = at[0] * 2 + at[1] if len(at) == 2 else at[0] if at else 0
    part = "" if not at else words.parts[number] if number < len(words.parts) else f"{number + 1}"
    return f"{words.label}, {part}" if part else words.label, unit_for(name)


def _parted(figure: str) -> tuple[str, str]:
    """The name of a figure, and which part of it: what `_values` has put behind the name."""
    name = re.sub(r"(\[[0-9]+\])+$", "", figure)
    return name, figure[len(name) :]


def _draw_limit(
    axes: Axes, found: Sequence[dict[str, Any]], kind: str, figure: str, usable: list[tuple[datetime, float, float]]
) -> None:
    """How far a standard error may reach, about the newest usable value."""
    name, _places = _parted(figure)
    limit = next((one for one in LIMITS.get(kind, ()) if one.name == name and not one.of), None)
    if limit is None or not usable:
        return
    _at, value, _error = max(usable)
    most = limit.figure(value)
    label = f"error allowed: {limit.words}"
    axes.axhspan(value - most, value + most, color=_LIMIT, alpha=0.12, linewidth=0, label=label)


def _values(value: Any, name: str = "") -> dict[str, float]:
    """Every number of a value by its path; lists of more than four are no figures."""
    if isinstance(value, bool):
        return {}
    if isinstance(value, int | float):
        return {name: float(value)} if isfinite(value) else {}
    if isinstance(value, dict):
        return {key: part for each, inner in value.items() for key, part in _values(inner, str(each)).items()}
    if isinstance(value, list) and len(value) <= 4:
        return {key: part for at, each in enumerate(value) for key, part in _values(each, f"{name}[{at}]").items()}
    return {}
