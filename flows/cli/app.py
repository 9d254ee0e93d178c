"""The command line: which commands there are. Each file beside this one holds a group of them."""

from typing import Annotated

import typer

from flows.cli import (
    acquire,
    analyse,
    ask,
    calibrate,
    control,
    database,
    doctor,
    emit,
    export,
    files,
    history,
    look,
    plan,
    reconcile,
    serve,
    simulate,
    watch,
)

app = typer.Typer(
    name="nightbeam",
    no_args_is_help=True,
    invoke_without_command=True,
    rich_markup_mode=None,  # plain help answers in half the time
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Say which nightbeam this is.", is_eager=True)] = False,
) -> None:
    """Unattended 4D-STEM: checks the plan, calibrates, acquires, judges, mends, analyses and records."""
    if version:
        from importlib.metadata import version as installed

        print(f"nightbeam {installed('nightbeam')}")
        raise typer.Exit


plans = typer.Typer(help="Check, show and suggest plans.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(plans, name="plan")
databases = typer.Typer(
    help="Look at and upgrade the provenance database.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(databases, name="db")
simulations = typer.Typer(
    help="Run devices that are not there, for trials of clients.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(simulations, name="simulate")


@simulations.callback()
def simulated() -> None:
    """Run devices that are not there, for trials of clients."""


simulations.command("simplon")(simulate.simplon)

app.command("demo")(acquire.demo)
plans.command("check")(plan.check)
plans.command("show")(plan.show)
plans.command("suggest")(plan.suggest)
plans.command("rules")(plan.rules)
app.command("run")(acquire.run)
app.command("night")(acquire.night)
app.command("status")(control.status)
app.command("pause")(control.pause)
app.command("resume")(control.resume)
app.command("skip")(control.skip)
app.command("stop")(control.stop)
app.command("calibrate")(calibrate.calibrate)
app.command("inspect")(look.inspect)
app.command("analyse")(analyse.analyse)
app.command("runs")(history.runs)
app.command("nights")(history.nights)
app.command("show")(history.show)
app.command("affected")(history.affected)
app.command("diff")(ask.diff)
app.command("lineage")(ask.lineage)
app.command("search")(ask.search)
app.command("dose")(ask.dose)
app.command("why")(ask.why)
app.command("cost")(ask.cost)
app.command("software")(ask.software)
app.command("export")(export.export)
app.command("verify-crate")(export.verify_crate)
app.command("serve")(serve.serve)
app.command("reconcile")(reconcile.reconcile)
app.command("end-flows")(reconcile.end_flows)
app.command("watch")(watch.watch)
app.command("emit")(emit.emit)
app.command("verify")(files.verify)
app.command("recover")(files.recover)
app.command("doctor")(doctor.doctor)
databases.command("status")(database.status)
databases.command("upgrade")(database.upgrade)
