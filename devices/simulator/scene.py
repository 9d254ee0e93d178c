"""A scene: everything that one armed exposure's frames follow from, as a frozen picklable value.

Made from the hidden truth and what the devices were set to. Frames depend on true values; no reading does.
"""

from dataclasses import dataclass
from math import cos, radians, sin
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.protocols import ColumnSetting, ExposureRequest, Matrix, ScanRequest
from devices.simulator.settings import VACUUM, BadPixels, Pair, Truth
from stem4d import dose, optics
from stem4d.detector import DetectorFacts
from stem4d.simulate.counts import Counter, Frames, noise_keys, record, scattered_pixels
from stem4d.simulate.patterns import Bench, Illumination, isotropic, patterns, prepare, wave_shape
from stem4d.simulate.specimen import Specimen

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Scene:
    """One exposure, without the moment it starts at."""

    illumination: Illumination
    specimen: Specimen
    scan: ScanRequest
    rotation_deg: float
    """Of the scan axes to the detector's, from x towards y."""
    middle_mrad: Pair
    """Where the undeflected beam lands when the probe is at the field's centre."""
    descan_mrad_per_nm: Matrix
    """What is left of the descan error after the correction."""
    drift_nm_per_s: Pair
    drift_starts_s: float
    electrons: float
    counter: Counter
    seed: int
    run: int

    @property
    def frames(self) -> int:
        """Positions of the scan."""
        return self.scan.shape[0] * self.scan.shape[1]


def compose(
    truth: Truth,
    facts: DetectorFacts,
    position: str,
    column: ColumnSetting,
    scan: ScanRequest,
    exposure: ExposureRequest,
    run: int,
) -> Scene:
    """Put a scene together.

    Notes
    -----
    The pattern's centre is (all [mrad], (y, x), from the detector's middle, r the probe position [nm] from the
    field's centre along the scan axes)::

        misalignment + diffraction_shift + (descan_error + descan_correction) @ r

    so a calibration that measures a slope corrects it with its negative.
    """
    told = column.optics
    area = None if position == VACUUM else truth.areas[position]
    error, correction = np.array(truth.descan_error_mrad_per_nm), np.array(column.descan_mrad_per_nm)
    (yy, yx), (xy, xx) = (error + correction).tolist()
    drift_y, drift_x = area.drift_nm_per_min if area else (0.0, 0.0)
    return Scene(
        illumination=Illumination(
            told.beam_energy_kev,
            told.convergence_semi_angle_mrad,
            truth.true_aberrations(told.defocus_nm, told.spherical_aberration_mm),
            facts.shape,
            isotropic(optics.mrad_per_pixel(facts.pixel_pitch_um, told.camera_length_mm)),
        ),
        specimen=truth.specimen_at(position),
        scan=scan,
        rotation_deg=truth.scan_detector_rotation_deg + scan.rotation_deg,
        middle_mrad=(
            truth.misalignment_mrad[0] + column.diffraction_shift_mrad[0],
            truth.misalignment_mrad[1] + column.diffraction_shift_mrad[1],
        ),
        descan_mrad_per_nm=((yy, yx), (xy, xx)),
        drift_nm_per_s=(drift_y / 60, drift_x / 60),
        drift_starts_s=area.drift_starts_s if area else 0.0,
        electrons=dose.electrons(truth.true_current_pa(told.probe_current_pa), exposure.exposure_time_us),
        counter=Counter(
            exposure.bit_depth,
            _bad(truth.hot_pixels, facts.shape, truth.seed + 1),
            _bad(truth.dead_pixels, facts.shape, truth.seed + 2),
        ),
        seed=truth.seed,
        run=run,
    )


def _bad(pixels: BadPixels, shape: tuple[int, int], seed: int) -> npt.NDArray[np.bool_]:
    if isinstance(pixels, float):
        return scattered_pixels(shape, pixels, seed)
    mask = np.zeros(shape, np.bool_)
    for y, x in pixels:
        mask[y, x] = True
    return mask


def times_s(scene: Scene, frames: npt.NDArray[np.int64]) -> Floats:
    """When frames begin, from the start of the scan [s]."""
    row, column = np.divmod(frames, scene.scan.shape[1])
    row_us = scene.scan.shape[1] * scene.scan.dwell_time_us + scene.scan.flyback_us
    times: Floats = (row * row_us + column * scene.scan.dwell_time_us) * 1e-6
    return times


def scan_positions_nm(scene: Scene, frames: npt.NDArray[np.int64]) -> Floats:
    """Probe positions (n, 2), (y, x) along the scan axes from the field's centre [nm]."""
    row, column = np.divmod(frames, scene.scan.shape[1])
    middle = (np.array(scene.scan.shape) - 1) / 2
    return (np.stack([row, column], axis=1) - middle) * scene.scan.step_nm


def specimen_positions_nm(scene: Scene, frames: npt.NDArray[np.int64], start_s: float) -> Floats:
    """Where the probe meets the specimen (n, 2), (y, x) along the detector's axes [nm]: rotated, less the drift."""
    angle = radians(scene.rotation_deg)
    turn = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])
    drifted_s = np.maximum(start_s + times_s(scene, frames) - scene.drift_starts_s, 0)
    placed: Floats = scan_positions_nm(scene, frames) @ turn.T - np.outer(drifted_s, scene.drift_nm_per_s)
    return placed


def shifts_mrad(scene: Scene, frames: npt.NDArray[np.int64]) -> Floats:
    """Where the undeflected beam lands (n, 2), (y, x) from the detector's middle [mrad]."""
    shifts: Floats = scene.middle_mrad + scan_positions_nm(scene, frames) @ np.array(scene.descan_mrad_per_nm).T
    return shifts


def largest_shift_px(scene: Scene) -> float:
    """Largest shift along an axis [px]; descan is linear, so a corner of the field has it."""
    rows, columns = scene.scan.shape
    corners = np.array([0, columns - 1, (rows - 1) * columns, rows * columns - 1], np.int64)
    return float(np.abs(shifts_mrad(scene, corners)).max()) / scene.illumination.mrad_per_pixel


def check(scene: Scene) -> None:
    """Raise where the simulation cannot hold the scene's probe or pattern; see `wave_shape`."""
    wave_shape(scene.illumination, largest_shift_px(scene), scene.specimen.slices)


def make_bench(scene: Scene) -> Bench:
    """The scene's illumination and specimen made ready."""
    return prepare(scene.illumination, scene.specimen, largest_shift_px(scene))


def render(
    scene: Scene, bench: Bench, frames: npt.NDArray[np.int64], start_s: float, lit: npt.NDArray[np.bool_]
) -> Frames:
    """Counts (n, det_y, det_x) of frames of a scan started at ``start_s``; ``lit`` (n,) is where the beam was on."""
    rows, columns = np.divmod(frames, scene.scan.shape[1])
    shifts_px = shifts_mrad(scene, frames) / scene.illumination.mrad_per_pixel
    fractions = patterns(bench, specimen_positions_nm(scene, frames, start_s), shifts_px)
    fractions[~lit] = 0
    return record(fractions, scene.electrons, noise_keys(scene.seed, scene.run, rows, columns), scene.counter)
