"""About how long measuring takes: pauses and dwell of the scans, and what exposing and fitting a frame takes here."""

from collections.abc import Iterable

from stem4d.instrument import InstrumentFacts
from stem4d.plan import Plan
from tasks.calibrations import moving, scale, vacuum

MOST_POSITIONS = 48
"""Along an axis of a scan of the plan's own area."""
PIXELS = 128 * 128
"""Of the frames that the times below were taken with."""
FRAME_S = {
    "vacuum": 0.06, "gain": 0.02, "dark_flat": 0.02, "scale": 0.02, "rotation": 0.01, "step": 0.01, "tilts": 0.015,
    "drift": 0.01,
}  # fmt: skip
"""To expose a frame on the simulated microscope and to fit it, by group: on two cores, good to a factor of two."""


def expected_s(groups: Iterable[str], plan: Plan, facts: InstrumentFacts) -> float:
    """Time that measuring some groups takes, to a factor of two [s]."""
    part = plan.detector.shape[0] * plan.detector.shape[1] / PIXELS
    dwell_s = plan.exposure.dwell_time_us * 1e-6
    total = 0.0
    for group in groups:
        total += _frames(group, plan, facts) * (FRAME_S.get(group, 0.0) * part + dwell_s)
        if group == "drift":
            total += (moving.SCANS - 1) * moving.BASELINE_S
    return total


def _frames(group: str, plan: Plan, facts: InstrumentFacts) -> int:
    here = min(plan.scan.shape[0], MOST_POSITIONS) * min(plan.scan.shape[1], MOST_POSITIONS)
    if group == "scale":
        return len([each for each in facts.reference_areas if each.kind != "lattice"]) * scale.GRID**2
    return {
        "vacuum": 2 * vacuum.GRID**2,
        "gain": 256,
        "dark_flat": 512,
        "rotation": here,
        "step": 4 * here,
        "tilts": here,
        "drift": moving.SCANS * here,
    }.get(group, 0)
