"""Candidate settings in closed form: defocus, step, dwell and current that sit at the rules' own limits."""

from collections.abc import Iterator
from math import ceil, hypot, pi, sqrt
from typing import Any

from stem4d import dose, optics
from stem4d.instrument import InstrumentFacts
from stem4d.plan import (
    LARGEST_STEP_NM,
    SMALLEST_STEP_NM,
    CentreOfMass,
    Orientation,
    Plan,
    Ptychography,
    Strain,
    TiltCorrected,
    Virtual,
)
from stem4d.predict import predict
from stem4d.rules.limits import CLASS_UPPER_E_PER_A2, LIMITS
from stem4d.rules.mend import rounded

WINDOW_ROOM = (1.1, 1.5, 2.2)
"""Real-space window over the least that the rule advises, for ptychography."""
BLUR_SHARE = (0.9, 0.45, 0.2)
"""Blur of a tilt image inside one pixel over what the rule allows."""
OVERLAPS = (0.9, 0.8, 0.7, 0.62)
"""Linear overlaps tried for ptychography."""
STEP_ROOM, COARSE_ROOM = (0.98, 0.7), (2.5, 7.0)
"""Step over the coarsest that the rules on sampling advise, and where that leaves too few electrons a pattern."""
DWELL_STEPS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
"""Dwell times tried, over the shortest that the detector can do."""
CURRENT_PARTS = (1.0, 0.12, 0.015)
"""Parts of the column's highest current that are tried where the budget would bear more."""
BUDGET_ROOM = 0.97
"""Part of the budget that is planned for: a measured current differs from a commanded one."""


def replaced(plan: Plan, **sections: dict[str, Any]) -> Plan:
    """A plan with values of its sections replaced, checked by the plan's own bounds."""
    document = plan.model_dump()
    for section, values in sections.items():
        document[section] |= values
    return Plan.model_validate(document)


def defocused(plan: Plan, instrument: InstrumentFacts) -> Iterator[Plan]:
    """The plan in focus, and at each defocus that one of its analyses would choose."""
    column = plan.optics
    alpha = column.convergence_semi_angle_mrad
    diffraction = 2 * optics.rayleigh_radius_a(column.beam_energy_kev, alpha)
    window = optics.window_a(column.beam_energy_kev, plan.mrad_per_pixel)
    chosen: set[float] = set()
    for wanted in plan.analyses:
        if isinstance(wanted, Ptychography):
            for room in WINDOW_ROOM:
                patch = window / ((LIMITS["window"].soft or 1.0) * room)
                if patch > 1.05 * diffraction:
                    chosen.add(rounded(sqrt(patch**2 - diffraction**2) / (2 * alpha * 1e-3) / 10, up=False))
        elif isinstance(wanted, TiltCorrected):
            largest_nm = (LIMITS["defocus_blur"].soft or 1.0) * wanted.target_d_a / (plan.mrad_per_pixel * 1e-3) / 10
            chosen |= {rounded(share * largest_nm, up=False) for share in BLUR_SHARE}
    # Only ptychography and tilt-corrected bright field gain from defocus: alone they need not be tried in focus too.
    if not chosen or any(not isinstance(each, Ptychography | TiltCorrected) for each in plan.analyses):
        yield plan
    for defocus_nm in sorted(chosen):
        if instrument.defocus_nm.holds(defocus_nm):
            yield replaced(plan, optics={"defocus_nm": defocus_nm})


def stepped(plan: Plan, rooms: tuple[float, ...] = STEP_ROOM) -> Iterator[Plan]:
    """The plan with each step that one would choose, over the field it needs."""
    diameter_nm = predict(plan).probe_diameter_a / 10
    coarsest = [step for wanted in plan.analyses for step in _coarsest_nm(plan, wanted, diameter_nm)]
    steps = {room * min(coarsest) for room in rooms} if coarsest else set()
    if any(isinstance(each, Ptychography) for each in plan.analyses):
        ceiling = min(coarsest, default=diameter_nm)
        steps |= {min(ceiling, (1 - overlap) * diameter_nm) for overlap in OVERLAPS}
    for step in sorted({rounded(each, up=False) for each in steps}, reverse=True):
        shape = scan_shape(plan, step)
        if shape is not None:
            yield replaced(plan, scan={"step_nm": step, "shape": shape})


def scan_shape(plan: Plan, step_nm: float) -> tuple[int, int] | None:
    """Positions that cover the required field; None where no plan has such a step, or no scan generator so many."""
    if not SMALLEST_STEP_NM <= step_nm <= LARGEST_STEP_NM:
        return None
    field = plan.scan.required_field_nm or plan.scan.field_nm
    rows, columns = (max(1, ceil(length / step_nm * (1 - 1e-9))) for length in field)
    return (rows, columns) if max(rows, columns) <= 65536 and rows * columns <= 2**31 else None


def _coarsest_nm(
    plan: Plan, wanted: Virtual | CentreOfMass | Strain | Orientation | TiltCorrected | Ptychography, diameter_nm: float
) -> Iterator[float]:
    """Coarsest steps that the rules on sampling advise for one analysis [nm]."""
    if isinstance(wanted, Ptychography):
        return
    limit = LIMITS[f"scan_step/{wanted.kind}"].soft or 1.0
    if isinstance(wanted, Strain | Orientation):
        yield limit * wanted.smallest_feature_nm
        return
    if wanted.target_d_a is not None:
        upsampling = wanted.upsampling if isinstance(wanted, TiltCorrected) else 1.0
        yield limit * wanted.target_d_a / 10 * upsampling
    if isinstance(wanted, TiltCorrected):
        yield (LIMITS["step_within_patch"].soft or 1.0) * diameter_nm
    else:
        column = plan.optics
        fwhm = optics.diffraction_fwhm_a(column.beam_energy_kev, column.convergence_semi_angle_mrad)
        blur = 2 * column.convergence_semi_angle_mrad * 1e-3 * abs(column.defocus_nm) * 10
        yield hypot(fwhm, blur) / 10


def exposed(plan: Plan, instrument: InstrumentFacts, *, spend: bool, part: float = 1.0) -> Iterator[Plan]:
    """The plan at each dwell time, with the current that brings it to a part of the fluence it may have."""
    budget = plan.sample.fluence_budget_e_per_a2
    upper = CLASS_UPPER_E_PER_A2[plan.sample.sensitivity].value * (LIMITS["fluence_class"].soft or 1.0)
    for fluence in {budget} if spend else {budget, min(budget, upper)}:
        yield from _exposed(plan, instrument, BUDGET_ROOM * part * fluence)


def _exposed(plan: Plan, instrument: InstrumentFacts, wanted: float) -> Iterator[Plan]:
    shortest = plan.exposure.dwell_time_us
    dead_us = 0.0 if plan.exposure.exposure_time_us is None else shortest - plan.exposure.exposure_time_us
    for steps in DWELL_STEPS:
        dwell = float(f"{shortest * steps:.4g}") if steps > 1 else shortest
        if dwell > instrument.dwell_time_us.highest:
            return
        live = dwell - dead_us if dead_us > 0 else None
        timed = replaced(plan, exposure={"dwell_time_us": dwell, "exposure_time_us": live})
        allowed = current_for_pa(timed, wanted)
        if allowed < instrument.probe_current_pa.lowest:
            if steps == DWELL_STEPS[0]:
                # The least that the instrument gives is too much: the rules say by how much.
                yield replaced(timed, optics={"probe_current_pa": instrument.probe_current_pa.lowest})
            return
        highest, lowest = instrument.probe_current_pa.highest, instrument.probe_current_pa.lowest
        # Where the column gives less than the budget, less current may be wiser still: source size and count rate.
        for part in (1.0,) if allowed <= highest else CURRENT_PARTS:
            current = rounded(min(allowed, highest) * part, up=False)
            if current >= lowest:
                yield replaced(timed, optics={"probe_current_pa": current})


def dimmed(plan: Plan, factor: float, shortest_us: float, lowest_pa: float) -> Plan:
    """Fewer electrons: by a shorter dwell as far as the detector goes, then by a lower current."""
    dwell = plan.exposure.dwell_time_us
    shorter = min(dwell, max(shortest_us, float(f"{dwell * factor:.4g}")))
    current = max(lowest_pa, rounded(plan.optics.probe_current_pa * factor * dwell / shorter, up=True))
    live = plan.exposure.exposure_time_us
    return replaced(
        plan,
        optics={"probe_current_pa": min(current, plan.optics.probe_current_pa)},
        exposure={"dwell_time_us": shorter, "exposure_time_us": None if live is None else live - dwell + shorter},
    )


def current_for_pa(plan: Plan, fluence_e_per_a2: float) -> float:
    """Probe current that gives a total fluence at the plan's dwell and step [pA]."""
    step_a, diameter_a = plan.scan.step_nm * 10, predict(plan).probe_diameter_a
    area_a2 = min(step_a**2, pi * diameter_a**2 / 4)
    per_pa = dose.electrons(1.0, plan.exposure.dwell_time_us) * plan.exposure.passes / area_a2
    return fluence_e_per_a2 / per_pa


def fractionated(plan: Plan, passes: int, lowest_pa: float) -> Plan | None:
    """The same dose in several passes by a lower current; None where the column does not go so low."""
    current = rounded(plan.optics.probe_current_pa * plan.exposure.passes / passes, up=False)
    if current < lowest_pa:
        return None
    return replaced(plan, optics={"probe_current_pa": current}, exposure={"passes": passes})


def faster(plan: Plan, factor: float) -> Iterator[Plan]:
    """The scan in less time: by fewer positions over the same field, at the same fluence in each."""
    step = rounded(plan.scan.step_nm * sqrt(factor) * 1.02, up=True)
    shape = scan_shape(plan, step)
    if shape is not None:
        yield replaced(plan, scan={"step_nm": step, "shape": shape})


def concentrated(plan: Plan, factor: float, highest_pa: float) -> Iterator[Plan]:
    """More electrons in each of fewer patterns, at the same fluence: by more current, else by a longer dwell."""
    step = rounded(plan.scan.step_nm * sqrt(factor) * 1.02, up=True)
    shape = scan_shape(plan, step)
    if shape is None:
        return
    more = (step / plan.scan.step_nm) ** 2
    scan = {"step_nm": step, "shape": shape}
    current = rounded(plan.optics.probe_current_pa * more, up=False)
    if current <= highest_pa:
        yield replaced(plan, scan=scan, optics={"probe_current_pa": current})
    live, dwell = plan.exposure.exposure_time_us, float(f"{plan.exposure.dwell_time_us * more:.4g}")
    if dwell <= 1e7:
        longer = None if live is None else live + dwell - plan.exposure.dwell_time_us
        yield replaced(plan, scan=scan, exposure={"dwell_time_us": dwell, "exposure_time_us": longer})
