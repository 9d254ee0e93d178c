"""The way to the target, rules 19 and 8: poses and shifts within reach, and a focus area that spares the target."""

from collections.abc import Iterator

from stem4d.approach import FOCUS_ELECTRONS, POSE_UNITS, SURVEY_ELECTRONS, Approach
from stem4d.calibrate.focus_scans import focus_scans
from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFacts, StageFacts
from stem4d.rules.instrument import AXIS, SOURCE, facts_of
from stem4d.rules.registry import Context, Judged, judge, rule
from stem4d.verdict import Verdict


def _asked(ctx: Context) -> Approach:
    return ctx.plan.approach or Approach.model_construct()


@rule("stage_pose", number=19, axis=AXIS, formula="within its range", unit="um", source=SOURCE, needs="instrument")
def stage_pose(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The stage reaches the target's place and height, with the room that removing the backlash takes."""
    yield from _axes(ctx, "um")


@rule("stage_tilt", number=19, axis=AXIS, formula="within its range", unit="deg", source=SOURCE, needs="instrument")
def stage_tilt(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The stage reaches the target's tilts."""
    yield from _axes(ctx, "deg")


@rule("eucentric_tilt", number=19, axis=AXIS, formula="within its range", unit="deg", source=SOURCE, needs="instrument")
def eucentric_tilt(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The stage reaches the tilt by which the eucentric height is measured."""
    asked, stage = _asked(ctx), facts_of(ctx).stage
    if asked.eucentric_tilt_deg is None:
        return
    if stage is None:
        remedy = "State facts.stage in the instrument file, or leave approach.eucentric_tilt_deg out."
        yield Judged(Verdict.FAIL, "approach.eucentric_tilt_deg: the instrument states no stage", remedy=remedy)
        return
    tilted = asked.eucentric_tilt_deg + (asked.pose.alpha_deg if asked.pose else 0.0)
    highest = stage.alpha_deg.highest
    inside = tilted <= highest
    yield Judged(
        Verdict.PASS if inside else Verdict.FAIL,
        "tilt for the eucentric height",
        tilted,
        highest,
        sense="at most",
        remedy="" if inside else "Measure it by a smaller tilt (approach.eucentric_tilt_deg).",
    )


def _axes(ctx: Context, unit: str) -> Iterator[Judged]:
    pose, stage = _asked(ctx).pose, facts_of(ctx).stage
    if pose is None:
        return
    if stage is None:
        remedy = "State facts.stage in the instrument file, or leave approach.pose out."
        yield Judged(Verdict.FAIL, "approach.pose: the instrument states no stage", remedy=remedy)
        return
    for axis in (name for name, its_unit in POSE_UNITS.items() if its_unit == unit):
        yield _axis(axis, float(getattr(pose, axis)), stage, unit)


def _axis(axis: str, value: float, stage: StageFacts, unit: str) -> Judged:
    """Additive limits: a range about zero has no multiples."""
    field, allowed = f"approach.pose.{axis}", stage.range_of(axis)
    if allowed is None:
        verdict = Verdict.FAIL if value else Verdict.PASS
        return Judged(
            verdict, f"{field} on a stage without it", value, 0.0, remedy=f"Set {field} to 0." if value else ""
        )
    free = stage.lowest_target(axis)
    low = value < free
    edge, inside = (free if low else allowed.highest), allowed.highest >= value >= free
    note = f"{stage.backlash_um:g} um below it are for removing the backlash." if free > allowed.lowest else ""
    return Judged(
        Verdict.PASS if inside else Verdict.FAIL,
        field,
        value,
        edge,
        sense="at least" if low else "at most",
        note=note,
        remedy="" if inside else f"Set {field} to {edge:g} {unit} or less far out.",
    )


@rule(
    "focus_area_reach", number=19, axis=AXIS, formula="|offset| per axis", unit="nm", source=SOURCE, needs="instrument"
)
def focus_area_reach(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The beam shift reaches the focus area."""
    area, facts = _asked(ctx).focus_area, facts_of(ctx)
    if area is None:
        return
    reach = shift_reach_nm(facts)
    if reach is None:
        remedy = "State facts.beam_shift_nm in the instrument file, or leave approach.focus_area out."
        yield Judged(Verdict.FAIL, "focus area: the instrument states no beam shift", remedy=remedy)
        return
    yield judge(
        ctx.limit("focus_area_reach"),
        "offset of the focus area",
        max(map(abs, area.offset_nm)),
        of=reach,
        remedy="Choose a focus area nearer to the target (approach.focus_area.offset_nm).",
    )


def shift_reach_nm(facts: InstrumentFacts) -> float | None:
    """How far the beam shift goes either way along each axis [nm]; None where the file does not say."""
    allowed = facts.beam_shift_nm
    return None if allowed is None else max(min(-allowed.lowest, allowed.highest), 0.0)


@rule(
    "focus_area_apart", number=8, axis="intensity and dose", formula="distance >= 2 x field + D", unit="nm",
    source="habit of low-dose microscopy",
)  # fmt: skip
def focus_area_apart(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """Focusing exposes nothing of the target: the focus area is twice the field and a probe away."""
    area = _asked(ctx).focus_area
    if area is not None:
        yield judge(
            ctx.limit("focus_area_apart"),
            "distance of the focus area from the target",
            area.distance_nm,
            of=least_distance_nm(ctx),
            remedy="Choose a focus area farther away (approach.focus_area.offset_nm).",
        )


@rule(
    "focus_area_budget", number=8, axis="intensity and dose", formula="4 n_s/step² + n_f/far² + n_f/near²", unit="e/Å²",
    source="two scans for the drift, two for focus and two for contamination, of 2000 and 10 000 electrons a pattern",
    needs="instrument",
)  # fmt: skip
def focus_area_budget(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The focus area bears the fewest scans that the approach makes there; more are made where these do not suffice."""
    area = _asked(ctx).focus_area
    if area is not None:
        least = least_focus_fluence_e_per_a2(ctx)
        yield judge(
            ctx.limit("focus_area_budget"),
            "budget of the focus area",
            area.fluence_budget_e_per_a2,
            of=least,
            note=f"Up to {MOST_SCANS:g} times as much is used where drift or focus need more scans.",
            remedy=f"Set approach.focus_area.fluence_budget_e_per_a2 to {MOST_SCANS * least:.3g}, or leave it out.",
        )


MOST_SCANS = 3
"""Times the fewest scans, that a focus area should bear (habit)."""


def least_focus_fluence_e_per_a2(ctx: Context) -> float:
    """Average fluence of the fewest scans of a focus area [e/Å²]."""
    plan = ctx.plan
    told = plan.optics
    given = 4 * SURVEY_ELECTRONS / (10 * plan.scan.step_nm) ** 2
    try:
        scans = focus_scans(
            told.beam_energy_kev,
            told.convergence_semi_angle_mrad,
            ctx.predicted.mrad_per_pixel,
            facts_of(ctx).defocus_nm.highest,
        )
    except BadInput:
        # What leaves no room to focus by is said when it is focused.
        return given
    return given + sum(FOCUS_ELECTRONS / (10 * scan.step_nm) ** 2 for scan in scans)


def least_distance_nm(ctx: Context) -> float:
    """Twice the longer side of the field, and the probe [nm]."""
    return 2 * max(ctx.plan.scan.field_nm) + ctx.predicted.probe_diameter_a / 10


@rule("stigmator", number=19, axis=AXIS, formula="stated", unit="nm", source=SOURCE, needs="instrument")
def stigmator(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """What focusing finds of astigmatism can be corrected."""
    if _asked(ctx).focus_area is None:
        return
    if facts_of(ctx).stigmator_nm is None:
        remedy = "State facts.stigmator_nm in the instrument file, or leave approach.focus_area out."
        yield Judged(Verdict.FAIL, "focus area: the instrument states no stigmator", remedy=remedy)
    else:
        yield Judged(Verdict.PASS, "stigmator for the focus area")


@rule("vacuum_position", number=19, axis=AXIS, formula="listed", unit="", source=SOURCE, needs="instrument")
def vacuum_position(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The stage knows the position without a specimen that calibrations use."""
    name, areas = _asked(ctx).vacuum_area, facts_of(ctx).areas
    if name is None or not areas:
        return
    if name in areas or name == "vacuum":
        yield Judged(Verdict.PASS, "vacuum position")
    else:
        note = f"The stage has no position {name}; it has vacuum, {', '.join(areas)}."
        yield Judged(Verdict.FAIL, "vacuum position", note=note, remedy="Store it, or correct approach.vacuum_area.")
