"""A small simulated instrument and one exposure on it, for tests."""

from pathlib import Path
from typing import Any

import numpy as np

from devices.protocols import ColumnSetting, ExposureRequest, FrameSourceSpec, Instrument, ScanRequest
from devices.simulator.instrument import SimulatedInstrument, open_here
from devices.simulator.source import SimulatedSource
from stem4d.dose import DoseLease
from stem4d.instrument import InstrumentFile
from stem4d.plan import Optics

DELTA_MRAD = 2.0
"""100 um pixels at 50 mm."""
AREA = {"specimen": "square", "seed": 3, "spacing_a": 4.0, "atom_phase_rad": 1.0, "modulation": 0.3}


class Clock:
    """A real clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def instrument_file(driver: str = "simulator", **settings: Any) -> InstrumentFile:
    """200 kV, 10 mrad, a 32 x 32 and a 32 x 24 detector; settings on top of one area, ``sample``."""
    facts = {
        "beam_energies_kev": [80.0, 200.0],
        "apertures": [{"name": "C2", "convergence_semi_angle_mrad": 10.0}],
        "camera_lengths_mm": [50.0, 100.0],
        "defocus_nm": {"lowest": -20.0, "highest": 20.0},
        "probe_current_pa": {"lowest": 1.0, "highest": 100.0},
        "dwell_time_us": {"lowest": 10.0, "highest": 1000.0},
        "max_field_nm": 20.0,
        "detectors": [
            {
                "name": name,
                "shape": shape,
                "pixel_pitch_um": 100.0,
                "bit_depths": [6, 12],
                "max_frame_rate_hz": 2e4,
                "max_count_rate_per_px_hz": 1e7,
            }
            for name, shape in (("cam", [32, 32]), ("slit", [32, 24]))
        ],
    }
    settings = {"seed": 9, "areas": {"sample": AREA}, **settings} if driver == "simulator" else settings
    document = {"format_version": 1, "name": "test-stem", "driver": driver, "facts": facts, "settings": settings}
    return InstrumentFile.model_validate(document, strict=False)


def column(**changes: Any) -> ColumnSetting:
    """Column setting; keywords go to the optics or, where it has them, to the setting itself."""
    own = {name: changes.pop(name) for name in ("diffraction_shift_mrad", "descan_mrad_per_nm") if name in changes}
    optics = {
        "beam_energy_kev": 200.0,
        "convergence_semi_angle_mrad": 10.0,
        "probe_current_pa": 50.0,
        "camera_length_mm": 50.0,
    }
    return ColumnSetting(optics=Optics(**{**optics, **changes}), **own)


def raster(shape: tuple[int, int] = (4, 6), **changes: Any) -> ScanRequest:
    """Scan request at 0.1 nm, 100 us."""
    asked = {"step_nm": 0.1, "rotation_deg": 0.0, "dwell_time_us": 100.0, "flyback_us": 50.0, "flyback_blanked": True}
    return ScanRequest(shape=shape, **{**asked, **changes})


def exposure(scan: ScanRequest, **changes: Any) -> ExposureRequest:
    """Exposure request that belongs to a scan."""
    asked = {"detector": "cam", "shape": (32, 32), "bit_depth": 12, "exposure_time_us": scan.dwell_time_us}
    return ExposureRequest(**{**asked, "frames": scan.shape[0] * scan.shape[1], **changes})


def lease(clock: Clock | None = None, token: int = 1, lasts_s: float = 60.0) -> DoseLease:
    """A dose lease on a clock that stands at 1000 s."""
    return DoseLease("sample", 100.0, token, (clock() if clock else 1000.0) + lasts_s)


def opened(home: Path, clock: Clock | None = None, **settings: Any) -> SimulatedInstrument:
    """The instrument within this process, on a clock of the test's."""
    clock = clock or Clock()
    return open_here(instrument_file(**settings), home, clock, clock.sleep)


def prepared(instrument: SimulatedInstrument, position: str = "vacuum", **changes: Any) -> SimulatedSource:
    """Everything prepared, up to the source."""
    source = prepared_anywhere(instrument, position, **changes)
    assert isinstance(source, SimulatedSource)
    return source


def prepared_anywhere(instrument: Instrument, position: str = "vacuum", **changes: Any) -> FrameSourceSpec:
    """The same for an instrument that may be in another process."""
    scan = changes.pop("scan", raster())
    instrument.stage.go_to(position)
    instrument.column.prepare(changes.pop("column", column()))
    instrument.scan.prepare(scan)
    instrument.detector.prepare(exposure(scan, **changes))
    return instrument.detector.source()


def run(instrument: Instrument, source: FrameSourceSpec, beam: DoseLease | None = None) -> None:
    """Arm, expose and blank."""
    instrument.detector.arm()
    instrument.gate.unblank(beam or lease())
    instrument.scan.start()
    instrument.scan.wait()
    instrument.gate.blank()


def received(source: FrameSourceSpec) -> np.ndarray:
    """All frames of an exposure that has been run (n, det_y, det_x), seen to be in order."""
    batches = []
    with source.open() as frames:
        for batch in frames.batches():
            assert batch.first == sum(len(known) for known in batches)
            batches.append(batch.frames)
    return np.concatenate(batches) if batches else np.empty((0, *source.detector_shape), source.dtype)


def exposed_frames(instrument: SimulatedInstrument, **changes: Any) -> np.ndarray:
    """Frames of one exposure from beginning to end."""
    source = prepared(instrument, **changes)
    run(instrument, source)
    return received(source)


def centres_px(frames: np.ndarray) -> np.ndarray:
    """Centres of mass (n, 2), (y, x) from the middle of the detector."""
    y, x = (np.arange(size) - (size - 1) / 2 for size in frames.shape[1:])
    total = frames.sum((1, 2), dtype=float)
    return np.stack([frames.sum(2) @ y / total, frames.sum(1) @ x / total], axis=1)
