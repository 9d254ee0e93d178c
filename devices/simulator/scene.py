"""A scene: everything that one armed exposure's frames follow from, and how they follow.

Made from the hidden truth and what the devices were set to. Frames depend on true values; no reading does.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from devices.protocols import ColumnSetting, ExposureRequest, ScanRequest
from devices.simulator.faults import BadPixels
from devices.simulator.region import MARGIN, Region, drawn_in, larger, within
from devices.simulator.settings import VACUUM, Truth
from devices.simulator.stage import AT_REST, StageMotion, height_nm
from devices.simulator.stage import displacement_nm as stage_displacement_nm
from stem4d import dose, optics
from stem4d.detector import DetectorFacts
from stem4d.simulate import fluence as doses
from stem4d.simulate import patterns as physics
from stem4d.simulate import scanning
from stem4d.simulate.counts import Counter, Frames, noise_keys, record, scattered_pixels
from stem4d.simulate.damage import Damage, damaged, small_step_e_per_a2
from stem4d.simulate.integrating import Integrator, integrate, uneven
from stem4d.simulate.wander import current_part, displacement_nm

Floats = npt.NDArray[np.floating[Any]]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """One exposure, without the moment it starts at: the truth, and what every device was set to."""

    truth: Truth
    facts: DetectorFacts
    position: str
    column: ColumnSetting
    scan: ScanRequest
    exposure: ExposureRequest
    run: int
    stage: StageMotion = AT_REST
    lenses_off: bool = False
    """Whether they have hysteresis from a change."""

    @property
    def frames(self) -> int:
        """Positions of the scan."""
        return self.scan.shape[0] * self.scan.shape[1]

    @property
    def dtype(self) -> str:
        """uint8, uint16 or uint32: what holds the counter."""
        return detector_of(self).dtype.name

    @property
    def raster(self) -> scanning.Raster:
        """The scan as the physics layer takes it."""
        told = self.scan
        return scanning.Raster(
            told.shape, told.step_nm, told.dwell_time_us, told.flyback_us, told.offset_nm, told.follow_nm_per_min
        )

    @property
    def nominal_mrad_per_pixel(self) -> float:
        """Angle per pixel by the camera length's name."""
        return optics.mrad_per_pixel(self.facts.pixel_pitch_um, self.column.optics.camera_length_mm)

    @property
    def projection_mrad_per_px(self) -> Array:
        """True angle (y, x) per detector pixel (y, x)."""
        return self.truth.projector.matrix(self.nominal_mrad_per_pixel, self.truth.scan.mirrored)

    def at(self, simulated_s: float) -> "Scene":
        """The scene with what the truth's schedule has changed by a moment of the instrument's time."""
        truth = self.truth.at(simulated_s)
        return self if truth is self.truth else replace(self, truth=truth)


def illumination_of(scene: Scene) -> physics.Illumination:
    """Probe and detector as the physics layer takes them."""
    told, truth = scene.column.optics, scene.truth
    matrix = scene.projection_mrad_per_px
    return physics.Illumination(
        beam_energy_kev=told.beam_energy_kev,
        convergence_semi_angle_mrad=told.convergence_semi_angle_mrad * truth.projector.convergence_ratio,
        aberrations=truth.true_aberrations(
            told.defocus_nm + scene.column.focus_correction_nm + _focus_off_nm(scene),
            told.spherical_aberration_mm,
            scene.column.stigmator_nm,
        ),
        detector_shape=scene.facts.shape,
        projection_mrad_per_px=((matrix[0, 0], matrix[0, 1]), (matrix[1, 0], matrix[1, 1])),
        source_fwhm_a=truth.beam.source_fwhm_a,
    )


def _focus_off_nm(scene: Scene) -> float:
    """What height of the specimen and hysteresis of the lenses add to the defocus."""
    off_nm = scene.truth.lens.hysteresis_nm if scene.lenses_off else 0.0
    if scene.position == VACUUM:
        return off_nm
    area = scene.truth.areas[scene.position]
    return off_nm + height_nm(scene.stage, area.place_um, area.height_nm)


def detector_of(scene: Scene) -> Counter | Integrator:
    """The detector as the physics layer takes it."""
    truth, shape, seed = scene.truth, scene.facts.shape, scene.truth.seed
    answer = truth.detector
    dead = _bad(truth.dead_pixels, shape, seed + 2)
    for top, left, bottom, right in answer.gaps:
        dead[top:bottom, left:right] = True
    hot = _bad(truth.hot_pixels, shape, seed + 1)
    if answer.kind == "integrating":
        return Integrator(
            scene.exposure.bit_depth,
            hot,
            dead,
            counts_per_electron=answer.counts_per_electron,
            dark_counts=uneven(shape, answer.dark_counts, answer.dark_spread_counts, seed + 4),
            read_noise_counts=answer.read_noise_counts,
            response=uneven(shape, 1.0, answer.response_spread, seed + 5),
        )
    even = answer.response_spread == 0 and answer.counts_per_electron == 1
    return Counter(
        scene.exposure.bit_depth,
        hot,
        dead,
        noisy=_bad(answer.noisy_pixels, shape, seed + 3) if answer.noisy_pixels else None,
        noise_counts=answer.noise_counts,
        dead_time_us=answer.dead_time_us,
        paralysable=answer.paralysable,
        exposure_time_us=scene.exposure.exposure_time_us,
        wraps=answer.wraps,
        response=None if even else uneven(shape, answer.counts_per_electron, answer.response_spread, seed + 5),
    )


def _bad(pixels: BadPixels, shape: tuple[int, int], seed: int) -> npt.NDArray[np.bool_]:
    if isinstance(pixels, float | int):
        return scattered_pixels(shape, pixels, seed)
    mask = np.zeros(shape, np.bool_)
    for y, x in pixels:
        mask[y, x] = True
    return mask


def times_s(scene: Scene, frames: npt.NDArray[np.int64]) -> Floats:
    """When frames begin, from the start of the scan [s]."""
    return scanning.times_s(scene.raster, frames)


def specimen_positions_nm(scene: Scene, frames: npt.NDArray[np.int64], start_s: float) -> Floats:
    """Where the probe meets the specimen (n, 2), (y, x) along the specimen's axes [nm]."""
    errors = scene.truth.scan.errors(scene.truth.scan_detector_rotation_deg + scene.scan.rotation_deg)
    placed = scanning.true_nm(scene.raster, errors, frames, start_s, scene.truth.seed, scene.run)
    if any(scene.column.beam_shift_nm):
        placed = placed + scanning.turn(errors.rotation_deg) @ np.array(scene.column.beam_shift_nm)
    if scene.position == VACUUM:
        return placed
    area, when_s = scene.truth.areas[scene.position], start_s + times_s(scene, frames)
    met: Floats = placed - displacement_nm(area.drift, when_s)
    return met - stage_displacement_nm(
        scene.stage, scene.truth.stage, area.place_um, area.displaced_nm, area.height_nm, when_s
    )


def shifts_px(scene: Scene, frames: npt.NDArray[np.int64]) -> Floats:
    """Where the undeflected beam lands (n, 2), (y, x) from the detector's middle [px].

    Notes
    -----
    In mrad, with r the commanded probe position [nm] from the field's middle and q the products of r + beam_shift::

        misalignment + diffraction_shift + (descan_error + descan_correction) @ r + descan_quadratic @ q
            + beam_shift_pattern @ beam_shift

    so a calibration that measures a slope corrects it with its negative.
    """
    truth, column = scene.truth, scene.column
    at = scanning.commanded_nm(scene.raster, frames)
    slope = np.array(truth.descan_error_mrad_per_nm) + np.array(column.descan_mrad_per_nm)
    borne = at + np.array(column.beam_shift_nm)
    products = np.stack([borne[:, 0] ** 2, borne[:, 0] * borne[:, 1], borne[:, 1] ** 2], axis=1)
    middle = np.array(truth.misalignment_mrad) + np.array(column.diffraction_shift_mrad)
    middle = middle + np.array(truth.lens.beam_shift_pattern_mrad_per_nm) @ np.array(column.beam_shift_nm)
    moved = middle + at @ slope.T + products @ np.array(truth.projector.descan_quadratic_mrad_per_nm2).T
    shifted: Floats = moved @ _to_pixels(scene).T
    return shifted


def _to_pixels(scene: Scene) -> Array:
    """From the mrad that shift and descan coils are set in to pixels: along the detector's own axes, never mirrored."""
    return np.asarray(np.linalg.inv(scene.truth.projector.matrix(scene.nominal_mrad_per_pixel, mirrored=False)), float)


def largest_shift_px(scene: Scene) -> float:
    """Largest shift along an axis; looked for on the field's border and its middle lines."""
    rows, columns = scene.scan.shape
    grid = np.arange(rows * columns).reshape(rows, columns)
    lines = (grid[0], grid[-1], grid[:, 0], grid[:, -1], grid[rows // 2], grid[:, columns // 2])
    return float(np.abs(shifts_px(scene, np.concatenate(lines))).max())


def region_nm(scene: Scene, start_s: float) -> tuple[tuple[float, float], ...]:
    """Corners (y, x) of what the scan can meet of the specimen [nm]; drift over the scan is in it."""
    rows, columns = scene.scan.shape
    grid = np.arange(rows * columns).reshape(rows, columns)
    met = specimen_positions_nm(scene, np.concatenate([grid[0], grid[-1], grid[:, 0], grid[:, -1]]), start_s)
    low, high = met.min(axis=0), met.max(axis=0)
    return tuple((float(y), float(x)) for y in (low[0], high[0]) for x in (low[1], high[1]))


MOST_UPDATES = 32
"""Most times that a scan's tile is made anew for its own damage: each costs what ten to a hundred frames do."""


def damage_of(scene: Scene) -> Damage | None:
    """How what is under the beam suffers; None where it does not."""
    if scene.position == VACUUM:
        return None
    area = scene.truth.areas[scene.position]
    return (
        None if area.beam_damage is None else Damage(**area.beam_damage.model_dump(exclude_none=True), seed=area.seed)
    )


def frames_an_update(scene: Scene, damage: Damage) -> int:
    """Frames of the whole rows that see the same damage: by what a scan's dose changes, whoever reads them."""
    rows, columns = scene.scan.shape
    # Where the probe is smaller than a step, its places get more than the average. The peak of a Gaussian is that of a
    # disc of twice its rms radius.
    scan_e_per_a2 = dose.local_fluence_e_per_a2(
        scene.truth.true_current_pa(scene.column.optics.probe_current_pa),
        scene.scan.dwell_time_us,
        scene.scan.step_nm,
        2 * doses.probe_radius_a(illumination_of(scene)),
    )
    updates = min(max(int(np.ceil(scan_e_per_a2 / small_step_e_per_a2(damage))), 1), MOST_UPDATES, rows)
    return -(-rows // updates) * columns


def dose_after(scene: Scene, fluence: doses.Fluence, lit: npt.NDArray[np.int64], start_s: float) -> doses.Fluence:
    """Fluence after the lit ones of the frames that one update holds for.

    The beam stays for the whole dwell, and where nothing blanks it crosses the row again on its way back.
    """
    if not len(lit):
        return fluence
    when_s = start_s + times_s(scene, lit)
    scene = scene.at(float(when_s[0]))
    back_us = 0.0 if scene.scan.flyback_blanked else scene.scan.flyback_us / scene.scan.shape[1]
    time_us = scene.scan.dwell_time_us + back_us
    electrons = _nominal_electrons(scene, time_us) * current_part(scene.truth.beam.emission, when_s)
    radius_a = doses.probe_radius_a(illumination_of(scene))
    return doses.add(fluence, specimen_positions_nm(scene, lit, start_s), electrons, radius_a)


def dose_after_all(scene: Scene, fluence: doses.Fluence, lit: npt.NDArray[np.int64], start_s: float) -> doses.Fluence:
    """Fluence after all lit frames of an exposure, added up as `render` does."""
    damage = damage_of(scene)
    if damage is not None:
        updates = lit // frames_an_update(scene, damage)
        for part in np.split(lit, np.flatnonzero(np.diff(updates)) + 1):
            fluence = dose_after(scene, fluence, part, start_s)
    return fluence


def _nominal_electrons(scene: Scene, time_us: float) -> float:
    """Electrons in a time by the true current, before it drifts or fails."""
    return dose.electrons(scene.truth.true_current_pa(scene.column.optics.probe_current_pa), time_us)


def check(scene: Scene) -> None:
    """Raise where the simulation cannot hold the scene's probe or pattern; see `wave_shape`."""
    slices = scene.truth.specimen_at(scene.position).slices
    physics.wave_shape(illumination_of(scene), largest_shift_px(scene), slices)


THREADS = 2
"""Threads that render: the usual cores of a small machine, beside the process that takes the frames."""
_helpers = ThreadPoolExecutor(THREADS - 1, thread_name_prefix="render")


class ReadyScene:
    """A scene made ready for frames: what is slow to make is kept until the truth's schedule changes it.

    It remembers the dose of what was rendered on it, where the specimen suffers: frames are to come in order.
    """

    def __init__(self, scene: Scene, about_s: float) -> None:
        self._scene = self._now = scene
        self._until_s = -np.inf
        self._made: tuple[Any, Region, physics.Prepared] | None = None
        self.expose_first(doses.untouched())
        self.detector = detector_of(scene)
        self.move_to(about_s, about_s)
        self._until_s = -np.inf

    def move_to(self, simulated_s: float, start_s: float) -> tuple[Scene, physics.Prepared]:
        """The scene as it is at a moment, with its physics; ``start_s`` is when its scan began."""
        if simulated_s < self._until_s and self._made is not None:
            return self._now, self._made[2]
        self._now = self._scene.at(simulated_s)
        self._until_s = self._scene.truth.next_change_s(simulated_s)
        self.detector = detector_of(self._now)
        light, specimen = illumination_of(self._now), self._now.truth.specimen_at(self._now.position)
        shift, region = largest_shift_px(self._now), region_nm(self._now, start_s)
        damage = damage_of(self._now)
        key = (light, specimen, shift, damage)
        if self._made is None or self._made[0] != key or not within(region, self._made[1]):
            roomy = larger(region, MARGIN if damage is None else MARGIN + drawn_in(damage))
            kept = damage is not None
            self._made = (key, roomy, physics.prepare(light, specimen, shift, np.array(roomy), keep_phase=kept))
        return self._now, self._made[2]

    def expose_first(self, fluence: doses.Fluence) -> None:
        """Begin a scan on a specimen that has this dose already."""
        self._fluence, self._update, self._lit = fluence, -1, list[npt.NDArray[np.int64]]()
        self._suffered: tuple[physics.Prepared, physics.Prepared] | None = None

    def suffer(
        self, ready: physics.Prepared, frames: npt.NDArray[np.int64], start_s: float, lit: npt.NDArray[np.bool_]
    ) -> physics.Prepared:
        """The specimen as the frames of one update find it; afterwards they have exposed it."""
        damage, own = damage_of(self._now), damage_of(self._scene)
        if damage is None or own is None or ready.phase is None or ready.layout is None:
            return ready
        together = frames_an_update(self._scene, own)
        update = int(frames[0]) // together
        if update != self._update:
            if self._lit:
                self._fluence = dose_after(self._scene, self._fluence, np.concatenate(self._lit), start_s)
            self._update, self._lit, self._suffered = update, [], None
        self._lit.append(frames[lit])
        if not self._fluence.values.size:
            return ready
        if self._suffered is None or self._suffered[0] is not ready:
            if ready.layout.repeats:
                # One tile stands for many places: they all get the mean of what these rows have.
                rows = np.arange(update * together, min((update + 1) * together, self._scene.frames))
                mean = doses.mean_at(self._fluence, specimen_positions_nm(self._now, rows, start_s))
                tile = np.full(ready.layout.shape, mean, np.float32)
            else:
                tile = doses.on_tile(self._fluence, ready.layout)
            self._suffered = (ready, damaged(ready, ready.phase, tile, damage))
        return self._suffered[1]


def make_ready(scene: Scene, about_s: float = 0.0) -> ReadyScene:
    """The scene made ready for a scan that starts at about a moment of the instrument's time."""
    return ReadyScene(scene, about_s)


def render(
    scene: Scene, bench: ReadyScene, frames: npt.NDArray[np.int64], start_s: float, lit: npt.NDArray[np.bool_]
) -> Frames:
    """Counts (n, det_y, det_x) of frames of a scan started at ``start_s``; ``lit`` (n,) is where the beam was on."""
    damage = damage_of(scene)
    if damage is None:
        return _render(scene, bench, frames, start_s, lit)
    cuts = np.flatnonzero(np.diff(frames // frames_an_update(scene, damage))) + 1
    parts = zip(np.split(frames, cuts), np.split(lit, cuts), strict=True)
    return np.concatenate([_render(scene, bench, some, start_s, on) for some, on in parts])


def _render(
    scene: Scene, bench: ReadyScene, frames: npt.NDArray[np.int64], start_s: float, lit: npt.NDArray[np.bool_]
) -> Frames:
    when_s = start_s + times_s(scene, frames)
    scene, ready = bench.move_to(float(when_s[0]), start_s)
    ready = bench.suffer(ready, frames, start_s, lit)
    places, shifts = specimen_positions_nm(scene, frames, start_s), shifts_px(scene, frames)
    nominal = _nominal_electrons(scene, scene.exposure.exposure_time_us)
    electrons = np.where(lit, nominal * current_part(scene.truth.beam.emission, when_s), 0.0)
    keys = noise_keys(scene.truth.seed, scene.run, *np.divmod(frames, scene.scan.shape[1]))
    blur_px, detector = scene.truth.detector.blur_px, bench.detector
    counts = np.empty((len(frames), *scene.facts.shape), detector.dtype)

    def count(part: slice) -> None:
        fractions = physics.patterns(ready, places[part], shifts[part])
        if blur_px > 0:
            fractions = ndimage.gaussian_filter(fractions, (0, blur_px, blur_px), mode="constant")
        if isinstance(detector, Integrator):
            counts[part] = integrate(fractions, electrons[part], keys[part], detector)
        else:
            counts[part] = record(fractions, electrons[part], keys[part], detector)

    # Cut where patterns are cut anyway: every frame is the same to the last bit, however many threads there are.
    first = -(-len(frames) // (THREADS * physics.TOGETHER)) * physics.TOGETHER
    parts = [slice(start, start + first) for start in range(0, len(frames), first)]
    others = [_helpers.submit(count, part) for part in parts[1:]]
    count(parts[0])
    for other in others:
        other.result()
    return counts
