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
from storage.processes import ProcessMark, children_of, end, lives
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
    held = tuple(workers)
    for worker in held:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGSTOP)
    running = _running(settings, held, say)
    for process, name in running.items():
        say(f"ending {name}")
        end(process, signal.SIGTERM)
    waited = threading.Event()
    for _ in range(int(within_s / LOOK_S)):
        if not any(map(lives, running)):
            return True
        waited.wait(LOOK_S)
    late = [name for process, name in running.items() if end(process, signal.SIGKILL)]
    for name in late:
        say(f"{name} did not end in {within_s:g} s and is killed; its watchdog makes its instrument safe")
    return not late


def _running(settings: Settings, workers: Iterable[int], say: Say) -> dict[ProcessMark, str]:
    """Flows by their processes: what a worker has just begun is in no record yet, and its worker may have died."""
    begun = {one: "a flow that begins" for worker in workers for one in children_of(worker)}
    try:
        with recorded_database(settings) as engine, reader(engine) as session:
            recorded = [one for one in launches.running(session) if lives(one.process)]
    except NightbeamError as error:
        say(f"only flows of workers are found: {error}")
        return dict.fromkeys(begun, "a flow")
    return begun | {one.process: f"{one.flow} {one.name or ''}".rstrip() for one in recorded}
