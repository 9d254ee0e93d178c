"""The deployed flow that judges or analyses recorded files: one that came into a folder, or the data of a run that has
ended."""

from functools import partial
from pathlib import Path

from prefect import flow, runtime
from prefect.states import State

from db.vocabulary import AskedBy
from flows.artifacts import show_table
from flows.deployed.taken_up import Ended, TakenUp, take_up
from flows.recorded import passes_here
from stem4d.errors import BadInput
from stem4d.quality.judge import verdict_by_analysis


def _name() -> str:
    given = runtime.flow_run.parameters
    return f"reanalyse {given.get('run') or Path(str(given.get('file', ''))).name}"


@flow(name="reanalyse", flow_run_name=_name, persist_result=False, log_prints=False)
def reanalyse(
    file: str = "",
    run: str = "",
    method: str = "",
    options: list[str] | None = None,
    calibration: str = "",
    source: AskedBy = "person",
    key: str = "",
) -> State[None]:
    """Judge 4D-STEM data: saturation, descan, centring, and which analyses they can carry; or analyse them.

    Args:
        file: A 4D-STEM file: nightbeam's own, HDF5, .mib, .blo, .dm4, ... Or give a run.
        run: Name of a run, whose passes are judged where they lie on this machine.
        method: strain, tcbf, ptychography, ...: analyse by it instead. Empty: judge. The same is worked out once.
        options: Of the method, each as NAME=VALUE.
        calibration: YAML document of what is known of a file, or better than the run knew.
        source: What asks.
        key: Its own name for this one time: the same is not done twice. Empty: this flow run.
    """
    body = partial(_run, file=file, run=run, method=method, options=tuple(options or ()), calibration=calibration)
    return take_up("reanalyse", source, key, body)


def _run(begun: TakenUp, *, file: str, run: str, method: str, options: tuple[str, ...], calibration: str) -> Ended:
    if bool(file) == bool(run):
        limit = "either a file or a run"
        raise BadInput(field="file", value=file or "nothing", limit=limit, remedy="Give one of the two")
    if method:
        return _analysed(begun, file, run, method, options, calibration)
    if options or calibration:
        given = "options" if options else "calibration"
        limit = "has a meaning only with a method"
        raise BadInput(field=given, value=", ".join(options) or calibration, limit=limit, remedy="Name the method")
    paths = [Path(file)] if file else [path for _file, path in passes_here(begun.engine, run)]
    judged = [_judged(begun, path) for path in paths]
    words = "; ".join(f"{path.name}: {words}" for path, (words, _good) in zip(paths, judged, strict=True))
    return Ended("done" if all(good for _words, good in judged) else "warned", words)


def _analysed(begun: TakenUp, file: str, run: str, method: str, options: tuple[str, ...], calibration: str) -> Ended:
    """The results of a method, worked out now or lying there already."""
    from flows.analyse import Wanted, analyse_file, analyse_run
    from flows.report import page_renewed

    wanted = Wanted(method, options, Path(calibration) if calibration else None)
    if file:
        made = [analyse_file(begun.settings, Path(file), wanted)]
    else:
        made = analyse_run(begun.settings, begun.engine, run, wanted)
        if trouble := page_renewed(begun.settings, begun.engine, run):
            begun.say(trouble)
    rows = [
        {"method": method, "verdict": one.outcome.verdict, "reason": one.outcome.reason, "file": str(one.path)}
        for one in made
    ]
    if trouble := show_table("analysed", f"{method} of {run or Path(file).name}", rows):
        begun.say(trouble)
    words = "; ".join(f"{method} {one.outcome.verdict.replace('_', ' ')}: {one.outcome.reason}" for one in made)
    begun.say(words)
    return Ended("done" if all(one.outcome.verdict == "good" for one in made) else "warned", words)


def _judged(begun: TakenUp, path: Path) -> tuple[str, bool]:
    """What can be said of a file, and whether all of it is good."""
    from flows.inspect import inspect_file

    found = inspect_file(path)
    verdicts = {analysis: verdict.value for analysis, verdict in verdict_by_analysis(found.results).items()}
    rows = [
        {"metric": one.metric, "verdict": one.verdict.value, "analysis": one.analysis or "", "message": one.message}
        for one in found.results
    ]
    if trouble := show_table("judged-file", f"{path.name}: {found.maps.frames} frames", rows):
        begun.say(trouble)
    words = ", ".join(f"{analysis} {verdict}" for analysis, verdict in verdicts.items())
    begun.say(f"{path}: {words}")
    # A file that nothing could be said of is no file that passed.
    return words, "pass" in verdicts.values() and not set(verdicts.values()) & {"warn", "fail"}
