"""Commands about plans before anything is exposed: check, show, suggest."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from flows.cli.answer import AsJson, Code, command, print_json

if TYPE_CHECKING:
    from stem4d.instrument import InstrumentFacts
    from stem4d.plan import Plan

PlanFile = Annotated[Path, typer.Argument(help="Plan file (YAML).")]
InstrumentOption = Annotated[
    Path | None, typer.Option("--instrument", "-i", help="Instrument file (TOML) to check against.")
]
PictureOption = Annotated[
    Path | None, typer.Option("--picture", help="Write a picture here, too: a name ending in .png or .svg.")
]
Settings_ = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field for this check: optics.defocus_nm=20. May be given again."),
]


@command
def check(
    plan: PlanFile,
    instrument: InstrumentOption = None,
    change: Settings_ = None,
    every: Annotated[bool, typer.Option("--all", help="Show the rules that are met, too.")] = False,
    as_json: AsJson = False,
) -> Code:
    """Say whether a plan's data can carry its analyses, rule by rule.

    Exits with 0, with 3 when something is worth minding, with 2 when the plan cannot give what it is for.

    Example: nightbeam plan check plans/case_b.yaml --set optics.defocus_nm=20
    """
    from flows.cli.plan_text import check_text
    from stem4d.rules import check as check_plan

    read = _plan(plan, change)
    # The disk that data would go to is this one only where the instrument is.
    room = _room() if instrument is not None else _Room()
    checked = check_plan(read, instrument=_facts(instrument), **room)
    if as_json:
        print_json(checked.model_dump(mode="json"))
    else:
        print("\n".join(check_text(checked, read, every=every)))
    if checked.hard:
        return Code.REFUSED
    return Code.WARNINGS if checked.soft else Code.DONE


@command
def show(plan: PlanFile, change: Settings_ = None, picture: PictureOption = None, as_json: AsJson = False) -> Code:
    """Show a plan with every default written out, and what it will give.

    Example: nightbeam plan show plans/case_a.yaml --picture case_a.png
    """
    from flows.cli.plan_text import flat, prediction_text
    from stem4d.predict import predict

    read = _plan(plan, change)
    if picture is not None:
        from web.plan.picture import plan_figure
        from web.plan.write import write_figure

        write_figure(plan_figure(read), picture)
    predicted = predict(read)
    if as_json:
        print_json({"plan": read.model_dump(mode="json"), "prediction": predicted.model_dump(mode="json")})
        return Code.DONE
    for path, value in flat(read.model_dump(mode="json")):
        print(f"{path:<45} {value}")
    print()
    print("\n".join(prediction_text(predicted)))
    return Code.DONE


@command
def suggest(
    goal: Annotated[Path, typer.Argument(help="Goal file (YAML): specimen, question, field of view.")],
    instrument: InstrumentOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="Write the plan here (YAML).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --to replace a file.")] = False,
    picture: PictureOption = None,
    as_json: AsJson = False,
) -> Code:
    """Propose a plan for a goal, or say which requirements collide and what frees them.

    Without an instrument file, the simulated instrument of the demo is asked. Exits with 0, with 3 when something is
    worth minding, with 2 when no plan can answer.

    Example: nightbeam plan suggest plans/goals/case_b.yaml --to my_plan.yaml
    """
    from flows.cli.plan_text import suggestion_text
    from flows.plans import shipped
    from stem4d.goal import Goal
    from stem4d.suggest import suggest as suggest_plan
    from storage.documents import load_model
    from storage.save import require_writable, save_document

    if to is not None:
        require_writable(to, replace=force)
    source = instrument or shipped("instruments/demo.toml")
    facts = _facts(source)
    assert facts is not None
    found = suggest_plan(load_model(goal, Goal), facts, **(_room() if instrument is not None else _Room()))
    if picture is not None:
        from web.plan.trade import trade_figure
        from web.plan.write import write_figure

        write_figure(trade_figure(found), picture)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print("\n".join(suggestion_text(found, source.name)))
    if to is not None and found.feasible:
        told = f"Proposed by nightbeam plan suggest for the goal {found.goal.name} on {source.name}."
        save_document(to, found.plan, (told, *found.notes), replace=force)
    if not found.feasible:
        return Code.REFUSED
    return Code.WARNINGS if found.check.soft else Code.DONE


@command
def rules(as_json: AsJson = False) -> Code:
    """Print every rule a plan is checked against: formula, limits by analysis, sources.

    Example: nightbeam plan rules > rules.md
    """
    from dataclasses import asdict

    from stem4d.rules import LIMITS, RULES
    from stem4d.rules.document import markdown

    if as_json:
        told = [
            {
                "rule": each.id,
                "number": each.number,
                "axis": each.axis,
                "analyses": each.kinds,
                "formula": each.formula,
                "unit": each.unit,
                "source": each.source,
                "limits": {key: asdict(limit) for key, limit in LIMITS.items() if key.split("/")[0] == each.id},
            }
            for each in RULES.values()
        ]
        print_json(told)
    else:
        print(markdown(), end="")
    return Code.DONE


def _plan(path: Path, changes: list[str] | None) -> "Plan":
    from stem4d.plan import Plan
    from storage.documents import load_model

    return load_model(path, Plan, changes or ())


def _facts(path: Path | None) -> "InstrumentFacts | None":
    from stem4d.instrument import InstrumentFile
    from storage.documents import load_model

    return load_model(path, InstrumentFile).facts if path is not None else None


class _Room(TypedDict, total=False):
    free_bytes: int
    reserve_bytes: int


def _room() -> _Room:
    """What is free where the data would go, and what of it an acquisition leaves free; asking makes no folder."""
    from storage.disk import free_bytes
    from storage.settings import load_settings

    settings = load_settings()
    folder = settings.home.absolute()
    free = free_bytes(next(each for each in (folder, *folder.parents) if each.is_dir()))
    return {"free_bytes": free, "reserve_bytes": int(settings.disk_reserve_gb * 1e9)}
