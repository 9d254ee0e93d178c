"""The plan as calibrations expose it: another raster, the deepest counter, and a dwell that counts enough electrons."""

from devices.protocols import ScanRequest
from stem4d.dose import electrons
from stem4d.instrument import InstrumentFacts
from stem4d.plan import Plan

VACUUM_ELECTRONS = 3e4
"""Electrons in a pattern of a vacuum scan: they place the disk's edge to 0.02 px."""


def dwell_time_us(plan: Plan, electrons_per_pattern: float) -> float:
    """The plan's dwell, or a longer one that its current needs for so many electrons [µs]."""
    return max(plan.exposure.dwell_time_us, electrons_per_pattern / electrons(plan.optics.probe_current_pa, 1.0))


def exposed_plan(facts: InstrumentFacts, plan: Plan, scan: ScanRequest) -> Plan:
    """A plan as a calibration's scan exposes it."""
    raster = plan.scan.model_copy(update={"shape": scan.shape, "step_nm": scan.step_nm})
    return _counted(facts, plan, scan.dwell_time_us).model_copy(update={"scan": raster})


def as_measured(facts: InstrumentFacts, plan: Plan) -> Plan:
    """The plan with the counter and the exposure that its calibrations are measured with: what their keys state.

    Every plan whose calibrations would be measured alike gives the same, so each finds those of the others.
    """
    return _counted(facts, plan, dwell_time_us(plan, VACUUM_ELECTRONS))


def _counted(facts: InstrumentFacts, plan: Plan, dwell_us: float) -> Plan:
    known = facts.detector(plan.detector.name)
    # A clipped disk would be a clipped calibration.
    deepest = max(known.bit_depths) if known else plan.detector.bit_depth
    exposure = plan.exposure.model_copy(update={"dwell_time_us": dwell_us, "exposure_time_us": None})
    detector = plan.detector.model_copy(update={"bit_depth": deepest})
    return plan.model_copy(update={"detector": detector, "exposure": exposure})
