"""Turns what the database answers about a run or a night into what a page shows."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from stem4d.plan import Plan
from web.report.parameters import plan_parameters
from web.report.tables import plain
from web.report.uses import lacking, used_for
from web.report.values import (
    AnalysisOutcome,
    CalibrationUsed,
    Cost,
    DataFile,
    DoseAccount,
    Exposure,
    Judgement,
    NightReport,
    Plate,
    RemedyTaken,
    RunLink,
    RunReport,
    StoryLine,
    TargetLine,
    Withdrawn,
)

Facts = Mapping[str, Any]
"""A document as ``db.questions`` gives it."""

STORY_LINES = 2000
"""A night's story longer than this is told without the events of its runs: they stand on the runs' own pages."""
_PACKAGES = ("nightbeam", "numpy", "scipy", "numba", "h5py", "hdf5plugin", "prefect")


def run_report(facts: Facts, plan: Plan | None, plates: tuple[Plate, ...], missing_pictures: str) -> RunReport:
    """The page of a run, from ``db.questions.show.show_run``; ``plan`` is None where this version cannot read it."""
    started = _time(facts["started"])
    return RunReport(
        run=facts["name"],
        plan=facts["plan"]["name"],
        plan_title=str(facts["plan"]["document"].get("title", "")),
        plan_sha256=facts["plan"]["sha256"],
        sample=facts["sample"],
        area=facts["area"]["name"],
        instrument=facts["instrument"],
        state=facts["state"],
        verdict=facts["verdict"],
        exit_reason=facts["exit_reason"],
        attempt=facts["attempt"],
        started=started,
        ended=_time_or_none(facts["ended"]),
        software=software(facts["environment"]),
        night=facts["night"],
        parent=facts["parent"],
        story=tuple(_line(event) for event in facts["events"]),
        parameters=() if plan is None else plan_parameters(plan),
        findings=tuple(_judgement(one) for one in facts["quality"] if one["stage"] == "plan"),
        quality=tuple(_judgement(one) for one in facts["quality"] if one["stage"] == "final"),
        calibrations=tuple(_calibration(one, started, facts) for one in facts["calibrations"]),
        remedies=tuple(_remedy(one) for one in facts["remedies"]),
        doses=dose_accounts([facts]),
        exposures=tuple(_exposure(one) for one in facts["exposures"]),
        predicted=_cost(facts, "predicted"),
        actual=_cost(facts, "actual"),
        files=tuple(_file(one) for one in facts["datasets"]),
        analyses=tuple(_analysis(one) for one in facts["analyses"]),
        plates=plates,
        missing_pictures=missing_pictures,
        withdrawn=tuple(Withdrawn(one["id"], one["kind"], one["reason"]) for one in facts["withdrawn"]),
        lacking=lacking(facts),
        attempts=tuple(facts["attempts"]),
    )


def night_report(
    night: Facts, runs: Mapping[str, Facts], pages: frozenset[str], plates: tuple[Plate, ...]
) -> NightReport:
    """The page of a night, from ``db.questions.night.night_story`` and all its runs by name; ``pages`` are linked."""
    lines, note = _night_story(night, runs)
    totals = night["cost"]
    return NightReport(
        night=night["name"],
        title=night["document"].get("title", ""),
        instrument=next((run["instrument"] for run in runs.values()), night["document"].get("instrument", "")),
        state=night["state"],
        exit_reason=night["exit_reason"],
        started=_time(night["started"]),
        ended=_time_or_none(night["ended"]),
        sha256=night["sha256"],
        targets=tuple(_target(one, pages, runs) for one in night["targets"]),
        story=lines,
        story_note=note,
        doses=_doses(runs.values()),
        predicted=_total(totals, "predicted"),
        actual=_total(totals, "actual"),
        plates=plates,
        software=next((software(run["environment"]) for run in runs.values()), ()),
    )


def dose_accounts(runs: list[Facts]) -> tuple[DoseAccount, ...]:
    """The accounts of the areas that runs of a specimen exposed, with what these runs gave them: all their exposures.

    Of runs that exposed nothing the area that they were to expose.
    """
    accounts = {account["name"]: account for run in runs for account in (run["area"], *run["accounts"])}
    return tuple(_dose_account(runs, account) for account in accounts.values())


def _dose_account(runs: list[Facts], account: Facts) -> DoseAccount:
    own = [one for run in runs for one in run["exposures"] if one["area"] == account["name"]]
    delivered = sum(one["delivered_e_per_a2"] or 0.0 for one in own)
    return DoseAccount(
        sample=runs[0]["sample"],
        area=account["name"],
        budget_e_per_a2=account["fluence_budget_e_per_a2"],
        # Sums of floats in another order may differ by their rounding.
        others_e_per_a2=max(0.0, round(account["delivered_e_per_a2"] - delivered, 9)),
        intended_e_per_a2=sum(one["intended_e_per_a2"] for one in own),
        delivered_e_per_a2=delivered,
        reserved_e_per_a2=account["reserved_e_per_a2"],
    )


def software(environment: Facts | None) -> tuple[tuple[str, str], ...]:
    """Interpreter, code and the packages that compute or store."""
    if environment is None:
        return ()
    packages = environment["packages"]
    versions = tuple((name, packages[name]) for name in _PACKAGES if name in packages)
    return (("Code revision", environment["code_revision"]), ("Python", environment["python"]), *versions)


def seconds_between(start: str, end: str | None) -> float:
    """Seconds from one stored time to another, 0 where the second is not there."""
    return 0.0 if end is None else (_time(end) - _time(start)).total_seconds()


def _night_story(night: Facts, runs: Mapping[str, Facts]) -> tuple[tuple[StoryLine, ...], str]:
    names = {target["id"]: target["name"] for target in night["targets"]}
    own = [(event["sequence"], _line(event, names)) for event in night["events"]]
    more = [(event["sequence"], _line(event, names)) for run in runs.values() for event in run["events"]]
    note = ""
    if len(own) + len(more) > STORY_LINES:
        note, more = f"The {len(more)} events of the runs stand on their own pages.", []
    return tuple(line for _, line in sorted(own + more, key=lambda pair: pair[0])), note


def _doses(runs: Iterable[Facts]) -> tuple[DoseAccount, ...]:
    samples: dict[str, list[Facts]] = {}
    for run in runs:
        samples.setdefault(run["sample"], []).append(run)
    return tuple(account for of_sample in samples.values() for account in dose_accounts(of_sample))


def _target(target: Facts, pages: frozenset[str], known: Mapping[str, Facts]) -> TargetLine:
    runs = target["runs"]
    files = [file for run in runs for file in known[run["name"]]["datasets"]]
    results = [one for run in runs for one in known[run["name"]]["analyses"]]
    first = runs[0] if runs else {}
    return TargetLine(
        position=target["position"],
        name=target["name"],
        plan=target["plan"] or "",
        state=target["state"],
        expected=target["expected_state"],
        reason=target["reason"],
        mended=tuple(_mended(one) for run in runs for one in run["remedies"]),
        predicted=_cost(first, "predicted"),
        actual=_sum_of(runs),
        runs=tuple(
            RunLink(run["name"], run["state"], run["verdict"], f"{run['name']}.html" if run["name"] in pages else None)
            for run in runs
        ),
        waits=bool(target.get("broken_off")),
        has_data=any(file["purpose"] == "acquisition" and file["frames"] for file in files),
        analyses=tuple({one["method"]: _analysis(one) for one in results}.values()),
        night_predicted_s=target.get("predicted_seconds"),
        night_took_s=target.get("actual_seconds"),
    )


def _sum_of(runs: list[Facts]) -> Cost:
    costs = [_cost(run, "actual") for run in runs]
    return Cost(
        _sum(cost.seconds for cost in costs),
        _sum(cost.size_bytes for cost in costs),
        _sum(cost.fluence_e_per_a2 for cost in costs),
    )


def _sum(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _cost(run: Facts, kind: str) -> Cost:
    return Cost(run.get(f"{kind}_seconds"), run.get(f"{kind}_bytes"), run.get(f"{kind}_fluence_e_per_a2"))


def _total(totals: Facts, kind: str) -> Cost:
    counted = {name: one[kind] if one["runs"] else None for name, one in totals.items()}
    return Cost(counted["seconds"], counted["bytes"], counted["fluence_e_per_a2"])


def _line(event: Facts, targets: Mapping[int, str] | None = None) -> StoryLine:
    whose = (targets or {}).get(event.get("target_id") or -1, "")
    return StoryLine(_time(event["time"]), event["kind"], event["message"], whose)


def _judgement(one: Facts) -> Judgement:
    return Judgement(
        one["metric"], one["analysis"], one["value"], one["limit_value"], one["unit"], one["verdict"], one["message"],
        one["uncertainty"],
    )  # fmt: skip


def _calibration(one: Facts, used_at: datetime, facts: Facts) -> CalibrationUsed:
    return CalibrationUsed(
        one["kind"], one["role"], one["value"], one["uncertainty"], one["unit"], one["verdict"],
        _time(one["measured_at"]), _standing(one, used_at), used_for(one, facts),
    )  # fmt: skip


def _standing(one: Facts, used_at: datetime) -> str:
    end = _time_or_none(one["valid_until"])
    words = "had expired" if end is not None and end <= used_at else "fresh"
    if one["superseded_by"] is not None:
        words += f", superseded since by number {one['superseded_by']}"
    if one["withdrawn"]:
        words += f"; withdrawn by {one['withdrawn']['by']}: {one['withdrawn']['reason']}"
    if one["accepted_stale"]:
        words += f"; used past its time, as the run was told to: {one['accepted_stale']}"
    return f"{words}; measured in run {one['evidence_run']}" if one["evidence_run"] else words


def _remedy(one: Facts) -> RemedyTaken:
    return RemedyTaken(
        one["cause_metric"], one["action"], one["from_value"], one["to_value"], one["cost"], one["outcome"]
    )


def _mended(one: Facts) -> str:
    action: str = one["action"].replace("_", " ")
    if one["to_value"] is None:
        return action
    return f"{action}: {plain(one['from_value'])} to {plain(one['to_value'])}"


def _exposure(one: Facts) -> Exposure:
    return Exposure(
        one["purpose"], one["area"], _time(one["opened"]), one["intended_e_per_a2"], one["delivered_e_per_a2"],
        one["electrons"], one["reason"],
    )  # fmt: skip


def _file(one: Facts) -> DataFile:
    path = one["locations"][0]["path"] if one["locations"] else "place not recorded"
    shape = (*one["scan_shape"], *one["detector_shape"])
    return DataFile(path, one["size_bytes"], one["sha256"], shape, one["dtype"], one["complete"])


_ORIGIN = ("options", "input_sha256", "results_sha256")
"""What a result rests on: `nightbeam show` and the results file have it."""


def _analysis(one: Facts) -> AnalysisOutcome:
    summary = one["summary"]
    if isinstance(summary, dict):
        summary = {name: value for name, value in summary.items() if name not in _ORIGIN}
    pairs = tuple(summary.items()) if isinstance(summary, dict) else (("result", summary),) if summary else ()
    return AnalysisOutcome(one["method"], one["verdict"], one["reason"], pairs)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _time_or_none(text: str | None) -> datetime | None:
    return None if text is None else _time(text)
