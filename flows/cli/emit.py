"""The command that tells Prefect of something that happened at an instrument: emit."""

from typing import Annotated

import typer

from flows.cli.answer import AsJson, Code, command, print_json


@command
def emit(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="sample.loaded, beam.ready or file.written.")],
    instrument: Annotated[str, typer.Option("--instrument", "-i", help="Name of the instrument.")],
    payload: Annotated[
        list[str] | None, typer.Option("--payload", help="A fact that goes with it, as NAME=TEXT; repeatable.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="What makes it this event; told again with it, it is the same."),
    ] = None,
    as_json: AsJson = False,
) -> Code:
    """Tell Prefect that a sample was loaded, the beam is ready or a file was written (docs/triggers.md).

    Example: nightbeam emit sample.loaded -i demo-stem --payload sample=gold-on-carbon
    """
    from flows.reached import reached
    from storage.settings import load_settings

    with reached(load_settings().home):
        from flows.emit import emit as tell

        told = tell(event, instrument, tuple(payload or ()), key)
    if as_json:
        print_json(told)
    else:
        print(f"{told['event']} of {instrument}, event {told['id']}")
    return Code.DONE
