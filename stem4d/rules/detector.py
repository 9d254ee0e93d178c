"""The detector, rule 19: it exists, can be set as the plan wants it, is fast enough, and suits the high tension."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches

from stem4d.catalogue import CATALOGUE, closest
from stem4d.detector import DetectorFacts
from stem4d.plan import Plan
from stem4d.rules.instrument import AXIS, SOURCE, facts_of, within
from stem4d.rules.registry import Context, Judged, judge, rule
from stem4d.verdict import Change, Verdict

FRAME_RATE_SLACK = 0.01
"""Frame rates of the catalogue are round figures."""


def _merged(plan: Plan, facts: DetectorFacts) -> int:
    """Pixels merged along each axis, by the plan's pitch."""
    return max(1, round(plan.detector.pixel_pitch_um / facts.pixel_pitch_um))


def _faults(plan: Plan, facts: DetectorFacts) -> Iterator[str]:
    """What the plan asks of a detector and the detector has not."""
    setup, merged = plan.detector, _merged(plan, facts)
    if abs(setup.pixel_pitch_um / facts.pixel_pitch_um / merged - 1) > 0.01:
        yield f"a pitch of {setup.pixel_pitch_um:g} um is no multiple of its {facts.pixel_pitch_um:g} um"
        return
    array = tuple(pixels // merged for pixels in facts.shape)
    if any(asked > there for asked, there in zip(setup.shape, array, strict=True)):
        yield f"{setup.shape[0]} x {setup.shape[1]} px is more than its {array[0]} x {array[1]} px"
    if setup.bit_depth not in facts.bit_depths:
        depths = ", ".join(str(depth) for depth in facts.bit_depths)
        yield f"it counts to {depths} bit, not {setup.bit_depth} bit"


def _frame_rate_hz(plan: Plan, facts: DetectorFacts) -> float:
    return facts.frame_rate_hz(plan.detector.bit_depth, plan.detector.shape, _merged(plan, facts))


def _sentence(faults: Sequence[str]) -> str:
    text = "; ".join(faults)
    return f"{text[0].upper()}{text[1:]}."


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
    name, facts = ctx.plan.detector.name, ctx.detector_facts
    if facts is None:
        close = ", ".join(get_close_matches(name, [each.name for each in facts_of(ctx).all_detectors], n=3, cutoff=0.0))
        note = f"There is no detector {name}; the instrument has {close}."
        yield Judged(Verdict.FAIL, "detector setting", note=note)
        return
    faults = list(_faults(ctx.plan, facts))

    def depth() -> Iterator[Change]:
        if ctx.plan.detector.bit_depth not in facts.bit_depths:
            deeper = [each for each in facts.bit_depths if each > ctx.plan.detector.bit_depth]
            chosen = min(deeper, default=max(facts.bit_depths))
            yield Change(field="detector.bit_depth", value=float(chosen), unit="bit")

    quantity = "detector setting"
    if faults:
        note = f"{_sentence(faults)} {ctx.doubt_of_detector}".rstrip()
        yield Judged(Verdict.FAIL, quantity, note=note, mends=tuple(depth()))
    else:
        yield Judged(Verdict.PASS, quantity)


@rule(
    "frame_rate",
    number=19,
    axis=AXIS,
    formula="1/t_dwell, at the depth and the frame's size",
    unit="Hz",
    source=SOURCE,
    needs="instrument",
)
def frame_rate(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The detector is fast enough for the dwell time."""
    facts, dwell_us = ctx.detector_facts, ctx.plan.exposure.dwell_time_us
    if facts is not None:
        yield judge(
            ctx.limit("frame_rate"),
            "frame rate",
            1e6 / dwell_us,
            of=_frame_rate_hz(ctx.plan, facts),
            note=ctx.doubt_of_detector,
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
            note=ctx.doubt_of_detector,
            remedy=f"Shorten exposure_time_us: {facts.dead_time_us:g} us of each dwell record nothing.",
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
        judged = within(ctx, "detector_energy", "beam energy on the detector", asked, facts.beam_energies_kev)
        yield replace(judged, note=ctx.doubt_of_detector)


@rule(
    "threshold",
    number=19,
    axis=AXIS,
    formula="threshold <= E/2",
    unit="keV",
    source=SOURCE,
    needs="instrument",
)
def threshold(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """The counting threshold, as the detector is set, lets electrons of this high tension count."""
    facts = ctx.detector_facts
    if facts is not None and facts.threshold_kev is not None:
        yield judge(
            ctx.limit("threshold"),
            "counting threshold",
            facts.threshold_kev,
            of=ctx.plan.optics.beam_energy_kev,
            note=ctx.doubt_of_detector,
            remedy="Set the threshold for this high tension.",
        )


@rule(
    "known_detector",
    number=19,
    axis=AXIS,
    formula="name in the catalogue; array, pitch, depth and frame rate as there",
    unit="",
    source="stem4d.catalogue",
)
def known_detector(ctx: Context, _wanted: None) -> Iterator[Judged]:
    """Without an instrument, the detector is one of the catalogue, and is used as it can be."""
    if ctx.instrument is not None:
        return
    name, dwell_us = ctx.plan.detector.name, ctx.plan.exposure.dwell_time_us
    facts = CATALOGUE.get(name)
    if facts is None:
        yield Judged(
            Verdict.NOT_MEASURABLE,
            "detector",
            note=f"{name} is not in the catalogue; the closest are {', '.join(closest(name))}.",
            remedy="Name an instrument file that describes it, or correct the name.",
        )
        return
    faults, fastest_hz = list(_faults(ctx.plan, facts)), _frame_rate_hz(ctx.plan, facts)
    if 1e6 / dwell_us > fastest_hz * (1 + FRAME_RATE_SLACK):
        faults.append(f"a dwell of {dwell_us:g} us needs {1e6 / dwell_us:.0f} Hz, and it does {fastest_hz:.0f} Hz")
    if faults:
        note = f"{_sentence(faults)} The catalogue's figures are unverified."
        yield Judged(Verdict.WARN, "detector", note=note, remedy="Name an instrument file, or mend the plan.")
    else:
        yield Judged(Verdict.PASS, "detector", note=f"{name} is in the catalogue.")
