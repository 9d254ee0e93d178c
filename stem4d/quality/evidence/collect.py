"""The evidence for everything that a run was judged by, group by group."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from stem4d.calibrate.pixels import Mask
from stem4d.detector import DetectorFacts
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.quality.evidence import beam, movement, patterns, specimen
from stem4d.quality.evidence.values import Case, Evidence, Panel, verdict_of
from stem4d.quality.judge import joined, subject_of_run
from stem4d.quality.regions import PatternGeometry
from stem4d.rules.registry import Calibrated
from stem4d.verdict import QualityResult, Verdict

GROUPS: dict[str, tuple[tuple[str, ...], Callable[[Case], Iterator[Panel]]]] = {
    "Frames": (("frames.",), beam.frames),
    "Pixels": (("pixels.",), patterns.pixels),
    "Saturation": (("saturation.",), patterns.saturation),
    "Centring": (("centring.", "scale."), patterns.centring),
    "Descan": (("descan.",), movement.descan),
    "Drift": (("drift.",), movement.drift),
    "Scan engine": (("scan.",), movement.scan_engine),
    "Overlap and sampling": (("sampling.",), movement.sampling),
    "Dose": (("dose.",), beam.dose),
    "Beam": (("beam.",), beam.beam),
    "Damage and contamination": (("damage.", "contamination."), specimen.specimen),
}
"""Each group's name with the beginnings of its metrics and what draws its evidence from a case."""


def evidence_of_run(
    plan: Plan,
    passes: Sequence[RunMaps],
    started_s: Sequence[float],
    results: Sequence[QualityResult],
    geometry: PatternGeometry | None = None,
    bad_pixels: Mask | None = None,
    detector: DetectorFacts | None = None,
    calibrations: Mapping[str, Calibrated] | None = None,
) -> tuple[Evidence, ...]:
    """What the figures of a run were taken from; arguments as for ``judge``, with what that came to."""
    whole = joined(passes)
    subject, new = subject_of_run(plan, whole, geometry, bad_pixels, detector)
    case = Case(tuple(passes), tuple(started_s), whole, subject, tuple(results), new, calibrations or {})
    # A figure that was not measured has no picture, and what it would take is not worked out.
    found = []
    for group, (beginnings, draw) in GROUPS.items():
        if any(one.metric.startswith(beginnings) and one.verdict is not Verdict.NOT_MEASURABLE for one in case.results):
            panels = tuple(panel for panel in draw(case) if verdict_of(panel, case.results) is not None)
            found.append(Evidence(group, panels))
    return tuple(one for one in found if one.panels)
