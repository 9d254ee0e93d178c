"""The simulated microscope as an instrument: a 128 x 128 scan of 192 x 192 frames from its beam to a verified file."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import ROOT, Figure
from devices.acquire import AcquisitionJob
from devices.protocols import ColumnSetting, ExposureRequest, ScanRequest
from devices.registry import open_instrument
from devices.worker import acquire_in_child
from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus
from stem4d.dose import DoseLease, electrons
from stem4d.instrument import InstrumentFile
from stem4d.plan import Optics
from storage.documents import load_model
from storage.read import open_frames
from storage.spec import FileSpec

SCAN, DETECTOR = (128, 128), (192, 192)
OPTICS = Optics(beam_energy_kev=200.0, convergence_semi_angle_mrad=21.4, probe_current_pa=10.0, camera_length_mm=188.6)
DWELL_US = 32.0
"""2000 electrons a pattern."""


def run() -> Iterator[Figure]:
    """Time of the whole scan on this machine, and how far the accumulator is from being the brake."""
    file = load_model(ROOT / "plans" / "instruments" / "demo.toml", InstrumentFile)
    with tempfile.TemporaryDirectory() as folder:
        seconds, path, spec = _acquired(file, Path(folder))
        with open_frames(path) as frames:
            total, alone, counts = 0, 0.0, 0
            accumulator = Accumulator(spec)
            for _first, batch in frames.batches():
                begun = time.perf_counter()
                accumulator.add(batch)
                if total:  # the first batch compiles
                    alone += time.perf_counter() - begun
                    counts += len(batch)
                total += len(batch)
    number = SCAN[0] * SCAN[1]
    dose = electrons(OPTICS.probe_current_pa, DWELL_US)
    yield Figure(
        "simulated scan, one slice, noise included",
        seconds,
        "s",
        "<= 30",
        "the machine's 2 cores",
        f"{SCAN[0]}x{SCAN[1]} of {DETECTOR[0]}x{DETECTOR[1]}, {dose:.0f} electrons each, to a verified file at "
        f"{number / seconds:.0f} frames/s",
    )
    yield Figure(
        "accumulator: times the simulator's rate",
        counts / alone / (number / seconds),
        "",
        ">= 1",
        "the simulated scan of the same run",
        f"{counts / alone:.0f} frames/s alone on one thread",
    )


def _acquired(file: InstrumentFile, home: Path) -> tuple[float, Path, AccumulatorSpec]:
    """One exposure through the instrument's drivers and the acquisition process; seconds to its verified file."""
    instrument = open_instrument(file, home)
    scan = ScanRequest(
        shape=SCAN, step_nm=0.05, rotation_deg=0.0, dwell_time_us=DWELL_US, flyback_us=0.0, flyback_blanked=True
    )
    wanted = ExposureRequest(
        detector="arina", shape=DETECTOR, bit_depth=12, exposure_time_us=DWELL_US, frames=int(np.prod(SCAN))
    )
    spec = AccumulatorSpec(
        detector_shape=DETECTOR,
        dtype="uint16",
        full_scale=4095,
        threads=1,
        detectors=(Annulus("bf", (95.5, 95.5), 0.0, 40.0), Annulus("adf", (95.5, 95.5), 50.0, 95.0)),
    )
    path = home / "bench.h5"
    begun = 0.0

    def start() -> None:
        nonlocal begun
        instrument.detector.arm()
        instrument.gate.unblank(DoseLease("hole-1", 1e6, 1, time.monotonic() + 600))
        instrument.scan.start()
        begun = time.perf_counter()

    try:
        instrument.stage.go_to("hole-1")
        instrument.column.prepare(ColumnSetting(optics=OPTICS))
        instrument.scan.prepare(scan)
        instrument.detector.prepare(wanted)
        target = FileSpec(
            path, SCAN, DETECTOR, "uint16", 0.05, 0.53, 4095, virtual_detectors=("bf", "adf"), reserve_bytes=0
        )
        job = AcquisitionJob(instrument.detector.source(), target, spec)
        acquire_in_child(job, start, lambda _progress: None)
        seconds = time.perf_counter() - begun
    finally:
        instrument.gate.blank()
        instrument.close()
    return seconds, path, spec
