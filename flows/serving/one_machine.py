"""One machine in production: Prefect's server, deployments, a worker for each pool, and what puts things right."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from devices.lease import owned
from flows.api import ApiServer, client_of, start
from flows.serving.deployments import PREFECT, Deployments, deploy
from flows.serving.end_flows import end_flows
from flows.serving.kept_up import KeptUp
from stem4d.errors import NightbeamError
from storage.settings import Settings

TIDY_EVERY_S = 60.0
THREADS_END_WITHIN_S = 60.0
WORKERS_ENVIRONMENT = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",  # 10 by default: a trigger would wait for it
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
}
Say = Callable[[str], None]


@contextmanager
def production(settings: Settings, found: Deployments, port: int, say: Say) -> Iterator[None]:
    """Everything that starts nights by itself, for the length of the block; flows that run are ended safely with it.

    Of a `serve` that is killed nobody is left to end them in order: watchdogs blank, and the next `serve` closes them
    and goes on.
    """
    with ExitStack() as stack:
        stack.enter_context(owned("nightbeam serve", settings.home / "prefect" / "serving"))
        server = stack.enter_context(start(settings.home, lasting=True, port=port))
        stack.enter_context(client_of(server))
        say("waiting for Prefect's server (a few seconds; longer the first time)")
        api = server.ready()
        say(f"Prefect answers at {api.url.removesuffix('/api')}; its password is in {settings.home}/prefect/api.json")
        for name in deploy(found):
            say(f"{name} is deployed and not in {found.path.name}: it is paused")
        say(f"deployed as {found.path.name} has it (switches set in Prefect are put back): {', '.join(found.names)}")
        # Before a worker takes up anything: what was lost is closed, and goes on.
        _tidy(settings, say)
        stopping = threading.Event()
        tidying = threading.Thread(
            target=_tidy_always, args=(settings, server, say, stopping), name="tidy", daemon=True
        )
        tidying.start()
        watching = threading.Thread(target=_watch, args=(settings, say, stopping), name="watch", daemon=True)
        watching.start()
        workers = tuple(_worker(settings, pool, found, say) for pool in found.pools)
        try:
            yield
        finally:
            stopping.set()
            held = [worker.hold() for worker in workers]
            end_flows(settings, [pid for pid in held if pid is not None], say)
            for worker in workers:
                worker.stop()
            tidying.join(THREADS_END_WITHIN_S)
            watching.join(THREADS_END_WITHIN_S)


def _worker(settings: Settings, pool: str, found: Deployments, say: Say) -> KeptUp:
    name = f"{os.uname().nodename}-{pool}"
    command = [*PREFECT, "worker", "start", "--pool", pool, "--type", "process", "--limit", "1", "--name", name]
    log, folder = settings.home / "logs" / f"worker-{pool}.log", found.path.resolve().parent
    own = WORKERS_ENVIRONMENT | {"NIGHTBEAM_HOME": str(settings.home), "NIGHTBEAM_PLANS": str(folder)}
    return KeptUp(f"worker of {pool}", command, log, folder, say, own)


def _watch(settings: Settings, say: Say, stopping: threading.Event) -> None:
    if settings.watch:
        from flows.watching import watch

        watch(settings, stopping, tell=say)


def _tidy_always(settings: Settings, server: ApiServer, say: Say, stopping: threading.Event) -> None:
    while not stopping.wait(TIDY_EVERY_S):
        try:
            if server.revive():
                say(f"Prefect's server had ended, and is started again; see {server.log}")
                continue  # it comes up until the next time
        except (NightbeamError, OSError) as error:
            say(f"Prefect's server has ended and cannot be started: {error}")
        _tidy(settings, say)


def _tidy(settings: Settings, say: Say) -> None:
    from flows.reconcile import reconcile

    try:
        found = reconcile(settings, take_up_lost=True)
    except Exception as error:  # noqa: BLE001 - whatever a disk or Prefect's client says, it is tried again
        say(f"not tidied: {error if isinstance(error, NightbeamError) else repr(error)}")
        return
    for line in found.lines:
        say(line)
    if found.away:
        say(found.away)
