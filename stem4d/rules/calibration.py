"""Calibration, rules 5, 17 and 20 to 23: what must be known, how well, and what changing it takes."""

from collections.abc import Iterator
from math import hypot

from stem4d.plan import Analysis, Ptychography, Strain, TiltCorrected, Virtual
from stem4d.rules import real_space, reciprocal
from stem4d.rules.descan import Movement, bearable
from stem4d.rules.instrument import AXIS
from stem4d.rules.limits import CALIBRATION_NEEDS, GUIDE, LARGEST_STRAIN, NEED_IN_WORDS, calibrations_of
from stem4d.rules.registry import Calibrated, Context, Judged, judge, rule
from stem4d.verdict import Change, Verdict

ALL = ("virtual", "com", "strain", "orientation", "tcbf", "ptychography")


STEP_KINDS = {
    "scan_step": "scan step",
    "scan_step_y": "scan step along y",
    "scan_step_x": "scan step along x",
    "scan_shear": "scan's shear",
}
"""Calibrations of the scan's geometry, each by itself."""


def _relative_percent(known: Calibrated) -> float | None:
    return 100 * known.uncertainty / abs(known.value) if known.value != 0 else None


@rule(
    "angle_scale",
    number=5,
    axis=reciprocal.AXIS,
    kinds=("virtual", "com", "orientation", "tcbf", "ptychography"),
    formula="uncertainty of δ",
    unit="%",
    source=GUIDE,
    needs="calibrations",
)
def angle_scale(ctx: Context, wanted: Analysis) -> Iterator[Judged]:
    """The angle per pixel is known."""
    known = ctx.calibrated("mrad_per_pixel")
    percent = _relative_percent(known) if known is not None else None
    if percent is not None:
        yield judge(
            ctx.limit("angle_scale", wanted.kind),
            "uncertainty of the angle per pixel",
            percent,
            remedy="Calibrate mrad_per_pixel on a reference specimen.",
        )


@rule(
    "strain_scale",
    number=5,
    axis=reciprocal.AXIS,
    kinds=("strain",),
    formula="region: largest strain x δcal; absolute: δcal and ellipticity in quadrature",
    unit="strain",
    source="error propagation",
    needs="calibrations",
)
def strain_scale(ctx: Context, wanted: Strain) -> Iterator[Judged]:
    """The pixel-to-angle calibration does not limit the strain."""
    known, ellipse = ctx.calibrated("mrad_per_pixel"), ctx.calibrated("ellipticity")
    percent = _relative_percent(known) if known is not None else None
    if percent is None:
        return
    if wanted.reference == "region":
        error, note = LARGEST_STRAIN.value * percent / 100, f"Assumed: strains up to {LARGEST_STRAIN.value:g}."
    elif ellipse is not None:
        error, note = hypot(percent / 100, ellipse.uncertainty), ""
    else:
        return
    yield judge(
        ctx.limit("strain_scale", wanted.reference),
        "strain error of the angular calibration",
        error,
        of=wanted.target_strain,
        note=note,
        remedy="Calibrate on a reference specimen, or refer the strain to a region of this one.",
    )


@rule(
    "step_scale",
    number=17,
    axis=real_space.AXIS,
    kinds=("virtual", "com", "strain", "orientation", "ptychography"),
    formula="uncertainty of the scan step",
    unit="%",
    source=GUIDE,
    needs="calibrations",
)
def step_scale(ctx: Context, wanted: Analysis) -> Iterator[Judged]:
    """The scan step is calibrated."""
    refined = isinstance(wanted, Ptychography) and wanted.affine_refinement
    for kind, words in STEP_KINDS.items():
        known = ctx.calibrated(kind)
        if known is None:
            continue
        # A shear is a ratio that ought to be zero: its uncertainty is not relative to it.
        percent = 100 * known.uncertainty if kind == "scan_shear" else _relative_percent(known)
        if percent is not None:
            yield judge(
                ctx.limit("step_scale", "refined" if refined else wanted.kind),
                f"uncertainty of the {words}",
                percent,
                remedy="Calibrate the scan step on a lattice or a cross grating.",
            )


@rule(
    "realignment",
    number=20,
    axis=AXIS,
    formula="α of the plan against the aligned α",
    unit="%",
    source=GUIDE,
)
def realignment(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The plan keeps the convergence angle that the condenser is aligned for."""
    measured = ctx.calibrated("convergence_semi_angle")
    stated = ctx.instrument.aligned_semi_angle_mrad if ctx.instrument is not None else None
    aligned = measured.value if measured is not None and measured.value > 0 else stated
    if aligned is not None:
        change = Change(field="optics.convergence_semi_angle_mrad", value=aligned, unit="mrad", needs_person=True)
        yield judge(
            ctx.limit("realignment"),
            "change of the convergence angle",
            100 * abs(ctx.plan.optics.convergence_semi_angle_mrad / aligned - 1),
            note=f"The condenser is aligned for {aligned:g} mrad.",
            remedy="Unattended, nobody can realign the condenser: run this plan attended, or with the aligned angle.",
            mends=lambda _limit: [change],
        )


@rule(
    "descan_residual",
    number=21,
    axis=AXIS,
    kinds=ALL,
    formula="residual movement of the disk over the scan, after correction",
    unit="px",
    source=GUIDE,
    needs="calibrations",
)
def descan_residual(ctx: Context, wanted: Analysis) -> Iterator[Judged]:
    """What descan leaves is too small to matter to this analysis."""
    known = ctx.calibrated("descan")
    if known is None:
        return
    plan, delta = ctx.plan, ctx.plan.mrad_per_pixel
    masks = wanted.detectors if isinstance(wanted, Virtual) else ()
    edges = [edge / delta for each in masks for edge in (each.inner_mrad, each.outer_mrad) if edge > 0]
    movement = Movement(
        radius_px=plan.disk_radius_px,
        mrad_per_pixel=delta,
        wavelength_a=ctx.predicted.wavelength_a,
        defocus_nm=plan.optics.defocus_nm,
        edges_px=[edge for edge in edges if edge < hypot(*plan.detector.shape)],
    )
    found = bearable(wanted.kind, wanted, movement, stated_px=plan.quality.max_descan_px, limits=ctx.limits)
    if found is not None:
        yield judge(
            found.limit,
            "residual movement of the disk",
            abs(known.value),
            of=found.of_px,
            note=f"Limit: {found.why}.",
            remedy="Calibrate descan in vacuum for this field, or map the movement and remove it.",
        )


@rule(
    "defocus_known",
    number=22,
    axis=AXIS,
    kinds=("tcbf", "ptychography"),
    formula="uncertainty of Δf <= max(20 %, λ/α²)",
    unit="nm",
    source=f"{GUIDE}; habit",
    needs="calibrations",
)
def defocus_known(ctx: Context, wanted: TiltCorrected | Ptychography) -> Iterator[Judged]:
    """Defocus is known well enough to start from."""
    known = ctx.calibrated("defocus")
    if known is not None:
        yield judge(
            ctx.limit("defocus_known", wanted.kind),
            "uncertainty of the defocus",
            known.uncertainty,
            of=max(0.2 * abs(ctx.plan.optics.defocus_nm), ctx.predicted.depth_of_field_a / 10),
            remedy="Measure the defocus from a Ronchigram or tilt-corrected shifts.",
        )


@rule(
    "calibrations_present",
    number=23,
    axis=AXIS,
    kinds=ALL,
    formula="every kind that the analysis needs is known for these optics",
    unit="missing",
    source=GUIDE,
    needs="calibrations",
)
def calibrations_present(ctx: Context, wanted: Analysis) -> Iterator[Judged]:
    """The calibrations that the analysis needs are there."""
    missing = [kind for kind in calibrations_of(wanted) if ctx.calibrated(kind) is None]
    if missing:
        needs = ", ".join(f"{kind} ({NEED_IN_WORDS[CALIBRATION_NEEDS[kind]]})" for kind in missing)
        yield Judged(
            Verdict.NOT_MEASURABLE,
            f"calibrations {', '.join(missing)}",
            float(len(missing)),
            remedy=f"Measure {needs}: nightbeam calibrate {' '.join(missing)} --plan PLAN -i INSTRUMENT.",
        )
    else:
        yield judge(ctx.limit("calibrations_present"), "missing calibrations", 0.0)
