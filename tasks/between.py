"""Judges the passes of a run while it still has some before it: what already fails is not exposed again."""

from typing import Any

from stem4d.plan import Plan
from stem4d.verdict import QualityResult, Verdict
from tasks.calibrated import Calibrated
from tasks.check import judged, record_quality
from tasks.lab import Lab
from tasks.recorded_maps import recorded_maps

BEARABLE = ("dose.noise", "dose.signal")
"""Metrics of single patterns that more passes, taken together, make better."""


def failing_so_far(
    opened: Lab, run: str, plan: Plan, calibrated: Calibrated, passes: list[dict[str, Any]]
) -> tuple[QualityResult, ...]:
    """What fails in the passes up to now and no further pass mends; recorded as seen while the run went on.

    The first and the latest pass are looked at: what moved or changed since the beginning shows in them, at a cost that
    does not grow with the number of passes.
    """
    looked = [passes[0], passes[-1]] if len(passes) > 1 else passes
    maps = [recorded_maps(one) for one in looked]
    results = judged(opened, plan, calibrated, maps, [one["started_s"] for one in looked])
    failing = tuple(one for one in results if one.verdict is Verdict.FAIL and not one.metric.startswith(BEARABLE))
    record_quality(opened, run, "online", failing)
    return failing
