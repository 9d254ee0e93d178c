"""Strain disks by rows on a Dask cluster: how it scales beside plain processes, past its memory, past a dead worker.

Every process has one thread. Nothing here waits for ever: after ``LIMIT_S`` all that was started is killed.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import numpy as np

from benchmarks.harness import Figure
from benchmarks.strain_set import DETECTOR, RADIUS_PX, strain_set
from stem4d.analyse.method import Given, Parts
from stem4d.analyse.methods import METHODS
from storage.read import open_frames
from storage.rows import FrameRows
from storage.settings import Settings
from storage.spec import FileSpec
from storage.write import FrameWriter
from tasks.cluster import connected
from tasks.parts import RANGE_BYTES, Job, Ranges, part_of, ranges_of
from tasks.spread import spread
from tests.dask_cluster import Cluster, Options, cluster

DRAWN, BESIDE = (16, 64), 8
"""Positions of the set, and how often it stands in a row, since drawing takes longer than finding."""
BLOCK = (DRAWN[0], DRAWN[1] * BESIDE)
"""2 bytes of 128 x 128 pixels at each of these positions are one range of rows."""
RANGES, ROUNDS = 6, 3
MEMORY_GB, WORKERS, OVER = 1.0, 2, 3.0
"""Python, numba and nightbeam take some 0.4 GB of a worker's memory; Dask pauses it at 80 %."""
LIMIT_S = 400.0
"""Of each of the three parts, which take a minute or less on two quiet cores."""
MRAD_PER_PIXEL = 0.5
ONE_THREAD = dict.fromkeys(("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
PLAIN = "plain processes that call the same function, same run"

_PLAIN = """
import pickle, sys
from tasks.parts import part_of
job, prepared = pickle.load(open(sys.argv[1], "rb"))
for line in sys.stdin:
    for at in line.split():
        part_of(job, prepared, *map(int, at.split(":")))
    print("done", flush=True)
"""


def run() -> Iterator[Figure]:
    """Scaling on 2 workers, a dataset of 3 times their memory, and a worker that is killed."""
    with tempfile.TemporaryDirectory(prefix="nightbeam-bench-") as name:
        folder = Path(name)
        _require_room(folder)
        block = np.concatenate([strain_set(DRAWN).frames] * BESIDE, axis=1)
        job = _written(folder / "scan.h5", block, RANGES)
        yield _scaling(job, folder)
        yield _killed(job, folder)
        blocks = int(np.ceil(OVER * WORKERS * MEMORY_GB * 1e9 / block.nbytes))
        yield _past_memory(_written(folder / "large.h5", block, blocks), blocks * block.nbytes, folder)


def _require_room(folder: Path) -> None:
    needed = 1.5 * OVER * WORKERS * MEMORY_GB * 1e9
    if (free := shutil.disk_usage(folder).free) < needed:
        raise RuntimeError(f"{folder} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} are needed; set TMPDIR")


def _written(path: Path, block: Any, blocks: int) -> Job:
    """The set again and again, below each other."""
    rows, columns = BLOCK
    assert block.nbytes == RANGE_BYTES
    spec = FileSpec(
        path=path, scan_shape=(rows * blocks, columns), detector_shape=DETECTOR, dtype="uint16", scan_step_nm=1.0,
        mrad_per_pixel=MRAD_PER_PIXEL, full_scale=None, reserve_bytes=0,
    )  # fmt: skip
    frames = block.reshape(-1, *DETECTOR)
    with FrameWriter(spec) as writer:
        for number in range(blocks):
            writer.write(number * len(frames), frames)
        writer.finish({})
    given = Given(
        beam_energy_kev=200.0,
        convergence_semi_angle_mrad=RADIUS_PX * MRAD_PER_PIXEL,
        mrad_per_pixel=MRAD_PER_PIXEL,
        scan_step_nm=(1.0, 1.0),
        origin_px=(np.array(DETECTOR) - 1) / 2,
        bad_pixels=np.zeros(DETECTOR, np.bool_),
        scan_rotation_deg=0.0,
    )
    return Job(str(path), "strain", given, METHODS["strain"].options())


def _prepared(job: Job) -> tuple[Parts, Ranges]:
    with open_frames(Path(job.path)) as frames:
        prepared = dict(METHODS[job.method].prepare(job.given, job.options, FrameRows(frames)))
        return prepared, ranges_of(frames.scan_shape, frames.detector_shape, frames.dtype.itemsize)


def _scaling(job: Job, folder: Path) -> Figure:
    prepared, ranges = _prepared(job)
    with ExitStack() as stack:
        plain = stack.enter_context(_plain_processes(job, prepared, folder))
        dask = {number: stack.enter_context(_ready(folder, number, job, prepared)) for number in (1, 2)}
        ways: dict[str, Callable[[], object]] = {
            "plain 1": lambda: plain(ranges, 1),
            "dask 1": lambda: dask[1](job, prepared, ranges),
            "plain 2": lambda: plain(ranges, 2),
            "dask 2": lambda: dask[2](job, prepared, ranges),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        load = [_load()]
        for turn in range(ROUNDS):
            # Forwards and backwards: what a neighbour takes grows and shrinks.
            for name in list(ways)[:: 1 - 2 * (turn % 2)]:
                began = time.perf_counter()
                ways[name]()
                took[name].append(time.perf_counter() - began)
            load.append(_load())
    seconds = {name: np.array(each) for name, each in took.items()}
    of_plain, of_dask = (seconds[f"{name} 1"] / seconds[f"{name} 2"] for name in ("plain", "dask"))
    told = ", ".join(f"{name}: {' '.join(f'{each:.1f}' for each in values)} s" for name, values in seconds.items())
    return Figure(
        "dask: scaling to 2 workers, over that to 2 processes",
        float(np.median(of_dask / of_plain)),
        "",
        ">= 0.90",
        PLAIN,
        f"{np.median(of_dask):.2f} over {np.median(of_plain):.2f}; rounds"
        f" {' '.join(f'{each:.2f}' for each in of_dask / of_plain)}; {told}; load {' '.join(load)}",
    )


def _killed(job: Job, folder: Path) -> Figure:
    prepared, ranges = _prepared(job)
    here = [part_of(job, prepared, first, stop) for first, stop in ranges]
    with cluster(folder, WORKERS, _options()) as there, _limited(there.close), _client(there, folder) as client:
        spread(client, there.address, job, prepared, ranges[:1] * WORKERS)
        # A range takes a second and more, so this is in the middle of one.
        done = threading.Event()

        def kill() -> None:
            if not done.is_set():
                done.set()
                threading.Timer(0.5, there.processes[-1].kill).start()

        began = time.perf_counter()
        parts = spread(client, there.address, job, prepared, ranges, kill)
        took = time.perf_counter() - began
        dead = there.processes[-1].poll() is not None
    equal = [_bytes(one) == _bytes(other) for one, other in zip(parts, here, strict=True)]
    return Figure(
        "dask: one of 2 workers killed, ranges identical",
        float(dead) * sum(equal) / len(here),
        "",
        ">= 1",
        "the same ranges in this process, byte for byte",
        f"{len(here)} ranges, {took:.1f} s; killed after the first came back: {dead}; load {_load()}",
    )


def _bytes(parts: Parts) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(values).tobytes() for name, values in parts.items()}


def _past_memory(job: Job, size: int, folder: Path) -> Figure:
    given = WORKERS * MEMORY_GB * 1e9
    began = time.perf_counter()
    prepared, ranges = _prepared(job)
    options = _options(nanny=True)  # which ends a worker at 95 % of its memory
    with cluster(folder, WORKERS, options) as there, _limited(there.close), _client(there, folder) as client:
        client.wait_for_workers(WORKERS, timeout=60)
        workers = set(client.run(os.getpid).values())
        parts = spread(client, there.address, job, prepared, ranges)
        usage = client.run(getrusage, RUSAGE_SELF)
        same = workers == set(client.run(os.getpid).values())
    outcome = METHODS[job.method].finish(
        job.given, job.options, prepared, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    )
    most = max(each.ru_maxrss for each in usage.values()) * 1024
    return Figure(
        "dask: data over the memory of its workers, done",
        size / given * float(outcome.verdict != "not_possible"),
        "",
        f">= {OVER:g}",
        f"{WORKERS} workers of {MEMORY_GB:g} GB",
        f"{size / 1e9:.1f} GB in {len(ranges)} ranges, {time.perf_counter() - began:.0f} s; a worker took"
        f" {most / 1e9:.2f} GB at most, {'none was' if same else 'some were'} started again; load {_load()}",
    )


def _options(*, nanny: bool = False) -> Options:
    return Options(f"{MEMORY_GB:g}GB", nanny, worker_environment=ONE_THREAD)


@contextmanager
def _ready(folder: Path, workers: int, job: Job, prepared: Parts) -> Iterator[Callable[..., list[Parts]]]:
    """Workers that have loaded and compiled what they need; called with a job, what was prepared, and ranges."""
    with cluster(folder, workers, _options()) as there, _limited(there.close), _client(there, folder) as client:
        client.wait_for_workers(workers, timeout=60)
        # Each of them begins one: a range takes far longer than a worker to be found idle.
        spread(client, there.address, job, prepared, [(0, BLOCK[0])] * 2 * workers)
        yield lambda *asked: spread(client, there.address, *asked)


def _client(there: Cluster, folder: Path) -> Any:
    return connected(Settings(home=folder, dask_address=there.address))


@contextmanager
def _plain_processes(job: Job, prepared: Parts, folder: Path) -> Iterator[Callable[[Ranges, int], None]]:
    """Two warm processes; called with ranges and how many of the processes have them done, each a fixed part."""
    known = folder / "plain.pickle"
    known.write_bytes(pickle.dumps((job, dict(prepared))))
    command, environment = [sys.executable, "-c", _PLAIN, str(known)], os.environ | ONE_THREAD
    begun = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]

    def ask(ranges: Ranges, processes: int) -> None:
        asked = begun[:processes]
        for number, one in enumerate(asked):
            assert one.stdin is not None
            one.stdin.write(" ".join(f"{first}:{stop}" for first, stop in ranges[number::processes]) + "\n")
            one.stdin.flush()
        for one in asked:
            assert one.stdout is not None
            if one.stdout.readline() != "done\n":
                raise RuntimeError(f"a plain process ended with {one.wait(10)}")

    def kill() -> None:
        for one in begun:
            one.kill()

    try:
        with _limited(kill):
            ask([(0, BLOCK[0])] * 2, 2)
            yield ask
    finally:
        kill()
        for one in begun:
            one.communicate()


@contextmanager
def _limited(kill: Callable[[], None]) -> Iterator[None]:
    """Kill what hangs: whoever waits for it then fails."""
    timer = threading.Timer(LIMIT_S, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"
