"""Commands that look after data files: verify, recover."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.answer import AsJson, Code, command, print_json

if TYPE_CHECKING:
    from flows.recover import Outcome
    from flows.verify import Checked
    from storage.settings import Settings

_FILES = "Files of frames, folders with such files, or names of runs."


@command
def verify(files: Annotated[list[str], typer.Argument(help=_FILES)], as_json: AsJson = False) -> Code:
    """Compare every frame of nightbeam's files with its checksum, and each file with what was recorded of it.

    Exits with 0 where all are sound, with 3 where one is not, with 2 where one cannot be verified.

    Example: nightbeam verify r20261122-204139-7f3a pass1.h5
    """
    from flows.cli.files_text import print_checked
    from flows.files import CLOSED, UNCLOSED, asked_for, database
    from flows.verify import check_files
    from storage.settings import load_settings

    settings, done = load_settings(), []
    with database(settings) as known, _reading() as on_bytes:
        asked = asked_for(settings, known, files, (CLOSED, UNCLOSED))
        for one in check_files(known, asked, on_bytes):
            done.append(one)
            if not as_json:
                print_checked(one)
    return _verified(done, known.away, as_json)


def _verified(done: "list[Checked]", away: str, as_json: bool) -> Code:
    unsound = sum(not one.sound and not one.refused for one in done)
    refused = sum(one.refused is not None and one.named for one in done)
    if as_json:
        print_json({"files": [one.as_dict() for one in done], "unsound": unsound, "refused": refused, "away": away})
    else:
        print(f"{len(done)} file(s), {unsound} not sound" + (f", {refused} not verified" if refused else ""))
        if away:
            print(f"the database was not asked: {away}", file=sys.stderr)
    if unsound:
        return Code.WARNINGS
    return Code.REFUSED if refused else Code.DONE


@command
def recover(
    files: Annotated[list[str] | None, typer.Argument(help=f"{_FILES} Without any: all that crashes left.")] = None,
    instrument: Annotated[
        Path | None, typer.Option("--instrument", "-i", help="Instrument file: make it safe, and close what was left.")
    ] = None,
    take_over: Annotated[
        str | None, typer.Option(help="Name of an instrument whose owner you have seen to be gone.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder for the new files: on another disk, say. Else beside the old ones.")
    ] = None,
    as_json: AsJson = False,
) -> Code:
    """Save the frames of files that a crash, a full disk or damage left; the old files stay as they are.

    Records that wait for the database land first. Of folders and runs it takes the .partial files. Without any files it
    closes what crashes left on every instrument that nobody holds: runs, nights, bookings of dose, frames. Exits with 0
    where all that was flushed was saved and all that waited has landed, with 3 where frames are lost or an instrument
    was left alone, with 2 where a file is refused, with 1 on a full disk.

    Example: nightbeam recover pass1.h5.partial
    """
    from flows.cli.files_text import print_outcome
    from flows.files import UNCLOSED, asked_for, database
    from flows.outboxes import land_outboxes
    from flows.recover import recover_files
    from storage.settings import load_settings

    settings, done = load_settings(), []
    if not files:
        return _close(settings, instrument, take_over, as_json)
    with database(settings) as known, _reading() as on_bytes:
        outboxes = land_outboxes(settings, known)
        if not as_json:
            for box in outboxes:
                print(f"{box.instrument}: {box.words}")
        asked = asked_for(settings, known, files, (UNCLOSED,))
        for one in recover_files(settings, known, asked, to, on_bytes):
            done.append(one)
            if not as_json:
                print_outcome(one)
    if as_json:
        print_json({"files": [one.as_dict() for one in done], "outboxes": [box.as_dict() for box in outboxes]})
    elif not done and not outboxes:
        print("nothing to recover: no .partial file there")
    code = _recovered(done)
    return Code.WARNINGS if code is Code.DONE and not all(box.whole for box in outboxes) else code


def _close(settings: "Settings", instrument: Path | None, take_over: str | None, as_json: bool) -> Code:
    """Close what crashes left: on one instrument, which is made safe first, or on all, as their logs have it."""
    from flows.files import database
    from flows.left import Closed, close_instruments
    from flows.outboxes import land_outboxes
    from flows.recorded import recorded_database

    with database(settings) as known:
        outboxes = land_outboxes(settings, known)
    if instrument is not None:
        from tasks.lab import open_lab

        with open_lab(settings, instrument, by_force=take_over is not None) as opened:
            beam = (opened.beam_found,) if opened.beam_found else ()
            closed: tuple[Closed, ...] = (Closed(opened.file.name, (*beam, *opened.left_words)),)
    else:
        with recorded_database(settings) as engine:
            closed = close_instruments(settings, engine, take_over)
    if as_json:
        print_json({"instruments": [one.as_dict() for one in closed], "outboxes": [box.as_dict() for box in outboxes]})
    else:
        for box in outboxes:
            print(f"{box.instrument}: {box.words}")
        for one in closed:
            for line in one.lines or (() if one.trouble else ("nothing was left open",)):
                print(f"{one.instrument}: {line}")
            if one.trouble:
                print(f"{one.instrument}: left alone: {one.trouble}")
    whole = all(box.whole for box in outboxes) and not any(one.trouble for one in closed)
    return Code.DONE if whole else Code.WARNINGS


def _recovered(done: "list[Outcome]") -> Code:
    states = {one.state for one in done}
    if "failed" in states:
        return Code.FAILED
    if "refused" in states:
        return Code.REFUSED
    return Code.DONE if all(one.whole for one in done) else Code.WARNINGS


@contextmanager
def _reading() -> Iterator[Callable[[Path, int], None]]:
    """A bar of the bytes read of the file at hand, where somebody looks at a screen."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bars: dict[Path, Any] = {}

        def on_bytes(path: Path, read: int) -> None:
            if path not in bars:
                for old in bars.values():
                    progress.remove_task(old)
                bars.clear()
                bars[path] = progress.add_task(path.name, total=path.stat().st_size)
            progress.update(bars[path], completed=read)

        yield on_bytes
