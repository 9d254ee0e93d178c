"""Flows of this machine are ended before their workers: a worker that is told to end kills its flow on the spot."""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

from db import launches
from db.engine import reader
from flows.recorded import recorded_database
from stem4d.errors import NightbeamError
from storage.processes import end, lives
from storage.settings import Settings

WITHIN_S = 60.0
"""How long flows that run may take to make their instruments safe and to close their record [s]."""
LOOK_S = 0.2
Say = Callable[[str], None]


def end_flows(settings: Settings, workers: Iterable[int], say: Say, within_s: float = WITHIN_S) -> bool:
    """Let the flows of this machine end with their instruments safe; they are taken up again at the next start.

    Parameters
    ----------
    workers : iterable of int
        Processes that start flows. They are stopped first (SIGSTOP), and stay so: they would take up the next flow that
        waits. Whoever calls ends them.

    Returns
    -------
    bool
        Whether all ended in time; one that did not is killed, and its watchdog makes its instrument safe.
    """
    for worker in workers:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGSTOP)
    try:
        with recorded_database(settings) as engine, reader(engine) as session:
            running = [one for one in launches.running(session) if lives(one.process)]
    except NightbeamError as error:
        say(f"flows that run were not found: {error}")
        return False
    for one in running:
        say(f"ending {one.flow} {one.name or ''}".rstrip())
        end(one.process, signal.SIGTERM)
    waited = threading.Event()
    for _ in range(int(within_s / LOOK_S)):
        if not any(lives(one.process) for one in running):
            return True
        waited.wait(LOOK_S)
    late = [one for one in running if end(one.process, signal.SIGKILL)]
    for one in late:
        say(f"{one.flow} {one.name or ''} did not end in {within_s:g} s and is killed; its watchdog makes it safe")
    return not late
