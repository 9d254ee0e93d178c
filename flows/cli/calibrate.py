"""The command that lists and measures calibrations: calibrate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.answer import AsJson, Code, command, print_json

if TYPE_CHECKING:
    from flows.calibrate import Line, Result
    from stem4d.plan import Plan
    from tasks.lab import Lab

_WHERE = {
    "vacuum_hole": "in vacuum",
    "this_area": "on area {area} of {sample}, out of its budget of {budget:g} e/Å², leaving the plan its own dose",
    "reference_specimen": "on a reference specimen",
    "attended": "with a person at the instrument",
    "nothing": "worked out of other calibrations",
}


@command
def calibrate(
    plan: Annotated[Path, typer.Option("--plan", "-p", help="Plan file (YAML): its optics, detector, field, area.")],
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND]...", help="What to measure, whether or not it is stale.")
    ] = None,
    instrument: Annotated[
        Path | None, typer.Option("--instrument", "-i", help="Instrument file (TOML); the simulator where absent.")
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="Only list what is valid, stale or missing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the beam is used.")] = False,
    as_json: AsJson = False,
) -> Code:
    """Measure calibrations for a plan's settings: without KIND those that its analyses need and that are not valid.

    Exits with 3 where one of them is not valid at the end: its gate refused the fit, or nothing could be measured.

    Example: nightbeam calibrate --plan plans/calibrate/reference.yaml -i plans/instruments/calibration.toml
    """
    from flows.plans import shipped
    from stem4d.plan import Plan
    from storage.documents import load_model
    from storage.settings import load_settings
    from tasks.calibrations.kinds import check_kinds
    from tasks.lab import open_lab

    named = check_kinds(kinds or ())
    wanted_plan = load_model(plan, Plan)
    with open_lab(load_settings(), instrument or shipped("instruments/demo.toml")) as opened:
        from flows.calibrate import calibrate_kinds, listed, to_measure
        from flows.cli.screen import screen

        lines = listed(opened, wanted_plan, named)
        wanted = to_measure(opened, lines, named)
        if only_list or not wanted:
            _show(lines, None, as_json)
            return Code.WARNINGS if any(line.standing.state != "valid" for line in lines) else Code.DONE
        _ask(opened, wanted_plan, wanted, yes=yes)
        with screen(opened, quiet=as_json):
            result = calibrate_kinds(opened, wanted_plan, wanted)
        _show(listed(opened, wanted_plan, named), result, as_json)
    return Code.DONE if result.complete else Code.WARNINGS


def _ask(opened: "Lab", plan: "Plan", wanted: tuple[str, ...], *, yes: bool) -> None:
    """Say what the beam will do, and ask once."""
    from tasks.calibrations.kinds import KINDS, in_order
    from tasks.calibrations.standing import standings, usable

    sample = plan.sample
    known = [kind for kind in usable(opened, standings(opened, plan)) if kind not in wanted]
    groups = in_order(wanted, known)
    typer.echo(f"{len(wanted)} calibration(s) on {opened.file.name}, with what they need first:", err=True)
    for kind in KINDS.values():
        if kind.group in groups:
            where = _WHERE[kind.needs].format(
                area=sample.area, sample=sample.name, budget=sample.fluence_budget_e_per_a2
            )
            typer.echo(f"  {kind.name}: {where}", err=True)
    if not yes and not typer.confirm("Use the beam?", default=False, err=True):
        raise typer.Exit(int(Code.REFUSED))


def _show(lines: "tuple[Line, ...]", result: "Result | None", as_json: bool) -> None:
    if as_json:
        print_json(_facts(lines, result))
        return
    for line in lines:
        print(f"{line.kind:<24} {line.standing.state:<10} {_until(line) or line.obstacle or line.standing.why}")
    if result is not None:
        for one in result.recorded:
            if one.measured.verdict != "pass":
                print(f"{one.measured.kind}: {one.measured.verdict}. {one.measured.reason}")
        print(f"Run: {result.run}\nReport: {result.report or 'it could not be written; see the line above'}")


def _until(line: "Line") -> str:
    record = line.standing.calibration
    if line.standing.state != "valid" or record is None:
        return ""
    return "" if record.valid_until is None else f"until {record.valid_until:%Y-%m-%d %H:%M} UTC"


def _facts(lines: "tuple[Line, ...]", result: "Result | None") -> dict[str, Any]:
    facts: dict[str, Any] = {"calibrations": [line.as_dict() for line in lines], "run": None, "report": None}
    if result is None:
        return {**facts, "measured": []}
    measured = [
        {
            "id": one.id,
            "kind": one.measured.kind,
            "verdict": one.measured.verdict,
            "reason": one.measured.reason,
            "value": one.measured.value,
            "uncertainty": one.measured.uncertainty,
            "residual": one.measured.residual,
            "evidence": list(one.measured.evidence),
        }
        for one in result.recorded
    ]
    report = str(result.report) if result.report else None
    return {**facts, "run": result.run, "report": report, "measured": measured}
