"""The command that analyses recorded data: analyse."""

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import AsJson, Code, aside, command, print_json

if TYPE_CHECKING:
    from flows.analyse import Wanted
    from storage.settings import Settings
    from tasks.results import Made


@command
def analyse(
    subject: Annotated[str, typer.Argument(metavar="RUN|FILE", help="A run, or any 4D-STEM file.")],
    method: Annotated[str, typer.Option("--method", "-m", help="strain, tcbf, ptychography, orientation, ...")],
    options: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the method as NAME=VALUE; may stand often.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="What is known of a file, or better than the run knew: a YAML document (docs/analysis.md)."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Work it out even where the result is there.")] = False,
    handover: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Analyse nothing: write patterns and parameters for phaser into a new folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> Code:
    """Analyse recorded data; the same data, options and calibrations are not worked out twice.

    Exits with 0, with 3 where a result is doubtful or not possible, with 2 where the input is wrong.

    Example: nightbeam analyse r20261122-204139-7f3a --method strain --set target_strain=0.001
    """
    from flows.analyse import Wanted, analyse_file, analyse_run
    from flows.files import database
    from flows.report import page_renewed
    from stem4d.analyse.progress import heard_by
    from storage.settings import load_settings

    settings, wanted = load_settings(), Wanted(method, tuple(options or ()), calibration, again)
    if handover is not None:
        return _handed_over(settings, subject, wanted, handover, as_json=as_json)
    with heard_by(_shown()):
        if os.path.exists(subject):  # which answers no where pathlib raises
            made = [analyse_file(settings, Path(subject), wanted)]
        else:
            with database(settings) as known:
                made = analyse_run(settings, known.required(), subject, wanted)
                if trouble := page_renewed(settings, known.required(), subject):
                    aside(trouble)
    if as_json:
        print_json({"results": [_facts(one) for one in made]})
    else:
        for one in made:
            _print(one)
    return Code.DONE if all(one.outcome.verdict == "good" for one in made) else Code.WARNINGS


TOLD_EVERY_S = 10.0


def _shown() -> Callable[[str, int, int], None]:
    """Says on standard error now and then how far a long analysis is."""
    told = monotonic()

    def hear(step: str, done: int, total: int) -> None:
        nonlocal told
        if monotonic() - told >= TOLD_EVERY_S:
            told = monotonic()
            aside(f"{step}, {done} of {total}")

    return hear


def _handed_over(settings: "Settings", subject: str, wanted: "Wanted", folder: Path, *, as_json: bool) -> Code:
    from flows.analyse import hand_over_file, hand_over_run
    from flows.files import database
    from stem4d.analyse.method import NotPossible

    try:
        if os.path.exists(subject):  # which answers no where pathlib raises
            written = [hand_over_file(Path(subject), wanted, folder)]
        else:
            with database(settings) as known:
                written = hand_over_run(known.required(), subject, wanted, folder)
    except NotPossible as why:
        aside(f"not possible: {why}")
        return Code.WARNINGS
    if as_json:
        print_json({"parameters": [str(one) for one in written]})
    else:
        for one in written:
            print(f"cd {one.parent} && phaser run {one.name}")
    return Code.DONE


def _facts(one: "Made") -> dict[str, object]:
    outcome = one.outcome
    return {
        "method": one.made_from["method"],
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "figures": dict(outcome.figures),
        "pictures": [picture.name for picture in outcome.pictures],
        "file": str(one.path),
        "worked_out_now": one.again,
        "made_from": dict(one.made_from),
    }


def _print(one: "Made") -> None:
    print(f"{one.outcome.verdict.replace('_', ' ')}: {one.outcome.reason}")
    for name, value in one.outcome.figures.items():
        print(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")
    print(f"  results: {one.path}")
    if not one.again:
        aside("these results were there already; --again works them out once more")
