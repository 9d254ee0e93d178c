"""Reciprocal space, rule 4: how finely the detector samples angles, and what that leaves in real space."""

from collections.abc import Iterator

from stem4d.plan import CentreOfMass, Orientation, Ptychography, Strain, TiltCorrected
from stem4d.rules import mend
from stem4d.rules.reciprocal import AXIS, bragg_angle_mrad
from stem4d.rules.registry import Context, Judged, judge, rule
from stem4d.verdict import Change


@rule(
    "window",
    number=4,
    axis=AXIS,
    kinds=("ptychography",),
    formula="(λ/δ)/D",
    unit="probe diameters",
    source="sampling theorem",
)
def window(ctx: Context, _wanted: Ptychography) -> Iterator[Judged]:
    """The real-space window that the angular sampling leaves holds the probe."""

    def wider(ratio: float) -> Iterator[Change]:
        yield from mend.defocus_for_patch(ctx, ctx.predicted.window_a / ratio)
        yield from mend.camera_length(ctx, ratio / ctx.predicted.window_over_probe)

    yield judge(
        ctx.limit("window"),
        "real-space window",
        ctx.predicted.window_over_probe,
        note=f"{ctx.predicted.window_a:.3g} Å hold a probe of {ctx.predicted.probe_diameter_a:.3g} Å.",
        mends=wider,
    )


@rule(
    "disk_sampling",
    number=4,
    axis=AXIS,
    kinds=("com", "strain", "tcbf"),
    formula="α/δ",
    unit="px",
    source="acquisition habit",
)
def disk_sampling(ctx: Context, wanted: CentreOfMass | Strain | TiltCorrected) -> Iterator[Judged]:
    """The disk spans enough pixels."""
    radius = ctx.plan.disk_radius_px
    yield judge(
        ctx.limit("disk_sampling", wanted.kind),
        "radius of the disk on the detector",
        radius,
        mends=lambda wanted_px: mend.camera_length(ctx, wanted_px / radius),
    )


@rule(
    "defocus_blur",
    number=4,
    axis=AXIS,
    kinds=("tcbf",),
    formula="δ |Δf| <= d/2",
    unit="Å",
    source="tilt image shift over one detector pixel",
)
def defocus_blur(ctx: Context, wanted: TiltCorrected) -> Iterator[Judged]:
    """Inside one detector pixel, the images of different tilts do not shift apart."""
    defocus_a = abs(ctx.plan.optics.defocus_nm) * 10
    blur = ctx.plan.mrad_per_pixel * 1e-3 * defocus_a

    def sharper(allowed: float) -> Iterator[Change]:
        yield from mend.camera_length(ctx, blur / allowed)
        yield from mend.scaled_defocus(ctx, allowed / blur)

    yield judge(
        ctx.limit("defocus_blur"),
        "blur inside one detector pixel",
        blur,
        of=wanted.target_d_a,
        mends=sharper,
    )


@rule(
    "disks_apart",
    number=4,
    axis=AXIS,
    kinds=("strain",),
    formula="2 α < λ/d_hkl",
    unit="mrad",
    source="geometry of convergent-beam patterns",
)
def disks_apart(ctx: Context, wanted: Strain) -> Iterator[Judged]:
    """Neighbouring Bragg disks do not overlap."""
    if not wanted.accept_disk_overlap:
        yield judge(
            ctx.limit("disks_apart"),
            "diameter of the disks",
            2 * ctx.plan.optics.convergence_semi_angle_mrad,
            of=bragg_angle_mrad(ctx, wanted.reflection_d_a),
            remedy="Or state accept_disk_overlap.",
            mends=lambda apart: mend.convergence(ctx, apart / 2),
        )


@rule(
    "reflections_apart",
    number=4,
    axis=AXIS,
    kinds=("orientation",),
    formula="(λ/d - 2 α)/δ, d the neighbour_d_a",
    unit="px",
    source="acquisition habit",
)
def reflections_apart(ctx: Context, wanted: Orientation) -> Iterator[Judged]:
    """Clear pixels lie between neighbouring reflections."""
    spacing = wanted.neighbour_d_a or wanted.reflection_d_a
    angle, alpha = bragg_angle_mrad(ctx, spacing), ctx.plan.optics.convergence_semi_angle_mrad
    gap = (angle - 2 * alpha) / ctx.plan.mrad_per_pixel

    def clearer(pixels: float) -> Iterator[Change]:
        if gap > 0:
            yield from mend.camera_length(ctx, pixels / gap)
        yield from mend.convergence(ctx, (angle - pixels * ctx.plan.mrad_per_pixel) / 2)

    yield judge(ctx.limit("reflections_apart"), "gap between neighbouring reflections", gap, mends=clearer)
