"""A written file judged again: our pass over its compressed frames, LiberTEM's over the same file, and the decoder."""

import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.accumulator import EXECUTORS, peer_masks
from benchmarks.emulated import DISTINCT, one_count_a_pixel
from benchmarks.harness import Figure, Peer
from benchmarks.stream import DECTRIS, Case, bench_file, bench_spec, best_s, decoders
from devices.passes import maps_of
from stem4d.accumulate import Accumulator
from stem4d.maps import RunMaps
from storage import layout
from storage.codec import Chunks, bitshuffle_lz4
from storage.read import open_frames
from storage.write import FrameWriter

CASE = Case(192, (128, 256), 0.0)
ROUNDS = 5
THREADS = 2


def run() -> Iterator[Figure]:
    """Times of both over one file in the page cache, in turn, and of the decoder alone on the same chunks."""
    frames = one_count_a_pixel(CASE.side_px)
    codec = bitshuffle_lz4()
    assert codec is not None
    chunks = codec.pack(frames)
    spec = bench_spec(CASE.side_px, threads=THREADS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        with FrameWriter(bench_file(CASE, path)) as writer:
            checksums = [zlib.crc32(chunk) for chunk in chunks]
            for first in range(0, CASE.frames, DISTINCT):
                writer.write_chunks(range(first, first + DISTINCT), chunks, checksums)
            writer.finish({})
        masks = Path(folder) / "masks.npy"
        np.save(masks, peer_masks(spec))
        ours: list[float] = []
        limit: list[float] = []
        theirs: dict[str, list[float]] = {executor: [] for executor in EXECUTORS}
        library, decode = decoders()[-1]
        with Peer("libertem", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1") as libertem:
            libertem.ask(do="open_hdf5", path=str(path), dataset="/" + layout.FRAMES, masks={"annuli": str(masks)})
            for executor in EXECUTORS:
                libertem.ask(do="time", executor=executor, case="annuli")
            libertem.ask(do="save", to=str(Path(folder) / "libertem.npz"))
            for turn in range(ROUNDS + 1):
                begun = time.perf_counter()
                with open_frames(path) as recorded:
                    maps = maps_of(recorded, spec)
                taken = time.perf_counter() - begun
                decoded = _decoding(decode, chunks)
                if not turn:  # the first compiles, and shows once that both compute the same
                    _assert_same(maps, np.load(Path(folder) / "libertem.npz"), spec.good_pixels())
                    continue
                ours.append(taken)
                limit.append(decoded)
                for executor in EXECUTORS:
                    theirs[executor].append(
                        float(str(libertem.ask(do="time", executor=executor, case="annuli")["seconds"]))
                    )
        parts = ", ".join(f"{name} {1e6 * each:.1f}" for name, each in _alone(path, frames, chunks).items())
    best = [min(times) for times in zip(*theirs.values(), strict=True)]
    ratios = [peer / own for peer, own in zip(best, ours, strict=True)]
    shares = [part / own for part, own in zip(limit, ours, strict=True)]
    each = ", ".join(f"{executor} {statistics.median(times):.2f} s" for executor, times in theirs.items())
    what = f"{CASE.frames} frames of {CASE.name}, one count a pixel, bslz4, one a chunk"
    yield Figure(
        "recorded file: times LiberTEM",
        statistics.median(ratios),
        "",
        ">= 2.5",
        "LiberTEM, its best executor of each round",
        f"{what}; {statistics.median(ours):.2f} s; rounds {min(ratios):.3g} to {max(ratios):.3g}; {each}; "
        f"us of processor a frame of each part of ours alone on one core: {parts}",
    )
    yield Figure(
        "recorded file: share of the decode limit",
        statistics.median(shares),
        "",
        ">= 0.45" if library == DECTRIS else "",
        f"{library} alone, {THREADS} threads",
        f"rounds {min(shares):.3g} to {max(shares):.3g}; checksums of all chunks included in ours",
    )


def _alone(path: Path, frames: npt.NDArray[np.uint16], chunks: Sequence[bytes]) -> dict[str, float]:
    """Seconds a frame of each part by itself on one core, the best of some rounds."""
    codec, accumulator = bitshuffle_lz4(), Accumulator(bench_spec(CASE.side_px, threads=1))
    packed, room = Chunks.of(chunks), np.empty_like(frames)
    assert codec is not None
    with open_frames(path) as recorded:
        stored = recorded.chunks(DISTINCT)
        assert stored is not None
        begun = time.thread_time()
        next(stored)
        index_s = time.thread_time() - begun
        return {
            "find in the file": index_s / CASE.frames,
            "read": best_s(lambda: next(stored)),
            "checksum": best_s(packed.checksums),
            "decode": best_s(lambda: codec.unpack_each(packed, room)),
            "accumulate": best_s(lambda: accumulator.add(frames)),
        }


def _decoding(decode: Callable[[list[bytes]], object], chunks: list[bytes]) -> float:
    """Seconds to unpack as many chunks as the file has, shared out to threads."""

    def some(number: int) -> None:
        for _ in range(number):
            decode(chunks)

    rounds = CASE.frames // DISTINCT
    with ThreadPoolExecutor(THREADS) as pool:
        begun = time.perf_counter()
        list(pool.map(some, [rounds // THREADS] * THREADS))
        return time.perf_counter() - begun


def _assert_same(maps: RunMaps, peer: Mapping[str, npt.NDArray[Any]], good: npt.NDArray[np.bool_]) -> None:
    """Counts of this scan are below 2**24 and so exact in the peer's float32."""
    sums = peer["sums"].reshape(CASE.frames, -1)
    np.testing.assert_array_equal(sums[:, 0], maps.virtual["bf"].ravel())
    np.testing.assert_array_equal(sums[:, 1], maps.virtual["adf"].ravel())
    np.testing.assert_array_equal(sums[:, -3], maps.total.ravel())
    np.testing.assert_allclose(sums[:, -2] / sums[:, -3], maps.com_y_px.ravel(), rtol=1e-6)
    np.testing.assert_array_equal(peer["sum_pattern"] * good, maps.sum_pattern)
    np.testing.assert_array_equal(peer["max_pattern"] * good, maps.max_pattern)
