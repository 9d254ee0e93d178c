"""Slips of units, rule 24: a figure that is possible but out of all proportion, with the arithmetic that shows it."""

from collections.abc import Iterator

from stem4d import optics
from stem4d.rules.limits import FEW_ELECTRONS
from stem4d.rules.registry import Context, Judged, judge, rule
from stem4d.rules.words import figures, number
from stem4d.verdict import Axis

AXIS: Axis = "instrument and calibration"
SOURCE = "habit: a factor of a thousand is a slip of the pen"


def _length(angstrom: float) -> str:
    return figures("Å", angstrom)[0]


@rule(
    "defocus_unit",
    number=24,
    axis=AXIS,
    formula="2 α |Δf|, against the field, and by itself",
    unit="Å",
    source=SOURCE,
)
def defocus_unit(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The defocus does not spread the probe far beyond the field, nor over a micrometre."""
    column, field_a = ctx.plan.optics, 10 * max(ctx.plan.scan.field_nm)
    spread_a = 2e-3 * column.convergence_semi_angle_mrad * abs(column.defocus_nm) * 10
    wide, absolute = ctx.limit("defocus_unit"), ctx.limit("defocus_unit", "absolute")
    by_field = wide.wanted * field_a <= absolute.wanted
    yield judge(
        wide if by_field else absolute,
        "spread of the probe by its defocus",
        spread_a,
        of=field_a if by_field else 1.0,
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
    """The step is not out of all proportion to the probe, neither way."""
    diameter_a, step_a = ctx.predicted.probe_diameter_a, 10 * ctx.plan.scan.step_nm
    for side in ("large", "small"):
        yield judge(
            ctx.limit("step_unit", side),
            f"{side} step against the probe",
            step_a / diameter_a,
            note=f"A step of {_length(step_a)} with a probe of {_length(diameter_a)}.",
            remedy="Is step_nm in nm?",
        )


@rule(
    "current_unit",
    number=24,
    axis=AXIS,
    formula="I; a small one only where few electrons make a pattern",
    unit="pA",
    source=SOURCE,
)
def current_unit(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The current is one that scanning microscopes work with."""
    current, dwell = ctx.plan.optics.probe_current_pa, ctx.plan.exposure.dwell_time_us
    count = ctx.predicted.electrons_per_pattern
    for side in ("large", "small") if count < FEW_ELECTRONS.value else ("large",):
        yield judge(
            ctx.limit("current_unit", side),
            f"{side} probe current",
            current,
            note=f"{current:g} pA for {dwell:g} us are {number(count)} electrons.",
            remedy="Is probe_current_pa in pA? 1 nA is 1000 pA.",
        )


@rule(
    "camera_length_unit",
    number=24,
    axis=AXIS,
    formula="N δ / 2; pitch / camera length against a stated δ, and the reverse",
    unit="mrad",
    source=SOURCE,
)
def camera_length_unit(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The detector does not span more than any projector shows, and the camera length agrees with a stated angle."""
    setup, delta = ctx.plan.detector, ctx.plan.mrad_per_pixel
    yield judge(
        ctx.limit("camera_length_unit"),
        "angle at the detector's edge",
        delta * max(setup.shape) / 2,
        note=f"{delta:.3g} mrad per pixel.",
        remedy="Are camera_length_mm in mm and pixel_pitch_um in µm?",
    )
    if setup.mrad_per_pixel is not None:
        length = ctx.plan.optics.camera_length_mm
        nominal = optics.mrad_per_pixel(setup.pixel_pitch_um, length)
        yield judge(
            ctx.limit("camera_length_unit", "stated"),
            "larger of the stated and the nominal angle per pixel",
            max(delta, nominal),
            of=min(delta, nominal),
            note=f"{setup.pixel_pitch_um:g} um/{length:g} mm is {nominal:.3g} mrad, {delta:.3g} are stated per pixel.",
            remedy="Are camera_length_mm in mm and pixel_pitch_um in µm?",
        )
