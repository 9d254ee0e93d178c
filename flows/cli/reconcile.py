"""The command that brings Prefect's picture in line with the record: reconcile."""

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
