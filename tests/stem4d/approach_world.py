"""A target of structure large and small on a simulated microscope, and scans of it that tell place and focus."""

from typing import Any

import numpy as np

from devices.protocols import ColumnSetting, ExposureRequest, ScanRequest
from devices.simulator.scene import Scene, make_ready, render
from devices.simulator.settings import Truth
from devices.simulator.stage import AT_REST, StageMotion
from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus
from stem4d.calibrate.angles import add_frames, empty_images, group_angles
from stem4d.calibrate.focus_scans import FocusScan
from stem4d.calibrate.tilt import TiltFit, fit_tilts
from stem4d.detector import DetectorFacts
from stem4d.maps import RunMaps
from stem4d.plan import Optics

ENERGY_KEV, ALPHA_MRAD, DELTA_MRAD, SIDE = 60.0, 4.6, 0.33, 32
"""A small detector with pixels of 3 Å in the specimen: half a micrometre of it can be held."""
TARGET = {"specimen": "biological", "globule_nm": 30.0, "rms_rad": 0.3, "seed": 3}
DETECTOR = DetectorFacts(
    name="cam",
    shape=(SIDE, SIDE),
    pixel_pitch_um=100.0,
    bit_depths=(16,),
    max_frame_rate_hz=2e4,
    max_count_rate_per_px_hz=1e9,
)
MIDDLE = ((SIDE - 1) / 2, (SIDE - 1) / 2)


def truth(area: dict[str, Any] | None = None, **settings: Any) -> Truth:
    """The hidden truth, with changes to the target and to the rest."""
    return Truth.model_validate({"seed": 5, "areas": {"target": {**TARGET, **(area or {})}}, **settings}, strict=False)


def exposed(
    hidden: Truth,
    shape: tuple[int, int],
    step_nm: float,
    defocus_nm: float,
    electrons: float,
    run: int = 1,
    rotation_deg: float = 0.0,
    stage: StageMotion = AT_REST,
    **column: Any,
) -> np.ndarray:
    """Frames (scan_y, scan_x, det_y, det_x) of a scan with so many electrons a pattern."""
    dwell_us = electrons / (10.0 * 6.241509)
    optics = Optics(
        beam_energy_kev=ENERGY_KEV,
        convergence_semi_angle_mrad=ALPHA_MRAD,
        defocus_nm=defocus_nm,
        probe_current_pa=10.0,
        camera_length_mm=100.0 / DELTA_MRAD,
    )
    scan = ScanRequest(
        shape=shape,
        step_nm=step_nm,
        rotation_deg=rotation_deg,
        dwell_time_us=dwell_us,
        flyback_us=0.0,
        flyback_blanked=True,
    )
    wanted = ExposureRequest(
        detector="cam", shape=(SIDE, SIDE), bit_depth=16, exposure_time_us=dwell_us, frames=shape[0] * shape[1]
    )
    scene = Scene(hidden, DETECTOR, "target", ColumnSetting(optics=optics, **column), scan, wanted, run, stage)
    ready = make_ready(scene)
    parts = np.array_split(np.arange(scene.frames), max(scene.frames // 64, 1))
    frames = [render(scene, ready, part, 0.0, np.ones(len(part), np.bool_)) for part in parts]
    return np.concatenate(frames).reshape(*shape, SIDE, SIDE)


def tilts_of(frames: np.ndarray, scan: FocusScan, rotation_hint_deg: float = 0.0) -> TiltFit:
    """What a focus scan says."""
    groups = group_angles((SIDE, SIDE), MIDDLE, ALPHA_MRAD / DELTA_MRAD)
    images = empty_images(groups, frames.shape[:2])
    add_frames(images, frames.reshape(-1, SIDE, SIDE), 0, 65535)
    return fit_tilts(
        images,
        scan.step_nm,
        DELTA_MRAD,
        ALPHA_MRAD,
        ENERGY_KEV,
        scan.defocus_nm,
        rotation_hint_deg=rotation_hint_deg,
        mirrored=False,
    )


def maps_of(frames: np.ndarray) -> RunMaps:
    """Maps as an acquisition leaves them."""
    from devices.map_buffers import MapBuffers

    radius = ALPHA_MRAD / DELTA_MRAD
    rings = (Annulus("disk", MIDDLE, 0.0, radius), Annulus("beyond_disk", MIDDLE, 1.2 * radius, 2.0 * radius))
    spec = AccumulatorSpec(detector_shape=(SIDE, SIDE), dtype="uint16", detectors=rings, full_scale=65535)
    accumulator = Accumulator(spec)
    buffers = MapBuffers(frames.shape[:2], spec)
    flat = frames.reshape(-1, SIDE, SIDE)
    buffers.put(slice(0, len(flat)), accumulator.add(flat))
    return buffers.finished(accumulator)
