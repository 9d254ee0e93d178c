"""Commands that ask what was done: runs, show."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.answer import AsJson, Code, command, print_json

if TYPE_CHECKING:
    from db.engine import Session


class State(StrEnum):
    """States of a run."""

    RUNNING = "running"
    DONE = "done"
    MENDED = "mended"
    MARKED = "marked"
    REFUSED = "refused"
    STOPPED = "stopped"
    FAILED = "failed"
    CRASHED = "crashed"


class Judged(StrEnum):
    """Verdicts of a run's quality."""

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    FAIL = "fail"
    NOT_MEASURABLE = "not_measurable"


@command
def runs(
    sample: Annotated[str | None, typer.Option(help="Only runs of this specimen.")] = None,
    state: Annotated[State | None, typer.Option(help="Only runs that ended so.")] = None,
    verdict: Annotated[Judged | None, typer.Option(help="Only runs judged so.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only runs started since (UTC).")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 20,
    before: Annotated[int | None, typer.Option(help="Go on from an earlier page: the number it ended with.")] = None,
    as_json: AsJson = False,
) -> Code:
    """List runs, newest first.

    Example: nightbeam runs --sample demo-crystal --verdict fail
    """
    from dataclasses import asdict

    from db.questions.runs import list_runs

    with _session() as session:
        page = list_runs(
            session,
            sample=sample,
            state=state.value if state else None,
            verdict=verdict.value if verdict else None,
            since=since.replace(tzinfo=UTC) if since else None,
            limit=limit,
            before=before,
        )
    if as_json:
        print_json({"runs": [asdict(one) for one in page.runs], "next_before": page.next_before})
        return Code.DONE
    for one in page.runs:
        started = f"{one.started:%Y-%m-%d %H:%M}"
        words = f"{one.plan[:18]:<18} {one.area[:14]:<14} {one.state:<8} {one.verdict or ''}"
        print(f"{one.name:<22} {started} {words}")
    if not page.runs:
        print("no such runs")
    if page.next_before is not None:
        print(f"more: nightbeam runs --before {page.next_before}")
    return Code.DONE


@command
def show(
    name: Annotated[str, typer.Argument(help="A run (r...), a night (n...), or `latest` for the latest night.")],
    as_json: AsJson = False,
) -> Code:
    """Show everything that is known of a run or a night.

    Example: nightbeam show latest
    """
    from db.questions.night import night_story
    from db.questions.show import show_run

    is_night = name == "latest" or name.startswith("n")
    with _session() as session:
        facts = (
            night_story(session, name=None if name == "latest" else name) if is_night else show_run(session, name=name)
        )
    if as_json:
        print_json(facts)
    elif is_night:
        _print_night(facts)
    else:
        _print_run(facts)
    return Code.DONE


@contextmanager
def _session() -> "Iterator[Session]":
    from db.engine import open_engine, reader
    from stem4d.errors import BadInput
    from storage.settings import load_settings

    settings = load_settings()
    if not settings.home.exists():
        raise BadInput(
            field="NIGHTBEAM_HOME",
            value=str(settings.home),
            limit="nothing was run there yet",
            remedy="Set NIGHTBEAM_HOME to where it was: `make demo` uses .nightbeam in the checkout",
        )
    engine = open_engine(settings.database_url.get_secret_value())
    try:
        with reader(engine) as session:
            yield session
    finally:
        engine.dispose()


def _print_night(facts: dict[str, Any]) -> None:
    print(f"night {facts['name']}: {facts['state']}. {facts['exit_reason'] or ''}")
    for target in facts["targets"]:
        print(f"\n{target['position'] + 1}. {target['name']}: {target['state']}. {target['reason'] or ''}")
        for run in target["runs"]:
            print(f"   {run['name']}  attempt {run['attempt']}: {run['state']}. {run['exit_reason'] or ''}")
            for remedy in run["remedies"]:
                print(f"      remedy: {remedy['action']}, {remedy['from_value']} to {remedy['to_value']}")


def _print_run(facts: dict[str, Any]) -> None:
    print(f"run {facts['name']}: {facts['state']}, verdict {facts['verdict'] or 'none'}. {facts['exit_reason'] or ''}")
    for label in ("sample", "instrument", "started", "ended", "parent", "night"):
        print(f"{label:<12} {facts[label] or '-'}")
    area = facts["area"]
    print(
        f"{'area':<12} {area['name']}: {area['delivered_e_per_a2']:.4g} of {area['fluence_budget_e_per_a2']:.4g} e/Å²"
    )
    for one in facts["datasets"]:
        shape = " x ".join(str(size) for size in (*one["scan_shape"], *one["detector_shape"]))
        print(f"{'data':<12} {one['locations'][0]['path']}  {shape}  sha256 {one['sha256'][:16]}...")
    for one in facts["calibrations"]:
        print(
            f"{'calibration':<12} {one['role']}: {one['value']} {one['unit']}, {one['measured_at']}, {one['verdict']}"
        )
    print()
    for one in facts["quality"]:
        if one["stage"] == "final":
            whose = f" for {one['analysis']}" if one["analysis"] else ""
            print(f"{one['verdict']:<15} {one['metric']}{whose}: {one['message']}")
    print()
    for one in facts["events"]:
        print(f"{one['time'][11:19]}  {one['kind']:<20} {one['message']}")
