"""Reads what a run was judged by, from the database's facts and the run's files, and draws the evidence for it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from stem4d.detector import DetectorFacts
from stem4d.plan import Plan
from stem4d.predict import predict
from stem4d.quality.evidence.collect import evidence_of_run
from stem4d.quality.regions import PatternGeometry, planned_geometry
from stem4d.rules.figures import figures_of
from stem4d.rules.registry import Calibrated
from stem4d.verdict import QualityResult, Verdict
from web.report.evidence import drawn_evidence
from web.report.facts import Facts
from web.report.plates import Pass, read_maps
from web.report.values import EvidenceGroup


def run_evidence(
    facts: Facts, plan: Plan, passes: Sequence[Pass], detector: DetectorFacts | None
) -> tuple[EvidenceGroup, ...]:
    """The evidence for the final figures of a run; it is worked out again from what the run left.

    Parameters
    ----------
    facts : Facts
        The run, by ``db.questions.show.show_run``.
    plan : Plan
        As it was registered.
    passes : sequence of Pass
        The files of the acquisition.
    detector : DetectorFacts or None
        What the instrument's file says of the plan's detector.

    Raises
    ------
    BadInput
        A file is missing or damaged.
    """
    results = final_results(facts)
    if not results:
        return ()
    maps = [read_maps(one.path) for one in passes]
    by_kind: dict[str, Any] = {one["kind"]: one for one in facts["calibrations"]}
    bad = np.zeros(plan.detector.shape, np.bool_)
    for y, x in by_kind.get("pixel_mask", {"value": {"bad_pixels": ()}})["value"]["bad_pixels"]:
        bad[y, x] = True
    figures: dict[str, Calibrated] = {}
    for kind, one in by_kind.items():
        figures |= figures_of(kind, one["value"], one["uncertainty"], plan.scan.step_nm)
    geometry = _geometry(by_kind, plan)
    times = _started_s(facts, plan, len(maps))
    found = evidence_of_run(plan, maps, times, results, geometry, bad, detector, figures)
    return drawn_evidence(found, results)


def final_results(facts: Facts) -> tuple[QualityResult, ...]:
    """What a run was judged by at its end."""
    return tuple(
        QualityResult(
            metric=one["metric"],
            analysis=one["analysis"],
            verdict=Verdict(one["verdict"]),
            value=one["value"],
            limit=one["limit_value"],
            unit=one["unit"],
            uncertainty=one["uncertainty"],
            message=one["message"],
        )
        for one in facts["quality"]
        if one["stage"] == "final"
    )


def _geometry(by_kind: dict[str, Any], plan: Plan) -> PatternGeometry:
    """The disk as the run's calibrations have it; what is not known as the plan has it."""
    planned = planned_geometry(plan)
    # Before 0.2.0 the centre was recorded as the kind "disk".
    disk, scale = by_kind.get("centre") or by_kind.get("disk"), by_kind.get("mrad_per_pixel")
    y, x = disk["value"]["centre_px"] if disk else planned.centre_px
    return PatternGeometry(
        (y, x),
        disk["value"]["radius_px"] if disk else planned.radius_px,
        scale["value"]["mrad_per_pixel"] if scale else planned.mrad_per_pixel,
    )


def _started_s(facts: Facts, plan: Plan, passes: int) -> list[float]:
    """When each pass began by the instrument's clock; as planned where a run of an older version did not tell."""
    told = [one["data"]["started_s"] for one in facts["events"] if "started_s" in (one["data"] or {})]
    if len(told) == passes and all(later > earlier for earlier, later in pairwise(told)):
        return told
    each = predict(plan).pass_time_s + plan.exposure.pause_between_passes_s
    return [each * index for index in range(passes)]
