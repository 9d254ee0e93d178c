"""Evidence of movement: of the disk over the scan, of the specimen from pass to pass, of rows and columns."""

from collections.abc import Iterator

import numpy as np

from stem4d.calibrate.pixels import Mask
from stem4d.quality.drift import drift_between
from stem4d.quality.evidence.values import Array, Case, Curves, Image, Level, Panel, Series
from stem4d.quality.line_shifts import line_shifts
from stem4d.quality.movement import movement_of
from stem4d.quality.sampling import probe_of
from stem4d.quality.scan_noise import WILD_STEPS

BLOCKS = 8
"""Parts of the field each way whose means are drawn: shot noise and the specimen's own deflections average out."""
MOST_DRAWN = 96
"""Positions each way that a map of the movement is drawn with."""
FAR = 5.0
"""Limits beyond so many times what is drawn are told and not drawn: they would flatten it."""
TURN = np.linspace(0, 2 * np.pi, 73)


def descan(case: Case) -> Iterator[Panel]:
    """Where the disk was over the scan, what the fitted model makes of it, and what that leaves; of one pass."""
    step_nm = case.subject.known.scan_step_nm
    found = [(movement_of(one, step_nm), one) for one in case.passes]
    moved, maps = max(found, key=lambda each: np.nan_to_num(each[0].range_px))
    if not np.isfinite(moved.range_px):
        return
    which = case.which(maps)
    seen = maps.recorded & np.isfinite(maps.com_y_px) & np.isfinite(maps.com_x_px)
    places = np.where(seen, np.stack([maps.com_y_px, maps.com_x_px]).astype(np.float64), np.nan)
    model = moved.places_px
    middle = np.array([float(each[seen].mean()) for each in model])
    kind = "surface" if moved.curved else "plane"
    border = _border(model - middle[:, None, None])
    blocks = _block_means(places - middle[:, None, None])
    series = [
        Series(f"scan field by the fitted {kind}", border[1], border[0], role="line"),
        Series("means over parts of the field", blocks[1], blocks[0]),
    ]
    notes = [f"The largest distance of two places of the field is {moved.range_px:.3g} px."]
    extent = max(float(np.ptp(axis)) for axis in (*border, *blocks))
    for names, limit in case.limits("descan.range"):
        name = f"limit for {names}: {limit:.3g} px" if names else f"limit: {limit:.3g} px"
        if limit > FAR * extent:
            notes.append(f"The {name} lies far beyond the picture.")
            continue
        series.append(Series(f"{name} across", limit / 2 * np.cos(TURN), limit / 2 * np.sin(TURN), role="limit"))
    yield Curves(
        metrics=("descan.range", "descan.strain", "descan.residual"),
        title=f"Movement of the pattern over the scan{which}",
        x_label="detector x, from the mean [px]",
        y_label="detector y, from the mean [px]",
        series=tuple(series),
        equal=True,
        note=" ".join(notes),
    )
    for name, place, fitted, centre in zip("yx", places, model, middle, strict=True):
        yield _over_scan(("descan.range", "descan.strain"), f"Position of the disk along {name}{which}", place - centre)
        yield _over_scan(("descan.residual",), f"What the {kind} leaves along {name}{which}", place - fitted)


def _over_scan(metrics: tuple[str, ...], title: str, values: Array) -> Image:
    """A map of pixels over the scan; of a large one, means over neighbours, whose noise would hide what it shows."""
    each = -(-max(values.shape) // MOST_DRAWN)
    note = f"Means over {each} × {each} positions." if each > 1 else ""
    return Image(metrics, title, means_of(values, each), "px", "scan", "signed", positions=each, note=note)


def means_of(values: Array, each: int) -> Array:
    """Means over squares of so many positions each way, those without a value left out; NaN where all are."""
    rows, columns = (-(-size // each) for size in values.shape)
    spare = [(0, size * each - had) for size, had in zip((rows, columns), values.shape, strict=True)]
    blocks = np.pad(values, spare, constant_values=np.nan).reshape(rows, each, columns, each)
    known = np.isfinite(blocks)
    number = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0.0).sum(axis=(1, 3))
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _border(field: Array) -> Array:
    """The border of a field (2, rows, columns) once around, (2, n)."""
    return np.concatenate([field[:, 0], field[:, :, -1], field[:, -1, ::-1], field[:, ::-1, 0]], axis=1)


def _block_means(field: Array) -> Array:
    """Means over parts of a field (2, rows, columns), (2, n); parts without a value are left out."""
    rows, columns = (np.array_split(np.arange(size), min(BLOCKS, size)) for size in field.shape[1:])
    means = [
        [float(part[np.isfinite(part)].mean()) for part in field[:, row[:, None], column]]
        for row in rows
        for column in columns
        if np.isfinite(field[:, row[:, None], column]).any()
    ]
    return np.array(means).reshape(-1, 2).T


def drift(case: Case) -> Iterator[Panel]:
    """The place of the specimen in each pass against time, with the course that the rate was taken from."""
    seen = drift_between(case.passes, case.started_s, case.subject)
    if seen is None or seen.fit is None or not np.isfinite(seen.fit.places_nm).any():
        return
    fit, minutes = seen.fit, (np.array(case.started_s) - case.started_s[0]) / 60
    series = [Series("distance", minutes, np.hypot(*fit.places_nm.T))]
    for axis, name in enumerate("yx"):
        series.append(Series(f"place along {name}", minutes, fit.places_nm[:, axis], of=name))
        series.append(Series(f"fitted course along {name}", minutes, fit.course_nm[:, axis], role="line", of=name))
    lost = int((~np.isfinite(fit.places_nm).all(axis=1)).sum())
    notes = [f"{lost} of {len(minutes)} passes could not be registered and are not drawn."] if lost else []
    if seen.jump is not None:
        notes.append(f"The stage jumped after pass {seen.jump.after + 1}; the rate leaves that out.")
    if not seen.ok:
        notes.append(f"No rate is taken from it: {seen.reason}.")
    limits = case.limits("drift.rate")
    far = max(float(np.nanmax(np.abs(fit.places_nm))), 1e-9)
    for names, limit in limits:
        if limit * minutes[-1] < FAR * far:
            name = f"as fast as the limit, {limit:.3g} nm/min" + (f" for {names}" if names else "")
            series.append(Series(name, minutes, limit * minutes, role="limit"))
        else:
            notes.append(f"The limit of {limit:.3g} nm/min lies far above the picture.")
    yield Curves(
        metrics=("drift.rate", "drift.in_pass", "drift.jump"),
        title="Place of the specimen in each pass",
        x_label="time since the first pass began [min]",
        y_label="place since the first pass [nm]",
        series=tuple(series),
        note=" ".join(notes),
    )


def scan_engine(case: Case) -> Iterator[Panel]:
    """How far rows and columns lie off their places."""
    shifts, _ = line_shifts(case.passes)
    if shifts is None:
        return
    by = "by the waves of a lattice" if shifts.by == "lattice" else "one pass against the other"
    rows, columns = shifts.rows, shifts.columns
    unsure = int((~_sound(rows.error_x) | ~_sound(rows.error_y)).sum())
    yield Curves(
        metrics=("scan.jitter", "scan.hum", "scan.distortion"),
        title=f"Rows off their places, {by}",
        x_label="row of the scan",
        y_label="off its place [steps]",
        series=(
            _lines("along x", rows.rows, rows.along_x, rows.error_x),
            _lines("along y", rows.rows, rows.along_y, rows.error_y),
        ),
        note=f"{unsure} rows could hardly be placed and are left out." if unsure else "",
    )
    bounds = [
        Level("limit of the first column", sign * limit) for _, limit in case.limits("scan.flyback") for sign in (1, -1)
    ]
    yield Curves(
        metrics=("scan.flyback", "scan.distortion"),
        title=f"Columns off their places, {by}",
        x_label="column of the scan",
        y_label="off its place [steps]",
        series=(_lines("along x", columns.rows, columns.along_y, columns.error_y),),
        levels=tuple(bounds),
    )


def _lines(name: str, at: Array, shift: Array, error: Array) -> Series:
    """Where rows or columns lie; NaN where they could hardly be placed."""
    sound = _sound(error)
    return Series(name, at.astype(np.float64), np.where(sound, shift, np.nan), np.where(sound, error, np.nan))


def _sound(error: Array) -> Mask:
    return error < WILD_STEPS


def sampling(case: Case) -> Iterator[Panel]:
    """The probe at neighbouring positions, to scale."""
    probe = probe_of(case.subject, case.calibrations)
    if isinstance(probe, str):
        return
    step, radius = 10 * probe.step_nm.value, probe.diameter_a / 2
    at = [(y * step, x * step) for y in range(3) for x in range(3)]
    gap = np.array([np.nan])
    round_x = np.concatenate([np.concatenate([x + radius * np.cos(TURN), gap]) for _, x in at])
    round_y = np.concatenate([np.concatenate([y + radius * np.sin(TURN), gap]) for y, _ in at])
    series = (
        Series(f"probe, {probe.diameter_a:.3g} Å wide", round_x, round_y, role="line"),
        Series(f"positions, step {step:.3g} Å", np.array([x for _, x in at]), np.array([y for y, _ in at])),
    )
    yield Curves(
        metrics=("sampling.overlap", "sampling.window", "sampling.step"),
        title="Probe at nine neighbouring positions",
        x_label="x [Å]",
        y_label="y [Å]",
        series=series,
        equal=True,
        note=f"Linear overlap {probe.overlap_percent:.3g} %; the window is {probe.window_over_probe:.3g} and the step "
        f"1/{probe.probe_over_step:.3g} of the probe's diameter.",
    )
