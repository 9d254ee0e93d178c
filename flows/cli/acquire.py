"""Commands that expose a specimen, real or simulated: demo, run, night."""

import gc
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from flows.cli.answer import AsJson, Code, Instrument, aside, command, confirm, print_json
from flows.cli.order_text import order_lines

if TYPE_CHECKING:
    from flows.api import ApiServer
    from flows.night import NightResult
    from flows.night_file import NightFile, Start
    from stem4d.plan import Plan
    from storage.settings import Settings
    from tasks.lab import Lab

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the beam is used.")]
NoPrefect = Annotated[
    bool, typer.Option("--no-prefect", help="Run the same stages as plain calls, without Prefect's API.")
]


AcceptStale = Annotated[
    bool, typer.Option("--accept-stale", help="Use calibrations past their time; each use is recorded as such.")
]


@command
def demo(as_json: AsJson = False, no_prefect: NoPrefect = False) -> Code:
    """Run a small simulated night, end to end, with its report.

    Example: nightbeam demo
    """
    from flows.demo import demo_night
    from flows.plans import shipped

    settings = _settings()
    read = demo_night(shipped("demo_night.yaml"))
    result = _night(settings, read, "afresh", as_json, no_prefect)
    unexpected = [target.name for target, outcome in result.outcomes if outcome.state != target.expect]
    if as_json:
        print_json(_facts(result))
    else:
        _table(result)
        print(f"To ask about it: export NIGHTBEAM_HOME={settings.home}; nightbeam show latest")
        if unexpected:
            print(f"not as expected: {', '.join(unexpected)}")
    return Code.FAILED if unexpected else Code.DONE


@command
def run(
    plan: Annotated[Path, typer.Argument(help="Plan file (YAML).")],
    instrument: Instrument = None,
    yes: Yes = False,
    as_json: AsJson = False,
    no_prefect: NoPrefect = False,
    accept_stale: AcceptStale = False,
) -> Code:
    """Run one experiment: check, calibrate, expose, judge, mend, analyse, record.

    Example: nightbeam run plans/demo/1_overview.yaml
    """
    from flows.plan_file import check_plan
    from flows.plans import instrument_of
    from stem4d.plan import Plan
    from storage.documents import load_model

    settings = _settings()
    one = load_model(plan, Plan)
    path = instrument_of(plan, instrument)
    check_plan(settings, one, plan.name, path)
    _ask([one], yes=yes)
    with _instrument(settings, path, as_json, no_prefect) as opened:
        from flows.run import run_plan

        opened.lab.accept_stale = accept_stale
        outcome = run_plan(opened.lab, one, with_prefect=opened.with_prefect)
    report = settings.reports_folder / f"{outcome.runs[-1]}.html"
    if as_json:
        print_json({**outcome.as_dict(), "report": str(report)})
    else:
        print(f"{one.name}: {outcome.state.value}. {outcome.reason}")
        if outcome.lacking:
            print(f"Not calibrated, to measure: {_to_measure(outcome.lacking, plan, instrument)}")
        print(f"Report: {report}")
    return _code({outcome.state.value}, lacking=bool(outcome.lacking))


@command
def night(
    night: Annotated[Path, typer.Argument(help="Night file (YAML).")],
    yes: Yes = False,
    as_json: AsJson = False,
    no_prefect: NoPrefect = False,
    accept_stale: AcceptStale = False,
    go_on: Annotated[bool, typer.Option("--resume", help="Only go on with a night that was broken off.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Start afresh, also where a night was broken off.")] = False,
) -> Code:
    """Run many experiments, unattended; where the last night of this file was broken off, go on with it.

    Example: nightbeam night plans/demo_night.yaml --yes
    """
    from flows.before import last_of_its_name
    from flows.cli.before_text import before_lines
    from flows.night_file import Start, read_night, telling_that_it_never_started
    from stem4d.errors import BadInput

    settings = _settings()
    if go_on and new:
        raise BadInput(field="--resume", value="--new", limit="one of the two", remedy="Leave one of them out")
    start: Start = "afresh" if new else "only_go_on" if go_on else "go_on"
    # Without --yes somebody is there and reads it.
    with telling_that_it_never_started(settings, night.name, aside) if yes else nullcontext():
        read = read_night(settings, night, start)
        before = None if read.left else last_of_its_name(settings, read.facts.name, read.night)
    for line in before_lines(before, read.night, read.queued) if before else ():
        aside(line)
    if left := read.left:
        aside(f"{left.name} of {left.started:%Y-%m-%d %H:%M} UTC goes on (--new starts afresh):")
    for line in order_lines(read.night, read.todo, read.facts.facts, left.started if left else None):
        aside(line)
    _ask([one.plan for one in read.todo], yes=yes)
    # One that was broken off since then goes on too, unless it is wanted afresh.
    result = _night(settings, read, "afresh" if new else "go_on", as_json, no_prefect, accept_stale)
    return _finish(result, night, read.instrument, as_json)


def _settings() -> "Settings":
    from storage.settings import load_settings

    return load_settings()


class _Opened(NamedTuple):
    lab: "Lab"
    with_prefect: bool


@contextmanager
def _instrument(settings: "Settings", file: Path, as_json: bool, no_prefect: bool) -> Iterator[_Opened]:
    """The instrument with its story on the screen; Prefect's server comes up beside it unless it is not wanted.

    What is refused for what the user gave is refused before: server and instrument leave folders in the home.
    """
    from devices.registry import driver_of
    from stem4d.instrument import InstrumentFile
    from storage.documents import load_model

    driver_of(load_model(file, InstrumentFile))
    with_prefect = settings.prefect and not no_prefect
    with ExitStack() as stack:
        gc.disable()  # a twelfth of the imports below is the collector looking at modules that will stay
        stack.callback(gc.enable)
        server = stack.enter_context(_client(settings)) if with_prefect else None
        from flows.cli.screen import screen
        from tasks.lab import open_lab

        lab = stack.enter_context(open_lab(settings, file))
        lab.stand_by()
        if with_prefect:
            import_module("flows.run")  # with Prefect, while its server comes up
        if server is not None:
            if not as_json:
                aside("waiting for Prefect's own server (a few seconds; longer the first time)")
            _meanwhile()
        gc.freeze()
        gc.enable()
        stack.enter_context(screen(lab, quiet=as_json))
        yield _Opened(lab, with_prefect and _shown_to_prefect(lab, server))


@contextmanager
def _client(settings: "Settings") -> Iterator["ApiServer | None"]:
    """Be a client of the server that is there; gives the one that is started, and still on its way, where none is."""
    from flows.api import client_of, named_api, noted_api, start

    with ExitStack() as stack:
        server = None
        there = named_api() if settings.prefect_api == "named" else noted_api(settings.home)
        # That of another command may end before this one does.
        if there is None or not (there.lasting or settings.prefect_api == "named"):
            server = stack.enter_context(start(settings.home))
            there = server.api
        stack.enter_context(client_of(there))
        yield server


def _meanwhile() -> None:
    """What the first run needs and what takes a while, done while a server comes up."""
    from tasks.environment import software_environment

    for name in ("prefect.flow_engine", "prefect.task_engine"):  # a first flow imports them
        import_module(name)
    software_environment()


def _shown_to_prefect(lab: "Lab", server: "ApiServer | None") -> bool:
    """Whether there is a server to show it to; without one everything goes on, and it is told."""
    import os

    from flows.api import ApiUnavailable, answers

    try:
        if server is not None:
            server.ready()
            return True
        url = os.environ["PREFECT_API_URL"]
        if answers(url):
            return True
        why = "the server does not answer"
    except ApiUnavailable as error:
        why = str(error)
    lab.warn("prefect", f"everything goes on without Prefect: {why}")
    return False


def _night(
    settings: "Settings",
    read: "NightFile",
    start: "Start",
    as_json: bool,
    no_prefect: bool,
    accept_stale: bool = False,
) -> "NightResult":
    from flows.night_file import run_read, tell_lost, telling_that_it_never_started

    with ExitStack() as stack:
        with telling_that_it_never_started(settings, read.title, aside):
            opened = stack.enter_context(_instrument(settings, read.instrument, as_json, no_prefect))
            tell_lost(settings, opened.lab, aside)
        return run_read(opened.lab, read, start, with_prefect=opened.with_prefect, accept_stale=accept_stale)


def _ask(plans: "list[Plan]", *, yes: bool) -> None:
    """Say what the beam will do, and ask once."""
    from stem4d.predict import predict

    predictions = [predict(plan) for plan in plans]
    seconds = sum(one.total_time_s for one in predictions)
    gigabytes = sum(one.raw_bytes for one in predictions) / 1e9
    typer.echo(f"{len(plans)} target(s), {seconds:.1f} s of beam, up to {gigabytes:.2f} GB:", err=True)
    for plan, predicted in zip(plans, predictions, strict=True):
        sample = plan.sample
        typer.echo(
            f"  {plan.name}: {predicted.total_fluence_e_per_a2:.3g} e/Å² on area {sample.area} of {sample.name}"
            f" (budget {sample.fluence_budget_e_per_a2:g} e/Å²)",
            err=True,
        )
    confirm("Expose?", yes=yes)


def _finish(result: "NightResult", file: Path, instrument: Path, as_json: bool) -> Code:
    if as_json:
        print_json(_facts(result))
    else:
        _table(result)
        if any(outcome.lacking for _target, outcome in result.outcomes):
            print("Not calibrated, though an analysis needs it; to measure:")
        for target, outcome in result.outcomes:
            if outcome.lacking:
                print(f"  {_to_measure(outcome.lacking, file.parent / target.plan, instrument)}")
    return _code(
        {outcome.state.value for _target, outcome in result.outcomes},
        lacking=any(outcome.lacking for _target, outcome in result.outcomes),
    )


def _to_measure(lacking: tuple[str, ...], plan: Path, instrument: Path | None) -> str:
    """The command that measures what a run had to do without."""
    where = f" --instrument {instrument}" if instrument is not None else ""
    return f"nightbeam calibrate {' '.join(lacking)} --plan {plan}{where}"


def _facts(result: "NightResult") -> dict[str, Any]:
    targets = [{"target": target.name, **outcome.as_dict()} for target, outcome in result.outcomes]
    return {"night": result.name, "targets": targets, "report": str(result.report) if result.report else None}


def _code(states: set[str], *, lacking: bool = False) -> Code:
    if "failed" in states:
        return Code.FAILED
    if states == {"refused"}:
        return Code.REFUSED
    return Code.WARNINGS if lacking or states & {"refused", "skipped", "marked"} else Code.DONE


def _table(result: "NightResult") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Night {result.name}", title_justify="left")
    for heading in ("target", "ended", "as expected", "why"):
        table.add_column(heading, overflow="fold")
    for target, outcome in result.outcomes:
        expected = "" if target.expect is None else "yes" if outcome.state == target.expect else f"no, {target.expect}"
        table.add_row(target.name, outcome.state.value, expected, textwrap.shorten(outcome.reason, 180))
    console = Console()
    console.print(table)
    where = result.report or "it could not be written; see the line above"
    console.print(f"Report: {where}", soft_wrap=True, highlight=False)
