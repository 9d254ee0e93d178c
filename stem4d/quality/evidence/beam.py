"""Evidence over time: counts of frames with the dropouts, of rows against the plan, and frames that are wrong."""

from collections.abc import Iterator, Sequence

import numpy as np

from stem4d.calibrate.pixels import Mask
from stem4d.predict import predict
from stem4d.quality.beam_seen import Seen, seen_of
from stem4d.quality.evidence.values import Array, Case, Curves, Image, Level, Marks, Panel, Series, Span
from stem4d.quality.frames import repeats
from stem4d.quality.rate import counts_put_back

MOST_DRAWN = 8000
"""Frames that are drawn one by one; of more, the lowest and the mean of each group of neighbours."""


def beam(case: Case) -> Iterator[Panel]:
    """Counts along time with the stretches that the beam dropped, where these lie, and the counts of each row."""
    seen = [seen_of(one, case.not_counted) for one in case.passes]
    if not any(one.total.any() for one in seen):
        return
    yield _totals(seen)
    worst = max(seen, key=lambda one: int(one.dropouts.affected.sum()))
    if worst.dropouts.affected.any():
        yield Image(
            metrics=("beam.dropouts",),
            title=f"Counts of each position{case.which(worst.maps)}",
            values=np.where(worst.maps.recorded, worst.total, np.nan),
            unit="counts per frame",
            place="scan",
            marks=(Marks("beam dropped out", worst.dropouts.affected),),
        )
    rows = [_row_means(one.total, one.steady) for one in seen]
    level = float(np.nanmean(np.concatenate(rows))) if any(np.isfinite(one).any() for one in rows) else 0.0
    if level > 0:
        yield Curves(
            metrics=("beam.drift", "beam.flicker"),
            title="Counts of each row over their mean",
            x_label="row of the scan",
            y_label="counts over their mean",
            series=tuple(
                Series(f"pass {at}" if len(rows) > 1 else "rows", np.arange(float(len(one))), one / level, role="line")
                for at, one in enumerate(rows, 1)
            ),
            note="Positions without their beam are left out. Within one pass the specimen changes these counts too.",
        )


def _totals(seen: Sequence[Seen]) -> Curves:
    """Counts of every frame over the whole recording, with the stretches of all passes in their places."""
    size = seen[0].total.size
    counts = np.concatenate([np.where(one.maps.recorded, one.total, np.nan).ravel() for one in seen])
    spans = [
        Span(float(at * size + first), float(at * size + end - 1))
        for at, one in enumerate(seen)
        for first, end, _ in sorted(one.dropouts.stretches)
    ]
    return Curves(
        metrics=("beam.dropouts",),
        title="Counts of each frame",
        x_label="frame, in order of time" if len(seen) == 1 else f"frame, in order of time over {len(seen)} passes",
        y_label="counts per frame",
        series=_drawable(counts),
        spans=tuple(spans),
        span_name=f"beam dropped out, {len(spans)} time{'s' * (len(spans) != 1)}",
    )


def _drawable(counts: Array) -> tuple[Series, ...]:
    """Every frame where there are few; else the mean and the lowest of groups, so that one dark frame still shows."""
    if len(counts) <= MOST_DRAWN:
        return (Series("frames", np.arange(float(len(counts))), counts),)
    each = -(-len(counts) // MOST_DRAWN)
    groups = np.pad(counts, (0, -len(counts) % each), constant_values=np.nan).reshape(-1, each)
    known = np.isfinite(groups)
    some = known.any(axis=1)
    mean = np.where(some, np.where(known, groups, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)
    lowest = np.where(some, np.where(known, groups, np.inf).min(axis=1), np.nan)
    middle = np.arange(float(len(groups))) * each + (each - 1) / 2
    return (
        Series(f"mean of {each} frames", middle, mean, role="line"),
        Series(f"lowest of {each} frames", middle, lowest),
    )


def _row_means(counts: Array, use: Mask) -> Array:
    """Mean of each row over some of its positions, NaN where there is none."""
    number = use.sum(axis=1)
    return np.where(number > 0, np.where(use, counts, 0.0).sum(axis=1) / np.maximum(number, 1), np.nan)


def dose(case: Case) -> Iterator[Panel]:
    """Electrons of a pattern, row by row, against what was planned and what the analyses want."""
    seen = [seen_of(one, case.not_counted) for one in case.passes]
    if not any(one.maps.frames for one in seen):
        return
    factor, _ = counts_put_back(case.passes, case.subject)
    rows = np.concatenate([_row_means(one.total, one.maps.recorded) for one in seen]) * factor
    plan = case.subject.plan
    levels = [Level("planned", predict(plan).electrons_per_pattern)] if plan is not None else []
    levels += case.levels("dose.signal", "wanted")
    yield Curves(
        metrics=("dose.electrons", "dose.signal", "dose.noise", "dose.fluence"),
        title="Electrons in a pattern, mean of each row",
        x_label="row of the scan" if len(seen) == 1 else f"row, over {len(seen)} passes",
        y_label="electrons per pattern",
        series=(Series("counted", np.arange(float(len(rows))), rows, role="line"),),
        levels=tuple(levels),
        note="Counts are taken for electrons." if factor == 1 else "With what the counting rate lost put back.",
    )


def frames(case: Case) -> Iterator[Panel]:
    """Where frames are missing, came twice or damaged, or repeat the one before them; of passes that have any."""
    for one in case.passes:
        marks = [("missing", "frames.missing", ~one.recorded)]
        if one.came_twice is not None and one.corrupt is not None:
            marks += [("came twice", "frames.duplicate", one.came_twice), ("damaged", "frames.corrupt", one.corrupt)]
        marks.append(("the same as the one before", "frames.repeated", repeats(one)[1]))
        marks.append(("with invalid pixels", "frames.invalid", one.recorded & (one.invalid_px > 0)))
        some = [(name, metric, mask) for name, metric, mask in marks if mask.any()]
        if some:
            yield Image(
                metrics=tuple(metric for _, metric, _ in some),
                title=f"Frames that are missing or wrong{case.which(one)}",
                values=np.where(one.recorded, one.total.astype(np.float64), np.nan),
                unit="counts per frame",
                place="scan",
                marks=tuple(Marks(name, mask) for name, _, mask in some),
            )
