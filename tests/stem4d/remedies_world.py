"""Situations to be mended: what failed, and what there is to mend with."""

from typing import Any

from quality_world import Truth, recording

from stem4d.detector import DetectorFacts
from stem4d.instrument import InstrumentFacts
from stem4d.maps import RunMaps
from stem4d.model import Range
from stem4d.plan import Plan
from stem4d.quality.judge import judge
from stem4d.quality.remedies.choose import propose
from stem4d.quality.remedies.remedy import Means, NoRemedy, Remedy, Situation
from stem4d.verdict import QualityResult, Verdict

PLENTY = 1e9
SATURATED = Truth(electrons=60000, full_scale=63)


def facts(dwell_us: float = 1.0, current_pa: float = 0.01, frame_rate_hz: float = 1e6) -> InstrumentFacts:
    """An instrument with these limits and the detector of the plans."""
    camera = DetectorFacts(
        name="camera",
        shape=(48, 48),
        pixel_pitch_um=100.0,
        bit_depths=(6, 12),
        max_frame_rate_hz=frame_rate_hz,
        max_count_rate_per_px_hz=1e7,
    )
    return InstrumentFacts(
        beam_energies_kev=(300.0,),
        apertures=(),
        camera_lengths_mm=(100.0,),
        defocus_nm=Range(lowest=-100.0, highest=100.0),
        probe_current_pa=Range(lowest=current_pa, highest=1e3),
        dwell_time_us=Range(lowest=dwell_us, highest=1e6),
        max_field_nm=1e3,
        detectors=(camera,),
    )


def among(
    results: tuple[QualityResult, ...], plan: Plan, maps: RunMaps, left: float = PLENTY, **means: Any
) -> Remedy | NoRemedy:
    """What is proposed with so much dose left."""
    return propose(Situation(results, plan, maps, Means(left, **means)))


def proposed(truth: Truth, plan: Plan, left: float = PLENTY, **means: Any) -> Remedy | NoRemedy:
    """What is proposed for a recording of this truth."""
    maps = recording(0, **vars(truth))
    return among(judge(plan, (maps,), (0.0,)), plan, maps, left, **means)


def failing(metric: str) -> QualityResult:
    """A figure that failed."""
    return QualityResult(
        metric=metric, analysis="com", verdict=Verdict.FAIL, value=1.0, limit=0.5, unit="", message="failed"
    )


def drifting(value: float, limit: float) -> QualityResult:
    """A rate of drift that failed its limit [nm/min]."""
    return failing("drift.rate").model_copy(update={"value": value, "limit": limit, "unit": "nm/min"})


def with_spares(plan: Plan, *names: str) -> Plan:
    """The plan with spare areas."""
    return plan.model_copy(update={"sample": plan.sample.model_copy(update={"spare_areas": names})})
