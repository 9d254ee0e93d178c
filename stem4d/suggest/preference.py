"""What makes one plan better than another when the rules are content with both: habits, each with its source."""

from math import hypot, log, log10

from stem4d import optics
from stem4d.goal import Goal
from stem4d.plan import Analysis, CentreOfMass, Orientation, Plan, Ptychography, Strain, TiltCorrected, Virtual
from stem4d.predict import Prediction

DISK_SHARE = 0.58
"""Disk radius over recorded angle for ptychography: 0.54 and 0.62 in the two published cases of plans/case_*.yaml."""
OVERLAP = 0.8
"""Linear overlap from which on ptychography gains little (habit): 0.97 and 0.83 in the two cases."""
COST_OF_OVERLAP = 4.0
APART_SHARE = 0.7
"""Disk diameter over disk distance for strain and orientation (habit): room to see each disk's edge."""
FEATURE_SHARE = 0.5
"""Probe diameter over the smallest feature (habit)."""
OUTSIDE = 1.1
"""A dark-field detector starts this many disk radii out (habit): clear of the disk's edge and its descan."""
FILLED = 0.85
"""Largest angle that is used over the largest that is recorded (habit): fine sampling, and room for the descan."""
COST_OF_FRAMES, COST_OF_TIME, COST_OF_NEED, COST_OF_DOSE = 0.15, 0.15, 0.5, 0.5
"""Weights of a decade of frames, time and fluence, and of a factor e of the budget, beside a factor e off an angle."""
TIGHT = 0.1
"""Margins below this are counted against a plan."""


def dislike(goal: Goal, plan: Plan, predicted: Prediction, tightest: float) -> float:
    """How far a plan is from what an experienced operator would choose; smaller is better.

    Parameters
    ----------
    goal : Goal
        What is asked.
    plan : Plan
        What is proposed.
    predicted : Prediction
        Its figures.
    tightest : float
        Smallest margin of its rules, as a fraction of the limit.
    """
    asked = sum(_angle(each, plan, predicted) for each in plan.analyses) / len(plan.analyses)
    cost = COST_OF_FRAMES * log10(predicted.frames) + COST_OF_TIME * log10(max(predicted.total_time_s, 1e-3))
    if goal.dose == "spend_budget":
        spent = predicted.total_fluence_e_per_a2 / plan.sample.fluence_budget_e_per_a2
        cost += COST_OF_DOSE * abs(log(max(spent, 1e-12)))
    else:
        cost += COST_OF_NEED * log10(predicted.total_fluence_e_per_a2)
    return asked + cost + max(0.0, TIGHT - tightest) / TIGHT


def _angle(wanted: Analysis, plan: Plan, predicted: Prediction) -> float:
    alpha, wavelength = plan.optics.convergence_semi_angle_mrad * 1e-3, predicted.wavelength_a
    match wanted:
        case Ptychography():
            needed = 1e3 * wavelength / wanted.target_d_a
            # Angles beyond what the period needs are paid for with the window in real space.
            return (
                abs(log(1e3 * alpha / needed / DISK_SHARE))
                + abs(log(predicted.max_angle_mrad / needed))
                + COST_OF_OVERLAP * max(0.0, OVERLAP - predicted.linear_overlap)
            )
        case TiltCorrected():
            # Full transfer to λ/α; a wider disk costs depth of field.
            return abs(log(alpha * wanted.target_d_a / wavelength)) + _unfilled(1200 * alpha, predicted)
        case Strain() | Orientation():
            spacing = wanted.reflection_d_a if isinstance(wanted, Strain) else wanted.neighbour_d_a
            apart = wavelength / (spacing or wanted.reflection_d_a)
            wide = predicted.probe_diameter_a / (10 * wanted.smallest_feature_nm)
            outermost = 1e3 * (wavelength / wanted.reflection_d_a + alpha)
            return hypot(log(2 * alpha / apart / APART_SHARE), log(wide / FEATURE_SHARE)) / 2 + _unfilled(
                outermost, predicted
            )
        case Virtual() | CentreOfMass():
            # The smallest aperture that resolves leaves the greatest depth of field.
            off = 0.0
            if wanted.target_d_a is not None:
                fwhm = optics.diffraction_fwhm_a(plan.optics.beam_energy_kev, 1e3 * alpha)
                off = abs(log(0.9 * wanted.target_d_a / fwhm))
            if isinstance(wanted, CentreOfMass):
                return off + _unfilled(1500 * alpha, predicted)
            widest = max(each.outer_mrad for each in wanted.detectors)
            return off + _cut(wanted, 1e3 * alpha) + _unfilled(widest, predicted)


def _unfilled(used_mrad: float, predicted: Prediction) -> float:
    return 0.5 * abs(log(used_mrad / predicted.max_angle_mrad / FILLED))


def _cut(wanted: Virtual, alpha_mrad: float) -> float:
    """How many detectors the disk's edge runs through, those that begin on the axis aside."""
    return float(
        sum(
            each.inner_mrad < OUTSIDE * alpha_mrad and each.outer_mrad > alpha_mrad
            for each in wanted.detectors
            if each.inner_mrad > 0
        )
    )
