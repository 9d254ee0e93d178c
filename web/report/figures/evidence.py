"""Draws the evidence for figures of quality: images with what is marked on them, and curves against their limits."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.colors import AsinhNorm
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Circle as Ring
from matplotlib.patches import Patch
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from stem4d.quality.evidence.values import Curves, Image, Level, Panel, Series
from web.report.figures.canvas import (
    INK,
    TEXT_PT,
    Drawing,
    clip_range,
    colour_bar,
    decade_ticks,
    drawn,
    image_panel,
    legend_below,
    plot_axes,
    with_bad,
)
from web.report.text import listed, number, unit_sign

_LINES = ("#1f5fa8", "#c2571a", "#2b7a4b", "#7b3fa0")
_DASHES: tuple[Any, ...] = ("-", "--", (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_POINTS = ("o", "s", "^", "D")
_RED, _GREY, _GRID, _SPAN = "#b3261e", "#6b7280", "#e3e6ea", "#f3d9a4"
# Light enough for a dark pattern, and each with a mark of its own.
_MARKED = (("#ff5d4d", "o"), ("#56b4e9", "s"), ("#f0e442", "D"), ("#2fd6a3", "^"), ("#e08fc0", "v"))
_RINGS = ("#ffffff", "#56b4e9", "#f0e442", "#2fd6a3", "#e08fc0")
FEW = 16
"""Marked places that get a sign each; more are outlined alone."""
THINNEST = 0.004
"""Part of the axis that a marked stretch covers at least: one frame of thousands has to be seen."""
NAMED = 48
"""Characters of a legend's entry that fit a line."""


def evidence(panel: Panel) -> Drawing:
    """The picture of one piece of evidence."""
    return _image(panel) if isinstance(panel, Image) else _curves(panel)


def _image(panel: Image) -> Drawing:
    rows, columns = panel.values.shape
    each = panel.positions
    extent = (-0.5, columns * each - 0.5, rows * each - 0.5, -0.5)
    entries = len(panel.marks) + len(panel.circles) + len(panel.points) + bool(_missing(panel))
    title = f"{panel.title} [{unit_sign(panel.unit)}]"
    shown, bar_axes = image_panel(np.ma.masked_invalid(panel.values), title, extent=extent, legend_lines=entries)
    _coloured(panel, shown, bar_axes)
    axes = shown.axes
    what = "detector" if panel.place == "detector" else "scan"
    unit = "px" if panel.place == "detector" else "position"
    axes.set_xlabel(f"{what} x [{unit}]", fontsize=TEXT_PT, color=INK)
    axes.set_ylabel(f"{what} y [{unit}]", fontsize=TEXT_PT, color=INK, labelpad=3)
    handles = [*_rings(panel, axes), *_points(panel, axes), *_marks(panel, axes)]
    if _missing(panel):
        handles.append(Patch(facecolor="#e8c9c9", edgecolor=_GREY, label=f"{_missing(panel)}: pale red"))
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    legend_below(axes, handles, columns=1)
    return drawn(shown, title, _image_said(panel, title))


def _missing(panel: Image) -> str:
    """What the places without a value are, in words; empty where every place has one."""
    empty = ~np.isfinite(panel.values)
    gaps = int(empty.sum())
    if not gaps or any((one.mask >= empty).all() for one in panel.marks):
        return ""
    return f"{number(gaps)} {'pixels left out' if panel.place == 'detector' else 'positions without a value'}"


def _coloured(panel: Image, shown: AxesImage, bar_axes: Axes) -> None:
    values = panel.values[np.isfinite(panel.values)]
    unit = unit_sign(panel.unit)
    if panel.scale == "asinh":
        peak = float(values.max()) if values.size else 0.0
        usual = float(np.percentile(values, 99.9)) if values.size else 0.0
        # One hot pixel must not make the rest black.
        top = usual if peak > 20 * usual > 0 else peak
        shown.set(cmap=with_bad(colormaps["gray"]), norm=AsinhNorm(max(top / 100, 1e-12), 0.0, max(top, 1e-9)))
        bar = colour_bar(shown, bar_axes, f"{unit} (asinh scale)", "max" if top < peak else "neither")
        ticks = decade_ticks(top, 1e-12)
        bar.set_ticks(ticks, labels=[number(tick) for tick in ticks])
        bar.minorticks_off()
        return
    low, high, cut = clip_range(panel.values)
    if panel.scale == "signed":
        high = max(abs(low), abs(high))
        low = -high
    shown.set(cmap=with_bad(colormaps["RdBu_r" if panel.scale == "signed" else "gray"]), clim=(low, high))
    power, words = _power(low, high)
    bar = colour_bar(shown, bar_axes, f"{unit}{words}", cut)
    whole = bool(values.size) and high - low < 12 and bool((values == np.round(values)).all())
    bar.set_ticks(MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1 if whole else 2))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: number(tick / power)))


def _rings(panel: Image, axes: Axes) -> Iterator[Artist]:
    outline: list[AbstractPathEffect] = [withStroke(linewidth=2.8, foreground="#000000a0")]
    for index, one in enumerate(panel.circles):
        colour, dash = _RINGS[index % len(_RINGS)], _DASHES[index % len(_DASHES)]
        y, x = one.centre_px
        axes.add_patch(
            Ring((x, y), one.radius_px, fill=False, color=colour, linewidth=1.3, linestyle=dash, path_effects=outline)
        )
        handle = Line2D([], [], color=colour, linewidth=1.5, linestyle=dash, label=_short(one.name))
        handle.set_path_effects(outline)
        yield handle


def _points(panel: Image, axes: Axes) -> Iterator[Artist]:
    outline = [withStroke(linewidth=3.2, foreground="#000000a0")]
    for (name, (y, x)), sign, colour in zip(panel.points, "+x", ("#f0e442", "#ffffff"), strict=False):
        style: dict[str, Any] = {
            "color": colour,
            "marker": sign,
            "markersize": 9,
            "markeredgewidth": 1.6,
            "path_effects": outline,
        }
        axes.plot([x], [y], linestyle="", **style)
        yield Line2D([], [], linestyle="", label=f"{name}, ({y:.1f}, {x:.1f})", **style)


def _marks(panel: Image, axes: Axes) -> Iterator[Artist]:
    """The outline of what is marked, and a sign at each place where there are few."""
    for (colour, sign), one in zip(_MARKED * 2, panel.marks, strict=False):
        count, each = int(one.mask.sum()), panel.positions
        edges = list(outline_of(one.mask, each))
        axes.add_collection(LineCollection(edges, colors="#000000a0", linewidths=2.4))
        axes.add_collection(LineCollection(edges, colors=colour, linewidths=1.2))
        if count <= FEW:
            y, x = np.nonzero(one.mask)
            style: dict[str, Any] = {
                "markerfacecolor": "none",
                "markeredgecolor": colour,
                "markeredgewidth": 1.5,
                "markersize": 9,
            }
            axes.plot(x * each, y * each, sign, path_effects=[withStroke(linewidth=3, foreground="#000000a0")], **style)
        label = f"{_short(one.name)}: {number(count)}"
        sign = sign if count <= FEW else "s"
        yield Line2D(
            [], [], color=colour, marker=sign, linestyle="", markerfacecolor="none", markeredgewidth=1.5, label=label
        )


def outline_of(mask: NDArray[np.bool_], each: int = 1) -> NDArray[np.float64]:
    """The edges of the marked pixels that face others, as segments (n, 2, 2) of points (x, y)."""
    padded = np.pad(mask, 1)
    # An edge between rows y - 1 and y lies at y - 1/2, and likewise of columns.
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    across = np.stack([np.stack([x - 0.5, y - 0.5], -1), np.stack([x + 0.5, y - 0.5], -1)], 1)
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    down = np.stack([np.stack([x - 0.5, y - 0.5], -1), np.stack([x - 0.5, y + 0.5], -1)], 1)
    segments: NDArray[np.float64] = (np.concatenate([across, down]) + 0.5) * each - 0.5
    return segments


def _curves(panel: Curves) -> Drawing:
    names = [*(one.name for one in panel.series), *_once(panel.levels), *([panel.span_name] if panel.spans else [])]
    height = 4.6 if panel.equal else 3.0
    axes = plot_axes(panel.title, height + 0.172 * len(names), left_in=0.78, legend_lines=len(names))
    handles: list[Artist] = []
    kinds = list(dict.fromkeys(one.of or one.name for one in panel.series if one.role != "limit"))
    limits = [one.name for one in panel.series if one.role == "limit"]
    for one in panel.series:
        known = limits if one.role == "limit" else kinds
        handles.append(_series(axes, one, known.index(one.name if one.role == "limit" else one.of or one.name)))
    handles += _levels(panel, axes)
    handles += _spans(panel, axes)
    axes.grid(color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for axis, label, pad in ((axes.xaxis, panel.x_label, 4), (axes.yaxis, panel.y_label, 3)):
        _labelled(axis, label, pad)
    if panel.equal:
        axes.set_aspect("equal", adjustable="datalim")
        axes.invert_yaxis()
    legend_below(axes, handles, columns=1)
    return drawn(axes, panel.title, _curves_said(panel))


def _labelled(axis: Axis, label: str, pad: float) -> None:
    """Name an axis and its few ticks, which have no room for powers of ten."""
    power, words = _power(*axis.get_view_interval())
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda tick, _: number(tick / power)))
    axis.set_label_text(f"{label}{words}", fontsize=TEXT_PT, color=INK)
    axis.labelpad = pad


def _power(low: float, high: float) -> tuple[float, str]:
    """The power of ten that numbers of a scale are told in, and the words for it; 1 and none where it takes none."""
    largest = max(abs(low), abs(high))
    if 1e-3 <= largest < 1e5 or not largest > 0:
        return 1.0, ""
    power = 10.0 ** np.floor(np.log10(largest))
    return float(power), f", in {number(float(power))}"


def _series(axes: Axes, one: Series, index: int) -> Artist:
    colour, name = _LINES[index % len(_LINES)], _short(one.name)
    if one.role != "points":
        dash = _DASHES[index % len(_DASHES)]
        if one.role == "limit":
            colour, dash = _RED, _DASHES[1 + index % 3]
        # A line through a single value would not be seen.
        marker = "o" if np.isfinite(one.y).sum() == 1 else ""
        return axes.plot(one.x, one.y, marker=marker, linestyle=dash, color=colour, linewidth=1.4, label=name)[0]
    marker, many = _POINTS[index % len(_POINTS)], len(one.x) > 200
    if one.error is not None:
        axes.errorbar(one.x, one.y, one.error, fmt="none", ecolor=colour, elinewidth=0.7 if many else 1.0)
    size = 1.6 if many else 3.6
    axes.plot(one.x, one.y, marker, color=colour, markersize=size, linestyle="")
    return Line2D([], [], color=colour, marker=marker, markersize=4, linestyle="", label=name)


def _levels(panel: Curves, axes: Axes) -> Iterator[Artist]:
    for index, (name, values) in enumerate(_once(panel.levels).items()):
        dash = _DASHES[1 + index % 3]
        for value in values:
            axes.axhline(value, color=_RED, linewidth=1.3, linestyle=dash)
            low, high = axes.get_ylim()
            room = 0.04 * (high - low)
            axes.set_ylim(min(low, value - room), max(high, value + room))
        said = " and ".join(number(value) for value in values)
        yield Line2D([], [], color=_RED, linewidth=1.3, linestyle=dash, label=_short(f"{name}: {said}"))


def _once(levels: Sequence[Level]) -> dict[str, list[float]]:
    """The values of levels by name."""
    values: dict[str, list[float]] = {}
    for one in levels:
        values.setdefault(one.name, []).append(one.value)
    return values


def _spans(panel: Curves, axes: Axes) -> Iterator[Artist]:
    """Marked stretches, hatched, and wide enough to be seen."""
    if not panel.spans:
        return
    low, high = axes.get_xlim()
    style: dict[str, Any] = {"facecolor": _SPAN, "edgecolor": _RED, "hatch": "////", "linewidth": 0.4}
    thin = THINNEST * (high - low)
    for one in panel.spans:
        spare = max(thin - (one.last - one.first + 1), 0.0) / 2
        left, right = one.first - 0.5 - spare, one.last + 0.5 + spare
        axes.axvspan(left, right, zorder=0.5, **style)
    yield Patch(label=panel.span_name, **style)


def _image_said(panel: Image, title: str) -> str:
    values = panel.values[np.isfinite(panel.values)]
    rows, columns = panel.values.shape
    what = "pixels" if panel.place == "detector" else "positions"
    each = f", each {panel.positions} by {panel.positions}" if panel.positions > 1 else ""
    parts = [f"{title}: {rows} rows and {columns} columns of {what}{each}."]
    if values.size:
        parts.append(f"Values from {number(float(values.min()))} to {number(float(values.max()))}.")
    if panel.circles:
        parts.append(f"Circles: {listed(one.name for one in panel.circles)}.")
    if panel.points:
        parts.append(f"Crosses: {listed(f'{name} at row {y:.1f}, column {x:.1f}' for name, (y, x) in panel.points)}.")
    parts += [f"Marked as {one.name}: {number(int(one.mask.sum()))} {what}{_first(one.mask)}." for one in panel.marks]
    if gaps := _missing(panel):
        parts.append(f"{gaps[0].upper()}{gaps[1:]}.")
    return " ".join(parts)


def _first(mask: NDArray[np.bool_], most: int = 5) -> str:
    """The first few of the marked places."""
    found = np.argwhere(mask)
    told = ", ".join(f"({y}, {x})" for y, x in found[:most].tolist())
    return f", at (y, x) {told}{' and others' if len(found) > most else ''}" if len(found) else ""


def _curves_said(panel: Curves) -> str:
    parts = [f"{panel.title}: {panel.y_label} against {panel.x_label}."]
    for one in panel.series:
        known = one.y[np.isfinite(one.y)]
        if known.size:
            low, high = float(known.min()), float(known.max())
            # What is nothing beside the other end is nothing.
            low, high = (0.0 if abs(end) < 1e-9 * max(abs(low), abs(high)) else end for end in (low, high))
            parts.append(f"{one.name}: from {number(low)} to {number(high)}.")
    parts += [f"{one.name}: {number(one.value)}." for one in panel.levels]
    if panel.spans:
        told = (f"{one.first:.0f} to {one.last:.0f}" for one in panel.spans[:5])
        more = " and others" if len(panel.spans) > 5 else ""
        parts.append(f"{panel.span_name}: {', '.join(told)}{more}.")
    return " ".join(parts)


def _short(name: str) -> str:
    return name if len(name) <= NAMED else f"{name[: NAMED - 1]}…"
