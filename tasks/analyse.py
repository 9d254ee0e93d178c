"""The stage that makes of a run's data what the plan wanted to learn: maps, figures and what they are worth."""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from db.engine import reader
from db.errors import DatabaseAway
from db.operations import AddAnalysis
from db.questions.show import show_run
from db.vocabulary import AnalysisVerdict
from stem4d.analyse.method import Given, NotPossible, Outcome
from stem4d.errors import NightbeamError
from stem4d.maps import RunMaps
from stem4d.plan import Analysis, Virtual
from tasks.calibrated import Calibrated
from tasks.given import given_of_run
from tasks.lab import Lab, lab
from tasks.long_analysis import followed, require_time
from tasks.recorded_maps import recorded_passes
from tasks.stage import stage

if TYPE_CHECKING:
    from tasks.results import Made


@stage("analyse")
def analyse(
    instrument: str, run: str, calibrated_json: str, exposed: dict[str, Any], quality: dict[str, Any]
) -> dict[str, str]:
    """Analyse the first pass, which the specimen saw freshest; gives the verdict of each result.

    A result is good where the data carry it and all quality checks of that analysis passed, doubtful otherwise. One
    that fails says why, and neither the others nor the run fail with it.
    """
    opened = lab(instrument)
    plan = opened.runs[run].plan
    calibrations, remark = _calibrations(opened, run, Calibrated.model_validate_json(calibrated_json))
    given = given_of_run(plan, calibrations)
    first = exposed["passes"][0]
    maps = recorded_passes(exposed)[0]
    verdicts: dict[str, str] = {}
    for wanted in plan.analyses:
        for method, made in _made(opened, run, given, wanted, first, maps).items():
            verdict, words = _worth(made.outcome, quality["verdicts"].get(method, "not_measurable"))
            words += remark
            opened.recorder.record(
                AddAnalysis(
                    run=run, method=method, verdict=verdict, reason=words, path=str(made.path), summary=made.summary()
                )
            )
            opened.tell("analysed", f"{method}, {verdict.replace('_', ' ')}: {words}", run)
            verdicts[method] = verdict
    return verdicts


def _made(
    opened: Lab, run: str, given: Given, wanted: Analysis, first: Mapping[str, Any], maps: RunMaps
) -> "dict[str, Made]":
    """The results of one analysis of the plan, by the names under which they are judged and recorded."""
    # A second to load, which no exposure has to wait for.
    from stem4d.analyse.methods import FROM_MAPS, options_for
    from tasks.cluster import ClusterFailed
    from tasks.parts import Job
    from tasks.results import kept, result_of
    from tasks.spread import cluster_of

    folder, inputs = opened.settings.results_folder / run, [str(first["sha256"])]
    try:
        if wanted.kind in FROM_MAPS:
            outcomes = FROM_MAPS[wanted.kind](given, maps, wanted)
            return {name: kept(name, one, given, wanted, inputs, folder) for name, one in outcomes.items()}
        require_time(opened.runs[run].plan, wanted)
        options = options_for(wanted)
        job = Job(str(first["path"]), wanted.kind, given, options)
        with followed(opened, run, wanted):
            try:
                return {wanted.kind: result_of(job, inputs, folder, everywhere=cluster_of(opened.settings))}
            except ClusterFailed as lost:
                opened.warn("cluster failed", f"{wanted.kind} is analysed here: {lost}", run)
                return {wanted.kind: result_of(job, inputs, folder)}
    except Exception as error:  # noqa: BLE001 - the data are recorded and judged, whatever becomes of an analysis
        if isinstance(error, NightbeamError | NotPossible):
            words = str(error)
        else:
            words = f"the analysis failed, and not by the data's fault ({type(error).__name__}: {error})"
            opened.warn("analysis failed", f"{wanted.kind}: {words}", run)
        nothing = Outcome("not_possible", words, {})
        # Under the plan's words: with the method's options it would be the answer to who asks for the same by command.
        return {name: kept(name, nothing, given, wanted, inputs, folder) for name in _names(wanted)}


def _names(wanted: Analysis) -> list[str]:
    return [f"virtual {ring.name}" for ring in wanted.detectors] if isinstance(wanted, Virtual) else [wanted.kind]


def _worth(outcome: Outcome, judged: str) -> tuple[AnalysisVerdict, str]:
    """What the analysis says of itself, and no better than the quality checks of its data."""
    if outcome.verdict == "good" and judged != "pass":
        words = outcome.reason if outcome.reason.endswith(".") else f"{outcome.reason}."
        return "doubtful", f"{words} The quality of the data: {judged.replace('_', ' ')}."
    return outcome.verdict, outcome.reason


def _calibrations(opened: Lab, run: str, calibrated: Calibrated) -> tuple[dict[str, dict[str, Any]], str]:
    """What the record has of the run's calibrations, or what this session knows of them where the database is away.

    Those that nobody can then be asked for are named in words that belong to every result.
    """
    held: dict[str, dict[str, Any]] = {
        "centre": {"value": {"centre_px": calibrated.centre_px}},
        "mrad_per_pixel": {"value": {"mrad_per_pixel": calibrated.mrad_per_pixel}},
        "pixel_mask": {"value": {"bad_pixels": calibrated.bad_pixels}},
        "current": {"value": {"true_over_commanded": calibrated.current_ratio}},
    }
    if not opened.recorder.waiting:
        with suppress(DatabaseAway), reader(opened.engine) as session:
            return held | {one["kind"]: one for one in show_run(session, name=run)["calibrations"]}, ""
    known = opened.memory.of_run(run)
    held |= {kind: {"value": one.value, "uncertainty": one.uncertainty} for kind, one in known.items()}
    lost = sorted(set(calibrated.calibration_ids) - set(held))
    if not lost:
        return held, ""
    words = f" The database was away, so that these calibrations count as unknown: {', '.join(lost)};"
    return held, f"{words} nightbeam analyse RUN has them once it is back."
