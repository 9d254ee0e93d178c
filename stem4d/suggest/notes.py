"""Why each setting of a suggested plan is what it is, in sentences."""

from collections.abc import Iterator

from stem4d.goal import Goal
from stem4d.instrument import InstrumentFacts
from stem4d.plan import Orientation, Plan, Ptychography, Strain, TiltCorrected
from stem4d.rules.words import number
from stem4d.suggest.search import Tried


def notes(goal: Goal, instrument: InstrumentFacts, tried: Tried) -> tuple[str, ...]:
    """The sentences, in the order of the optical path; the last ones are for people."""
    plan = tried.plan
    return (
        *_angle(plan, tried),
        *_recorded(plan, tried),
        *_defocus(plan, tried),
        *_scan(plan, tried),
        *_dose(goal, plan, tried),
        *_people(plan, instrument),
    )


def _angle(plan: Plan, tried: Tried) -> Iterator[str]:
    alpha, predicted = plan.optics.convergence_semi_angle_mrad, tried.predicted
    yield (
        f"Convergence semi-angle {alpha:g} mrad at {plan.optics.beam_energy_kev:g} keV: "
        f"the probe's diffraction width is {predicted.diffraction_fwhm_a:.2f} Å, "
        f"its depth of field {predicted.depth_of_field_a / 10:.3g} nm."
    )


def _recorded(plan: Plan, tried: Tried) -> Iterator[str]:
    predicted = tried.predicted
    yield (
        f"Camera length {plan.optics.camera_length_mm:g} mm on {plan.detector.name}: "
        f"{predicted.mrad_per_pixel:.3g} mrad per pixel, {predicted.max_angle_mrad:.3g} mrad recorded on all sides, "
        f"the disk's radius is {predicted.disk_radius_px:.3g} px; "
        f"the angle carries a half-period of {predicted.half_period_limit_a:.2f} Å."
    )


def _defocus(plan: Plan, tried: Tried) -> Iterator[str]:
    predicted = tried.predicted
    if plan.optics.defocus_nm == 0:
        yield f"In focus: the probe is {predicted.probe_diameter_a:.3g} Å wide."
        return
    spread = [each for each in plan.analyses if isinstance(each, Ptychography | TiltCorrected)]
    why = (
        f"the window in real space is {predicted.window_over_probe:.2g} times as wide"
        if any(isinstance(each, Ptychography) for each in spread)
        else "enough for the images of different tilts to shift against each other"
    )
    yield f"Defocus {plan.optics.defocus_nm:g} nm: a probe of {predicted.probe_diameter_a:.3g} Å, {why}."


def _scan(plan: Plan, tried: Tried) -> Iterator[str]:
    rows, columns = plan.scan.shape
    text = f"Step {plan.scan.step_nm * 10:g} Å, {rows} x {columns} positions"
    if any(isinstance(each, Ptychography) for each in plan.analyses):
        text += f": neighbouring probes overlap by {100 * tried.predicted.linear_overlap:.0f} %"
    elif any(isinstance(each, Strain | Orientation) for each in plan.analyses):
        text += ": at least two in the smallest feature"
    yield text + f". A pass takes {tried.predicted.pass_time_s:.3g} s."


def _dose(goal: Goal, plan: Plan, tried: Tried) -> Iterator[str]:
    predicted, budget = tried.predicted, plan.sample.fluence_budget_e_per_a2
    used = predicted.total_fluence_e_per_a2
    text = (
        f"{plan.optics.probe_current_pa:g} pA for {plan.exposure.dwell_time_us:g} us: "
        f"{number(predicted.electrons_per_pattern)} electrons a pattern, {number(used)} of {number(budget)} e/Å²"
    )
    if plan.exposure.passes > 1:
        text += f" in {plan.exposure.passes} passes, to be weighted by dose"
    yield text + "."
    if goal.dose == "as_needed" and goal.sample.imaging is None:
        yield (
            "How much dose the question needs is known only as far as the analyses state a precision: state "
            "sample.imaging for a dose-limited period, or ask for dose: spend_budget."
        )
    if goal.dose == "spend_budget" and used < 0.5 * budget:
        yield f"Current, rate or time do not allow the whole budget: {100 * used / budget:.2g} % of it is spent."


def _people(plan: Plan, instrument: InstrumentFacts) -> Iterator[str]:
    alpha = plan.optics.convergence_semi_angle_mrad
    names = [each.name for each in instrument.apertures if each.convergence_semi_angle_mrad == alpha]
    if names:
        yield f"A person inserts aperture {names[0]} and aligns the condenser for {alpha:g} mrad, if it is not."
    unverified = [each for each in instrument.all_detectors if each.name == plan.detector.name and not each.verified]
    if unverified:
        yield f"The figures of detector {plan.detector.name} are unverified."
