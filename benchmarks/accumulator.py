"""The accumulator beside the machine's memory-read limit and LiberTEM, all on one array in RAM, in turn."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from benchmarks.harness import Figure, Peer
from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus, BatchResult, PixelMask, VirtualDetector

SCAN = (256, 256)
DETECTOR = (192, 192)
MIDDLE = (95.5, 95.5)
THREADS = 2
ROUNDS = 7
FULL_SCALE = 4095
SEED = 4
EXECUTORS = ("pipelined", "threads", "dask")
"""LiberTEM's that use more than one core."""
GOALS = {"2 annuli": (">= 0.28", ">= 3"), "8 annuli": (">= 0.16", ">= 3"), "8 masks": (">= 0.07", ">= 3")}
LIMIT = "memory-read limit, 2 threads"


@dataclass
class Seconds:
    """What one case took in each round [s]; of the peer, by executor."""

    limit: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)
    cpu_share: list[float] = field(default_factory=list)
    peer: dict[str, list[float]] = field(default_factory=lambda: {executor: [] for executor in EXECUTORS})


def run() -> Iterator[Figure]:
    """The figures; the array lives in anonymous shared memory, which ends with this process however it ends."""
    handle = os.memfd_create("nightbeam-bench")
    try:
        path = Path(f"/proc/{os.getpid()}/fd/{handle}")
        frames, hot = make_scan(handle, path)
        # LiberTEM's workers are its two threads; BLAS threads on top of them spin for cores that neighbours hold.
        one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with Peer("libertem", **one) as libertem, tempfile.TemporaryDirectory() as folder:
            yield from _measure(frames, hot, path, libertem, Path(folder))
    finally:
        os.close(handle)


def make_scan(handle: int, path: Path) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    """A scan of (256 * 256, 192, 192) with a descanned bright disk and two hot pixels at full scale, and those pixels.

    256 different Poisson frames, repeated for each scan row: what is read is not in any cache by then.
    """
    positions = SCAN[0] * SCAN[1]
    os.ftruncate(handle, positions * DETECTOR[0] * DETECTOR[1] * 2)
    frames = np.memmap(path, np.uint16, "r+", shape=(positions, *DETECTOR))
    rng = np.random.default_rng(SEED)
    y, x = np.indices(DETECTOR) - np.reshape(MIDDLE, (2, 1, 1))
    shift = np.linspace(-3, 3, SCAN[1])
    row = np.stack([rng.poisson(np.where(np.hypot(y - s, x - s / 2) < 32, 4.0, 0.02)) for s in shift])
    hot = np.zeros(DETECTOR, bool)
    hot[30, 40] = hot[100, 101] = True
    row[:, hot] = FULL_SCALE
    for start in range(0, positions, SCAN[1]):
        frames[start : start + SCAN[1]] = row
    return frames, hot


def virtual_detectors() -> dict[str, tuple[VirtualDetector, ...]]:
    """The three cases: bright field and annular dark field, eight rings side by side, eight random sets of pixels."""
    rng = np.random.default_rng(SEED)
    edges_px = np.linspace(0, 96, 9)
    return {
        "2 annuli": (Annulus("bright field", MIDDLE, 0, 32), Annulus("dark field", MIDDLE, 40, 90)),
        "8 annuli": tuple(Annulus(f"ring {k}", MIDDLE, edges_px[k], edges_px[k + 1]) for k in range(8)),
        "8 masks": tuple(PixelMask(f"mask {k}", rng.random(DETECTOR) < 0.5) for k in range(8)),
    }


@njit(cache=True, nogil=True)
def _read(words: Any) -> Any:
    total = np.uint64(0)
    for i in range(words.size):
        total += words[i]
    return total


def _measure(
    frames: npt.NDArray[np.uint16], hot: npt.NDArray[np.bool_], path: Path, libertem: Peer, folder: Path
) -> Iterator[Figure]:
    specs = {
        case: AccumulatorSpec(DETECTOR, np.uint16, detectors, FULL_SCALE, bad_pixels=hot, threads=THREADS)
        for case, detectors in virtual_detectors().items()
    }
    masks = {case: str(folder / f"{case}.npy") for case in specs}
    for case, spec in specs.items():
        np.save(masks[case], peer_masks(spec))
    libertem.ask(do="open", path=str(path), scan_shape=SCAN, detector_shape=DETECTOR, masks=masks)
    seconds = {case: Seconds() for case in specs}
    pool = ThreadPoolExecutor(THREADS)
    parts = np.array_split(frames.reshape(-1).view(np.uint64), 64 * THREADS)
    for executor in EXECUTORS:  # starts its workers, and shows once for each that both compute the same
        libertem.ask(do="time", executor=executor, case="8 masks")
        libertem.ask(do="save", to=str(folder / "libertem.npz"))
        accumulator = Accumulator(specs["8 masks"])
        _assert_same(accumulator, accumulator.add(frames), folder / "libertem.npz")
    _read(parts[0][:1])
    for turn in range(ROUNDS):
        for case, spec in specs.items():
            taken = seconds[case]
            accumulator = Accumulator(spec)
            pairs = []
            for _ in range(2):  # the better of two each, in turn, because a neighbour may have either
                limit_s, limit_cpu_s, _ = _timed(lambda: list(pool.map(_read, parts)))
                ours_s, ours_cpu_s, _ = _timed(partial(accumulator.add, frames))
                pairs.append((limit_s, ours_s, limit_cpu_s, ours_cpu_s))
            limit_s, ours_s, limit_cpu_s, ours_cpu_s = (min(column) for column in zip(*pairs, strict=True))
            taken.limit.append(limit_s)
            taken.ours.append(ours_s)
            taken.cpu_share.append(limit_cpu_s / ours_cpu_s)
            for executor in EXECUTORS:
                answer = libertem.ask(do="time", executor=executor, case=case)
                taken.peer[executor].append(float(str(answer["seconds"])))
            peer = ", ".join(f"{executor} {times[-1]:.2f} s" for executor, times in taken.peer.items())
            print(
                f"  round {turn + 1}, {case}: limit {limit_s:.3f} s, ours {ours_s:.3f} s; LiberTEM {peer}", flush=True
            )
    yield from _figures(seconds, frames.nbytes / 1e9)


def _figures(seconds: dict[str, Seconds], gigabytes: float) -> Iterator[Figure]:
    limits = [gigabytes / s for case in seconds.values() for s in case.limit]
    yield Figure("memory-read limit", max(limits), "GB/s", "", LIMIT, f"best; median {statistics.median(limits):.3g}")
    for case, taken in seconds.items():
        share_goal, ratio_goal = GOALS[case]
        ours_s = statistics.median(taken.ours)
        shares = [limit / ours for limit, ours in zip(taken.limit, taken.ours, strict=True)]
        # CPU time leaves out the time that neighbours held the cores, which on a busy machine is most of it.
        yield Figure(
            f"accumulator, {case}: share of the limit",
            statistics.median(shares),
            "",
            share_goal,
            LIMIT,
            f"{ours_s:.3f} s, {gigabytes / ours_s:.3g} GB/s; rounds {min(shares):.3g} to {max(shares):.3g}; "
            f"by CPU time {statistics.median(taken.cpu_share):.3g}",
        )
        best_s = [min(times) for times in zip(*taken.peer.values(), strict=True)]
        ratios = [peer / ours for peer, ours in zip(best_s, taken.ours, strict=True)]
        each = ", ".join(f"{executor} {statistics.median(times):.2f} s" for executor, times in taken.peer.items())
        yield Figure(
            f"accumulator, {case}: times LiberTEM",
            statistics.median(ratios),
            "",
            ratio_goal,
            "LiberTEM, its best executor of each round",
            f"rounds {min(ratios):.3g} to {max(ratios):.3g}; {each}",
        )


def peer_masks(spec: AccumulatorSpec) -> npt.NDArray[np.float32]:
    """Masks of the detectors, then of the total and the two first moments, hot pixels 0 in all of them."""
    y, x = np.indices(spec.detector_shape)
    masks = [detector.weights(spec.detector_shape) for detector in spec.detectors] + [np.ones_like(y), y, x]
    return np.stack([mask * spec.good_pixels() for mask in masks]).astype(np.float32)


def _assert_same(accumulator: Accumulator, result: BatchResult, peer_file: Path) -> None:
    """All counts of this scan are below 2**24 and so exact in the peer's float32."""
    peer = np.load(peer_file)
    sums = peer["sums"].reshape(len(result.total), -1)
    good = accumulator.spec.good_pixels()
    np.testing.assert_array_equal(sums[:, :-3], result.virtual)
    np.testing.assert_array_equal(sums[:, -3], result.total)
    np.testing.assert_allclose(sums[:, -2:] / sums[:, -3:-2], result.centre_px, rtol=1e-6)
    np.testing.assert_array_equal(peer["sum_pattern"] * good, accumulator.sum_pattern)
    np.testing.assert_array_equal(peer["max_pattern"] * good, accumulator.max_pattern)


def _timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds by the clock, seconds of CPU over all threads, and the value of a call."""
    begun, begun_cpu = time.perf_counter(), time.process_time()
    value = call()
    return time.perf_counter() - begun, time.process_time() - begun_cpu, value
