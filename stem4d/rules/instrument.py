"""The instrument, rule 19: every setting of the plan exists and lies within its range."""

from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches

from stem4d.catalogue import CATALOGUE, closest
from stem4d.instrument import InstrumentFacts
from stem4d.model import Range
from stem4d.rules.registry import Context, Judged, judge, rule
from stem4d.verdict import Axis, Change, Verdict

AXIS: Axis = "instrument and calibration"
SOURCE = "instrument file"


def _facts(ctx: Context) -> InstrumentFacts:
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
    yield _listed(ctx, "beam_energy", "beam energy", asked, _facts(ctx).beam_energies_kev)


@rule("aperture", number=19, axis=AXIS, formula="α listed, to 2 %", unit="%", source=SOURCE, needs="instrument")
def aperture(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """A condenser aperture gives this convergence angle."""
    field, alpha = "optics.convergence_semi_angle_mrad", ctx.plan.optics.convergence_semi_angle_mrad
    asked = Change(field=field, value=alpha, unit="mrad", needs_person=True)
    known = tuple(each.convergence_semi_angle_mrad for each in _facts(ctx).apertures)
    yield _listed(ctx, "aperture", "convergence angle", asked, known)


@rule("camera_length", number=19, axis=AXIS, formula="listed, to 1 %", unit="%", source=SOURCE, needs="instrument")
def camera_length(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The projector has this camera length."""
    asked = Change(field="optics.camera_length_mm", value=ctx.plan.optics.camera_length_mm, unit="mm")
    yield _listed(ctx, "camera_length", "camera length", asked, _facts(ctx).camera_lengths_mm)


def _detector_faults(ctx: Context) -> Iterator[str]:
    setup, facts = ctx.plan.detector, ctx.detector_facts
    if facts is None:
        names = [each.name for each in _facts(ctx).all_detectors]
        close = get_close_matches(setup.name, names, n=3, cutoff=0.0)
        yield f"there is no detector {setup.name}; the instrument has {', '.join(close)}"
        return
    binning = setup.pixel_pitch_um / facts.pixel_pitch_um
    if round(binning) < 1 or abs(binning / round(binning) - 1) > 0.01:
        yield f"a pitch of {setup.pixel_pitch_um:g} um is no multiple of its {facts.pixel_pitch_um:g} um"
        return
    array = tuple(pixels // round(binning) for pixels in facts.shape)
    if any(asked > there for asked, there in zip(setup.shape, array, strict=True)):
        yield f"{setup.shape[0]} x {setup.shape[1]} px is more than its {array[0]} x {array[1]} px"
    if setup.bit_depth not in facts.bit_depths:
        depths = ", ".join(str(depth) for depth in facts.bit_depths)
        yield f"it counts to {depths} bit, not {setup.bit_depth} bit"


@rule(
    "detector",
    number=19,
    axis=AXIS,
    formula="name, array, pixel pitch and bit depth as listed",
    unit="",
    source=SOURCE,
    needs="instrument",
)
def detector(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The detector exists and can be set like this."""
    faults, facts = list(_detector_faults(ctx)), ctx.detector_facts

    def depth() -> Iterator[Change]:
        if facts is not None and ctx.plan.detector.bit_depth not in facts.bit_depths:
            deeper = [each for each in facts.bit_depths if each > ctx.plan.detector.bit_depth]
            chosen = min(deeper, default=max(facts.bit_depths))
            yield Change(field="detector.bit_depth", value=float(chosen), unit="bit")

    quantity = "detector setting"
    if faults:
        note = f"{'; '.join(faults)}."
        yield Judged(Verdict.FAIL, quantity, note=note[0].upper() + note[1:], mends=tuple(depth()))
    else:
        yield Judged(Verdict.PASS, quantity)


def _unverified(ctx: Context) -> str:
    facts = ctx.detector_facts
    return "The detector's figure is unverified." if facts is not None and not facts.verified else ""


@rule("frame_rate", number=19, axis=AXIS, formula="1/t_dwell", unit="Hz", source=SOURCE, needs="instrument")
def frame_rate(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The detector is fast enough for the dwell time."""
    facts, dwell_us = ctx.detector_facts, ctx.plan.exposure.dwell_time_us
    if facts is not None:
        yield judge(
            ctx.limit("frame_rate"),
            "frame rate",
            1e6 / dwell_us,
            of=facts.frame_rate_hz(ctx.plan.detector.bit_depth),
            note=_unverified(ctx),
            mends=lambda rate_hz: _dwell(1e6 / rate_hz),
        )


def _dwell(dwell_us: float) -> Iterator[Change]:
    # Four figures upward: three would lengthen a dwell by up to one per cent for nothing.
    yield Change(field="exposure.dwell_time_us", value=float(f"{dwell_us * 1.0005:.4g}"), unit="us")


@rule(
    "dead_time",
    number=19,
    axis=AXIS,
    formula="t_live + dead time <= t_dwell",
    unit="us",
    source=SOURCE,
    needs="instrument",
)
def dead_time(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The stated exposure time leaves the detector its dead time."""
    facts, exposure = ctx.detector_facts, ctx.plan.exposure
    if facts is not None and exposure.exposure_time_us is not None:
        yield judge(
            ctx.limit("dead_time"),
            "exposure time",
            exposure.exposure_time_us,
            of=max(exposure.dwell_time_us - facts.dead_time_us, 0.0),
            note=_unverified(ctx),
            remedy=f"Shorten exposure_time_us: {facts.dead_time_us:g} us of each dwell record nothing.",
        )


def _within(ctx: Context, rule_id: str, what: str, asked: Change, allowed: Range) -> Judged:
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
    yield _within(ctx, "defocus_range", "defocus", asked, _facts(ctx).defocus_nm)


@rule("current_range", number=19, axis=AXIS, formula="within its range", unit="pA", source=SOURCE, needs="instrument")
def current_range(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The column gives this current."""
    asked = Change(field="optics.probe_current_pa", value=ctx.plan.optics.probe_current_pa, unit="pA")
    yield _within(ctx, "current_range", "probe current", asked, _facts(ctx).probe_current_pa)


@rule("dwell_range", number=19, axis=AXIS, formula="within its range", unit="us", source=SOURCE, needs="instrument")
def dwell_range(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The scan generator can dwell this long."""
    asked = Change(field="exposure.dwell_time_us", value=ctx.plan.exposure.dwell_time_us, unit="us")
    yield _within(ctx, "dwell_range", "dwell time", asked, _facts(ctx).dwell_time_us)


@rule("scan_range", number=19, axis=AXIS, formula="field", unit="nm", source=SOURCE, needs="instrument")
def scan_range(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The scan coils reach across the field."""
    yield judge(
        ctx.limit("scan_range"),
        "field of the scan",
        max(ctx.plan.scan.field_nm),
        of=_facts(ctx).max_field_nm,
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
    spots, current = _facts(ctx).spots, ctx.plan.optics.probe_current_pa
    if spots:
        chosen = _facts(ctx).spot(current)
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
    "detector_energy",
    number=19,
    axis=AXIS,
    formula="high tension within the sensor's range",
    unit="keV",
    source=SOURCE,
    needs="instrument",
)
def detector_energy(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """Sensor and threshold are meant for this high tension."""
    facts = ctx.detector_facts
    if facts is not None and facts.beam_energies_kev is not None:
        asked = Change(
            field="optics.beam_energy_kev", value=ctx.plan.optics.beam_energy_kev, unit="keV", needs_person=True
        )
        judged = _within(ctx, "detector_energy", "beam energy on the detector", asked, facts.beam_energies_kev)
        yield replace(judged, note=_unverified(ctx))


@rule(
    "known_detector",
    number=19,
    axis=AXIS,
    formula="name in the catalogue",
    unit="",
    source="stem4d.catalogue",
)
def known_detector(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """Without an instrument, the detector is at least one that is known by name."""
    name = ctx.plan.detector.name
    if ctx.instrument is None and name not in CATALOGUE:
        yield Judged(
            Verdict.NOT_MEASURABLE,
            "detector",
            note=f"{name} is not in the catalogue; the closest are {', '.join(closest(name))}.",
            remedy="Name an instrument file that describes it, or correct the name.",
        )
    elif ctx.instrument is None:
        yield Judged(Verdict.PASS, "detector", note=f"{name} is in the catalogue.")
