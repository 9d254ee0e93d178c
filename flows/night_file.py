"""A night from its file to its end, whoever asks for it: a person at the command line, or a deployment."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from db.resume import NightLeft
from flows.before import broken_off, recorded_calibration, refuse_resume, registered_budget
from flows.notify import tell_people
from flows.queue import Queued, queue
from stem4d.errors import NightbeamError
from stem4d.instrument import InstrumentFile
from stem4d.night import Night
from storage.documents import load_model
from storage.settings import Settings

if TYPE_CHECKING:
    # Prefect comes with it, and its server is started first.
    from flows.night import NightResult
    from tasks.lab import Lab

Start = Literal["go_on", "only_go_on", "afresh"]
"""Whether a night that was broken off goes on: where there is one, or else nothing is run, or never."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class NightFile:
    """A night's file and all that it names, read and valid."""

    path: Path
    night: Night
    queued: tuple[Queued, ...]
    instrument: Path
    facts: InstrumentFile
    left: NightLeft | None = None
    """The same night, where it was broken off and is to go on."""

    @property
    def title(self) -> str:
        """What people call it."""
        return self.night.title or self.night.name

    @property
    def todo(self) -> tuple[Queued, ...]:
        """The targets that are to be run."""
        if self.left is None:
            return self.queued
        still = {one.name for one in self.left.targets if one.open}
        return tuple(one for one in self.queued if one.target.name in still)


def read_night(settings: Settings, path: Path, start: Start) -> NightFile:
    """Read a night, and hold it against its instrument and the record; nothing is started.

    Raises
    ------
    BadInput
        Naming everything that is wrong; also where it is only to go on and there is nothing to go on with.
    """
    night, queued = queue(
        path,
        goes_on=lambda name, night, queued: start != "afresh" and broken_off(settings, name, night, queued) is not None,
        has=lambda file, plan, kind: recorded_calibration(settings, file, plan, kind),
        registered=partial(registered_budget, settings),
    )
    instrument = path.parent / night.instrument
    facts = load_model(instrument, InstrumentFile)
    left = None if start == "afresh" else broken_off(settings, facts.name, night, queued)
    if start == "only_go_on" and left is None:
        raise refuse_resume(night)
    return NightFile(path, night, queued, instrument, facts, left)


def run_read(
    opened: "Lab",
    read: NightFile,
    start: Start,
    *,
    with_prefect: bool,
    accept_stale: bool,
    on_named: Say = lambda _name: None,
) -> "NightResult":
    """Run a night with its instrument in hand; ``on_named`` is told its name before its first target."""
    from flows.night import run_night
    from flows.resume import left_of

    opened.accept_stale = accept_stale
    # Looked up again: what a process that died had left open is closed by now.
    left = None if start == "afresh" else left_of(opened, read.night, read.queued)
    return run_night(opened, read.night, read.queued, with_prefect=with_prefect, left=left, on_named=on_named)


@contextmanager
def telling_that_it_never_started(settings: Settings, night: str, say: Say) -> Iterator[None]:
    """Within the block what goes wrong is a night that did not start, and people are told."""
    try:
        yield
    except NightbeamError as error:
        title = f"nightbeam, {night}"
        if trouble := tell_people(settings, "not_started", title, f"the night did not start: {error}"):
            say(f"no message: {trouble}")
        raise


def tell_lost(settings: Settings, opened: "Lab", say: Say) -> None:
    """Say of nights whose process died that they were lost; none of them could say it."""
    if lost := [name for name in opened.left_open if name.startswith("n")]:
        words = f"{', '.join(lost)} was lost: the process that ran it died. `nightbeam show {lost[-1]}` tells of it"
        if trouble := tell_people(settings, "lost", "nightbeam, a night was lost", words):
            say(f"no message: {trouble}")
