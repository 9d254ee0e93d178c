"""Time and room, rules 16 and 18: expected drift over a pass and a line, time, free disk, write rate."""

from collections.abc import Iterator
from math import sqrt

from stem4d.plan import CentreOfMass, Orientation, Ptychography, Strain, Virtual
from stem4d.rules import mend
from stem4d.rules.real_space import AXIS
from stem4d.rules.registry import Context, Judged, Mends, judge, rule
from stem4d.verdict import Change, Verdict


def _drift_nm_per_s(ctx: Context) -> float | None:
    known = ctx.instrument.expected_drift_nm_per_min if ctx.instrument is not None else None
    return known / 60 if known is not None else None


def _unknown(quantity: str) -> Judged:
    return Judged(
        Verdict.NOT_MEASURABLE,
        quantity,
        note="The instrument file states no expected drift.",
        remedy="State expected_drift_nm_per_min; two quick images some minutes apart measure it.",
    )


def _sooner(ctx: Context, value: float) -> Mends:
    """Shorten the dwell, which shortens pass and line alike."""
    return lambda allowed: mend.dwell(ctx, allowed / value)


def _drift_note(ctx: Context, rate: float) -> str:
    return f"{rate * 60:.3g} nm/min over a pass of {ctx.predicted.pass_time_s:.3g} s."


@rule(
    "drift_of_field",
    number=16,
    axis=AXIS,
    kinds=("virtual", "com", "orientation", "ptychography"),
    formula="v T / slow-axis field, T one pass",
    unit="%",
    source="acquisition habit",
    needs="instrument",
)
def drift_of_field(ctx: Context, wanted: Virtual | CentreOfMass | Orientation | Ptychography) -> Iterator[Judged]:
    """Expected drift during a pass is a small part of the field."""
    rate = _drift_nm_per_s(ctx)
    if rate is None:
        yield _unknown("drift during a pass over the slow-axis field")
        return
    part = 100 * rate * ctx.predicted.pass_time_s / ctx.plan.scan.field_nm[0]
    yield judge(
        ctx.limit("drift_of_field", wanted.kind),
        "drift during a pass over the slow-axis field",
        part,
        note=_drift_note(ctx, rate),
        remedy="Or fractionate into faster passes.",
        mends=_sooner(ctx, part),
    )


@rule(
    "drift_in_line",
    number=16,
    axis=AXIS,
    kinds=("virtual", "com", "orientation", "ptychography"),
    formula="v t_line <= 0.1 s",
    unit="nm",
    source="acquisition habit",
    needs="instrument",
)
def drift_in_line(ctx: Context, _wanted: Virtual | CentreOfMass | Orientation | Ptychography) -> Iterator[Judged]:
    """Expected drift during one line is a small part of the step."""
    rate = _drift_nm_per_s(ctx)
    if rate is None:
        return  # drift_of_field has said so.
    moved = rate * ctx.predicted.line_time_s
    yield judge(
        ctx.limit("drift_in_line"),
        "drift during a line",
        moved,
        of=ctx.plan.scan.step_nm,
        mends=_sooner(ctx, moved),
    )


@rule(
    "drift_of_feature",
    number=16,
    axis=AXIS,
    kinds=("strain",),
    formula="v T <= half the smallest feature",
    unit="nm",
    source="acquisition habit",
    needs="instrument",
)
def drift_of_feature(ctx: Context, wanted: Strain) -> Iterator[Judged]:
    """Expected drift during a pass is less than the smallest feature."""
    rate = _drift_nm_per_s(ctx)
    if rate is None:
        yield _unknown("drift during a pass")
        return
    moved = rate * ctx.predicted.pass_time_s
    yield judge(
        ctx.limit("drift_of_feature"),
        "drift during a pass",
        moved,
        of=wanted.smallest_feature_nm,
        note=_drift_note(ctx, rate),
        mends=_sooner(ctx, moved),
    )


@rule(
    "disk_space",
    number=18,
    axis=AXIS,
    formula="frames x pixels x bytes <= free - disk_reserve_gb",
    unit="GB",
    source="acquisition habit; uncompressed, since compression is not known beforehand",
    needs="free_bytes",
)
def disk_space(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The data fit on the disk, uncompressed and with a reserve."""
    free = float(ctx.free_bytes or 0)
    usable = max(free - ctx.reserve_bytes, 0.0)
    size = float(ctx.predicted.raw_bytes)

    def smaller(allowed_gb: float) -> Iterator[Change]:
        if allowed_gb > 0:
            yield from mend.step(ctx, ctx.plan.scan.step_nm * (size / (allowed_gb * 1e9)) ** 0.5)

    yield judge(
        ctx.limit("disk_space"),
        "size of the data",
        size / 1e9,
        of=usable / 1e9,
        note=f"{free / 1e9:.3g} GB are free, of which disk_reserve_gb keeps {ctx.reserve_bytes / 1e9:.3g} GB.",
        remedy="Free some space, lower the setting disk_reserve_gb, or scan a smaller field.",
        mends=smaller,
    )


@rule(
    "scan_time",
    number=18,
    axis=AXIS,
    formula="passes x rows x (positions x t_dwell + flyback) + pauses <= time available",
    unit="s",
    source="the plan's own time",
)
def scan_time(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The scan is over within the time it has."""
    exposure, total_s = ctx.plan.exposure, ctx.predicted.total_time_s
    if exposure.time_available_min is None:
        return
    dwelling_s = ctx.predicted.frames * exposure.dwell_time_us * 1e-6
    overhead_s = total_s - dwelling_s

    def sooner(allowed_s: float) -> Iterator[Change]:
        if allowed_s > overhead_s:
            yield from mend.dwell(ctx, (allowed_s - overhead_s) / dwelling_s)
        yield from mend.step(ctx, ctx.plan.scan.step_nm * sqrt(total_s / allowed_s))

    yield judge(
        ctx.limit("scan_time"),
        "time of the scan",
        total_s,
        of=60 * exposure.time_available_min,
        note=f"{overhead_s:.3g} s of it are flyback and pauses.",
        remedy="Or scan a smaller field, or in fewer passes.",
        mends=sooner,
    )


@rule(
    "write_rate",
    number=18,
    axis=AXIS,
    formula="compressed size of a pass / its time",
    unit="MB/s",
    source="acquisition habit; the compressed size is an estimate, good to a factor of two",
    needs="instrument",
)
def write_rate(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The disk takes the frames as fast as they come."""
    allowed = ctx.instrument.write_rate_mb_per_s if ctx.instrument is not None else None
    if allowed is None:
        return
    passes = ctx.plan.exposure.passes
    rate = ctx.predicted.compressed_bytes / passes / ctx.predicted.pass_time_s / 1e6
    raw = ctx.predicted.raw_bytes / passes / ctx.predicted.pass_time_s / 1e6
    yield judge(
        ctx.limit("write_rate"),
        "rate of the compressed data",
        rate,
        of=allowed,
        note=f"{raw:.3g} MB/s before compression.",
        # A longer dwell fills the frames too, which compresses them less: half as much again.
        mends=lambda wanted: mend.dwell(ctx, 1.5 * rate / wanted),
    )
