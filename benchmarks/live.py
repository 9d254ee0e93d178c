"""The same scans of one emulated detector, in turn: to our worker, which also writes them, and to LiberTEM-live."""

import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.accumulator import peer_masks
from benchmarks.emulated import Detector, emulated
from benchmarks.harness import ROOT, Figure, Peer
from benchmarks.stream import Case, acquired, bench_spec, reread_s
from devices.simplon.rest import Simplon
from stem4d.maps import maps_from_arrays
from storage.read import open_frames
from tests.peer_environments import python_of

CASE = Case(192, (125, 160), 0.0)
ROUNDS = 5
EXECUTORS = ("inline", "pipelined")
PINS = ROOT / "tests" / "devices" / "peers" / "libertem_live.txt"


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
    again_s: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        emulated(CASE.side_px) as detector,
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
            again_s.append(reread_s(path))
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
        f"file included, of which {statistics.median(again_s):.2f} s read it again for its digest; {each}; "
        "sender: us of processor a frame",
    )


def _our_scan(detector: Detector, path: Path) -> float:
    seconds, result = acquired(CASE, detector, path)
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
