"""Simulated microscopes with hidden truths drawn at random, and the frames that they give."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.protocols import ColumnSetting, ExposureRequest, ScanRequest
from devices.simulator.scene import Scene, detector_of, make_ready, render
from devices.simulator.settings import Truth, read_settings
from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus
from stem4d.detector import DetectorFacts
from stem4d.dose import ELECTRONS_PER_PA_US
from stem4d.plan import Optics

PITCH_UM = 100.0
TOGETHER = 64
Frames = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class Setup:
    """What is commanded: optics, raster, detector. The truth stands beside it."""

    energy_kev: float
    alpha_mrad: float
    mrad_per_pixel: float
    """Nominal."""
    pixels: int
    scan: tuple[int, int]
    step_nm: float
    electrons: float
    """Nominal electrons a pattern."""
    defocus_nm: float = 0.0
    bit_depth: int = 16
    dwell_us: float = 100.0

    @property
    def current_pa(self) -> float:
        """Commanded probe current."""
        return self.electrons / (self.dwell_us * ELECTRONS_PER_PA_US)


def bad_pixels(pixels: int, random: np.random.Generator, dead: float = 0.01) -> dict[str, Any]:
    """Two hot pixels at full scale and 1 % dead ones, as settings."""
    places = random.choice(pixels * pixels, 2 + round(dead * pixels * pixels), replace=False)
    pairs = [[int(place // pixels), int(place % pixels)] for place in places]
    return {"hot_pixels": pairs[:2], "dead_pixels": pairs[2:]}


def scene(setup: Setup, position: str = "vacuum", run: int = 1, **settings: Any) -> Scene:
    """An exposure on an instrument with the given hidden settings."""
    shape = (setup.pixels, setup.pixels)
    truth: Truth = read_settings(settings, (shape,))
    facts = DetectorFacts(
        name="blind",
        shape=shape,
        pixel_pitch_um=PITCH_UM,
        bit_depths=(12, 16),
        max_frame_rate_hz=1e6,
        max_count_rate_per_px_hz=1e9,
    )
    optics = Optics(
        beam_energy_kev=setup.energy_kev,
        convergence_semi_angle_mrad=setup.alpha_mrad,
        defocus_nm=setup.defocus_nm,
        probe_current_pa=setup.current_pa,
        camera_length_mm=PITCH_UM / setup.mrad_per_pixel,
    )
    raster = ScanRequest(
        shape=setup.scan,
        step_nm=setup.step_nm,
        rotation_deg=0.0,
        dwell_time_us=setup.dwell_us,
        flyback_us=0.0,
        flyback_blanked=True,
    )
    exposure = ExposureRequest(
        detector="blind",
        shape=shape,
        bit_depth=setup.bit_depth,
        exposure_time_us=setup.dwell_us,
        frames=setup.scan[0] * setup.scan[1],
    )
    return Scene(truth, facts, position, ColumnSetting(optics=optics), raster, exposure, run)


def frames_of(one: Scene, start_s: float = 0.0) -> Frames:
    """Every frame of an exposure (n, det_y, det_x)."""
    bench = make_ready(one)
    parts = np.split(np.arange(one.frames), np.arange(TOGETHER, one.frames, TOGETHER))
    return np.concatenate([render(one, bench, part, start_s, np.ones(len(part), np.bool_)) for part in parts])


def seed_of(random: np.random.Generator) -> int:
    """A seed for everything random within one instrument."""
    return int(random.integers(2**40))


def mask_of(one: Scene) -> np.ndarray:
    """Bad pixels, which another calibration finds: here as they are."""
    detector = detector_of(one)
    return detector.hot | detector.dead


def dark_field(frames: Frames, mask: np.ndarray, inner_px: float) -> np.ndarray:
    """Counts beyond a radius (scan_y, scan_x)."""
    side = round(len(frames) ** 0.5)
    y, x = np.indices(mask.shape) - (mask.shape[0] - 1) / 2
    return np.asarray(frames[:, (np.hypot(y, x) > inner_px) & ~mask].sum(axis=1, dtype=float).reshape(side, side))


def centres_of_mass(frames: Frames, mask: np.ndarray, reach_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps (y, x) and what was recorded, as an acquisition leaves them."""
    side = round(len(frames) ** 0.5)
    middle = (frames.shape[1] - 1) / 2
    spec = AccumulatorSpec(
        detector_shape=frames.shape[1:],
        dtype=frames.dtype.name,
        detectors=(),
        full_scale=65535,
        bad_pixels=mask,
        com_region=Annulus("com", (middle, middle), 0.0, reach_px),
    )
    centre = Accumulator(spec).add(frames).centre_px
    maps = centre.T.reshape(2, side, side)
    return maps[0], maps[1], np.isfinite(maps).all(axis=0)
