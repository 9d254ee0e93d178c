"""Draws a lineage: what came before to the left, what came after to the right; nodes with a page are links."""

from collections import deque
from collections.abc import Callable
from io import StringIO
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from web.report.figures.canvas import INK, TEXT_PT

Facts = dict[str, Any]

_WIDE_IN, _TALL_IN, _GAP_IN, _ROW_IN, _MARGIN_IN = 2.3, 0.42, 0.7, 0.56, 0.12
_FILL = {
    "run": "#dbe7f5",
    "dataset": "#e3f1e6",
    "calibration": "#f6ead2",
    "plan": "#eceff3",
    "sample": "#eceff3",
}
_BAD = ("failed", "crashed", "withdrawn", "fail", "refused", "stopped", "partial")
_WORDS = 34
"""Characters of a label that a box of this width holds."""


def lineage_svg(facts: Facts, link_of: Callable[[Facts], str | None] = lambda node: None) -> str:
    """A lineage (`db.questions.lineage.lineage`) as SVG text; ``link_of`` gives the address of a node, or None."""
    columns = _columns(facts)
    depth = max(map(len, columns.values()))
    width = len(columns) * (_WIDE_IN + _GAP_IN) - _GAP_IN + 2 * _MARGIN_IN
    height = depth * _ROW_IN + 2 * _MARGIN_IN
    figure = Figure(figsize=(width, height), facecolor="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    places = {}
    for at, column in enumerate(columns.values()):
        top = _MARGIN_IN + (depth - len(column)) * _ROW_IN / 2
        for row, key in enumerate(column):
            places[key] = (_MARGIN_IN + at * (_WIDE_IN + _GAP_IN), top + row * _ROW_IN + (_ROW_IN - _TALL_IN) / 2)
    for edge in facts["edges"]:
        if edge["from"] in places and edge["to"] in places:
            axes.add_patch(_arrow(places[edge["from"]], places[edge["to"]]))
    for node in facts["nodes"]:
        x, y = places[node["key"]]
        is_root = node["key"] == facts["root"]
        link = link_of(node)
        box = FancyBboxPatch(
            (x, y),
            _WIDE_IN,
            _TALL_IN,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=_FILL[node["kind"]],
            edgecolor=INK,
            linewidth=1.8 if is_root else 0.7,
        )
        axes.add_patch(box)
        state = (node["state"] or "").replace("_", " ")
        sign = "✕ " if node["state"] in _BAD else ""
        lines = [_short(node["label"]), f"{sign}{state}"] if state else [_short(node["label"])]
        text = axes.text(
            x + _WIDE_IN / 2,
            y + _TALL_IN / 2,
            "\n".join(lines),
            ha="center",
            va="center",
            fontsize=TEXT_PT - 1,
            color=INK,
            parse_math=False,
        )
        if link is not None:
            box.set_url(link)
            text.set_url(link)
    buffer = StringIO()
    # Words stay words: they can be searched, read aloud and are small. A fixed salt gives the same file each time.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "nightbeam"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _columns(facts: Facts) -> dict[int, list[str]]:
    """Keys by how many steps before (negative) or after the root they stand."""
    steps = {facts["root"]: 0}
    for near, far, way in (("to", "from", -1), ("from", "to", 1)):
        waiting = deque([facts["root"]])
        while waiting:
            key = waiting.popleft()
            for edge in facts["edges"]:
                if edge[near] == key and edge[far] not in steps:
                    steps[edge[far]] = steps[key] + way
                    waiting.append(edge[far])
    columns: dict[int, list[str]] = {step: [] for step in sorted(set(steps.values()))}
    for node in facts["nodes"]:
        columns.setdefault(steps.get(node["key"], 0), []).append(node["key"])
    return columns


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> FancyArrowPatch:
    middle = _TALL_IN / 2
    rightwards = end[0] > start[0]
    # Within a column, and backwards, an arrow goes round on the right.
    goal = (end[0] if rightwards else end[0] + _WIDE_IN, end[1] + middle)
    bend = "arc3,rad=0" if rightwards else "arc3,rad=-0.35"
    begin = (start[0] + _WIDE_IN, start[1] + middle)
    return FancyArrowPatch(
        begin, goal, arrowstyle="-|>", mutation_scale=9, connectionstyle=bend, color="#6b7280", linewidth=0.9
    )


def _short(label: str) -> str:
    return label if len(label) <= _WORDS else f"{label[: _WORDS - 1]}…"
