"""The stage that makes of the recorded maps what the plan wanted to learn, with the noise that counting leaves."""

from dataclasses import asdict
from math import isfinite
from typing import Any

from db.operations import AddAnalysis
from db.vocabulary import AnalysisVerdict
from stem4d.analyse.com import deflection, summarise_deflection
from stem4d.analyse.virtual import summarise_virtual
from stem4d.maps import RunMaps
from stem4d.plan import Analysis, CentreOfMass, Plan, Virtual
from stem4d.predict import predict
from tasks.calibrated import Calibrated
from tasks.lab import lab
from tasks.recorded_maps import recorded_passes
from tasks.stage import stage

Line = tuple[str, str, dict[str, Any]]
"""Method, result in words, figures."""


@stage("analyse")
def analyse(
    instrument: str, run: str, calibrated_json: str, exposed: dict[str, Any], quality: dict[str, Any]
) -> list[str]:
    """Analyse the first pass, which the specimen saw freshest; gives one line for each result.

    What an analysis is worth follows from the quality checks: good where all of them passed, doubtful otherwise.
    """
    opened = lab(instrument)
    known = opened.runs[run]
    calibrated = Calibrated.model_validate_json(calibrated_json)
    maps = recorded_passes(exposed)[0]
    told = []
    for wanted in known.plan.analyses:
        for method, words, figures in _results(wanted, known.plan, calibrated, maps):
            judged = quality["verdicts"].get(method, "not_measurable")
            verdict: AnalysisVerdict = "not_possible" if not figures else "good" if judged == "pass" else "doubtful"
            opened.recorder.record(
                AddAnalysis(
                    run=run,
                    method=method,
                    verdict=verdict,
                    reason=words,
                    path=exposed["passes"][0]["path"],
                    summary=figures,
                )
            )
            opened.tell("analysed", f"{method}, {verdict}: {words}", run)
            told.append(f"{method}: {verdict}")
    return told


def _results(wanted: Analysis, plan: Plan, calibrated: Calibrated, maps: RunMaps) -> list[Line]:
    electrons = predict(plan).electrons_per_pattern * calibrated.current_ratio
    if isinstance(wanted, Virtual):
        summaries = [
            summarise_virtual(ring.name, maps.virtual[ring.name], maps.recorded, electrons) for ring in wanted.detectors
        ]
        return [(f"virtual {one.name}", one.text, _plain(asdict(one))) for one in summaries]
    if isinstance(wanted, CentreOfMass):
        found = deflection(maps, calibrated.mrad_per_pixel, centre_px=calibrated.centre_px)
        summary = summarise_deflection(found, electrons, plan.optics.convergence_semi_angle_mrad)
        return [("com", summary.text, _plain(asdict(summary)))]
    words = "the frames are recorded and judged; this version does not reconstruct them"
    return [(wanted.kind, words, {})]


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures for the database: what could not be worked out is None there, not NaN."""
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value for name, value in figures.items()
    }
