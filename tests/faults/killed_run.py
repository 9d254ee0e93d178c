"""A run in a process of its own that kills itself with SIGKILL at a named moment; started by `test_killed_run`.

Called with the home, the instrument file, the moment, and how many passes the plan has.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import db.dose
import tasks.expose
import tasks.passes
from devices.simulator.remote import RemoteGate, RemoteScan
from storage.settings import Settings
from tasks.lab import open_lab
from tests.flows.dose_world import defocused
from tests.flows.exposure_world import whole_run


def die(*_given: object, **_named: object) -> Any:
    """As kill -9 from outside: nothing of this process runs any more."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying(function: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
    """A function that dies before or after it has done its work."""

    def wrapped(*given: Any, **named: Any) -> Any:
        return die() if before else die(function(*given, **named))

    return wrapped


def _patch(owner: Any, name: str, *, before: bool) -> Callable[[], None]:
    return lambda: setattr(owner, name, dying(getattr(owner, name), before=before))


def _at_frame(frame: int) -> Callable[[], None]:
    def stop_reason(_sum: object, _max: object, done: int) -> str | None:
        return die() if done >= frame else None

    def patch() -> None:
        passes: Any = tasks.passes
        passes.watch = lambda *_plan: stop_reason

    return patch


MOMENTS: dict[str, Callable[[], None]] = {
    "before the booking": _patch(db.dose, "open_intent", before=True),
    "in the booking's transaction": _patch(db.dose, "open_intent", before=False),
    "before the beam is let through": _patch(RemoteGate, "unblank", before=True),
    "with the beam on": _patch(RemoteGate, "unblank", before=False),
    "before the scan": _patch(RemoteScan, "start", before=True),
    "after the scan's start": _patch(RemoteScan, "start", before=False),
    "at frame 1": _at_frame(1),
    "at frame 300": _at_frame(300),
    "before the dose is settled": _patch(tasks.expose, "_settle_dose", before=True),
    "in the settling's transaction": _patch(db.dose, "close_intent", before=False),
    "before the file is registered": _patch(tasks.passes, "register_dataset", before=True),
    "after the first pass": _patch(tasks.passes, "tell_losses", before=True),
}
"""By name: what makes the run die there."""


def main(home: str, instrument: str, moment: str, passes: str, worker: Any) -> None:
    """Run until it dies."""
    MOMENTS[moment]()
    with open_lab(Settings(home=Path(home), worker=worker, prefect=False, disk_reserve_gb=0), Path(instrument)) as lab:
        whole_run(lab, defocused(f"exposure.passes={passes}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
