"""The command that lists, measures and withdraws calibrations: calibrate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import AsJson, Code, Instrument, command, confirm, print_json

if TYPE_CHECKING:
    from stem4d.plan import Plan
    from storage.settings import Settings
    from tasks.lab import Lab


@command
def calibrate(
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND]...", help="What to measure, whether or not it is stale.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", "-p", help="Plan file (YAML): its optics, detector, field, area.")
    ] = None,
    instrument: Instrument = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="Only list how each kind stands: the instrument is not opened.")
    ] = False,
    withdraw: Annotated[
        int | None, typer.Option("--withdraw", metavar="NUMBER", help="Let no run use this calibration any more.")
    ] = None,
    because: Annotated[str, typer.Option("--because", metavar="TEXT", help="Why it is withdrawn.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the beam is used.")] = False,
    as_json: AsJson = False,
) -> Code:
    """Measure calibrations for a plan's settings: without KIND those that its analyses need and that are not valid.

    Exits with 0 where all of them are valid at the end, with 3 where one is not (its gate refused the fit, or it could
    not be measured), with 2 for input that is refused before anything moves, with 1 where the instrument failed. --list
    exits with 0, 2 or 3 likewise, --withdraw with 0 or 2.

    Example: nightbeam calibrate --plan plans/calibrate/reference.yaml -i plans/instruments/calibration.toml
    """
    from stem4d.errors import BadInput
    from tasks.calibrations.kinds import check_kinds

    named = check_kinds(kinds or ())
    from storage.settings import load_settings

    settings = load_settings()
    if withdraw is not None:
        return _withdraw(settings, withdraw, because, as_json)
    if plan is None:
        raise BadInput(field="--plan", value="nothing", limit="is required", remedy="Add --plan PLAN.yaml")
    from flows.cli.calibrate_text import facts_of, lines_text
    from flows.plans import instrument_of
    from flows.possible import refuse_impossible
    from flows.standing import looked_up
    from stem4d.instrument import InstrumentFile
    from stem4d.plan import Plan
    from storage.documents import load_model

    wanted_plan = load_model(plan, Plan)
    path = instrument_of(plan, instrument)
    file = load_model(path, InstrumentFile)
    refuse_impossible(plan.name, wanted_plan, file.facts)
    if only_list:
        lines = looked_up(settings, file, wanted_plan, named)
        if as_json:
            print_json(facts_of(lines, None))
        else:
            print("\n".join(lines_text(lines)))
        return Code.DONE if all(line.good for line in lines) else Code.WARNINGS
    return _measure(settings, path, wanted_plan, named, yes=yes, as_json=as_json)


def _measure(
    settings: "Settings", path: Path, plan: "Plan", named: tuple[str, ...], *, yes: bool, as_json: bool
) -> Code:
    from flows.cli.calibrate_text import facts_of, lines_text, result_text
    from tasks.lab import open_lab

    with open_lab(settings, path) as opened:
        from flows.calibrate import calibrate_kinds, listed, to_measure
        from flows.cli.screen import screen

        lines = listed(opened, plan, named)
        wanted, result = to_measure(opened, lines, named), None
        if wanted:
            _ask(opened, plan, wanted, yes=yes)
            with screen(opened, quiet=as_json):
                result = calibrate_kinds(opened, plan, wanted)
            lines = listed(opened, plan, named)
    if as_json:
        print_json(facts_of(lines, result))
    else:
        print("\n".join([*lines_text(lines), *(result_text(result) if result else ())]))
    if result is None:
        return Code.DONE if all(line.good for line in lines) else Code.WARNINGS
    return Code.DONE if result.complete else Code.WARNINGS


def _ask(opened: "Lab", plan: "Plan", wanted: tuple[str, ...], *, yes: bool) -> None:
    """Say what the beam will do and for how long, and ask once."""
    from flows.cli.calibrate_text import asked_text
    from tasks.calibrations.expected import expected_s
    from tasks.calibrations.kinds import in_order
    from tasks.calibrations.standing import standings, usable

    known = [kind for kind in usable(opened, standings(opened, plan)) if kind not in wanted]
    facts = opened.file.facts
    groups = in_order(wanted, known, integrating=facts.integrates(plan.detector.name))
    seconds = expected_s(groups, plan, facts)
    typer.echo("\n".join(asked_text(opened.file.name, plan, wanted, known, groups, seconds)), err=True)
    confirm("Use the beam?", yes=yes)


def _withdraw(settings: "Settings", number: int, because: str, as_json: bool) -> Code:
    from dataclasses import asdict

    from flows.withdraw import withdraw_by_hand

    done = withdraw_by_hand(settings, number, because)
    if as_json:
        print_json(asdict(done))
    else:
        used = (
            f" It was used by {', '.join(done.used_by)}: nightbeam affected {done.number} lists their data."
            if done.used_by
            else ""
        )
        print(f"{done.kind} number {number} of {done.instrument} is withdrawn: no run uses it any more.{used}")
    return Code.DONE
