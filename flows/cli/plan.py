"""Commands about plans before anything is exposed: check, show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.answer import AsJson, Code, command, print_json

if TYPE_CHECKING:
    from stem4d.plan import Plan
    from stem4d.rules import PlanCheck
    from stem4d.verdict import Finding

PlanFile = Annotated[Path, typer.Argument(help="Plan file (YAML).")]
Settings_ = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field for this check: optics.defocus_nm=20. May be given again."),
]


@command
def check(
    plan: PlanFile,
    instrument: Annotated[
        Path | None, typer.Option("--instrument", "-i", help="Instrument file (TOML) to check against.")
    ] = None,
    change: Settings_ = None,
    every: Annotated[bool, typer.Option("--all", help="Show the rules that are met, too.")] = False,
    as_json: AsJson = False,
) -> Code:
    """Say whether a plan's data can carry its analyses, rule by rule.

    Exits with 0, with 3 when something is worth minding, with 2 when the plan cannot give what it is for.

    Example: nightbeam plan check plans/case_b.yaml --set optics.defocus_nm=20
    """
    from stem4d.instrument import InstrumentFile
    from stem4d.rules import check as check_plan
    from storage.documents import load_model

    facts = load_model(instrument, InstrumentFile).facts if instrument else None
    checked = check_plan(_plan(plan, change), instrument=facts)
    if as_json:
        print_json(checked.model_dump(mode="json"))
    else:
        _print_check(checked, every=every)
    if checked.hard:
        return Code.REFUSED
    return Code.WARNINGS if checked.soft else Code.DONE


@command
def show(plan: PlanFile, change: Settings_ = None, as_json: AsJson = False) -> Code:
    """Show a plan with every default written out, and what it will give.

    Example: nightbeam plan show plans/case_a.yaml
    """
    from stem4d.predict import predict

    read = _plan(plan, change)
    predicted = predict(read)
    if as_json:
        print_json({"plan": read.model_dump(mode="json"), "prediction": predicted.model_dump(mode="json")})
        return Code.DONE
    for path, value in _flat(read.model_dump(mode="json")):
        print(f"{path:<45} {value}")
    print()
    _print_figures(predicted.model_dump())
    return Code.DONE


def _plan(path: Path, changes: list[str] | None) -> "Plan":
    from stem4d.plan import Plan
    from storage.documents import load_model

    return load_model(path, Plan, changes or ())


def _print_check(checked: "PlanCheck", *, every: bool) -> None:
    _print_figures(checked.prediction.model_dump())
    groups: list[tuple[str, list[Finding]]] = [
        ("cannot work", [one for one in checked.findings if one.verdict == "fail"]),
        ("mind", [one for one in checked.findings if one.verdict == "warn"]),
        ("not checked", [one for one in checked.findings if one.verdict == "not_measurable"]),
        ("met", [one for one in checked.findings if one.verdict == "pass"] if every else []),
    ]
    for title, findings in groups:
        for one in findings:
            whose = f" ({one.analysis})" if one.analysis else ""
            print(f"\n{title}: {one.rule}{whose}\n  {one.message}" + (f"\n  {one.remedy}" if one.remedy else ""))
    met = sum(one.verdict == "pass" for one in checked.findings)
    hard, soft = len(checked.hard), len(checked.soft)
    print(f"\n{hard} hard finding(s), {soft} soft, {met} rule(s) met")


def _print_figures(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        print(f"{name:<35} {value:,}" if isinstance(value, int) else f"{name:<35} {value:.4g}")


def _flat(document: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(document, dict):
        return [line for key, value in document.items() for line in _flat(value, f"{path}.{key}" if path else key)]
    if isinstance(document, list) and any(isinstance(value, dict) for value in document):
        return [line for index, value in enumerate(document) for line in _flat(value, f"{path}.{index}")]
    return [(path, document)]
