"""How every command answers: errors without tracebacks, JSON where asked, and the exit codes."""

import functools
import json
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

from devices.interrupts import listen
from stem4d.errors import BadInput, DoseRefused, LimitViolation, NightbeamError
from stem4d.names import plainly

P = ParamSpec("P")

AsJson = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
Instrument = Annotated[
    Path | None,
    typer.Option(
        "--instrument",
        "-i",
        help="Instrument file (TOML); where absent instruments/NAME.toml beside plan NAME.yaml, else the simulator.",
    ),
]


class Code(IntEnum):
    """Exit codes; 130 and 143 are Ctrl+C and SIGTERM with the instrument parked: where parking fails it is 1."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    WARNINGS = 3
    INTERRUPTED = 130
    TERMINATED = 143


class Terminated(BaseException):
    """SIGTERM, raised where the program stands so that every scope closes as it does on Ctrl+C."""


def command(function: Callable[P, Code]) -> Callable[P, None]:
    """Make a function that returns an exit code into a command; a user's mistake is one message, no traceback."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        listen(interrupted=KeyboardInterrupt, terminated=Terminated)
        as_json = bool(kwargs.get("as_json"))
        try:
            code = function(*args, **kwargs)
        except (BadInput, LimitViolation, DoseRefused) as error:
            code = _complain(error, as_json, Code.REFUSED)
        except NightbeamError as error:
            code = _complain(error, as_json, Code.FAILED)
        except KeyboardInterrupt:
            code = _say("interrupted", Code.INTERRUPTED)
        except Terminated:
            code = _say("terminated", Code.TERMINATED)
        except BrokenPipeError:
            sys.stdout = None  # nobody reads any more: no second error on flushing
            code = Code.DONE
        except OSError as error:
            if error.filename is None:
                raise
            from storage.home import unusable

            code = _complain(unusable(error), as_json, Code.REFUSED)
        raise typer.Exit(int(code))

    return wrapped


def _complain(error: NightbeamError, as_json: bool, code: Code) -> Code:
    if as_json:
        facts = error.as_dict() if isinstance(error, BadInput) else {}
        print_json({"error": str(error), **facts})
    return _say(f"{'refused' if code is Code.REFUSED else 'failed'}: {error}", code)


def _say(text: str, code: Code) -> Code:
    # Line by line: several problems are one each, and no device's words move the cursor.
    print("\n".join(map(plainly, text.split("\n"))), file=sys.stderr)
    return code


def aside(line: str) -> None:
    """Say something that is none of the facts asked for."""
    typer.echo(line, err=True)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before the beam is used; leaves with REFUSED where the answer is no.

    Raises
    ------
    BadInput
        Where nobody is there to answer.
    """
    if yes:
        return
    try:
        agreed = typer.confirm(question, default=False, err=True)
    except typer.Abort:
        if sys.stdin.isatty():
            raise KeyboardInterrupt from None
        print(file=sys.stderr)
        raise BadInput(
            field="answer", value="nothing", limit="there is no terminal to ask at", remedy="Add --yes"
        ) from None
    if not agreed:
        raise typer.Exit(int(Code.REFUSED))


def print_json(facts: Any) -> None:
    """Facts as JSON on standard output; refuses NaN, which is not JSON."""
    text = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False, default=str)
    # Half a character, as of a path that is no UTF-8, has to be its code; what JSON leaves open may not ring or colour.
    print("".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text))
