"""Commands that ask the record: diff, lineage, search, dose, why, cost, software."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.answer import AsJson, Code, command, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.engine import Session

Limit = Annotated[int, typer.Option(help="How many at most.")]
Before = Annotated[int | None, typer.Option(help="Go on from an earlier page: the number it ended with.")]


@contextmanager
def session() -> "Iterator[Session]":
    """A look at the database of the home that is set."""
    from db.engine import reader
    from flows.recorded import recorded_database
    from storage.settings import load_settings

    with recorded_database(load_settings()) as engine, reader(engine) as opened:
        yield opened


@command
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A run.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    as_json: AsJson = False,
) -> Code:
    """Say what differs between two runs: plan, settings, calibrations, software, quality.

    Example: nightbeam diff r20260301-221500-ab12 r20260302-001502-cd34
    """
    from db.questions.diff import diff_runs
    from flows.cli.ask_text import print_diff

    with session() as opened:
        facts = diff_runs(opened, a=a, b=b)
    return _tell(facts, as_json, print_diff)


@command
def lineage(
    of: Annotated[str, typer.Argument(metavar="RUN|CALIBRATION", help="A run, or the number of a calibration.")],
    limit: Limit = 100,
    picture: Annotated[Path | None, typer.Option(help="Draw it, too, as SVG into this new file.")] = None,
    as_json: AsJson = False,
) -> Code:
    """Say what a run or a calibration came from, and what came of it.

    Example: nightbeam lineage r20260301-221500-ab12
    """
    from db.questions.lineage import lineage as lineage_of_run
    from db.questions.lineage import lineage_of_calibration
    from flows.cli.ask_text import print_lineage

    with session() as opened:
        facts = (
            lineage_of_calibration(opened, calibration_id=int(of), limit=limit)
            if of.isdecimal() and len(of) < 19
            else lineage_of_run(opened, run=of, limit=limit)
        )
    if picture is not None:
        from storage.disk import require_absent
        from web.view.graph import lineage_svg

        require_absent(picture)
        picture.write_text(lineage_svg(facts), encoding="utf-8")
    return _tell(facts, as_json, print_lineage)


@command
def search(
    text: Annotated[list[str], typer.Argument(help="Words; the last may be the beginning of one.")],
    limit: Limit = 50,
    before: Before = None,
    as_json: AsJson = False,
) -> Code:
    """Find specimens, plans, nights, targets, runs and calibrations by names and by why they ended.

    Example: nightbeam search saturation disk
    """
    from db.questions.search import search as found
    from flows.cli.ask_text import print_found

    with session() as opened:
        facts = found(opened, text=" ".join(text), limit=limit, before=before)
    return _tell(facts, as_json, print_found)


@command
def dose(
    sample: Annotated[str, typer.Argument(help="A specimen.")],
    area: Annotated[str | None, typer.Option(help="Only this area of it.")] = None,
    as_json: AsJson = False,
) -> Code:
    """Say what a specimen received, area by area, against its budgets.

    Example: nightbeam dose demo-crystal
    """
    from db.questions.sample_dose import sample_dose
    from flows.cli.ask_text import print_dose
    from stem4d.errors import BadInput

    with session() as opened:
        facts = sample_dose(opened, sample=sample)
    if area is not None:
        names = [one["name"] for one in facts["areas"]]
        if area not in names:
            limit = f"no area of {sample}; it has {', '.join(names) or 'none'}"
            raise BadInput(field="area", value=area, limit=limit)
        facts = {**facts, "areas": [one for one in facts["areas"] if one["name"] == area]}
    return _tell(facts, as_json, print_dose)


@command
def why(
    night: Annotated[str, typer.Argument(help="A night (n...), or `latest`.")] = "latest", as_json: AsJson = False
) -> Code:
    """Say why a night ended, and what it did not get and why.

    Example: nightbeam why latest
    """
    from db.questions.stopped import why_stopped
    from flows.cli.ask_text import print_why

    with session() as opened:
        facts = why_stopped(opened, night=None if night == "latest" else night)
    return _tell(facts, as_json, print_why)


@command
def cost(
    name: Annotated[str, typer.Argument(help="A run (r...), a night (n...), or `latest` for the latest night.")],
    as_json: AsJson = False,
) -> Code:
    """Hold what was predicted of a run or a night against what it took: time, data, dose.

    Example: nightbeam cost latest
    """
    from db.questions.cost import cost_of_night, cost_of_run
    from flows.cli.ask_text import print_cost

    with session() as opened:
        is_night = name == "latest" or name.startswith("n")
        facts = (
            cost_of_night(opened, night=None if name == "latest" else name)
            if is_night
            else cost_of_run(opened, run=name)
        )
    return _tell(facts, as_json, print_cost)


@command
def software(limit: Limit = 20, before: Before = None, as_json: AsJson = False) -> Code:
    """List changes of the software, newest first, each with the first run that had it.

    Example: nightbeam software
    """
    from db.questions.software import software_changes
    from flows.cli.ask_text import print_software

    with session() as opened:
        facts = software_changes(opened, limit=limit, before=before)
    return _tell(facts, as_json, print_software)


def _tell(facts: dict[str, Any], as_json: bool, print_facts: "Callable[[dict[str, Any]], None]") -> Code:
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)
    return Code.DONE
