"""An instrument in the hand of a deployed flow: waited for where somebody else has it, never in its maintenance."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from db.clock import utc_now
from db.engine import Engine, reader
from db.lease import owners
from devices.lease import is_owned, owner_pid
from flows.deployed.taken_up import Say, TakenUp
from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFile
from stem4d.maintenance import under_maintenance
from storage.documents import load_model
from storage.processes import lives
from storage.settings import Settings
from tasks.lab import Lab, open_lab

Minutes = Annotated[float, Field(ge=0, le=1440)]
"""How long an instrument is waited for; a day at most."""
LOOK_S = 2.0
"""How often it is looked whether an instrument is free [s]."""


@contextmanager
def in_hand(begun: TakenUp, file: Path, wait_min: float) -> Iterator[Lab]:
    """The instrument of a file, opened for the length of the block.

    Raises
    ------
    BadInput
        In a window of its maintenance, or where somebody else has it for longer than is waited; who.
    """
    name = load_model(file, InstrumentFile).name
    refuse_maintenance(begun.settings, name)
    wait_until_free(begun.settings, begun.engine, name, wait_min, begun.say)
    refuse_maintenance(begun.settings, name)
    with open_lab(begun.settings, file) as opened:
        yield opened


def refuse_maintenance(settings: Settings, instrument: str, now: Callable[[], datetime] = utc_now) -> None:
    """Raise `BadInput` in a window of maintenance: whose, and until when."""
    if found := under_maintenance(settings.maintenance, instrument, now()):
        window, ends = found
        raise BadInput(
            field="instrument",
            value=instrument,
            limit=f"is not to be used: {window.reason} until {ends:%Y-%m-%d %H:%M %Z}",
            remedy="Start it after that, or change the setting maintenance",
        )


def wait_until_free(
    settings: Settings,
    engine: Engine,
    instrument: str,
    wait_min: float,
    say: Say,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until nobody holds an instrument, for so long at most; who holds it then is told when it is opened."""
    begun_s, told = clock(), ""
    while holder := _holder(settings, engine, instrument):
        if clock() - begun_s >= 60 * wait_min:
            return
        if holder != told:
            told = holder
            say(f"waits for {instrument}: {holder}")
        sleep(LOOK_S)


def _holder(settings: Settings, engine: Engine, instrument: str) -> str:
    """Who holds an instrument, on this host or another; empty where nobody does."""
    folder = settings.instruments_folder / instrument
    if is_owned(folder):
        return f"held by process {owner_pid(folder)} of this host"
    with reader(engine) as session:
        found = (one for one in owners(session) if one.instrument == instrument and not one.expired)
        # One whose process died on this host is followed at once.
        return next((f"held by {one.words}" for one in found if lives(one.process) is not False), "")
