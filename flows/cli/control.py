"""Commands to a night that runs: status, pause, resume, skip, stop."""

import getpass
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.answer import AsJson, Code, command, print_json

if TYPE_CHECKING:
    from storage.orders import Kind

OnInstrument = Annotated[
    str | None,
    typer.Option("--instrument", "-i", help="Name of the instrument; where absent the one on which a night runs."),
]
Wait = Annotated[float, typer.Option("--wait", help="How long to wait for the answer [s].", min=0, max=3600)]
LOOK_S = 0.05


@command
def status(instrument: OnInstrument = None, as_json: AsJson = False) -> Code:
    """Say how the night that runs stands, without disturbing it.

    Example: nightbeam status
    """
    from flows.running import idle, in_one_line, running, standing
    from storage.settings import load_settings

    settings = load_settings()
    nothing = idle(settings, instrument)
    facts = nothing or standing(settings, running(settings, instrument))
    if as_json:
        print_json(facts)
    else:
        print(facts["words"] if nothing else in_one_line(facts))
    return Code.DONE


@command
def pause(instrument: OnInstrument = None, wait: Wait = 5.0, as_json: AsJson = False) -> Code:
    """Pause the night after the pass that runs, beam blanked.

    Example: nightbeam pause
    """
    return _order("pause", instrument, wait, as_json)


@command
def resume(instrument: OnInstrument = None, wait: Wait = 5.0, as_json: AsJson = False) -> Code:
    """Let a paused night go on.

    Example: nightbeam resume
    """
    return _order("resume", instrument, wait, as_json)


@command
def skip(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Name of the target, as the night's file has it.")],
    instrument: OnInstrument = None,
    wait: Wait = 5.0,
    as_json: AsJson = False,
) -> Code:
    """Skip a target, the one that runs after its pass.

    Example: nightbeam skip flake-3
    """
    return _order("skip", instrument, wait, as_json, target)


@command
def stop(
    now: Annotated[bool, typer.Option("--now", help="In the middle of the pass; its whole rows are kept.")] = False,
    instrument: OnInstrument = None,
    wait: Wait = 5.0,
    as_json: AsJson = False,
) -> Code:
    """Stop the night after the pass that runs; `nightbeam night FILE` goes on with the rest.

    Example: nightbeam stop
    """
    return _order("stop_now" if now else "stop", instrument, wait, as_json)


def _order(kind: "Kind", instrument: str | None, wait_s: float, as_json: bool, target: str | None = None) -> Code:
    """Leave an order and wait for what becomes of it."""
    from flows.running import running
    from storage import orders
    from storage.settings import load_settings

    night = running(load_settings(), instrument)
    order = orders.ask(night.folder, kind, target=target, by=f"{_user()}, process {os.getpid()}")
    deadline = time.monotonic() + wait_s
    while (answer := orders.answer_to(night.folder, order)) is None and time.monotonic() < deadline:
        time.sleep(LOOK_S)
    if answer is None:
        words = "not answered yet: it is read with the next frames, or before the next pass or target"
        _tell(as_json, {"order": order.id, "answered": False, "words": words})
        return Code.WARNINGS
    _tell(as_json, {"order": order.id, "answered": True, "ok": answer.ok, "words": answer.words})
    return Code.DONE if answer.ok else Code.REFUSED


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # one without a name, as in a container
        return f"user {os.getuid()}"


def _tell(as_json: bool, facts: dict[str, object]) -> None:
    if as_json:
        print_json(facts)
    else:
        print(facts["words"])
