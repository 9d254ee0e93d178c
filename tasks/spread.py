"""Has the row ranges of an analysis done on a Dask cluster: plain calls by path, from the package installed there."""

from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from stem4d.analyse.method import NotPossible, Parts
from stem4d.errors import BadInput
from storage.mark import mark_of
from storage.settings import Settings
from tasks.cluster import ANSWER_S, ClusterFailed, Watch, connected
from tasks.parts import Everywhere, Job, Ranges
from tasks.there import Answer, Asked, Unfit, installed, part_there

RETRIES = 3
"""Of a range in which a worker met an error of its machine. How often workers may die of it, the scheduler counts."""
LOOK_S = 2.0
LARGE_BYTES = "1GB"
"""Descan of a large scan is some 100 MB, and told to the cluster once: nothing to be warned of."""


def cluster_of(settings: Settings) -> Everywhere | None:
    """Ranges done by the cluster that the setting ``dask_address`` names; None where none is named: they are done here.

    It is connected to when there is something to do. What comes back raises ``ClusterFailed`` where the cluster is
    away, dies, hangs or is unfit, and where Dask or a certificate is missing.
    """
    if settings.dask_address is None:
        return None

    def everywhere(job: Job, prepared: Parts, ranges: Ranges) -> list[Parts]:
        with connected(settings) as client:
            return spread(client, str(settings.dask_address), job, prepared, ranges)

    return everywhere


def spread(
    client: Any, address: str, job: Job, prepared: Parts, ranges: Ranges, on_done: Callable[[], None] | None = None
) -> list[Parts]:
    """Parts of all ranges in order, by the workers of a client's cluster."""
    import dask.config

    # A worker has another working folder than whoever named the file.
    job = replace(job, path=str(Path(job.path).absolute()))
    asked = Asked(installed(), mark_of(Path(job.path)), job, dict(prepared))
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": LARGE_BYTES}):
        # A task, and not scattered data: what a worker takes with it when it dies is then made again.
        told = client.submit(_as_it_is, asked, pure=False, retries=RETRIES)
        # All at once: of tasks that come one by one Dask gives the first few to the worker that has what they are told.
        begins, ends = zip(*ranges, strict=True)
        futures = client.map(part_there, [told] * len(ranges), begins, ends, pure=False, retries=RETRIES)
    finished: SimpleQueue[Any] = SimpleQueue()
    for future in futures:
        future.add_done_callback(finished.put)
    place = {future.key: number for number, future in enumerate(futures)}
    done: list[Parts] = [{}] * len(futures)
    watch = Watch(client, address)
    while place:
        try:
            future = finished.get(timeout=LOOK_S)
        except Empty:
            watch.look()
            continue
        try:
            answer = _answer(future, address)
        except TimeoutError:
            # Its worker died before the result was fetched: it is made again, or the watch gives up.
            finished.put(future)
            watch.look()
            continue
        number = place[future.key]
        done[number] = answer
        del place[future.key]
        futures[number] = None  # what the worker holds of it may go
        watch.done()
        if on_done:
            on_done()
    return done


def _as_it_is(asked: Asked) -> Asked:
    return asked


def _answer(future: Any, address: str) -> Parts:
    if future.status == "error":
        raise _told(future.exception(timeout=ANSWER_S))
    try:
        answer: Answer = future.result(timeout=ANSWER_S)
    except CancelledError:
        raise ClusterFailed(
            f"the connection to the Dask scheduler at {address} was lost, and the ranges with it"
        ) from None
    if isinstance(answer, Unfit):
        raise ClusterFailed(answer.words)
    if isinstance(answer, BadInput | NotPossible):
        raise answer
    return answer


def _told(error: BaseException) -> BaseException:
    """An error of a task in words, where it is the cluster's and not ours."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        words = f"{error.allowed_failures + 1} workers of the Dask cluster died of the same range of rows"
        remedy = "Look into its log; too little memory is the usual cause"
        return ClusterFailed(f"{words}, the last one at {error.last_worker.address}. {remedy}")
    if isinstance(error, ImportError | AttributeError) or "deserialization of the task graph" in str(error):
        words = "the Dask scheduler or a worker of it cannot load the analysis"
        remedy = f"Install nightbeam {installed()} where each of them runs"
        return ClusterFailed(f"{words} ({str(error).strip().partition(chr(10))[0]}). {remedy}")
    if isinstance(error, OSError | MemoryError):
        return ClusterFailed(f"a worker of the Dask cluster failed ({type(error).__name__}: {error})")
    return error
