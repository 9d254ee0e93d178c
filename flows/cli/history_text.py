"""What `show` prints of a night and of a run: words and figures, with what a run measured, used and withdrew."""

from pathlib import Path
from typing import Any

from db.clock import utc_now
from flows.cli.said import say
from web.report.attempts import attempts_lines
from web.report.measured_words import title_of
from web.report.parts import standing_words, value_lines
from web.report.tables import metric, plain
from web.report.used import main_figures
from web.report.uses import lacking, used_for

Facts = dict[str, Any]
_WIDTH = 12


def print_night(facts: Facts) -> None:
    """The targets of a night and their runs."""
    say(f"night {facts['name']}: {facts['state']}. {facts['exit_reason'] or ''}".rstrip())
    for target in facts["targets"]:
        say()
        say(f"{target['position'] + 1}. {target['name']}: {target['state']}. {target['reason'] or ''}".rstrip())
        for run in target["runs"]:
            ended = f"   {run['name']}  attempt {run['attempt']}: {run['state']}. {run['exit_reason'] or ''}"
            say(ended.rstrip())
            for remedy in run["remedies"]:
                action = remedy["action"].replace("_", " ")
                if remedy["to_value"] is None:
                    say(f"      remedy: {action}")
                else:
                    say(f"      remedy: {action}, {plain(remedy['from_value'])} to {plain(remedy['to_value'])}")


def print_run(facts: Facts, measured: list[Facts], reports: Path) -> None:
    """Everything of a run that fits a screen.

    Parameters
    ----------
    measured : list of dict
        Calibrations that the run measured, as ``db.questions.calibrations.measured_in`` tells of them.
    reports : Path
        Where its page would lie.
    """
    say(_ended(facts))
    for label in ("sample", "instrument", "started", "ended", "parent", "night"):
        say(_line(label, facts[label] or "-"))
    area = facts["area"]
    booked = f"{area['delivered_e_per_a2']:.4g} of {area['fluence_budget_e_per_a2']:.4g} e/Å²"
    say(_line("area", f"{area['name']}: {booked}"))
    for page in (f"{facts['name']}-calibrations.html", f"{facts['name']}.html"):
        if (reports / page).is_file():
            say(_line("page", reports / page))
    for one in facts["datasets"]:
        shape = " x ".join(str(size) for size in (*one["scan_shape"], *one["detector_shape"]))
        path = one["locations"][0]["path"] if one["locations"] else "place not recorded"
        say(_line("data", f"{path}  {shape}  sha256 {one['sha256'][:16]}..."))
    _print_calibrations(facts, measured)
    _print_quality(facts)
    _print_results(facts)
    if len(facts["attempts"]) > 1 or facts["remedies"]:
        say()
        for line in attempts_lines(facts["attempts"]):
            say(line)
    say()
    for one in facts["events"]:
        say(f"{one['time'][11:19]}  {one['kind']:<20} {one['message']}")


def print_affected(facts: Facts) -> None:
    """A calibration, whether it still stands, the data that were acquired and the calibrations measured with it."""
    say(f"{title_of(facts['kind'])}, number {facts['id']} of {facts['instrument']}: {standing_words(facts, utc_now())}")
    count, more = len(facts["datasets"]), facts["next_after"] is not None
    say(f"{count} {'and more ' if more else ''}data set(s) were acquired with it{':' if count else '.'}")
    for one in facts["datasets"]:
        own = one["own_verdict"]
        judged = f"own verdict {own.replace('_', ' ')}" if own else "no verdict of its own"
        where = one["path"] or "place not recorded"
        say(f"{one['run']:<22} pass {one['pass_index'] + 1:<3} {one['state']:<8} {judged:<26} {where}")
    if more:
        say(f"more: nightbeam affected {facts['id']} --after {facts['next_after']}")
    _print_resting(facts["calibrations"], "were measured with it in force")
    if facts["unknown"]:
        _print_resting(facts["unknown"], "were measured while it stood; whether with it was not yet recorded then")


def _print_resting(calibrations: list[Facts], how: str) -> None:
    say(f"{len(calibrations)} calibration(s) {how}{':' if calibrations else '.'}")
    for one in calibrations:
        words = "withdrawn" if one["withdrawn"] else one["verdict"].replace("_", " ")
        say(f"number {one['id']:<6} {title_of(one['kind'])}, measured {one['measured_at'][:16]}: {words}")


def _ended(facts: Facts) -> str:
    verdict = (facts["verdict"] or "none").replace("_", " ")
    unknown = dict.fromkeys(metric(one["metric"]) for one in facts["quality"]
                            if one["verdict"] == "not_measurable" and one["stage"] == "final")  # fmt: skip
    if facts["verdict"] == "not_measurable" and unknown:
        verdict += f" ({'; '.join(unknown)})"
    reason = f" {facts['exit_reason']}" if facts["exit_reason"] else ""
    return f"run {facts['name']}: {facts['state']}, verdict {verdict}.{reason}"


def _print_calibrations(facts: Facts, measured: list[Facts]) -> None:
    for one in measured:
        words = one["verdict"].replace("_", " ")
        say()
        say(f"measured     {title_of(one['kind'])}, number {one['id']}: {words}. {one['reason'] or ''}".rstrip())
        _print_values(one)
        say(f"             now: {standing_words(one, utc_now())}")
    # What was measured in this run stands above already.
    own = {one["id"] for one in measured}
    for one in facts["calibrations"]:
        when = f"measured {_when(one['measured_at'])} in {one['evidence_run'] or 'no run'}, {one['verdict']}"
        say()
        say(f"calibration  {title_of(one['kind'])}, number {one['id']}: {when}; {used_for(one, facts)}")
        if one["withdrawn"]:
            say(f"             withdrawn since by {one['withdrawn']['by']}: {one['withdrawn']['reason']}")
        if one["id"] not in own:
            _print_values({**one, "value": main_figures(one["kind"], one["value"])})
    for one in facts["withdrawn"]:
        say()
        say(f"withdrew     {title_of(one['kind'])}, number {one['id']}: {one['reason']}")
    missing = lacking(facts)
    if missing:
        names = ", ".join(title_of(kind) for kind in missing)
        say()
        say(f"missing      {names}: nightbeam calibrate {' '.join(missing)} --plan PLAN -i INSTRUMENT")


def _print_values(one: Facts) -> None:
    value = one["value"] if isinstance(one["value"], dict) else {}
    for line in value_lines(value, one["uncertainty"]):
        say(f"             {line.label}: {line.said}".replace("\u00a0", " "))


def _print_quality(facts: Facts) -> None:
    # A calibration's own verdict and reason stand with its figures.
    final = [one for one in facts["quality"] if one["stage"] == "final" and not _of_calibration(one)]
    if final:
        say()
    for one in final:
        whose = f" for {one['analysis']}" if one["analysis"] else ""
        say(f"{one['verdict'].replace('_', ' '):<15} {metric(one['metric'])}{whose}: {one['message']}")


def _print_results(facts: Facts) -> None:
    latest = {one["method"]: one for one in facts["analyses"]}
    if latest:
        say()
    for method, one in latest.items():
        say(f"{one['verdict'].replace('_', ' '):<15} result of {method}: {one['reason']}")
        if one["path"]:
            say(f"                {one['path']}")


def _of_calibration(one: Facts) -> bool:
    return bool(one["metric"].startswith("calibration."))


def _when(text: str) -> str:
    return f"{text[:10]} {text[11:16]} UTC"


def _line(label: str, said: Any) -> str:
    return f"{label:<{_WIDTH}} {said}"
