"""The acquisition worker at full speed: emulated DECTRIS detector, sockets, online quality, verified file."""

import resource
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.emulated import DISTINCT, Detector, emulated, one_count_a_pixel
from benchmarks.harness import Figure
from devices.acquire import AcquisitionJob, AcquisitionResult, OnProgress
from devices.protocols import ExposureRequest
from devices.simplon.driver import SimplonDetector
from devices.simplon.messages import ImageEncoder, PackedFrame, decode
from devices.simplon.rest import Simplon
from devices.worker import acquire_in_child
from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus
from stem4d.detector import DetectorFacts
from storage.codec import Chunks, bitshuffle_lz4
from storage.disk import sha256_of_file
from storage.spec import FileSpec
from storage.write import FrameWriter

FULL_SCALE = 65535
MOST_MEMORY_GIB = 1.5
DECTRIS = "decoding by DECTRIS's library"


@dataclass(frozen=True)
class Case:
    """One detector at one length of scan."""

    side_px: int
    scan: tuple[int, int]
    goal_hz: float
    goal_share: float = 0.0
    """What ``goal_hz`` is of the decode limit on the machine on which it was set: 2 threads of DECTRIS's decoder."""

    @property
    def frames(self) -> int:
        """Number of positions."""
        return self.scan[0] * self.scan[1]

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return f"{self.side_px} x {self.side_px}"


CASES = (Case(192, (400, 500), 12_000.0, 12_000 / 155_000), Case(512, (200, 250), 2_250.0, 2_250 / 18_900))


def run() -> Iterator[Figure]:
    """Frames a second of both cases, where the time goes, and the memory of the worker."""
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            yield from _measured(case, Path(folder))


def _measured(case: Case, folder: Path) -> Iterator[Figure]:
    with emulated(case.side_px) as detector:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        whole_s, result = acquired(case, detector, folder / "scan.h5")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        sent_s = detector.processor_s()
    again_s = reread_s(result.receipt.path)
    seconds = whole_s - again_s
    assert result.receipt.complete, result
    worker_s = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    rate_hz = case.frames / seconds
    alone = _alone(case, folder)
    us = {name: 1e6 * each for name, each in alone.items()}
    parts = ", ".join(f"{name} {each:.0f}" for name, each in us.items())
    yield Figure(
        f"{case.name}: detector to verified file",
        rate_hz,
        "frames/s",
        f">= {case.goal_hz:g}",
        "the machine's 2 cores, sender included",
        f"{case.frames} frames in {seconds:.1f} s, and {again_s:.1f} s to read the file again for its digest; "
        f"us of processor a frame: sender {sent_s / case.frames * 1e6:.0f}, "
        f"worker {worker_s / case.frames * 1e6:.0f}; each part alone on one core: {parts}",
    )
    limit = decoders()[-1][0]
    yield Figure(
        f"{case.name}: share of the decode limit",
        rate_hz * alone[limit] / 2,
        "",
        # Our own decoder is the slower limit: a share of that would be reached too easily.
        f">= {case.goal_share:.3f}" if limit == DECTRIS else "",
        f"{limit} alone on 2 cores",
        "",
    )
    yield Figure(
        f"{case.name}: worker's memory",
        used.ru_maxrss / 2**20,
        "GiB",
        f"<= {MOST_MEMORY_GIB:g}",
        "",
        f"peak over {case.frames} frames",
    )


def reread_s(path: Path) -> float:
    """Seconds that the digest takes of a file that is closed: the worker's last work before it gives it its name."""
    begun = time.perf_counter()
    sha256_of_file(path)
    return time.perf_counter() - begun


def acquired(
    case: Case, emulator: Detector, path: Path, on_progress: OnProgress = lambda progress: None
) -> tuple[float, AcquisitionResult]:
    """Seconds from the trigger to the result of one scan, and the result."""
    facts = DetectorFacts(
        name="bench",
        shape=(case.side_px, case.side_px),
        pixel_pitch_um=100.0,
        bit_depths=(16,),
        max_frame_rate_hz=120_000.0,
        dead_time_us=0.1,
        max_count_rate_per_px_hz=1e7,
    )
    rest = Simplon("127.0.0.1", emulator.rest_port)
    detector = SimplonDetector(rest, facts, "software", emulator.stream_port)
    try:
        detector.recover()
        detector.prepare(
            ExposureRequest(
                detector="bench",
                shape=facts.shape,
                bit_depth=16,
                exposure_time_us=500.0,
                frames=case.frames,
            )
        )
        job = AcquisitionJob(detector.source(), bench_file(case, path), bench_spec(case.side_px, threads=2))
        began = 0.0
        answered: list[threading.Thread] = []

        def listening() -> None:
            nonlocal began
            detector.arm()
            began = time.perf_counter()
            answered.append(threading.Thread(target=detector.trigger))
            answered[0].start()

        result = acquire_in_child(job, listening, on_progress)
        seconds = time.perf_counter() - began
        answered[0].join()
        return seconds, result
    finally:
        detector.ensure_stopped()
        rest.close()


def bench_file(case: Case, path: Path) -> FileSpec:
    """The file that a case is written to."""
    return FileSpec(
        path=path,
        scan_shape=case.scan,
        detector_shape=(case.side_px, case.side_px),
        dtype="uint16",
        scan_step_nm=1.0,
        mrad_per_pixel=1.0,
        full_scale=FULL_SCALE,
        virtual_detectors=("bf", "adf"),
    )


def bench_spec(side_px: int, threads: int) -> AccumulatorSpec:
    """Bright and dark field, and two hot pixels."""
    middle = ((side_px - 1) / 2,) * 2
    hot = np.zeros((side_px, side_px), bool)
    hot[3, 4] = hot[50, 60] = True
    bright = Annulus("bf", middle, 0.0, side_px / 6)
    dark = Annulus("adf", middle, side_px / 5, side_px / 2)
    return AccumulatorSpec((side_px, side_px), "uint16", (bright, dark), FULL_SCALE, bad_pixels=hot, threads=threads)


def _alone(case: Case, folder: Path) -> dict[str, float]:
    """Seconds a frame of each part by itself on one core, the best of some rounds."""
    frames = one_count_a_pixel(case.side_px)
    codec = bitshuffle_lz4()
    assert codec is not None
    chunks = codec.pack(frames)
    messages = [_image(number, chunk, frames.shape[1:]) for number, chunk in enumerate(chunks)]
    accumulator = Accumulator(bench_spec(case.side_px, threads=1))
    room = np.empty_like(frames)
    with FrameWriter(bench_file(Case(case.side_px, (DISTINCT, 16), 0.0), folder / "alone.h5")) as writer:
        rows = iter(range(0, DISTINCT * 16, DISTINCT))

        def write() -> None:
            first = next(rows)
            writer.write_chunks(range(first, first + DISTINCT), chunks, [zlib.crc32(chunk) for chunk in chunks])

        done = {
            "read CBOR": best_s(lambda: [decode(each) for each in messages]),
            decoders()[0][0]: best_s(lambda: codec.unpack(chunks, room)),
            "accumulate": best_s(lambda: accumulator.add(frames)),
            "checksum and write": best_s(write),
        }
        writer.abandon("a bench", {})
    return done | {library: best_s(partial(decode, chunks)) for library, decode in decoders()[1:]}


def _image(number: int, chunk: bytes, shape: tuple[int, ...]) -> bytes:
    frame = PackedFrame((shape[0], shape[1]), np.dtype("<u2"), "bslz4", chunk)
    return ImageEncoder(1, "bench", "2026-11-27T00:00:00Z").encode(number, {"threshold_1": frame}, 0.0, 1e-4)


def best_s(work: Callable[[], object], rounds: int = 15) -> float:
    """Processor seconds of this thread a frame, of the fastest round: neighbours make the others longer."""
    taken = []
    for _ in range(rounds):
        began = time.thread_time()
        work()
        taken.append(time.thread_time() - began)
    return min(taken) / DISTINCT


def decoders() -> list[tuple[str, Callable[[list[bytes]], object]]]:
    """Our own, and DECTRIS's where it is installed: it has no wheel for this Python."""
    codec = bitshuffle_lz4()
    assert codec is not None
    found: list[tuple[str, Callable[[list[bytes]], object]]] = []

    room: dict[int, npt.NDArray[np.uint16]] = {}

    def ours(chunks: list[bytes]) -> None:
        size = int.from_bytes(chunks[0][:8], "big") // 2
        frames = room.setdefault(threading.get_ident(), np.empty((len(chunks), size), np.uint16))
        codec.unpack_each(Chunks.of(chunks), frames)

    found.append(("decoding by our kernel over hdf5plugin's LZ4", ours))
    try:
        from dectris.compression import decompress
    except ImportError:
        return found

    def theirs(chunks: list[bytes]) -> None:
        for each in chunks:
            decompress(each, "bslz4", elem_size=2)

    found.append((DECTRIS, theirs))
    return found
