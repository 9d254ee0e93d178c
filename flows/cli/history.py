"""Commands that ask what was done: runs, show, affected."""

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

    from db.lease import owners
    from db.questions.runs import list_runs

    with _session() as session:
        owning = owners(session)
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
        facts = {"runs": [asdict(one) for one in page.runs], "next_before": page.next_before}
        print_json({**facts, "owners": [asdict(one) for one in owning]})
        return Code.DONE
    for one in page.runs:
        started = f"{one.started:%Y-%m-%d %H:%M}"
        what = "calibrate" if one.calibrating else "acquire"
        words = (
            f"{what:<9} {one.plan[:18]:<18} {one.area[:14]:<14} {one.state:<8} {(one.verdict or '').replace('_', ' ')}"
        )
        print(f"{one.name:<22} {started} {words}")
    if not page.runs:
        print("no such runs")
    for each in owning:
        print(f"{each.instrument} is held by {each.words}" + (", whose lease has expired" if each.expired else ""))
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
    from db.questions.calibrations import measured_in
    from db.questions.night import night_story
    from db.questions.show import show_run
    from flows.cli.history_text import print_night, print_run
    from storage.settings import load_settings

    is_night = name == "latest" or name.startswith("n")
    with _session() as session:
        facts = (
            night_story(session, name=None if name == "latest" else name) if is_night else show_run(session, name=name)
        )
        measured = [] if is_night else measured_in(session, run=name)
    if as_json:
        print_json(facts if is_night else {**facts, "measured": [_without_curves(one) for one in measured]})
    elif is_night:
        print_night(facts)
    else:
        print_run(facts, measured, load_settings().reports_folder)
    return Code.DONE


@command
def affected(
    calibration: Annotated[int, typer.Argument(metavar="CALIBRATION", help="Its number: `calibrate --list`, `show`.")],
    as_json: AsJson = False,
) -> Code:
    """List the data that were acquired with a calibration, and what they said of it themselves.

    Example: nightbeam affected 3
    """
    from db.questions.affected import affected_by
    from flows.cli.history_text import print_affected

    with _session() as session:
        facts = affected_by(session, calibration_id=calibration)
    if as_json:
        print_json(facts)
    else:
        print_affected(facts)
    return Code.DONE


def _without_curves(one: dict[str, Any]) -> dict[str, Any]:
    """What is drawn of a calibration is thousands of figures that its files give again."""
    return {name: value for name, value in one.items() if name != "curves"}


@contextmanager
def _session() -> "Iterator[Session]":
    from db.engine import reader
    from flows.recorded import recorded_database
    from storage.settings import load_settings

    with recorded_database(load_settings()) as engine, reader(engine) as session:
        yield session
