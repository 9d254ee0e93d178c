"""The plain data of an evidence picture: images, curves and what is marked on them, with names and units."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps
from stem4d.quality.regions import Subject
from stem4d.rules.registry import Calibrated
from stem4d.verdict import QualityResult, Verdict, worst

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Marks:
    """Pixels or positions to be found at once, (rows, columns)."""

    name: str
    mask: Mask


@dataclass(frozen=True)
class Circle:
    """A circle on a pattern: centre (y, x) and radius [px]."""

    name: str
    centre_px: tuple[float, float]
    radius_px: float


@dataclass(frozen=True)
class Image:
    """A pattern or a map over the scan."""

    metrics: tuple[str, ...]
    """The figures that it is evidence for."""
    title: str
    values: Array
    """(rows, columns); NaN where nothing is known."""
    unit: str
    place: Literal["detector", "scan"]
    scale: Literal["linear", "asinh", "signed"] = "linear"
    marks: tuple[Marks, ...] = ()
    circles: tuple[Circle, ...] = ()
    points: tuple[tuple[str, tuple[float, float]], ...] = ()
    """Single places (y, x) by name."""
    positions: int = 1
    """Scan positions each way that one value stands for."""
    note: str = ""


@dataclass(frozen=True)
class Series:
    """Values along an axis, (n,); NaN makes a gap."""

    name: str
    x: Array
    y: Array
    error: Array | None = None
    """Standard errors."""
    role: Literal["points", "line", "limit"] = "points"
    """Single values; a model or what goes on without a gap; or how far something may go."""
    of: str = ""
    """What it belongs to, as a model does to its data: they are drawn alike."""


@dataclass(frozen=True)
class Level:
    """A limit, or what was planned: a line right across."""

    name: str
    value: float


@dataclass(frozen=True)
class Span:
    """A part of the axis, from the middle of its first value to that of its last."""

    first: float
    last: float


@dataclass(frozen=True)
class Curves:
    """One or more series with the levels that they are held against."""

    metrics: tuple[str, ...]
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    levels: tuple[Level, ...] = ()
    spans: tuple[Span, ...] = ()
    span_name: str = ""
    equal: bool = False
    """Both axes are lengths in one unit, y downwards as on the detector and in the scan."""
    note: str = ""


Panel = Image | Curves


@dataclass(frozen=True)
class Evidence:
    """The pictures of one group of figures."""

    group: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Case:
    """What a judgement was made from, and what it came to."""

    passes: tuple[RunMaps, ...]
    """In order, at least one."""
    started_s: tuple[float, ...]
    whole: RunMaps
    """The passes as one recording."""
    subject: Subject
    results: tuple[QualityResult, ...]
    not_counted: Mask | None = None
    """Steady pixels that the totals hold and no electron made."""
    calibrations: Mapping[str, Calibrated] = field(default_factory=dict)

    def which(self, one: RunMaps) -> str:
        """A pass by its number, to go on a title with, where there are several."""
        number = next(at for at, each in enumerate(self.passes, 1) if each is one)
        return f", pass\u00a0{number} of {len(self.passes)}" if len(self.passes) > 1 else ""

    def told(self, metrics: Iterable[str]) -> list[QualityResult]:
        """The results of some figures that were measured."""
        names = set(metrics)
        return [one for one in self.results if one.metric in names and one.verdict is not Verdict.NOT_MEASURABLE]

    def limits(self, metric: str) -> list[tuple[str, float]]:
        """Each limit of a figure once, with the analyses that set it, in order of size."""
        by_limit: dict[float, list[str]] = {}
        for one in self.told((metric,)):
            if one.limit is not None:
                by_limit.setdefault(one.limit, []).append(one.analysis or "")
        return [(", ".join(filter(None, names)), limit) for limit, names in sorted(by_limit.items())]

    def levels(self, metric: str, words: str = "limit") -> tuple[Level, ...]:
        """The limits of a figure as lines to be held against."""
        return tuple(Level(f"{words} for {names}" if names else words, limit) for names, limit in self.limits(metric))


def verdict_of(panel: Panel, results: Sequence[QualityResult]) -> Verdict | None:
    """The worst verdict of the figures that a picture is evidence for; None where none of them was measured."""
    verdicts = [
        one.verdict for one in results if one.metric in panel.metrics and one.verdict is not Verdict.NOT_MEASURABLE
    ]
    return worst(verdicts) if verdicts else None
