"""About how long measuring takes: pauses and dwell of the scans, and what exposing and fitting a frame takes here."""

from collections.abc import Iterable

from stem4d.instrument import InstrumentFacts
from stem4d.plan import Plan
from tasks.calibrations import counting, dark, moving, scale, step, tilts, turning, vacuum
from tasks.calibrations.bench import MOST_POSITIONS
from tasks.calibrations.exposed import VACUUM_ELECTRONS, dwell_time_us

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
    total = 0.0
    for group in groups:
        frames, electrons = _exposed(group, plan, facts)
        total += frames * (FRAME_S.get(group, 0.0) * part + dwell_time_us(plan, electrons) * 1e-6)
        if group == "drift":
            total += (moving.SCANS - 1) * moving.BASELINE_S
    return total


def _exposed(group: str, plan: Plan, facts: InstrumentFacts) -> tuple[int, float]:
    """Frames that a group takes, and the electrons that a pattern of it has at least."""
    here = min(plan.scan.shape[0], MOST_POSITIONS) * min(plan.scan.shape[1], MOST_POSITIONS)
    rings = sum(each.kind != "lattice" for each in facts.reference_areas)
    integrates = facts.integrates(plan.detector.name)
    return {
        "vacuum": (2 * vacuum.GRID**2, VACUUM_ELECTRONS),
        "gain": (counting.GRID**2, VACUUM_ELECTRONS if integrates else 0.0),
        "dark_flat": (2 * dark.GRID**2, VACUUM_ELECTRONS),
        "scale": (rings * scale.GRID**2, VACUUM_ELECTRONS),
        "rotation": (here, turning.ELECTRONS_PER_PATTERN),
        "step": (_on_lattice(plan, facts), step.ELECTRONS_PER_PATTERN),
        "tilts": (here, VACUUM_ELECTRONS if integrates else tilts.ELECTRONS_PER_PATTERN),
        "drift": (moving.SCANS * here, moving.ELECTRONS_PER_PATTERN),
    }.get(group, (0, 0.0))


def _on_lattice(plan: Plan, facts: InstrumentFacts) -> int:
    area = next((each for each in facts.reference_areas if each.kind == "lattice"), None)
    positions = 0 if area is None else step.positions_for(area, max(plan.scan.field_nm))
    return positions**2 if positions <= step.MOST_POSITIONS else 0
