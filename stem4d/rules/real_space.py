"""Real space, rules 12 to 15: scan step, overlap, field of view, depth."""

from collections.abc import Iterator
from math import pi, sqrt

from stem4d import optics
from stem4d.plan import CentreOfMass, Orientation, Ptychography, Strain, TiltCorrected, Virtual
from stem4d.rules import mend
from stem4d.rules.limits import GUIDE
from stem4d.rules.reciprocal import probe_size_a
from stem4d.rules.registry import Context, Judged, judge, rule
from stem4d.verdict import Axis, Change

AXIS: Axis = "real space and time"


def _resolved_nm(wanted: Virtual | CentreOfMass | TiltCorrected | Strain | Orientation) -> float | None:
    """What the step must resolve [nm]; None where nothing is asked."""
    if isinstance(wanted, Strain | Orientation):
        return wanted.smallest_feature_nm
    if wanted.target_d_a is None:
        return None
    upsampling = wanted.upsampling if isinstance(wanted, TiltCorrected) else 1.0
    return wanted.target_d_a / 10 * upsampling


@rule(
    "scan_step",
    number=12,
    axis=AXIS,
    kinds=("virtual", "com", "tcbf", "strain", "orientation"),
    formula="s <= d/2 (x upsampling for tcbf), or half the smallest feature",
    unit="nm",
    source="sampling theorem",
)
def scan_step(ctx: Context, wanted: Virtual | CentreOfMass | TiltCorrected | Strain | Orientation) -> Iterator[Judged]:
    """The step resolves what is asked for."""
    resolved = _resolved_nm(wanted)
    if resolved is not None:
        yield judge(
            ctx.limit("scan_step", wanted.kind),
            "scan step",
            ctx.plan.scan.step_nm,
            of=resolved,
            remedy="Or upsample more." if isinstance(wanted, TiltCorrected) else "",
            mends=lambda step_nm: mend.step(ctx, step_nm),
        )


@rule(
    "step_within_probe",
    number=12,
    axis=AXIS,
    kinds=("virtual", "com"),
    formula="s <= sqrt((0.51 λ/α)² + (2 α Δf)²)",
    unit="nm",
    source=GUIDE,
)
def step_within_probe(ctx: Context, _wanted: Virtual | CentreOfMass) -> Iterator[Judged]:
    """The probe leaves no gaps between positions."""
    yield judge(
        ctx.limit("step_within_probe"),
        "scan step against the probe",
        ctx.plan.scan.step_nm,
        of=probe_size_a(ctx) / 10,
        mends=lambda step_nm: mend.step(ctx, step_nm),
    )


@rule(
    "probe_overlap",
    number=13,
    axis=AXIS,
    kinds=("ptychography",),
    formula="1 - s/D, D² = (2 α Δf)² + (1.22 λ/α)²",
    unit="%",
    source="arXiv 2502.00762; habit",
)
def probe_overlap(ctx: Context, _wanted: Ptychography) -> Iterator[Judged]:
    """Neighbouring probes overlap enough to tie their patterns together."""
    step_nm = ctx.plan.scan.step_nm

    def closer(percent: float) -> Iterator[Change]:
        yield from mend.defocus_for_patch(ctx, step_nm * 10 / (1 - percent / 100))
        yield from mend.step(ctx, ctx.predicted.probe_diameter_a / 10 * (1 - percent / 100))

    yield judge(
        ctx.limit("probe_overlap"),
        "linear overlap of neighbouring probes",
        100 * ctx.predicted.linear_overlap,
        note=f"The probe is {ctx.predicted.probe_diameter_a:.3g} Å wide, the step {step_nm * 10:.3g} Å.",
        mends=closer,
    )


@rule(
    "step_within_patch",
    number=13,
    axis=AXIS,
    kinds=("tcbf",),
    formula="s <= D/3",
    unit="nm",
    source="acquisition habit",
)
def step_within_patch(ctx: Context, _wanted: TiltCorrected) -> Iterator[Judged]:
    """Illuminated patches overlap enough for their tilt images to be aligned."""

    def closer(step_nm: float) -> Iterator[Change]:
        yield from mend.defocus_for_patch(ctx, ctx.predicted.probe_diameter_a * ctx.plan.scan.step_nm / step_nm)
        yield from mend.step(ctx, step_nm)

    yield judge(
        ctx.limit("step_within_patch"),
        "scan step against the illuminated patch",
        ctx.plan.scan.step_nm,
        of=ctx.predicted.probe_diameter_a / 10,
        mends=closer,
    )


NINETY = 0.95
"""Radius that holds 90 % of an evenly lit patch over the patch's own: sqrt(0.9)."""
GILGENBACH = "Gilgenbach, Chen and LeBeau, Microsc. Microanal. 30 (2024), multislice Si"


def _radius_a(ctx: Context) -> float:
    return NINETY * ctx.predicted.probe_diameter_a / 2


@rule(
    "areal_oversampling",
    number=13,
    axis=AXIS,
    kinds=("ptychography",),
    formula="π R²/s², R the radius that holds 90 % of the probe",
    unit="patterns a point",
    source=GILGENBACH,
)
def areal_oversampling(ctx: Context, wanted: Ptychography) -> Iterator[Judged]:
    """Multislice reconstructions see each point of the specimen in enough patterns."""
    if wanted.model != "multislice":
        return
    step_a, radius_a = 10 * ctx.plan.scan.step_nm, _radius_a(ctx)
    yield judge(
        ctx.limit("areal_oversampling"),
        "areal oversampling",
        pi * (radius_a / step_a) ** 2,
        note="Known from simulated silicon at atomic resolution; advice elsewhere.",
        mends=lambda wanted_times: mend.step(ctx, radius_a * sqrt(pi / wanted_times) / 10),
    )


@rule(
    "ronchigram_magnification",
    number=13,
    axis=AXIS,
    kinds=("ptychography",),
    formula="α/(δ R)",
    unit="px/Å",
    source=GILGENBACH,
)
def ronchigram_magnification(ctx: Context, wanted: Ptychography) -> Iterator[Judged]:
    """Multislice reconstructions see the specimen magnified enough in each pattern."""
    if wanted.model == "multislice":
        yield judge(
            ctx.limit("ronchigram_magnification"),
            "magnification of the Ronchigram",
            ctx.plan.disk_radius_px / _radius_a(ctx),
            note="Known from simulated silicon at atomic resolution; advice elsewhere.",
            mends=lambda wanted_px: mend.defocus_for_patch(ctx, 2 * ctx.plan.disk_radius_px / wanted_px / NINETY),
        )


@rule(
    "field_of_view",
    number=14,
    axis=AXIS,
    formula="positions x step, for each axis",
    unit="nm",
    source="the plan's required field",
)
def field_of_view(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The scan covers the field that is asked for."""
    scan = ctx.plan.scan
    if scan.required_field_nm is None:
        return
    for axis, (field, required) in enumerate(zip(scan.field_nm, scan.required_field_nm, strict=True)):

        def larger(field_nm: float, axis: int = axis, field: float = field) -> Iterator[Change]:
            yield from mend.positions(axis, field_nm / scan.step_nm)
            yield from mend.step(ctx, scan.step_nm * field_nm / field)

        yield judge(
            ctx.limit("field_of_view"),
            f"field of view along {'yx'[axis]}",
            field,
            of=required,
            mends=larger,
        )


@rule(
    "depth_of_field",
    number=15,
    axis=AXIS,
    kinds=("virtual", "com", "tcbf", "ptychography"),
    formula="λ/α² >= thickness + height variation",
    unit="Å",
    source=GUIDE,
)
def depth_of_field(ctx: Context, wanted: Virtual | CentreOfMass | TiltCorrected | Ptychography) -> Iterator[Judged]:
    """The probe stays a probe through the specimen's thickness and height variation."""
    sample = ctx.plan.sample
    sliced = isinstance(wanted, Ptychography) and wanted.model == "multislice"

    def deeper(depth_a: float) -> Iterator[Change]:
        if not sliced:
            yield from mend.convergence(ctx, 1e3 * sqrt(ctx.predicted.wavelength_a / depth_a))

    yield judge(
        ctx.limit("depth_of_field", wanted.kind),
        "depth of field",
        ctx.predicted.depth_of_field_a,
        of=(sample.thickness_nm + sample.height_variation_nm) * 10,
        remedy="The multislice model takes this up." if sliced else "Or find a thinner, flatter area.",
        mends=deeper,
    )


@rule(
    "single_slice",
    number=15,
    axis=AXIS,
    kinds=("ptychography",),
    formula="thickness <= 5.2 h²/λ, h = d/2",
    unit="Å",
    source="thickness limit of the projection approximation (lit.)",
)
def single_slice(ctx: Context, wanted: Ptychography) -> Iterator[Judged]:
    """A single slice carries the thickness at the target half-period."""
    if wanted.model == "single_slice":
        yield judge(
            ctx.limit("single_slice"),
            "thickness",
            ctx.plan.sample.thickness_nm * 10,
            of=optics.single_slice_thickness_a(ctx.plan.optics.beam_energy_kev, wanted.target_d_a / 2),
            remedy="State model: multislice with its slice thickness, or find a thinner area.",
        )
