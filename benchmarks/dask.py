"""Strain disks by rows on a Dask cluster: how it scales beside plain processes, and data larger than its memory."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import Figure
from benchmarks.strain_set import DETECTOR, strain_set
from stem4d.analyse.method import Given, Outcome
from stem4d.analyse.methods import METHODS
from storage.read import open_frames
from storage.rows import FrameRows
from storage.settings import Settings
from storage.spec import FileSpec
from storage.write import FrameWriter
from tasks.parts import Job, analysed, ranges_of
from tasks.spread import cluster_of
from tests.dask_cluster import Cluster, cluster

ROWS = 96
REPEATED = 10
"""Of the set across a row: 96 x 480 patterns, 1.5 GB."""
MEMORY = "500MB"
"""Given to each worker: Python, numba and nightbeam take 300 MB of it."""
MRAD_PER_PIXEL = 0.5

_PLAIN = """
import sys, pickle
from tasks.parts import part_of
job, prepared, ranges = pickle.load(open(sys.argv[1], "rb"))
part_of(job, prepared, *ranges[0])
print("ready", flush=True); sys.stdin.readline()
for first, stop in ranges: part_of(job, prepared, first, stop)
"""


def run() -> Iterator[Figure]:
    """The figures."""
    with tempfile.TemporaryDirectory() as folder:
        job, size = _job(Path(folder))
        os.environ["NUMBA_NUM_THREADS"] = "1"
        here = analysed(job)
        one, two = (_plain(job, Path(folder), workers) for workers in (1, 2))
        with cluster(Path(folder), 1, MEMORY) as there:
            single, same = _spread(job, there, Path(folder))
            assert _equal(same, here)
        with cluster(Path(folder), 2, MEMORY) as there:
            double, same = _spread(job, there, Path(folder))
        scaling, plain = single / double, one / two
        detail = f"{size / 1e9:.1f} GB: plain {one:.1f} and {two:.1f} s, Dask {single:.1f} and {double:.1f} s"
        yield Figure(
            "dask: scaling on 2 workers beside 2 plain processes", scaling / plain, "", ">= 0.90",
            f"plain processes, {plain:.2f} times as fast as one", detail,
        )  # fmt: skip
        yield Figure(
            "dask: data over the memory of its workers", size / (2 * 500e6) * float(_equal(same, here)), "", ">= 1.5",
            "the same analysis in one process", f"{size / 1e9:.1f} GB; {MEMORY} for each of 2 workers",
        )  # fmt: skip
        with cluster(Path(folder), 2, MEMORY) as there:
            _warm(job, there, Path(folder))
            began = time.monotonic()
            _took, same = _spread(job, there, Path(folder), kill_after_s=double / 3)
            yield Figure(
                "dask: one worker killed, result identical", float(_equal(same, here)), "", ">= 1",
                "the same analysis in one process", f"{time.monotonic() - began:.1f} s instead of {double:.1f}",
            )  # fmt: skip


def _job(folder: Path) -> tuple[Job, int]:
    made = strain_set()
    columns = np.concatenate([made.frames] * REPEATED, axis=1)
    spec = FileSpec(
        path=folder / "scan.h5", scan_shape=(ROWS, columns.shape[1]), detector_shape=DETECTOR, dtype="uint16",
        scan_step_nm=1.0, mrad_per_pixel=MRAD_PER_PIXEL, full_scale=None, reserve_bytes=0,
    )  # fmt: skip
    with FrameWriter(spec) as writer:
        for first in range(0, ROWS, len(columns)):
            writer.write(first * columns.shape[1], columns[: ROWS - first].reshape(-1, *DETECTOR))
        writer.finish({})
        given = Given(
            beam_energy_kev=200.0,
            convergence_semi_angle_mrad=5.0 * MRAD_PER_PIXEL,
            mrad_per_pixel=MRAD_PER_PIXEL,
            scan_step_nm=(1.0, 1.0),
            origin_px=(np.array(DETECTOR) - 1) / 2,
            bad_pixels=np.zeros(DETECTOR, np.bool_),
            scan_rotation_deg=0.0,
        )
    options = METHODS["strain"].options()
    return Job(str(spec.path), "strain", given, options), columns.nbytes * ROWS // len(columns)


def _ranges(job: Job) -> tuple[dict[str, object], list[tuple[int, int]]]:
    with open_frames(Path(job.path)) as frames:
        prepared = dict(METHODS[job.method].prepare(job.given, job.options, FrameRows(frames)))
        return prepared, list(ranges_of(frames.scan_shape, frames.detector_shape, frames.dtype.itemsize))


def _plain(job: Job, folder: Path, workers: int) -> float:
    """Seconds that so many processes take for all ranges, each a fixed part of them."""
    import pickle

    prepared, ranges = _ranges(job)
    begun = []
    for worker in range(workers):
        path = folder / f"plain-{worker}.pickle"
        path.write_bytes(pickle.dumps((job, prepared, ranges[worker::workers])))
        begun.append(
            subprocess.Popen(
                [sys.executable, "-c", _PLAIN, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
    for one in begun:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    start = time.monotonic()
    for one in begun:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in begun:
        assert one.wait() == 0
    return time.monotonic() - start


def _spread(job: Job, there: Cluster, folder: Path, kill_after_s: float | None = None) -> tuple[float, Outcome]:
    """Seconds of the ranges on a warm cluster, and the outcome."""
    import threading

    taken = []
    with cluster_of(Settings(home=folder, dask_address=there.address)) as everywhere:
        assert everywhere is not None
        prepared, ranges = _ranges(job)
        everywhere(job, prepared, [ranges[0]] * len(there.processes[1:]) * 2)  # loaded and compiled

        def timed(job: Job, prepared: object, ranges: object) -> object:
            if kill_after_s is not None:
                threading.Timer(kill_after_s, there.processes[-1].kill).start()
            start = time.monotonic()
            done = everywhere(job, prepared, ranges)  # type: ignore[arg-type]
            taken.append(time.monotonic() - start)
            return done

        outcome = analysed(job, timed)  # type: ignore[arg-type]
    return taken[0], outcome


def _warm(job: Job, there: Cluster, folder: Path) -> None:
    _spread(job, there, folder)


def _equal(one: Outcome, other: Outcome) -> bool:
    return one.figures == other.figures and all(
        np.array_equal(a.values, b.values, equal_nan=True) for a, b in zip(one.pictures, other.pictures, strict=True)
    )
