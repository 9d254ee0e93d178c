"""Reciprocal space, rules 1 to 4: recorded angles, the disk on the detector, resolution, angular sampling."""

from collections.abc import Iterator
from math import hypot, sqrt

from stem4d import optics
from stem4d.plan import CentreOfMass, Orientation, Ptychography, Strain, TiltCorrected, Virtual
from stem4d.rules import mend
from stem4d.rules.limits import GUIDE
from stem4d.rules.registry import Context, Judged, Mends, judge, rule
from stem4d.verdict import Axis, Change, Verdict

AXIS: Axis = "reciprocal space"
RELAX = "Or ask for a coarser period."


def offset_px(ctx: Context) -> float:
    """Largest distance of the pattern's centre from the middle of the array, over the axes [px]."""
    return max(abs(offset) for offset in ctx.plan.detector.pattern_offset_px)


def centred_angle_mrad(ctx: Context) -> float:
    """Largest recorded angle if the pattern were centred [mrad]."""
    return optics.max_angle_mrad(min(ctx.plan.detector.shape), ctx.plan.mrad_per_pixel)


def bragg_angle_mrad(ctx: Context, spacing_a: float) -> float:
    """Angle between neighbouring disks of a lattice spacing, λ/d [mrad]."""
    return ctx.predicted.wavelength_a / spacing_a * 1e3


def focal_blur_a(ctx: Context) -> float:
    """Diameter of the geometric disc that defocus and spherical aberration add to the probe [Å]."""
    column = ctx.plan.optics
    diffraction = 2 * optics.rayleigh_radius_a(column.beam_energy_kev, column.convergence_semi_angle_mrad)
    return sqrt(max(ctx.predicted.probe_diameter_a**2 - diffraction**2, 0.0))


def probe_size_a(ctx: Context, source_a: float = 0.0) -> float:
    """Full width of the probe as an image sees it: diffraction, defocus and source in quadrature [Å]."""
    return hypot(ctx.predicted.diffraction_fwhm_a, focal_blur_a(ctx), source_a)


def looks_into_disk(ctx: Context, wanted: object) -> bool:
    """Whether an analysis uses the bright-field disk: all do, except virtual detectors that lie outside it."""
    if not isinstance(wanted, Virtual):
        return True
    return any(each.inner_mrad < ctx.plan.optics.convergence_semi_angle_mrad for each in wanted.detectors)


def _widen(ctx: Context, angle_mrad: float) -> Mends:
    """Record at least this angle by a shorter camera length, unless centring is enough."""

    def shorter(_limit: float) -> Iterator[Change]:
        if ctx.predicted.max_angle_mrad > 0 and not _centre_first(ctx, angle_mrad):
            yield from mend.camera_length(ctx, ctx.predicted.max_angle_mrad / angle_mrad)

    return shorter


def _off_centre_note(ctx: Context) -> str:
    centred, usable = centred_angle_mrad(ctx), ctx.predicted.max_angle_mrad
    if usable >= centred * 0.999:
        return ""
    if usable <= 0:
        return f"The pattern lies {offset_px(ctx):.3g} px off the middle: nothing is recorded on all sides."
    energy = ctx.plan.optics.beam_energy_kev
    return (
        f"The pattern lies {offset_px(ctx):.3g} px off the middle: {usable:.1f} of {centred:.1f} mrad are left on all "
        f"sides, a half-period of {optics.half_period_limit_a(energy, usable):.2f} Å instead of "
        f"{optics.half_period_limit_a(energy, centred):.2f} Å."
    )


def _centre_first(ctx: Context, angle_mrad: float) -> str:
    centred = centred_angle_mrad(ctx)
    if offset_px(ctx) > 0 and centred >= angle_mrad:
        return f"Centring the pattern is enough and costs nothing: {centred:.1f} mrad are then recorded."
    return ""


@rule(
    "collection_angle",
    number=1,
    axis=AXIS,
    kinds=("virtual",),
    formula="outer angle of each virtual detector <= θmax = (N/2 - |c|) δ",
    unit="mrad",
    source=GUIDE,
)
def collection_angle(ctx: Context, wanted: Virtual) -> Iterator[Judged]:
    """Every virtual detector lies on the recorded part of reciprocal space."""
    for each in wanted.detectors:
        yield judge(
            ctx.limit("collection_angle"),
            f"outer angle of {each.name}",
            each.outer_mrad,
            of=max(ctx.predicted.max_angle_mrad, 0.0),
            note=_off_centre_note(ctx),
            remedy=_centre_first(ctx, each.outer_mrad),
            mends=_widen(ctx, each.outer_mrad),
        )


@rule(
    "highest_angle",
    number=1,
    axis=AXIS,
    kinds=("virtual",),
    formula="highest_angle_mrad <= θmax",
    unit="mrad",
    source=GUIDE,
)
def highest_angle(ctx: Context, wanted: Virtual) -> Iterator[Judged]:
    """Patterns reach as far as a strongly scattering specimen or high-angle contrast is said to need."""
    if wanted.highest_angle_mrad is not None:
        yield judge(
            ctx.limit("highest_angle"),
            "highest angle wanted",
            wanted.highest_angle_mrad,
            of=max(ctx.predicted.max_angle_mrad, 0.0),
            note=_off_centre_note(ctx),
            remedy=_centre_first(ctx, wanted.highest_angle_mrad),
            mends=_widen(ctx, wanted.highest_angle_mrad),
        )


@rule(
    "disk_on_detector",
    number=2,
    axis=AXIS,
    kinds=("virtual", "com", "tcbf", "ptychography"),
    formula="N/2 - |c| - α/δ",
    unit="px",
    source=GUIDE,
)
def disk_on_detector(ctx: Context, wanted: object) -> Iterator[Judged]:
    """The bright-field disk lies wholly on the detector, with a margin."""
    if not looks_into_disk(ctx, wanted):
        return
    radius = ctx.plan.disk_radius_px
    usable_px = ctx.predicted.max_angle_mrad / ctx.plan.mrad_per_pixel
    yield judge(
        ctx.limit("disk_on_detector"),
        "margin between the bright-field disk and the detector's edge",
        usable_px - radius,
        note=f"The disk's radius is {radius:.1f} px.",
        remedy="Or centre the pattern." if offset_px(ctx) > 0 else "",
        mends=lambda margin: mend.camera_length(ctx, max(usable_px - margin, 0.0) / radius),
    )


@rule(
    "pattern_centred",
    number=2,
    axis=AXIS,
    kinds=("virtual", "com", "tcbf", "ptychography"),
    formula="|c|",
    unit="px",
    source=GUIDE,
)
def pattern_centred(ctx: Context, wanted: object) -> Iterator[Judged]:
    """The pattern sits in the middle of the array."""
    if looks_into_disk(ctx, wanted):
        yield judge(
            ctx.limit("pattern_centred"),
            "distance of the pattern from the middle",
            offset_px(ctx),
            of=min(ctx.plan.detector.shape) / 2,
            note=_off_centre_note(ctx),
            remedy="Centre the pattern with the projector shift or descan.",
        )


@rule(
    "aperture_resolution",
    number=3,
    axis=AXIS,
    kinds=("virtual", "com", "tcbf"),
    formula="λ/(2α) <= d",
    unit="Å",
    source="Abbe",
)
def aperture_resolution(ctx: Context, wanted: Virtual | CentreOfMass | TiltCorrected) -> Iterator[Judged]:
    """The aperture passes the target period."""
    if wanted.target_d_a is None:
        return
    wavelength = ctx.predicted.wavelength_a
    yield judge(
        ctx.limit("aperture_resolution", wanted.kind),
        "smallest period that the aperture passes",
        wavelength / (2e-3 * ctx.plan.optics.convergence_semi_angle_mrad),
        of=wanted.target_d_a,
        remedy=RELAX,
        mends=lambda period: mend.convergence(ctx, wavelength / (2e-3 * period)),
    )


@rule(
    "probe_size",
    number=3,
    axis=AXIS,
    kinds=("virtual", "com"),
    formula="sqrt((0.51 λ/α)² + (2 α Δf)²) <= d",
    unit="Å",
    source=f"{GUIDE}; diffraction FWHM with the geometric blur of defocus",
)
def probe_size(ctx: Context, wanted: Virtual | CentreOfMass) -> Iterator[Judged]:
    """The probe, which is the image's point spread, is no wider than the target period."""
    if wanted.target_d_a is None:
        return
    fwhm, blur = ctx.predicted.diffraction_fwhm_a, focal_blur_a(ctx)

    def smaller(size: float) -> Iterator[Change]:
        if fwhm < size:
            yield from mend.in_focus(ctx)
        elif blur < size:
            alpha = ctx.plan.optics.convergence_semi_angle_mrad
            yield from mend.convergence(ctx, alpha * fwhm / sqrt(size**2 - blur**2))

    yield judge(
        ctx.limit("probe_size", wanted.kind),
        "width of the probe",
        probe_size_a(ctx),
        of=wanted.target_d_a,
        note=f"Diffraction gives {fwhm:.2f} Å, defocus {blur:.2f} Å.",
        remedy=RELAX,
        mends=smaller,
    )


@rule(
    "recorded_angle",
    number=3,
    axis=AXIS,
    kinds=("ptychography",),
    formula="λ/(2 θmax) <= d/2, θmax = (N/2 - |c|) δ",
    unit="Å",
    source=GUIDE,
)
def recorded_angle(ctx: Context, wanted: Ptychography) -> Iterator[Judged]:
    """The largest angle recorded on all sides carries the target half-period."""
    needed_mrad = ctx.predicted.wavelength_a / wanted.target_d_a * 1e3
    usable = ctx.predicted.max_angle_mrad
    if usable <= 0:
        yield Judged(Verdict.FAIL, "half-period that the recorded angle carries", note=_off_centre_note(ctx))
        return
    yield judge(
        ctx.limit("recorded_angle"),
        "half-period that the recorded angle carries",
        ctx.predicted.half_period_limit_a,
        of=wanted.target_d_a / 2,
        note=_off_centre_note(ctx) or f"{usable:.1f} mrad are recorded on all sides.",
        remedy=" ".join(filter(None, (_centre_first(ctx, needed_mrad), RELAX))),
        mends=_widen(ctx, needed_mrad),
    )


@rule(
    "reflections_recorded",
    number=3,
    axis=AXIS,
    kinds=("strain", "orientation"),
    formula="λ/d_hkl + α <= θmax",
    unit="mrad",
    source=GUIDE,
)
def reflections_recorded(ctx: Context, wanted: Strain | Orientation) -> Iterator[Judged]:
    """The wanted reflections are recorded with their whole disks."""
    outer = bragg_angle_mrad(ctx, wanted.reflection_d_a) + ctx.plan.optics.convergence_semi_angle_mrad
    yield judge(
        ctx.limit("reflections_recorded"),
        f"outer edge of the {wanted.reflection_d_a:.3g} Å disks",
        outer,
        of=max(ctx.predicted.max_angle_mrad, 0.0),
        note=_off_centre_note(ctx),
        remedy=_centre_first(ctx, outer),
        mends=_widen(ctx, outer),
    )


@rule(
    "probe_in_feature",
    number=3,
    axis=AXIS,
    kinds=("strain", "orientation"),
    formula="sqrt((2 α Δf)² + (1.22 λ/α)²) <= smallest feature",
    unit="Å",
    source=GUIDE,
)
def probe_in_feature(ctx: Context, wanted: Strain | Orientation) -> Iterator[Judged]:
    """The probe is no wider than the smallest feature."""
    column = ctx.plan.optics
    diffraction = 2 * optics.rayleigh_radius_a(column.beam_energy_kev, column.convergence_semi_angle_mrad)

    def smaller(size: float) -> Iterator[Change]:
        if diffraction < size:
            yield from mend.defocus_for_patch(ctx, size)
            yield from mend.in_focus(ctx)
        else:
            yield from mend.convergence(ctx, column.convergence_semi_angle_mrad * diffraction / size)

    yield judge(
        ctx.limit("probe_in_feature"),
        "diameter of the probe",
        ctx.predicted.probe_diameter_a,
        of=wanted.smallest_feature_nm * 10,
        mends=smaller,
    )
