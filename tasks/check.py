"""The stage that judges what was recorded and writes every figure down with its limit."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from db.operations import AddQuality, Figure
from db.vocabulary import Stage
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.verdict import QualityResult, Verdict
from tasks.calibrated import Calibrated
from tasks.lab import Lab, lab
from tasks.recorded_maps import recorded_passes, recorded_references
from tasks.stage import stage
from tasks.withdraw import withdraw

if TYPE_CHECKING:
    from stem4d.quality.drift_seen import Scans


@stage("check quality")
def check_quality(instrument: str, run: str, calibrated_json: str, exposed: dict[str, Any]) -> dict[str, Any]:
    """Judge a run's passes; gives the verdict of each analysis, and why where one fails."""
    # Imported here, as below: the first exposure is not kept waiting for what judges it.
    from stem4d.quality.judge import verdict_by_analysis
    from stem4d.quality.remedies.recalibrate import contradicted

    opened = lab(instrument)
    plan = opened.runs[run].plan
    calibrated = Calibrated.model_validate_json(calibrated_json)
    started_s = [one["started_s"] for one in exposed["passes"]]
    results = judged(opened, plan, calibrated, recorded_passes(exposed), started_s, recorded_references(plan, exposed))
    record_quality(opened, run, "final", results)
    by_analysis = verdict_by_analysis(results)
    failed = [one for one in results if one.verdict is Verdict.FAIL]
    reason = " ".join(dict.fromkeys(one.message for one in failed))
    told = ", ".join(f"{analysis}: {verdict.value}" for analysis, verdict in by_analysis.items())
    opened.tell("quality checked", f"{told}{'. ' + reason if reason else ''}", run)
    for one in results:
        if kinds := contradicted(one, calibrated.descan_range_px):
            withdraw(opened, run, one.message, kinds)
    return {
        "fails": bool(failed),
        "reason": reason,
        "verdicts": {analysis: verdict.value for analysis, verdict in by_analysis.items()},
        "results": [one.model_dump(mode="json") for one in results],
    }


def judged(
    opened: Lab,
    plan: Plan,
    calibrated: Calibrated,
    passes: Sequence[RunMaps],
    started_s: Sequence[float],
    references: "Scans | None" = None,
) -> tuple[QualityResult, ...]:
    """All checks of passes with what the run's calibrations say: at its end, and while it goes on."""
    from stem4d.quality.judge import judge

    return judge(
        plan,
        passes,
        started_s,
        calibrated.geometry(),
        calibrated.bad_pixel_mask(plan.detector.shape),
        opened.file.facts.detector(plan.detector.name),
        references=references,
        calibrations=calibrated.figures(),
    )


def record_quality(opened: Lab, run: str, stage: Stage, results: tuple[QualityResult, ...]) -> None:
    """Write figures down with their limits; ``stage`` says when they were judged."""
    figures = tuple(
        Figure(
            metric=one.metric,
            verdict=one.verdict.value,
            message=one.message,
            value=one.value,
            limit=one.limit,
            unit=one.unit,
            uncertainty=one.uncertainty,
            analysis=one.analysis,
        )
        for one in results
    )
    opened.recorder.record(AddQuality(run=run, stage=stage, figures=figures))
    opened.on_judged(run, results)
