"""The same scans of one emulated detector, in turn: to our worker, which also writes them, and to LiberTEM-live."""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.accumulator import peer_masks
from benchmarks.harness import ROOT, Figure, Peer
from benchmarks.stream import DISTINCT, Case, _acquired, _reread_s, _source, bench_spec
from devices.simplon.emulator import start_emulator
from devices.simplon.rest import Simplon
from stem4d.maps import maps_from_arrays
from storage.read import open_frames
from tests.peer_environments import python_of

CASE = Case(192, (125, 160), 0.0)
ROUNDS = 5
EXECUTORS = ("inline", "pipelined")
PINS = ROOT / "tests" / "devices" / "peers" / "libertem_live.txt"


@dataclass(frozen=True)
class Detector:
    """An emulated one in a process of its own: its ports, and what its processor time has come to [s]."""

    rest_port: int
    stream_port: int
    legacy_port: int
    processor_s: Callable[[], float]


@dataclass
class Scans:
    """What a receiver's scans took, one a round."""

    seconds: list[float] = field(default_factory=list)
    """From the trigger to the result."""
    sender_s: list[float] = field(default_factory=list)
    """The detector's processor time."""

    def take(self, detector: Detector, scan: Callable[[], float]) -> None:
        """Take one more; it gives its seconds."""
        used_s = detector.processor_s()
        self.seconds.append(scan())
        self.sender_s.append(detector.processor_s() - used_s)

    @property
    def told(self) -> str:
        """The medians."""
        sender_us = 1e6 * statistics.median(self.sender_s) / CASE.frames
        return f"{statistics.median(self.seconds):.2f} s (sender {sender_us:.0f})"


def run() -> Iterator[Figure]:
    """How many times as long LiberTEM-live takes, by its best executor of each round."""
    ours, theirs = Scans(), {executor: Scans() for executor in EXECUTORS}
    reread_s: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        _detector() as detector,
        # Its workers are its two threads, as in the accumulator's bench.
        Peer("libertem_live", python_of(PINS), OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1") as peer,
    ):
        masks, sums = Path(folder) / "masks.npy", Path(folder) / "sums.npy"
        np.save(masks, peer_masks(bench_spec(CASE.side_px, threads=2)))
        ports = {"rest_port": detector.rest_port, "data_port": detector.legacy_port}
        peer.ask(do="open", executors=EXECUTORS, scan_shape=CASE.scan, masks=str(masks), **ports)
        for turn in range(ROUNDS + 1):
            path = Path(folder) / f"{turn}.h5"
            # The first round compiles, and shows once that all compute the same.
            own, peers = (ours, theirs) if turn else (Scans(), {executor: Scans() for executor in EXECUTORS})
            own.take(detector, lambda path=path: _our_scan(detector, path))
            for executor, scans in peers.items():
                scans.take(detector, lambda executor=executor: _their_scan(detector, peer, executor))
                if not turn:
                    peer.ask(do="save", to=str(sums))
                    _assert_same(path, sums)
            reread_s.append(_reread_s(path))
            path.unlink()
            shown = ", ".join(f"{executor} {scans.seconds[-1]:.2f} s" for executor, scans in peers.items())
            print(f"  round {turn}: ours {own.seconds[-1]:.2f} s; LiberTEM-live {shown}", flush=True)
    best = [min(times) for times in zip(*(scans.seconds for scans in theirs.values()), strict=True)]
    ratios = [peer_s / own_s for peer_s, own_s in zip(best, ours.seconds, strict=True)]
    each = ", ".join(f"{executor} {scans.told}" for executor, scans in theirs.items())
    yield Figure(
        "stream: times LiberTEM-live",
        statistics.median(ratios),
        "",
        ">= 1",
        "LiberTEM-live by stream v1, its best executor of each round",
        f"{CASE.frames} frames of {CASE.name}, one count a pixel, bslz4, from the trigger to the result; "
        f"rounds {min(ratios):.3g} to {max(ratios):.3g}; ours {ours.told}, "
        f"file included, of which {statistics.median(reread_s):.2f} s read it again for its digest; {each}; "
        "sender: us of processor a frame",
    )


@contextmanager
def _detector() -> Iterator[Detector]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_emulate, args=(theirs,), daemon=True)
    process.start()

    def processor_s() -> float:
        ours.send("time")
        return float(ours.recv())

    try:
        yield Detector(*ours.recv(), processor_s)
        ours.send("end")
    finally:
        process.join(5)
        process.kill()


def _emulate(pipe: Connection) -> None:
    source = _source(CASE.side_px)
    with start_emulator(source=source, rate_hz=float("inf"), ring_frames=DISTINCT, patience_s=30.0) as emulator:
        pipe.send((emulator.rest_port, emulator.stream_port, emulator.legacy_port))
        while pipe.recv() == "time":
            pipe.send(time.process_time())


def _our_scan(detector: Detector, path: Path) -> float:
    seconds, result = _acquired(CASE, (detector.rest_port, detector.stream_port), path)
    assert result.receipt.complete, result
    return seconds


def _their_scan(detector: Detector, peer: Peer, executor: str) -> float:
    rest = Simplon("127.0.0.1", detector.rest_port)
    try:
        for module in ("detector", "stream"):
            rest.command("initialize", module)
        # It does so itself, but only after its arm: too late for the first series.
        rest.put("mode", "enabled", "stream")
    finally:
        rest.close()
    return float(str(peer.ask(do="time", executor=executor)["seconds"]))


def _assert_same(path: Path, peer_file: Path) -> None:
    """Counts of this scan are below 2**24 and so exact in the peer's float32."""
    with open_frames(path) as written:
        maps = maps_from_arrays(written.online(), written.full_scale)
    sums = np.load(peer_file).reshape(CASE.frames, -1)
    for number, counts in enumerate((maps.virtual["bf"], maps.virtual["adf"], maps.total)):
        np.testing.assert_array_equal(sums[:, number], counts.ravel())
    for number, centre_px in enumerate((maps.com_y_px, maps.com_x_px), 3):
        np.testing.assert_allclose(sums[:, number] / sums[:, 2], centre_px.ravel(), rtol=1e-6)
