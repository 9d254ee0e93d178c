"""Commands around a worker of Prefect: reconcile before its start, end-flows before its end."""

from typing import Annotated

import typer

from flows.cli.answer import AsJson, Code, command, print_json


@command
def reconcile(
    go_on: Annotated[
        bool, typer.Option("--resume", help="Schedule again the nights that were lost and have time left.")
    ] = False,
    as_json: AsJson = False,
) -> Code:
    """Close what processes that died left open, and show Prefect how its flow runs really ended.

    The server is the one that PREFECT_API_URL names, else that of `nightbeam serve` on this home. Exits with 0, with 3
    where Prefect could not be asked.

    Example: nightbeam reconcile --resume
    """
    from contextlib import ExitStack, suppress

    from flows.reached import NoApi, reached
    from storage.settings import load_settings

    settings = load_settings()
    with ExitStack() as stack:
        with suppress(NoApi):  # the record is put right all the same
            stack.enter_context(reached(settings.home))
        from flows.reconcile import reconcile as put_right

        found = put_right(settings, take_up_lost=go_on)
    if as_json:
        print_json(found.as_dict())
    else:
        for line in found.lines or ["nothing had to be put right"]:
            print(line)
        if found.away:
            typer.echo(found.away, err=True)
    return Code.WARNINGS if found.away else Code.DONE


@command
def end_flows(
    worker: Annotated[
        list[int] | None, typer.Option(help="Process of a worker, which is to take up nothing meanwhile; repeatable.")
    ] = None,
) -> Code:
    """End the flows of this machine with their instruments safe; they are taken up again at the next start.

    A worker of Prefect that is told to end kills its flow on the spot: this comes before, as ExecStop of its service.
    A worker that is named stands still from then on (SIGSTOP). Exits with 3 where a flow had to be killed.

    Example: nightbeam end-flows --worker $MAINPID
    """
    from flows.serving.end_flows import end_flows as end_all
    from storage.settings import load_settings

    return Code.DONE if end_all(load_settings(), worker or (), print) else Code.WARNINGS
