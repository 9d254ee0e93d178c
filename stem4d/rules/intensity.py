"""Intensity, rules 6, 7 and 9: the detector's counter and rate, counting noise, electrons per pattern."""

from collections.abc import Iterator
from math import ceil, log2, pi, sqrt

from stem4d import dose
from stem4d.detector import full_scale
from stem4d.plan import CentreOfMass, Ptychography, Strain, TiltCorrected, Virtual
from stem4d.precision import SCATTERED_SHARE
from stem4d.precision import strain_noise as expected_strain_noise
from stem4d.rules import mend
from stem4d.rules.limits import BRAGG_DISKS, BRAGG_SHARE, BRIGHTEST_BRAGG, CREST
from stem4d.rules.reciprocal import looks_into_disk
from stem4d.rules.registry import Context, Judged, judge, rule
from stem4d.rules.words import number
from stem4d.verdict import Axis, Change

AXIS: Axis = "intensity and dose"


def crest(ctx: Context) -> float:
    """Peak over mean in the bright-field disk: as measured in the first rows, or assumed."""
    measured = ctx.calibrated("crest")
    return CREST.value if measured is None else measured.value


def _mean_for_peak(ctx: Context, counts: float) -> float:
    """Mean counts whose crest + 5 sigma is this many counts: the reverse of ``dose.peak_counts``."""
    return ((sqrt(25 + 4 * counts) - 5) / 2) ** 2 / crest(ctx)


def _counter(ctx: Context, rule_id: str, variant: str, quantity: str, mean: float) -> Judged:
    setup = ctx.plan.detector
    peak = dose.peak_counts(mean, crest(ctx))

    def within(counts: float) -> Iterator[Change]:
        facts = ctx.detector_facts
        deeper = [depth for depth in facts.bit_depths if full_scale(depth) >= peak] if facts is not None else []
        if deeper:
            yield Change(field="detector.bit_depth", value=float(min(deeper)), unit="bit")
        yield from mend.electrons(ctx, _mean_for_peak(ctx, counts) / mean)

    return judge(
        ctx.limit(rule_id, variant),
        quantity,
        peak,
        of=float(setup.full_scale),
        note=f"Mean {number(mean)} per pixel, crest {crest(ctx):g}, 5 sigma; a {setup.bit_depth} bit counter"
        + (", which wraps without a sign." if _wraps(ctx) else "."),
        remedy=f"Or count to {ceil(log2(peak + 1))} bit or more." if ctx.detector_facts is None else "",
        mends=within,
    )


@rule(
    "counter_full_scale",
    number=6,
    axis=AXIS,
    kinds=("virtual", "com", "strain", "orientation", "tcbf", "ptychography"),
    formula="crest x mean + 5 sqrt(crest x mean) <= 2^depth - 1",
    unit="counts",
    source="Poisson statistics",
)
def counter_full_scale(ctx: Context, wanted: Virtual) -> Iterator[Judged]:
    """The brightest pixel of the direct disk stays within the counter."""
    if looks_into_disk(ctx, wanted):
        mean = ctx.predicted.electrons_per_disk_pixel
        yield _counter(ctx, "counter_full_scale", wanted.kind, "counts at the disk's crest", mean)


@rule(
    "bragg_full_scale",
    number=6,
    axis=AXIS,
    kinds=("strain", "orientation"),
    formula="as counter_full_scale, for the brightest Bragg disk",
    unit="counts",
    source="Poisson statistics",
)
def bragg_full_scale(ctx: Context, _wanted: Strain) -> Iterator[Judged]:
    """The Bragg disks that are tracked stay within the counter."""
    mean = ctx.predicted.electrons_per_disk_pixel * BRIGHTEST_BRAGG.value
    yield _counter(ctx, "bragg_full_scale", "", "counts at the crest of the brightest Bragg disk", mean)


def _wraps(ctx: Context) -> bool:
    facts = ctx.detector_facts
    return facts is not None and facts.wraps_at_bits == ctx.plan.detector.bit_depth


@rule(
    "com_noise",
    number=7,
    axis=AXIS,
    kinds=("com",),
    formula="α/(2 sqrt(n)), n electrons in the disk",
    unit="mrad",
    source="shot noise of a uniform disk",
)
def com_noise(ctx: Context, wanted: CentreOfMass) -> Iterator[Judged]:
    """Shot noise of one pattern stays below the smallest deflection asked for."""
    if wanted.smallest_deflection_mrad is None:
        return
    noise = ctx.predicted.com_noise_mrad
    yield judge(
        ctx.limit("com_noise"),
        "shot noise of the centre of mass per axis",
        noise,
        of=wanted.smallest_deflection_mrad,
        mends=lambda target: mend.electrons(ctx, (noise / target) ** 2),
    )


@rule(
    "strain_noise",
    number=7,
    axis=AXIS,
    kinds=("strain",),
    formula="σ_pos/(g_px sqrt(disks)), σ_pos = (r_px/2)/sqrt(n_disk)",
    unit="strain",
    source="shot noise of disk positions; edge-sensitive estimators are about 2.4 times better",
)
def strain_noise(ctx: Context, wanted: Strain) -> Iterator[Judged]:
    """Shot noise of the disk positions stays below the strain asked for."""
    noise = expected_strain_noise(ctx.plan, wanted, ctx.predicted.electrons_per_pattern)
    yield judge(
        ctx.limit("strain_noise"),
        "strain noise",
        noise,
        of=wanted.target_strain,
        note=f"Assumed: {BRAGG_DISKS.value:g} disks with {100 * BRAGG_SHARE.value:g} % of the electrons each.",
        mends=lambda target: mend.electrons(ctx, (noise / target) ** 2),
    )


@rule(
    "dose_limited_period",
    number=7,
    axis=AXIS,
    kinds=("virtual", "com", "tcbf", "ptychography"),
    formula="SNR/(C sqrt(F DQE n)), F the recorded fluence, n the repeats averaged",
    unit="Å",
    source="Rose criterion",
    needs="imaging",
)
def dose_limited_period(ctx: Context, wanted: Virtual) -> Iterator[Judged]:
    """Counting statistics allow the target period."""
    imaging, exposure = ctx.imaging, ctx.plan.exposure
    if imaging is None or wanted.target_d_a is None:
        return
    recorded = exposure.passes * exposure.live_time_us / exposure.dwell_time_us
    fluence = ctx.predicted.average_fluence_e_per_a2 * recorded
    period = dose.dose_limited_period_a(
        fluence, imaging.contrast, imaging.signal_to_noise, imaging.repeats, imaging.detective_quantum_efficiency
    )
    yield judge(
        ctx.limit("dose_limited_period"),
        "dose-limited period",
        period,
        of=wanted.target_d_a,
        note=f"{number(fluence)} e/Å² recorded, contrast {imaging.contrast:g}, {number(imaging.repeats)} averaged.",
        remedy="Or average more repeats, or ask for a coarser period.",
        mends=lambda target: mend.electrons(ctx, (period / target) ** 2),
    )


@rule(
    "electrons_per_pattern",
    number=7,
    axis=AXIS,
    kinds=("orientation", "tcbf", "ptychography"),
    formula="I t_live/e",
    unit="e",
    source="acquisition habit",
)
def electrons_per_pattern(ctx: Context, wanted: TiltCorrected | Ptychography) -> Iterator[Judged]:
    """Each pattern holds enough electrons to be used by itself."""
    count = ctx.predicted.electrons_per_pattern
    yield judge(
        ctx.limit("electrons_per_pattern", wanted.kind),
        "electrons per pattern",
        count,
        remedy="At a given fluence, a coarser step gives more electrons to each pattern.",
        mends=lambda target: mend.electrons(ctx, target / count),
    )


@rule(
    "noise_floor",
    number=7,
    axis=AXIS,
    kinds=("virtual", "ptychography"),
    formula="σ sqrt(pixels of the mask) <= electrons in it; ptychography: σ <= electrons per disk pixel",
    unit="e",
    source="noise of an integrating detector against its weakest signal",
    needs="instrument",
)
def noise_floor(ctx: Context, wanted: Virtual | Ptychography) -> Iterator[Judged]:
    """The noise of an integrating detector stays below the weak signal."""
    noise = ctx.detector_facts.noise_e_per_px if ctx.detector_facts is not None else None
    if noise is None:
        return
    per_pattern, delta = ctx.predicted.electrons_per_pattern, ctx.plan.mrad_per_pixel
    if isinstance(wanted, Ptychography):
        yield _floor(ctx, "noise of a pixel", noise, ctx.predicted.electrons_per_disk_pixel, "in a pixel of the disk")
        return
    for each in wanted.detectors:
        if each.inner_mrad >= ctx.plan.optics.convergence_semi_angle_mrad:
            pixels = pi * (each.outer_mrad**2 - each.inner_mrad**2) / delta**2
            where = f"assumed: {100 * SCATTERED_SHARE:g} % of the electrons in it"
            yield _floor(ctx, f"noise in {each.name}", noise * sqrt(pixels), per_pattern * SCATTERED_SHARE, where)


def _floor(ctx: Context, quantity: str, noise: float, signal: float, where: str) -> Judged:
    return judge(
        ctx.limit("noise_floor"),
        quantity,
        noise,
        of=signal,
        note=f"Signal {number(signal)} e, {where}. {ctx.doubt_of_detector}".rstrip(),
        mends=lambda allowed: mend.electrons(ctx, noise / allowed),
    )
