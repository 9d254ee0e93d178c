"""Traps for what a scan of structure gives: step from a lattice, rotation and handedness from deflections."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from devices.simulator.scene import detector_of
from stem4d.calibrate.crystals import PlanarLattice, hexagonal, square
from stem4d.calibrate.rotation import RotationFit, fit_rotation
from stem4d.calibrate.step import MAX_DEPARTURE, fit_step
from stem4d.detector import full_scale
from stem4d.lattice_constants import STRONTIUM_TITANATE_A
from tests.blind.outcomes import Outcome
from tests.blind.traps import Trap
from tests.blind.world import Setup, bad_pixels, centres_of_mass, dark_field, frames_of, scene

STEP = Setup(200.0, 20.0, 2.4, 24, (64, 64), 0.085, 2e3)
PERIOD_NM = STRONTIUM_TITANATE_A / 10 / np.sqrt(2)
"""Columns of Sr and of TiO look alike at these angles: the lattice that shows is the centred one."""
TITANATE = {"specimen": "crystal", "material": "SrTiO3", "thickness_nm": 3.0, "angle_deg": 12.0}


@cache
def _image(key: str, setup: Setup = STEP) -> np.ndarray:
    """Counts beyond the disk of a scan (scan_y, scan_x)."""
    area, settings = _lattices()[key]
    areas = {} if area is None else {"there": {"seed": 3, **area}}
    one = scene(setup, "vacuum" if area is None else "there", seed=23, areas=areas, **settings)
    detector = detector_of(one)
    return dark_field(frames_of(one), detector.hot | detector.dead, 9.5)


def _lattices() -> dict[str, tuple[dict[str, Any] | None, dict[str, Any]]]:
    beam_lost = {"beam": {"dropouts": [{"at_s": 0.1, "seconds": 0.1}]}}
    return {
        "SrTiO3": (TITANATE, {"scan_detector_rotation_deg": 33.0, **bad_pixels(24, np.random.default_rng(1))}),
        "SrTiO3 turned": (TITANATE | {"angle_deg": 45.0}, {"scan_detector_rotation_deg": 33.0}),
        "vacuum": (None, {}),
        "amorphous": ({"specimen": "amorphous", "thickness_nm": 5.0}, {}),
        "dropout": (TITANATE, {"scan_detector_rotation_deg": 33.0} | beam_lost),
        "drift": (TITANATE | {"drift_nm_per_min": [0.0, 90.0]}, {"scan_detector_rotation_deg": 33.0}),
        "jump": (TITANATE | {"jumps": [{"at_s": 0.2, "by_nm": [0.13, 0.1]}]}, {"scan_detector_rotation_deg": 33.0}),
        "hum": (TITANATE, {"scan_detector_rotation_deg": 33.0, "scan": {"hum_a_rms": 1.5}}),
        "strained 4 %": (
            {"specimen": "strained", "material": "SrTiO3", "thickness_nm": 3.0}
            | {"displacement": {"linear": [[0.04, 0.0], [0.0, 0.04]]}},
            {},
        ),
        "MoS2": ({"specimen": "mos2"}, {}),
        "gold": ({"specimen": "crystal", "material": "Au", "thickness_nm": 3.0}, {}),
    }


def step_of(
    key: str,
    lattice: PlanarLattice | None = None,
    *,
    setup: Setup = STEP,
    also: str = "",
    half: str = "",
    tolerance: float | None = None,
) -> list[Outcome]:
    """The step by a claimed lattice; ``also`` adds a second image, ``half`` puts one beside the first."""
    image = _image(key, setup)
    if also:
        image = image + _image(also, setup)
    if half:
        image = np.where(np.arange(image.shape[1])[None] < image.shape[1] // 2, image, _image(half, setup))
    told = {} if tolerance is None else {"nominal_tolerance": tolerance}
    fit = fit_step([image], np.ones(image.shape, bool), setup.step_nm, lattice or square(PERIOD_NM), **told)
    if not fit.ok:
        return [Outcome("step", "%", "4096 x 2e3 e", reason=fit.reason)]
    found = (fit.step_y_nm, fit.step_y_uncertainty_nm), (fit.step_x_nm, fit.step_x_uncertainty_nm)
    return [
        Outcome("step", "%", "4096 x 2e3 e", 100 * (step / setup.step_nm - 1), 100 * sigma / setup.step_nm, 0.5)
        for step, sigma in found
    ]


TURN = Setup(200.0, 20.0, 20 / 14, 64, (40, 40), 0.05, 2e4)
RANDOM = {"specimen": "random", "spacing_a": 4.0, "atom_phase_rad": 0.9, "modulation": 0.3}
ANGLE = 37.0


@cache
def _deflections(key: str, setup: Setup = TURN, masked: bool = True) -> tuple[Any, np.ndarray, np.ndarray]:
    """Maps of the centre of mass with what was recorded, a dark-field image, and pixels at full scale."""
    area, settings = _structures()[key]
    areas = {} if area is None else {"there": {"seed": 4, **area}}
    settings = {"scan_detector_rotation_deg": ANGLE, "scan": {"mirrored": True}} | settings
    one = scene(setup, "vacuum" if area is None else "there", seed=29, areas=areas, **settings)
    detector = detector_of(one)
    mask = (detector.hot | detector.dead) & masked
    frames = frames_of(one)
    full = ((frames >= full_scale(setup.bit_depth)) & ~mask).sum(axis=(1, 2)).reshape(setup.scan)
    return centres_of_mass(frames, mask, 20.0), dark_field(frames, mask, 16.0), full


def _structures() -> dict[str, tuple[dict[str, Any] | None, dict[str, Any]]]:
    bad = bad_pixels(64, np.random.default_rng(2))
    mirrored = {"mirrored": True}
    dead_quadrant = {"detector": {"gaps": [[0, 0, 32, 32]]}}
    return {
        "random": (RANDOM, bad),
        "vacuum": (None, bad),
        "vacuum with descan": (None, {"descan_error_mrad_per_nm": [[0.6, 0.2], [-0.3, 0.5]]}),
        "vacuum with quadratic descan": (
            None,
            {"projector": {"descan_quadratic_mrad_per_nm2": [[1.0, 0.4, 0.2], [0.3, 0.8, 1.2]]}},
        ),
        "descan": (RANDOM, {"descan_error_mrad_per_nm": [[0.6, 0.2], [-0.3, 0.5]]}),
        "amorphous": ({"specimen": "amorphous", "thickness_nm": 5.0}, {}),
        "lattice": ({"specimen": "square", "spacing_a": 3.5, "atom_phase_rad": 0.9, "angle_deg": 10.0}, {}),
        "dropout": (RANDOM, {"beam": {"dropouts": [{"at_s": 0.05, "seconds": 0.04}]}}),
        "weak beam": (RANDOM, {"beam": {"dropouts": [{"at_s": 0.05, "seconds": 0.04, "part": 0.01}]}}),
        "unequal steps": (RANDOM, {"scan": mirrored | {"step_ratio": [1.15, 0.85], "shear": 0.05}}),
        "drift": (RANDOM | {"drift_nm_per_min": [200.0, 150.0]}, {}),
        "dead quadrant": (RANDOM, dead_quadrant),
        "clipped": (RANDOM, {}),
        "wrapped": (RANDOM, {"detector": {"wraps": True}}),
        "hot": (RANDOM, {"hot_pixels": bad["hot_pixels"]}),
        "ellipse": (RANDOM, {"projector": {"ellipticity": 0.1, "ellipse_angle_deg": 20.0}}),
    }


def rotation_judged(fit: RotationFit, angle: float = ANGLE, mirrored: bool = True) -> list[Outcome]:
    """Rotation and handedness against the truth."""
    dose = "1600 x 2e4 e"
    if not fit.ok:
        return [Outcome("rotation", "deg", dose, reason=fit.reason)]
    circle = 360.0 if fit.half_turn_known else 180.0
    error = (fit.rotation_deg - angle + circle / 2) % circle - circle / 2
    return [
        Outcome("rotation", "deg", dose, error, fit.rotation_uncertainty_deg, 0.5),
        Outcome("handedness", "wrong", dose, float(fit.mirrored != mirrored), 0.0, 0.5),
    ]


def rotation_of(
    key: str, *, setup: Setup = TURN, masked: bool = True, told: bool | None = None, dark: bool = True
) -> list[Outcome]:
    """Rotation and handedness from a scan's deflections."""
    maps, image, full = _deflections(key, setup, masked)
    return rotation_judged(fit_rotation(*maps, image if dark else None, mirrored=told, saturated_px=full))


def _step(name: str, *told: Any, **more: Any) -> Trap:
    kept = {key: more.pop(key) for key in ("stated", "quick") if key in more}
    return Trap("step", name, partial(step_of, *told, **more), **kept)


def _turn(name: str, *told: Any, **more: Any) -> Trap:
    kept = {key: more.pop(key) for key in ("stated", "quick") if key in more}
    return Trap("rotation", name, partial(rotation_of, *told, **more), **kept)


WITHIN = (
    f"a lattice that is off by less than {MAX_DEPARTURE:.0%} is a step that is off by as much: fit_step's docstring"
)
COARSE = replace(STEP, step_nm=0.19)
FOLDED = replace(STEP, step_nm=0.24)

TRAPS: tuple[Trap, ...] = (
    _step("strontium titanate (honest)", "SrTiO3"),
    _step("vacuum", "vacuum", quick=True),
    _step("amorphous film", "amorphous", quick=True),
    _step("1.5 steps per period", "SrTiO3", setup=COARSE),
    _step("steps of 0.87 periods, told a lattice of 0.78 nm", "SrTiO3", square(0.78), setup=FOLDED),
    _step("steps of 0.69 periods, told a lattice of 0.55 nm", "SrTiO3", square(0.552), setup=COARSE),
    _step("two crystals in one image", "SrTiO3", also="SrTiO3 turned"),
    _step("two crystals side by side", "SrTiO3", half="SrTiO3 turned"),
    _step("lattice constant told 4 % off", "SrTiO3", square(PERIOD_NM * 1.04), stated=WITHIN),
    _step("lattice constant told 4 % off, step known to 2 %", "SrTiO3", square(PERIOD_NM * 1.04), tolerance=0.02),
    _step("lattice constant told 16 % off", "SrTiO3", square(PERIOD_NM * 1.16)),
    _step("lattice constant told 16 % short", "SrTiO3", square(PERIOD_NM * 0.84)),
    _step("lattice constant told 41 % off", "SrTiO3", square(PERIOD_NM * np.sqrt(2))),
    _step("lattice constant told 29 % short", "SrTiO3", square(PERIOD_NM / np.sqrt(2))),
    _step("lattice told twice as long", "SrTiO3", square(PERIOD_NM * 2)),
    _step("square lattice told hexagonal", "SrTiO3", hexagonal(PERIOD_NM)),
    _step("MoS2 told square", "MoS2", square(PERIOD_NM)),
    _step("gold told strontium titanate", "gold"),
    _step("lattice strained by 4 %", "strained 4 %", stated=WITHIN),
    _step("lattice strained by 4 %, step known to 2 %", "strained 4 %", tolerance=0.02),
    _step("drift of 11 steps during the scan", "drift"),
    _step("stage jump of half a period", "jump"),
    _step("hum of 1.5 Å rms", "hum"),
    _step("beam lost for a quarter of the scan", "dropout"),
    _step("0.5 electrons a pattern", "SrTiO3", setup=replace(STEP, electrons=0.5)),
    _step("six periods across the field", "SrTiO3", setup=replace(STEP, scan=(20, 20))),
    _turn("random atoms (honest)", "random"),
    _turn("vacuum", "vacuum", quick=True),
    _turn("vacuum with a descan error", "vacuum with descan"),
    _turn("vacuum with a quadratic descan error", "vacuum with quadratic descan"),
    _turn("specimen with a descan error left in", "descan"),
    _turn("amorphous film", "amorphous"),
    _turn("perfect square lattice", "lattice"),
    _turn("beam lost for 4 ms of 160", "dropout"),
    _turn("beam at 1 % for a quarter of the scan", "weak beam"),
    _turn("steps unequal by 30 %, shear 0.05", "unequal steps"),
    _turn("drift of 13 steps during the scan", "drift"),
    _turn("a dead quadrant, masked", "dead quadrant"),
    _turn("a dead quadrant, no mask", "dead quadrant", masked=False),
    _turn("two hot pixels, no mask", "hot", masked=False),
    _turn("disk clipped at 12 bit", "clipped", setup=replace(TURN, electrons=6e6, bit_depth=12)),
    _turn("disk wrapped at 12 bit", "wrapped", setup=replace(TURN, electrons=6e6, bit_depth=12)),
    _turn("detector mirrored, told not mirrored", "random", told=False),
    _turn("vacuum, told mirrored", "vacuum", told=True),
    _turn("100 electrons a pattern", "random", setup=replace(TURN, electrons=100.0)),
    _turn("ellipse of 10 %", "ellipse"),
)
