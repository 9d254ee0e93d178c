"""Traps for what moves: tilted images of a defocused scan, and drift from a series of scans."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from devices.simulator.scene import detector_of
from stem4d import optics
from stem4d.calibrate.angles import TiltImages, add_frames, empty_images, group_angles
from stem4d.calibrate.cross_check import cross_check
from stem4d.calibrate.drift import fit_drift
from stem4d.calibrate.rotation import RotationFit, fit_rotation
from stem4d.calibrate.tilt import TiltFit, fit_tilts
from stem4d.detector import full_scale
from stem4d.simulate.scanning import turn
from tasks.calibrations.agree import HALF_TURN_OPEN
from tests.blind.outcomes import Outcome
from tests.blind.traps import Trap
from tests.blind.world import Setup, bad_pixels, centres_of_mass, dark_field, frames_of, scene

KEV, ALPHA = 200.0, 20.0
TILT = Setup(KEV, ALPHA, 1.0, 64, (40, 40), 0.08, 2e4, defocus_nm=20.0)
RANDOM = {"specimen": "random", "spacing_a": 4.0, "atom_phase_rad": 0.5, "modulation": 0.3}
ANGLE = -64.0


@cache
def _seen(key: str, setup: Setup = TILT) -> tuple[TiltImages, RotationFit]:
    """Tilted images and the rotation by deflections of one scan, as the calibrations make them."""
    area, settings = _defocused()[key]
    areas = {} if area is None else {"there": {"seed": 6, **area}}
    settings = {"scan_detector_rotation_deg": ANGLE, **bad_pixels(64, np.random.default_rng(3)), **settings}
    one = scene(setup, "vacuum" if area is None else "there", seed=31, areas=areas, **settings)
    detector = detector_of(one)
    mask, frames = detector.hot | detector.dead, frames_of(one)
    images = empty_images(group_angles((64, 64), (31.5, 31.5), 20.0, mask), setup.scan)
    add_frames(images, frames, 0, full_scale(setup.bit_depth))
    return images, fit_rotation(*centres_of_mass(frames, mask, 30.0), dark_field(frames, mask, 22.0))


def _defocused() -> dict[str, tuple[dict[str, Any] | None, dict[str, Any]]]:
    return {
        "random": (RANDOM, {}),
        "vacuum": (None, {}),
        "amorphous": ({"specimen": "amorphous", "thickness_nm": 5.0}, {}),
        "lattice": ({"specimen": "square", "spacing_a": 3.9, "atom_phase_rad": 0.5}, {}),
        "descan": (RANDOM, {"descan_error_mrad_per_nm": [[1.0, 0.3], [-0.4, 1.2]]}),
        "strong descan": (RANDOM, {"descan_error_mrad_per_nm": [[4.0, 1.0], [-1.0, 4.0]]}),
        "off centre": (RANDOM, {"misalignment_mrad": [5.0, -4.0]}),
        "wrapped": (RANDOM, {"detector": {"wraps": True}}),
        "astigmatism": (RANDOM, {"aberrations": {"astigmatism_nm": 20.0, "astigmatism_angle_deg": 25.0}}),
        "coma": (RANDOM, {"aberrations": {"coma_nm": 1500.0, "coma_angle_deg": 25.0}}),
        "mirrored": (RANDOM, {"scan": {"mirrored": True}}),
        "drift": (RANDOM | {"drift_nm_per_min": [200.0, 150.0]}, {}),
        "dropout": (RANDOM, {"beam": {"dropouts": [{"at_s": 0.05, "seconds": 0.04}]}}),
        "weak beam": (RANDOM, {"beam": {"dropouts": [{"at_s": 0.05, "seconds": 0.04, "part": 0.2}]}}),
        "angles 10 % off": (RANDOM, {"projector": {"angle_ratio": 1.1}}),
        "dead quadrant": (RANDOM, {"detector": {"gaps": [[0, 0, 32, 32]]}}),
        "unequal steps": (RANDOM, {"scan": {"step_ratio": [1.15, 0.85]}}),
    }


def defocus_of(
    key: str,
    *,
    true: float = 20.0,
    told: float = 20.0,
    setup: Setup = TILT,
    mirrored: bool | None = None,
    checked: bool = False,
    hinted: bool = False,
    trusted: bool = False,
) -> list[Outcome]:
    """Defocus, astigmatism and rotation; ``checked`` holds the rotation against deflections as a calibration does.

    ``hinted`` gives rotation and handedness to the fit, as the task does where they are known; both are from a focused
    scan of their own. ``trusted`` lets the nominal sign pass where nothing tells it.
    """
    images, _ = _seen(key, replace(setup, defocus_nm=true))
    rotation = _seen(key, replace(setup, defocus_nm=0.0))[1] if checked or hinted else None
    told_more: dict[str, Any] = {"mirrored": mirrored} if mirrored is not None else {}
    if rotation is not None and not rotation.ok:
        return [Outcome("defocus", "nm", "1600 x 2e4 e", reason=f"rotation: {rotation.reason}")]
    if hinted and rotation is not None:
        told_more = {"mirrored": rotation.mirrored}
        told_more |= {"rotation_hint_deg": rotation.rotation_deg} if rotation.half_turn_known else {}
    told_more["trust_sign"] = trusted or checked
    fit = fit_tilts(images, setup.step_nm, setup.mrad_per_pixel, ALPHA, KEV, told, **told_more)
    dose = "1600 x 2e4 e"
    if not fit.ok:
        return [Outcome("defocus", "nm", dose, reason=fit.reason)]
    if checked and rotation is not None:
        lie = cross_check(rotation, fit)
        if not lie.ok:
            return [Outcome("defocus", "nm", dose, reason=lie.reason)]
        if not lie.half_turn_known:
            return [Outcome("defocus", "nm", dose, reason=HALF_TURN_OPEN["defocus"][1])]
    return _judged(fit, true, dict(_defocused()[key][1].get("aberrations", {})), key == "mirrored")


def _judged(fit: TiltFit, true: float, rest: dict[str, float], mirrored: bool) -> list[Outcome]:
    size, angle = rest.get("astigmatism_nm", 0.0), rest.get("astigmatism_angle_deg", 0.0)
    twice = np.radians(2 * np.array([angle, fit.astigmatism_angle_deg]))
    parts = np.array([size, fit.astigmatism_nm])[:, None] * np.stack([np.cos(twice), np.sin(twice)], axis=1)
    depth_nm = optics.depth_of_field_a(KEV, ALPHA) / 10
    circle = 360.0 if fit.half_turn_known else 180.0
    error = (fit.rotation_deg - ANGLE + circle / 2) % circle - circle / 2
    dose = "1600 x 2e4 e"
    limit = max(0.01 * abs(true), depth_nm / 4)
    return [
        Outcome("defocus", "nm", dose, fit.defocus_nm - true, fit.defocus_uncertainty_nm, limit),
        *(
            Outcome("astigmatism", "nm", dose, float(each), fit.astigmatism_uncertainty_nm, max(0.05 * size, 2.0))
            for each in parts[1] - parts[0]
        ),
        Outcome("rotation from tilts", "deg", dose, error, fit.rotation_uncertainty_deg, 0.5),
        Outcome("handedness from tilts", "wrong", dose, float(fit.mirrored != mirrored), 0.0, 0.5),
    ]


SERIES = Setup(200.0, 20.0, 2.4, 24, (32, 32), 0.06, 2e3, dwell_us=20.0)
TIMES = (0.0, 15.0, 30.0, 45.0, 60.0)
ATOMS = {"specimen": "random", "spacing_a": 4.0, "atom_phase_rad": 0.9, "modulation": 0.3}


def _moved() -> dict[str, tuple[dict[str, Any] | None, dict[str, Any], tuple[float, float]]]:
    """Area, settings and the true rate along the specimen's axes (nm/min), in the middle of the series."""
    steady = {"drift_nm_per_min": [0.2, -0.1]}
    return {
        "atoms": (ATOMS | steady, {}, (0.2, -0.1)),
        "vacuum": (None, {}, (0.0, 0.0)),
        "amorphous": ({"specimen": "amorphous", "thickness_nm": 3.0} | steady, {}, (0.2, -0.1)),
        "lattice": (
            {"specimen": "square", "spacing_a": 3.9, "atom_phase_rad": 0.9, "drift_nm_per_min": [1.0, 0.7]},
            {},
            (1.0, 0.7),
        ),
        "gold": (
            {"specimen": "crystal", "material": "Au", "thickness_nm": 3.0, "drift_nm_per_min": [0.6, 0.3]},
            {},
            (0.6, 0.3),
        ),
        "jump": (ATOMS | steady | {"jumps": [{"at_s": 40.0, "by_nm": [0.3, 0.2]}]}, {}, (0.2, -0.1)),
        "jump away": (ATOMS | {"jumps": [{"at_s": 40.0, "by_nm": [30.0, 20.0]}]}, {}, (0.0, 0.0)),
        "bend": (ATOMS | {"drift_nm_per_min2": [0.6, 0.4]}, {}, (0.3, 0.2)),
        "fast": (ATOMS | {"drift_nm_per_min": [3.0, 2.0]}, {}, (3.0, 2.0)),
        "in the scan": (ATOMS | {"drift_nm_per_min": [60.0, 40.0]}, {}, (60.0, 40.0)),
        "lost beam": (ATOMS | steady, {"beam": {"dropouts": [{"at_s": 29.0, "seconds": 2.0}]}}, (0.2, -0.1)),
        "half lost": (ATOMS | steady, {"beam": {"dropouts": [{"at_s": 30.0, "seconds": 0.008}]}}, (0.2, -0.1)),
        "noisy": (ATOMS | steady, {"scan": {"hum_a_rms": 1.5, "hum_hz": 333.0}}, (0.2, -0.1)),
    }


def drift_of(key: str, *, electrons: float = SERIES.electrons) -> list[Outcome]:
    """Drift from five scans over a minute."""
    area, settings, true = _moved()[key]
    setup = replace(SERIES, electrons=electrons)
    areas = {} if area is None else {"there": {"seed": 8, **area}}
    settings = {"scan_detector_rotation_deg": 30.0, **settings}
    one = scene(setup, "vacuum" if area is None else "there", seed=37, areas=areas, **settings)
    images = []
    for run, at_s in enumerate(TIMES):
        frames = frames_of(replace(one, run=run + 1), at_s)
        images.append([dark_field(frames, np.zeros(frames.shape[1:], bool), 9.0)])
    fit = fit_drift(images, list(TIMES), setup.step_nm, line_time_s=32 * 20e-6)
    if not fit.ok:
        return [Outcome("drift", "nm/min", "5 x 1024 x 2e3 e", reason=fit.reason)]
    wanted = turn(30.0).T @ np.array(true)
    limit = max(0.05 * float(np.hypot(*true)), 0.1 * setup.step_nm)
    return [
        Outcome("drift", "nm/min", "5 x 1024 x 2e3 e", float(found - each), sigma, limit)
        for found, each, sigma in zip(fit.rate_nm_per_min, wanted, fit.rate_uncertainty_nm_per_min, strict=True)
    ]


def _tilt(name: str, *told: Any, **more: Any) -> Trap:
    kept = {key: more.pop(key) for key in ("stated", "quick") if key in more}
    return Trap("tilted images", name, partial(defocus_of, *told, **more), **kept)


def _drift(name: str, *told: Any, **more: Any) -> Trap:
    kept = {key: more.pop(key) for key in ("stated", "quick") if key in more}
    return Trap("drift", name, partial(drift_of, *told, **more), **kept)


TRAPS: tuple[Trap, ...] = (
    _tilt("random atoms (honest)", "random"),
    _tilt("vacuum", "vacuum"),
    _tilt("amorphous film", "amorphous", trusted=True),
    _tilt("perfect square lattice", "lattice", trusted=True),
    *(
        _tilt(f"true {true:+g} nm, start at {-true:+g} nm, {how}", "random", true=true, told=-true, **more)
        for true in (12.0, 20.0, -20.0, 35.0)
        for how, more in (("cross-checked", {"checked": True}), ("rotation told", {"hinted": True}))
    ),
    _tilt("true 20 nm, start at -20 nm, alone", "random", told=-20.0),
    _tilt("in focus, start at 20 nm", "random", true=0.0),
    _tilt("true 45 nm, start at 15 nm", "random", true=45.0, told=15.0),
    _tilt("true 7 nm, start at 20 nm", "random", true=7.0),
    _tilt("descan of 1 mrad/nm left in", "descan"),
    _tilt("descan of 4 mrad/nm left in", "strong descan"),
    _tilt("disk 6 px off where it was said to be", "off centre", trusted=True),
    _tilt("30 electrons a pattern", "random", setup=replace(TILT, electrons=30.0)),
    _tilt("disk clipped at 12 bit", "random", setup=replace(TILT, electrons=1e7, bit_depth=12)),
    _tilt("disk wrapped at 12 bit", "wrapped", setup=replace(TILT, electrons=1e7, bit_depth=12)),
    _tilt("astigmatism of 20 nm at a defocus of 20 nm", "astigmatism", trusted=True),
    _tilt("the same, handedness told", "astigmatism", trusted=True, mirrored=False),
    _tilt("coma of 1500 nm, first order fitted", "coma"),
    _tilt("detector mirrored, told not mirrored", "mirrored", mirrored=False),
    _tilt("drift of 13 steps during the scan", "drift"),
    _tilt("beam lost for a quarter of the scan", "dropout"),
    _tilt("a fifth of the beam for a quarter of the scan", "weak beam", trusted=True),
    _tilt("steps unequal by 30 %", "unequal steps"),
    _tilt("a dead quadrant, masked", "dead quadrant"),
    _drift("random atoms (honest)", "atoms"),
    _drift("vacuum", "vacuum", quick=True),
    _drift("amorphous film", "amorphous"),
    _drift("perfect square lattice, 3.1 periods over the series", "lattice"),
    _drift("gold crystal, 3.3 periods over the series", "gold"),
    _drift("stage jump of 6 steps in the series", "jump"),
    _drift("stage jump out of the field", "jump away"),
    _drift("accelerating", "bend"),
    _drift("60 steps over the series", "fast"),
    _drift("drift within the scan of a quarter of a step a line", "in the scan"),
    _drift("beam lost in one scan of five", "lost beam"),
    _drift("beam lost for 0.4 of one scan", "half lost"),
    _drift("hum of 1.5 Å rms", "noisy"),
    _drift("4 electrons a pattern", "atoms", electrons=4.0),
)
