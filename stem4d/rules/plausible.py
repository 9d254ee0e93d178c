"""Slips of units, rule 24: a figure that is possible but out of all proportion, with the arithmetic that shows it."""

from collections.abc import Iterator

from stem4d.rules.registry import Context, Judged, judge, rule
from stem4d.rules.words import figures
from stem4d.verdict import Axis

AXIS: Axis = "instrument and calibration"
SOURCE = "habit: a factor of a thousand is a slip of the pen"


def _length(angstrom: float) -> str:
    return figures("Å", angstrom)[0]


@rule(
    "defocus_unit",
    number=24,
    axis=AXIS,
    formula="2 α |Δf| against the field",
    unit="times the field",
    source=SOURCE,
)
def defocus_unit(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The defocus does not spread the probe far beyond the field."""
    column, field_a = ctx.plan.optics, 10 * max(ctx.plan.scan.field_nm)
    spread_a = 2e-3 * column.convergence_semi_angle_mrad * abs(column.defocus_nm) * 10
    yield judge(
        ctx.limit("defocus_unit"),
        "spread of the probe by its defocus",
        spread_a / field_a,
        note=f"2 x {column.convergence_semi_angle_mrad:g} mrad x {abs(column.defocus_nm):g} nm is {_length(spread_a)}, "
        f"on a field of {_length(field_a)}.",
        remedy="Is defocus_nm in nm? An instrument may display it in Å, µm or m.",
    )


@rule(
    "step_unit",
    number=24,
    axis=AXIS,
    formula="s against D",
    unit="times the probe",
    source=SOURCE,
)
def step_unit(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The step is not out of all proportion to the probe."""
    diameter_a, step_a = ctx.predicted.probe_diameter_a, 10 * ctx.plan.scan.step_nm
    yield judge(
        ctx.limit("step_unit"),
        "step against the probe",
        step_a / diameter_a,
        note=f"A step of {_length(step_a)} with a probe of {_length(diameter_a)}.",
        remedy="Is step_nm in nm?",
    )


@rule("current_unit", number=24, axis=AXIS, formula="I", unit="pA", source=SOURCE)
def current_unit(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The current is one that scanning microscopes work with."""
    for side, sense in (("large", "current_unit/large"), ("small", "current_unit/small")):
        yield judge(
            ctx.limit(sense),
            f"{side} probe current",
            ctx.plan.optics.probe_current_pa,
            remedy="Is probe_current_pa in pA? 1 nA is 1000 pA.",
        )


@rule("camera_length_unit", number=24, axis=AXIS, formula="N δ / 2", unit="mrad", source=SOURCE)
def camera_length_unit(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The detector does not span more than any projector shows."""
    half = ctx.plan.mrad_per_pixel * max(ctx.plan.detector.shape) / 2
    yield judge(
        ctx.limit("camera_length_unit"),
        "angle at the detector's edge",
        half,
        note=f"{ctx.plan.mrad_per_pixel:.3g} mrad per pixel.",
        remedy="Are camera_length_mm in mm and pixel_pitch_um in µm?",
    )
