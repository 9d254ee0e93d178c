"""Closes what crashes left on every instrument of a home, without opening one: bookings, runs, nights, frames."""

import sys
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from db.abandoned import crashed
from db.engine import Engine, reader
from devices.children import Children
from devices.column_log import beam_on
from devices.lease import is_owned, owned
from stem4d.errors import BadInput, NightbeamError
from storage.settings import Settings, instrument_folders
from tasks.left import close_left, save_frames
from tasks.outbox import waiting
from tasks.ownership import owning


@dataclass(frozen=True)
class Closed:
    """What came of one instrument."""

    instrument: str
    lines: tuple[str, ...] = ()
    """What was closed."""
    trouble: str = ""
    """Why it was left alone; empty where it was not."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"instrument": self.instrument, "closed": list(self.lines), "trouble": self.trouble}


def close_instruments(
    settings: Settings, engine: Engine, take_over: str | None, *, free_only: bool = False
) -> tuple[Closed, ...]:
    """Each instrument that nobody holds; ``take_over`` names one whose owner a person has seen to be gone.

    ``free_only`` leaves out those that somebody holds, without a word.

    Raises
    ------
    BadInput
        Where nothing is known of the instrument to take over, or what they lie in is no folder.
    """
    folders = {folder.name: folder for folder in instrument_folders(settings)}
    if take_over is not None and take_over not in folders:
        known = ", ".join(folders) or "none"
        raise BadInput(field="instrument", value=take_over, limit=f"was never used here; known are: {known}")
    return tuple(
        _closed(settings, engine, folder, take_over == name)
        for name, folder in folders.items()
        if not (free_only and is_owned(folder))
    )


def _closed(settings: Settings, engine: Engine, folder: Path, by_force: bool) -> Closed:
    name = folder.name
    try:
        if records := waiting(folder):
            # They may say how what looks left open has ended.
            return Closed(name, trouble=f"{records} records of it wait for the database")
        with owned(name, folder), owning(engine, name, _say, by_force=by_force) as owner:
            ended = Children(folder).end_leftovers()
            on = beam_on(folder)
            if on is not None:
                remedy = f"Blank it and close what it belongs to: `nightbeam recover -i {name}.toml`"
                return Closed(name, ended, f"its beam is ON, {on}, as its log has it. {remedy}")
            left = close_left(engine, settings, name, owner.token)
            with reader(engine) as session:
                runs = crashed(session, instrument=name)
            return Closed(name, (*ended, *save_frames(engine, settings, left, runs, within_s=inf).lines))
    except NightbeamError as error:
        return Closed(name, trouble=str(error))


def _say(trouble: str) -> None:
    print(f"not closed: {trouble}", file=sys.stderr)
