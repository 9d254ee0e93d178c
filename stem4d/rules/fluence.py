"""Dose, rules 8 to 11: the fluence budget, what the specimen takes, fractionation, what current costs."""

from collections.abc import Iterator
from math import hypot, pi, sqrt

from stem4d import dose, optics
from stem4d.plan import CentreOfMass, Ptychography, SensitivityClass, TiltCorrected, Virtual
from stem4d.rules import mend
from stem4d.rules.intensity import AXIS
from stem4d.rules.limits import CLASS_UPPER_E_PER_A2, COHERENT_MODES, GUIDE
from stem4d.rules.reciprocal import RELAX, focal_blur_a, probe_size_a
from stem4d.rules.registry import Context, Judged, Mends, judge, rule
from stem4d.rules.words import number
from stem4d.verdict import Change

LOW_BUDGET_E_PER_A2 = 1e3
"""Budgets below this are worth protecting from dose that is not recorded (habit)."""
SPOTTY = 1.5
"""Highest over average fluence from which it is worth a word."""


def _spots(ctx: Context) -> float:
    """Highest over average fluence: above 1 where the step is wider than the probe."""
    return ctx.predicted.local_fluence_e_per_a2 / ctx.predicted.average_fluence_e_per_a2


def _less_fluence(ctx: Context, own: float, spent: float = 0.0) -> Mends:
    """Changes that bring the plan's own fluence, on top of what was spent, within a limit."""

    def less(target: float) -> Iterator[Change]:
        if _spots(ctx) > SPOTTY:
            yield from mend.defocus_for_patch(ctx, 2 * ctx.plan.scan.step_nm * 10 / sqrt(pi))
        if target > spent:
            factor = (target - spent) / own
            yield from mend.electrons(ctx, factor)
            yield from mend.step(ctx, ctx.plan.scan.step_nm / sqrt(factor))

    return less


def _all_less(ctx: Context) -> Mends:
    return _less_fluence(ctx, ctx.predicted.total_fluence_e_per_a2, ctx.spent_e_per_a2 or 0.0)


def _with_spent(ctx: Context) -> float:
    return ctx.predicted.total_fluence_e_per_a2 + (ctx.spent_e_per_a2 or 0.0)


def _spent_note(ctx: Context) -> str:
    return f"{number(ctx.spent_e_per_a2)} e/Å² of it were given to this area before." if ctx.spent_e_per_a2 else ""


def _local_note(ctx: Context) -> str:
    if _spots(ctx) < SPOTTY:
        return ""
    return f"The step is wider than the probe: spots get {_spots(ctx):.2g} times the average."


@rule(
    "fluence_budget",
    number=8,
    axis=AXIS,
    formula="passes x I t_dwell/(e min(s², πD²/4)) x flyback + what the area has had <= budget",
    unit="e/Å²",
    source="the plan's budget",
)
def fluence_budget(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The highest local fluence of all passes, with what the area has had, stays within the budget."""
    total = _with_spent(ctx)
    yield judge(
        ctx.limit("fluence_budget"),
        "fluence of all passes",
        total,
        of=ctx.plan.sample.fluence_budget_e_per_a2,
        note=" ".join(filter(None, (_local_note(ctx), _spent_note(ctx)))),
        remedy="" if ctx.plan.scan.flyback_blanked else "Blanking the flyback saves dose that nothing records.",
        mends=_all_less(ctx),
    )


@rule(
    "fluence_class",
    number=8,
    axis=AXIS,
    formula="fluence <= half the upper figure of the specimen's class",
    unit="e/Å²",
    source=f"{GUIDE}; habit",
)
def fluence_class(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The fluence is no more than such specimens usually take."""
    kind, total = ctx.plan.sample.sensitivity, _with_spent(ctx)
    upper = CLASS_UPPER_E_PER_A2[kind]
    yield judge(
        ctx.limit("fluence_class"),
        "fluence against the specimen's class",
        total,
        of=upper.value,
        note=f"{kind.value}: {upper.source}.",
        mends=_all_less(ctx),
    )


@rule(
    "optimum_exposure",
    number=8,
    axis=AXIS,
    kinds=("virtual", "com", "tcbf", "ptychography"),
    formula="fluence of one pass <= 2.5 (0.245 k^-1.665 + 2.81), k = 1/d; x 0.8 at 200 kV",
    unit="e/Å²",
    source="Grant and Grigorieff, eLife 4 (2015)",
)
def optimum_exposure(ctx: Context, wanted: Virtual) -> Iterator[Judged]:
    """A vitrified specimen keeps the target period through one pass; later passes can be weighted down."""
    if ctx.plan.sample.sensitivity is not SensitivityClass.VITRIFIED or wanted.target_d_a is None:
        return
    fluence = ctx.predicted.local_fluence_e_per_a2
    yield judge(
        ctx.limit("optimum_exposure"),
        "exposure of one pass against the optimum",
        fluence,
        of=dose.critical_exposure_e_per_a2(wanted.target_d_a, ctx.plan.optics.beam_energy_kev),
        note=f"For a period of {wanted.target_d_a:g} Å.",
        remedy="More dose no longer improves this period: fractionate into passes and weight by dose, or stop there.",
        mends=_less_fluence(ctx, fluence),
    )


@rule(
    "recorded_share",
    number=9,
    axis=AXIS,
    formula="t_live/t_dwell",
    unit="%",
    source="acquisition habit",
)
def recorded_share(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """A sensitive specimen's dose is recorded, not lost in dead time."""
    if ctx.plan.sample.fluence_budget_e_per_a2 < LOW_BUDGET_E_PER_A2:
        exposure = ctx.plan.exposure
        yield judge(
            ctx.limit("recorded_share"),
            "recorded share of the dose",
            100 * exposure.live_time_us / exposure.dwell_time_us,
            remedy="A longer dwell at a lower current spends the same dose and loses less of it in dead time; "
            "it takes longer and drifts further. Or blank between exposures.",
        )


@rule(
    "pass_fluence",
    number=10,
    axis=AXIS,
    formula="fluence of each pass, where there are several",
    unit="e/Å²",
    source="acquisition habit",
)
def pass_fluence(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """Each pass of a fractionated scan carries enough to be registered to the others."""
    if ctx.plan.exposure.passes > 1:
        yield judge(
            ctx.limit("pass_fluence"),
            "average fluence of one pass",
            ctx.predicted.average_fluence_e_per_a2,
            remedy="Fewer, longer passes at the same total register better.",
        )


@rule(
    "source_size",
    number=11,
    axis=AXIS,
    kinds=("virtual", "com", "ptychography"),
    formula="d_src = (2/(πα)) sqrt(I/B); imaging: in quadrature with the probe <= d; ptychography: <= 0.51 λ/α",
    unit="Å",
    source="conservation of brightness",
    needs="instrument",
)
def source_size(ctx: Context, wanted: Virtual | CentreOfMass | Ptychography | TiltCorrected) -> Iterator[Judged]:
    """The current does not cost resolution by its source size."""
    current = ctx.plan.optics.probe_current_pa
    brightness = ctx.instrument.brightness_at(current) if ctx.instrument is not None else None
    if brightness is None or wanted.target_d_a is None:
        return
    column = ctx.plan.optics
    source = optics.source_size_a(column.probe_current_pa, column.convergence_semi_angle_mrad, brightness)
    if isinstance(wanted, Ptychography):
        if wanted.probe_modes < COHERENT_MODES.value:
            yield judge(
                ctx.limit("source_size", wanted.kind),
                "source size at the specimen",
                source,
                of=ctx.predicted.diffraction_fwhm_a,
                remedy=f"Or reconstruct with at least {COHERENT_MODES.value:g} probe modes.",
                mends=lambda size: mend.current(ctx, (size / source) ** 2),
            )
        return
    probe = hypot(ctx.predicted.diffraction_fwhm_a, focal_blur_a(ctx))

    def finer(size: float) -> Iterator[Change]:
        if probe < size:
            yield from mend.current(ctx, (size**2 - probe**2) / source**2)

    yield judge(
        ctx.limit("source_size", wanted.kind),
        "width of the probe with its source",
        probe_size_a(ctx, source),
        of=wanted.target_d_a,
        note=f"The source adds {source:.2f} Å at {column.probe_current_pa:g} pA.",
        remedy=RELAX,
        mends=finer,
    )
