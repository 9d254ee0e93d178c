"""The column and the stage, rule 19: every setting of the plan exists and lies within its range."""

from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches

from stem4d.instrument import InstrumentFacts
from stem4d.model import Range
from stem4d.rules.registry import Context, Judged, judge, rule
from stem4d.verdict import Axis, Change, Verdict

AXIS: Axis = "instrument and calibration"
SOURCE = "instrument file"


def facts_of(ctx: Context) -> InstrumentFacts:
    if ctx.instrument is None:
        raise ValueError("an instrument rule was asked without an instrument")
    return ctx.instrument


def _listed(ctx: Context, rule_id: str, what: str, asked: Change, known: tuple[float, ...]) -> Judged:
    """Hold a setting, written as a change to it, against the nearest of those that the instrument has."""
    if not known:
        return Judged(Verdict.FAIL, f"{what}: none listed", remedy="List them in the instrument file.")
    nearest = min(known, key=lambda each: abs(each - asked.value))
    listed = ", ".join(f"{each:g}" for each in sorted(known))
    return judge(
        ctx.limit(rule_id),
        f"difference of the {what} from the nearest listed",
        100 * abs(asked.value / nearest - 1),
        note=f"{asked.value:g} {asked.unit}; the instrument has {listed} {asked.unit}.",
        mends=lambda _limit: [asked.model_copy(update={"value": nearest})],
    )


@rule("beam_energy", number=19, axis=AXIS, formula="listed", unit="%", source=SOURCE, needs="instrument")
def beam_energy(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The high tension is one the instrument is aligned for."""
    asked = Change(field="optics.beam_energy_kev", value=ctx.plan.optics.beam_energy_kev, unit="keV", needs_person=True)
    yield _listed(ctx, "beam_energy", "beam energy", asked, facts_of(ctx).beam_energies_kev)


@rule("aperture", number=19, axis=AXIS, formula="α listed, to 2 %", unit="%", source=SOURCE, needs="instrument")
def aperture(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """A condenser aperture gives this convergence angle."""
    field, alpha = "optics.convergence_semi_angle_mrad", ctx.plan.optics.convergence_semi_angle_mrad
    asked = Change(field=field, value=alpha, unit="mrad", needs_person=True)
    known = tuple(each.convergence_semi_angle_mrad for each in facts_of(ctx).apertures)
    yield _listed(ctx, "aperture", "convergence angle", asked, known)


@rule("camera_length", number=19, axis=AXIS, formula="listed, to 1 %", unit="%", source=SOURCE, needs="instrument")
def camera_length(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The projector has this camera length."""
    asked = Change(field="optics.camera_length_mm", value=ctx.plan.optics.camera_length_mm, unit="mm")
    yield _listed(ctx, "camera_length", "camera length", asked, facts_of(ctx).camera_lengths_mm)


def within(ctx: Context, rule_id: str, what: str, asked: Change, allowed: Range) -> Judged:
    low = asked.value < allowed.lowest
    nearest = allowed.lowest if low else allowed.highest
    return judge(
        replace(ctx.limit(rule_id), sense="at least" if low else "at most"),
        what,
        asked.value,
        of=nearest,
        mends=lambda _limit: [asked.model_copy(update={"value": nearest})],
    )


@rule("defocus_range", number=19, axis=AXIS, formula="within its range", unit="nm", source=SOURCE, needs="instrument")
def defocus_range(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The column reaches this defocus."""
    asked = Change(field="optics.defocus_nm", value=ctx.plan.optics.defocus_nm, unit="nm")
    yield within(ctx, "defocus_range", "defocus", asked, facts_of(ctx).defocus_nm)


@rule("current_range", number=19, axis=AXIS, formula="within its range", unit="pA", source=SOURCE, needs="instrument")
def current_range(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The column gives this current."""
    asked = Change(field="optics.probe_current_pa", value=ctx.plan.optics.probe_current_pa, unit="pA")
    yield within(ctx, "current_range", "probe current", asked, facts_of(ctx).probe_current_pa)


@rule("dwell_range", number=19, axis=AXIS, formula="within its range", unit="us", source=SOURCE, needs="instrument")
def dwell_range(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The scan generator can dwell this long."""
    asked = Change(field="exposure.dwell_time_us", value=ctx.plan.exposure.dwell_time_us, unit="us")
    yield within(ctx, "dwell_range", "dwell time", asked, facts_of(ctx).dwell_time_us)


@rule("scan_range", number=19, axis=AXIS, formula="field", unit="nm", source=SOURCE, needs="instrument")
def scan_range(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The scan coils reach across the field."""
    yield judge(
        ctx.limit("scan_range"),
        "field of the scan",
        max(ctx.plan.scan.field_nm),
        of=facts_of(ctx).max_field_nm,
        remedy="Scan fewer positions, or several fields.",
    )


@rule(
    "spot",
    number=19,
    axis=AXIS,
    formula="I <= the largest of a spot",
    unit="pA",
    source=SOURCE,
    needs="instrument",
)
def spot(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """A spot setting reaches the current."""
    spots, current = facts_of(ctx).spots, ctx.plan.optics.probe_current_pa
    if spots:
        chosen = facts_of(ctx).spot(current)
        largest = max(each.largest_current_pa for each in spots)
        yield judge(
            ctx.limit("spot"),
            "probe current against the spot table",
            current,
            of=largest,
            note=f"Spot {chosen.name} makes it." if chosen is not None else "No spot makes it.",
            mends=lambda allowed: [Change(field="optics.probe_current_pa", value=allowed, unit="pA")],
        )


@rule(
    "stage_position",
    number=19,
    axis=AXIS,
    formula="area listed",
    unit="",
    source=SOURCE,
    needs="instrument",
)
def stage_position(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The stage knows where the plan's area and its spare ones are."""
    areas, sample = facts_of(ctx).areas, ctx.plan.sample
    unknown = [area for area in (sample.area, *sample.spare_areas) if area not in areas]
    if areas and unknown:
        close = ", ".join(get_close_matches(unknown[0], areas, n=3, cutoff=0.0))
        note = f"The stage has no position {unknown[0]}; it has {close}."
        field = "sample.area" if unknown[0] == sample.area else "sample.spare_areas"
        yield Judged(Verdict.FAIL, "stage position", note=note, remedy=f"Store the position, or correct {field}.")
    elif areas:
        yield Judged(Verdict.PASS, "stage position")
