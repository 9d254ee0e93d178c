"""The stage that judges what was recorded and writes every figure down with its limit."""

from pathlib import Path
from typing import Any

from db.engine import writer
from db.results import add_quality
from stem4d.maps import RunMaps, maps_from_arrays
from stem4d.quality.judge import judge, verdict_by_analysis
from stem4d.quality.pixels import METRIC
from stem4d.verdict import QualityResult, Verdict
from storage.read import open_frames
from tasks.calibrated import Calibrated
from tasks.lab import Lab, lab
from tasks.stage import stage
from tasks.withdraw import withdraw


def recorded_passes(exposed: dict[str, Any]) -> list[RunMaps]:
    """What the acquisition left beside the frames of each pass."""
    passes = []
    for one in exposed["passes"]:
        with open_frames(Path(one["path"])) as frames:
            passes.append(maps_from_arrays(frames.online(), frames.full_scale))
    return passes


@stage("check quality")
def check_quality(instrument: str, run: str, calibrated_json: str, exposed: dict[str, Any]) -> dict[str, Any]:
    """Judge a run's passes; gives the verdict of each analysis, and why where one fails."""
    opened = lab(instrument)
    plan = opened.runs[run].plan
    calibrated = Calibrated.model_validate_json(calibrated_json)
    results = judge(
        plan,
        recorded_passes(exposed),
        [one["started_s"] for one in exposed["passes"]],
        calibrated.geometry(),
        calibrated.bad_pixel_mask(plan.detector.shape),
        calibrations=calibrated.figures(),
    )
    _record(opened, run, results)
    by_analysis = verdict_by_analysis(results)
    failed = [one for one in results if one.verdict is Verdict.FAIL]
    reason = " ".join(dict.fromkeys(one.message for one in failed))
    told = ", ".join(f"{analysis}: {verdict.value}" for analysis, verdict in by_analysis.items())
    opened.tell("quality checked", f"{told}{'. ' + reason if reason else ''}", run)
    for one in results:
        if one.metric == METRIC and one.verdict is Verdict.WARN:
            withdraw(opened, run, f"{one.value:.0f} new hot pixel(s)", ("pixel_mask",))
    return {
        "fails": bool(failed),
        "reason": reason,
        "verdicts": {analysis: verdict.value for analysis, verdict in by_analysis.items()},
        "results": [one.model_dump(mode="json") for one in results],
    }


def _record(opened: Lab, run: str, results: tuple[QualityResult, ...]) -> None:
    with writer(opened.engine) as session:
        for one in results:
            add_quality(
                session,
                run_id=opened.runs[run].id,
                stage="final",
                metric=one.metric,
                verdict=one.verdict.value,
                message=one.message,
                value=one.value,
                limit=one.limit,
                unit=one.unit,
                uncertainty=one.uncertainty,
                analysis=one.analysis,
            )
