"""Commands that ask what was done: runs, show, affected."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from flows.cli.answer import AsJson, Code, command, print_json
from flows.cli.ask import Before, session
from flows.cli.said import say


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
    instrument: Annotated[str | None, typer.Option(help="Only runs on this instrument.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only runs started since (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only runs started before (UTC).")] = None,
    analysis: Annotated[
        str | None, typer.Option(metavar="NAME[:VERDICT]", help="Only runs with it: com, or com:doubtful.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Only runs with these words in name or reason.")] = None,
    reading: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME>=VALUE", help="Only runs with such a setting before; = != < <= > >=; repeatable."),
    ] = None,
    dose_below: Annotated[float | None, typer.Option(metavar="E/Å²", help="Gave its area less than this.")] = None,
    dose_above: Annotated[float | None, typer.Option(metavar="E/Å²", help="Gave its area more than this.")] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Only runs told to use an outdated calibration.")] = False,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 20,
    before: Before = None,
    as_json: AsJson = False,
) -> Code:
    """List runs, newest first.

    Example: nightbeam runs --sample demo-crystal --verdict fail --reading 'probe_current_pa>=50'
    """
    from dataclasses import asdict

    from db.lease import owners
    from db.questions.run_filters import reading_filter
    from db.questions.runs import list_runs

    with session() as opened:
        owning = owners(opened)
        page = list_runs(
            opened,
            sample=sample,
            state=state.value if state else None,
            verdict=verdict.value if verdict else None,
            instrument=instrument,
            since=_utc(since),
            until=_utc(until),
            analysis=analysis,
            text=text,
            readings=[reading_filter(each) for each in reading or ()],
            dose_below_e_per_a2=dose_below,
            dose_above_e_per_a2=dose_above,
            stale=stale,
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
        say(f"{one.name:<22} {started} {words}")
    if not page.runs:
        say("no such runs")
    for each in owning:
        say(f"{each.instrument} is held by {each.words}" + (", whose lease has expired" if each.expired else ""))
    if page.next_before is not None:
        say(f"more: the same command with --before {page.next_before}")
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
    with session() as opened:
        facts = (
            night_story(opened, name=None if name == "latest" else name) if is_night else show_run(opened, name=name)
        )
        measured = [] if is_night else measured_in(opened, run=name)
    if as_json:
        print_json(facts if is_night else {**facts, "measured": [_without_curves(one) for one in measured]})
    elif is_night:
        print_night(facts)
    else:
        print_run(facts, measured, load_settings().reports_folder)
    return Code.DONE


@command
def nights(
    limit: Annotated[int, typer.Option(help="How many at most.")] = 20, before: Before = None, as_json: AsJson = False
) -> Code:
    """List nights, newest first.

    Example: nightbeam nights
    """
    from db.questions.lists import list_nights

    with session() as opened:
        facts = list_nights(opened, limit=limit, before=before)
    if as_json:
        print_json(facts)
        return Code.DONE
    for one in facts["nights"]:
        targets = ", ".join(f"{count} {state}" for state, count in one["targets"].items()) or "no target"
        say(f"{one['name']:<22} {one['started'][:16].replace('T', ' ')} {one['state']:<8} {targets}")
    if not facts["nights"]:
        say("no night yet")
    if facts["next_before"] is not None:
        say(f"more: the same command with --before {facts['next_before']}")
    return Code.DONE


@command
def affected(
    calibration: Annotated[int, typer.Argument(metavar="CALIBRATION", help="Its number: `calibrate --list`, `show`.")],
    limit: Annotated[int, typer.Option(help="How many data sets at most.")] = 100,
    after: Annotated[int, typer.Option(help="Go on from an earlier page: the number it ended with.")] = 0,
    as_json: AsJson = False,
) -> Code:
    """List the data that were acquired with a calibration, and what they said of it themselves.

    Example: nightbeam affected 3
    """
    from db.questions.affected import affected_by
    from flows.cli.history_text import print_affected

    with session() as opened:
        facts = affected_by(opened, calibration_id=calibration, limit=limit, after=after)
    if as_json:
        print_json(facts)
    else:
        print_affected(facts)
    return Code.DONE


def _utc(given: datetime | None) -> datetime | None:
    """A time as it was given with its zone, and in UTC without one."""
    return given if given is None or given.tzinfo else given.replace(tzinfo=UTC)


def _without_curves(one: dict[str, Any]) -> dict[str, Any]:
    """What is drawn of a calibration is thousands of figures that its files give again."""
    return {name: value for name, value in one.items() if name != "curves"}
