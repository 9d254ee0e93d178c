"""Rates, rule 6: electrons per second in a pixel, a Bragg disk and the whole beam, against the detector's limits."""

from collections.abc import Iterator
from math import sqrt

from stem4d import dose
from stem4d.plan import Strain, Virtual
from stem4d.rules import mend
from stem4d.rules.intensity import AXIS, crest
from stem4d.rules.limits import BRIGHTEST_BRAGG
from stem4d.rules.reciprocal import looks_into_disk
from stem4d.rules.registry import Context, Judged, judge, rule
from stem4d.verdict import Change


def _rate(
    ctx: Context,
    rule_id: str,
    variant: str,
    allowed_hz: float,
    quantity: str = "electron rate at the disk's crest",
    share: float = 1.0,
) -> Judged:
    rate = ctx.predicted.rate_per_disk_pixel_hz * crest(ctx) * share

    def slower(target_hz: float) -> Iterator[Change]:
        yield from mend.current(ctx, target_hz / rate)
        yield from mend.camera_length(ctx, sqrt(rate / target_hz))

    return judge(
        ctx.limit(rule_id, variant),
        quantity,
        rate,
        of=allowed_hz,
        note=ctx.doubt_of_detector,
        mends=slower,
    )


@rule(
    "count_rate",
    number=6,
    axis=AXIS,
    kinds=("virtual", "com", "strain", "orientation", "tcbf", "ptychography"),
    formula="crest x I/(e π (α/δ)²) <= rate at which 10 % is lost",
    unit="/s",
    source="detector facts",
    needs="instrument",
)
def count_rate(ctx: Context, wanted: Virtual) -> Iterator[Judged]:
    """The rate in the disk stays below the detector's 10 % loss point."""
    if ctx.detector_facts is not None and looks_into_disk(ctx, wanted):
        yield _rate(ctx, "count_rate", wanted.kind, ctx.detector_facts.max_count_rate_per_px_hz)


@rule(
    "bragg_count_rate",
    number=6,
    axis=AXIS,
    kinds=("strain", "orientation"),
    formula="as count_rate, for the brightest Bragg disk",
    unit="/s",
    source="detector facts",
    needs="instrument",
)
def bragg_count_rate(ctx: Context, _wanted: Strain) -> Iterator[Judged]:
    """The rate in the Bragg disks that are tracked stays below the detector's 10 % loss point."""
    if ctx.detector_facts is not None:
        allowed_hz, quantity = ctx.detector_facts.max_count_rate_per_px_hz, "electron rate at the crest of a Bragg disk"
        yield _rate(ctx, "bragg_count_rate", "", allowed_hz, quantity, BRIGHTEST_BRAGG.value)


@rule(
    "total_rate",
    number=6,
    axis=AXIS,
    formula="I/e <= events that the whole detector hands on",
    unit="/s",
    source="detector facts",
    needs="instrument",
)
def total_rate(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """An event-driven detector hands on every electron of the beam."""
    facts, rate = ctx.detector_facts, dose.electrons(ctx.plan.optics.probe_current_pa * ctx.current_ratio, 1e6)
    if facts is not None and facts.max_total_count_rate_hz is not None:
        yield judge(
            ctx.limit("total_rate"),
            "electron rate of the whole beam",
            rate,
            of=facts.max_total_count_rate_hz,
            note=ctx.doubt_of_detector,
            mends=lambda target_hz: mend.current(ctx, target_hz / rate),
        )


@rule(
    "damage_rate",
    number=6,
    axis=AXIS,
    formula="crest x I/(e π (α/δ)²) <= damage limit",
    unit="/s",
    source="detector facts",
    needs="instrument",
)
def damage_rate(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The rate in the disk does not harm the detector."""
    facts = ctx.detector_facts
    if facts is not None and facts.damage_count_rate_per_px_hz is not None:
        yield _rate(ctx, "damage_rate", "", facts.damage_count_rate_per_px_hz)
