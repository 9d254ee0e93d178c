"""Traps for the angular scale: rings and spots of what is no reference, or another one."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from devices.simulator.scene import detector_of
from stem4d import optics
from stem4d.calibrate.disk import find_disk
from stem4d.calibrate.rings import fit_rings
from stem4d.calibrate.scale_fit import NOMINAL_TOLERANCE, ScaleFit
from stem4d.calibrate.spots import fit_spots
from stem4d.lattice_constants import GOLD_A
from tests.blind.outcomes import Outcome
from tests.blind.traps import Trap
from tests.blind.world import Setup, bad_pixels, frames_of, scene

KEV = 200.0
DELTA = 1e3 * optics.wavelength_a(KEV) * np.sqrt(11) / GOLD_A / (0.8 * 64)
"""The 311 ring of gold at 0.8 of the detector's half width [mrad/px]."""
SETUP = Setup(KEV, 2.5 * DELTA, DELTA, 128, (12, 12), 6.0, 2e4)
FILM = {"specimen": "polycrystal", "thickness_nm": 2.5, "grain_nm": 6.0}
CRYSTAL = {"specimen": "crystal", "thickness_nm": 3.0, "angle_deg": 20.0}
SMALL = {"scan": (4, 4), "step_nm": 1.0}
TELLS_GOLD = 0.003
"""A nominal scale known so well tells gold from aluminium, which differ by 0.7 %."""


@cache
def _pattern(name: str, dead: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Mean pattern of a specimen, and its bad pixels."""
    area, setup, settings = _specimens()[name]
    if dead:
        settings = settings | bad_pixels(setup.pixels, np.random.default_rng(5), dead)
    place = "vacuum" if area is None else "there"
    areas = {} if area is None else {"there": {"seed": 11, **area}}
    one = scene(setup, place, seed=17, areas=areas, **settings)
    detector = detector_of(one)
    return frames_of(one).mean(axis=0), detector.hot | detector.dead


def _specimens() -> dict[str, tuple[dict[str, Any] | None, Setup, dict[str, Any]]]:
    """By name: the area, the setup and the hidden settings."""
    ellipse = {"projector": {"ellipticity": 0.01, "ellipse_angle_deg": 30.0}}
    still = replace(SETUP, **SMALL)
    strained = {"specimen": "strained", "material": "Au", "thickness_nm": 3.0}
    found: dict[str, tuple[dict[str, Any] | None, Setup, dict[str, Any]]] = {
        "vacuum": (None, SETUP, {}),
        "amorphous": ({"specimen": "amorphous", "thickness_nm": 10.0}, still, {}),
        "few grains": (FILM | {"material": "Au", "grain_nm": 15.0}, still, ellipse),
        "one grain": (FILM | {"material": "Au", "grain_nm": 60.0}, still, ellipse),
        "Au film, camera 10 % off": (FILM | {"material": "Au"}, SETUP, {"projector": {"angle_ratio": 1.1}}),
        "Au film, ellipse 20 %": (FILM | {"material": "Au"}, SETUP, {"projector": {"ellipticity": 0.2}}),
        "Au film, clipped": (FILM | {"material": "Au"}, replace(SETUP, electrons=2e6, bit_depth=12), ellipse),
        "Au film, wrapped": (
            FILM | {"material": "Au"},
            replace(SETUP, electrons=2e6, bit_depth=12),
            {"detector": {"wraps": True}},
        ),
        "Au film, gap": (FILM | {"material": "Au"}, SETUP, ellipse | {"detector": {"gaps": [[62, 0, 66, 128]]}}),
        "Au film, low dose": (FILM | {"material": "Au"}, replace(SETUP, electrons=30.0), ellipse),
        "Au camera 10 % off": (CRYSTAL | {"material": "Au"}, still, {"projector": {"angle_ratio": 1.1}}),
        "Au strained 6 % one way": (
            strained | {"displacement": {"linear": [[0.06, 0.0], [0.0, -0.06]]}},
            still,
            {},
        ),
        "Au strained 2 % both ways": (
            strained | {"displacement": {"linear": [[0.02, 0.0], [0.0, 0.02]]}},
            still,
            {},
        ),
        "Au strained 5 % both ways": (
            strained | {"displacement": {"linear": [[0.05, 0.0], [0.0, 0.05]]}},
            still,
            {},
        ),
        "Au low dose": (CRYSTAL | {"material": "Au"}, replace(still, electrons=20.0), {}),
        "Au clipped": (CRYSTAL | {"material": "Au"}, replace(still, electrons=2e6, bit_depth=12), {}),
        "Au turned": (CRYSTAL | {"material": "Au", "angle_deg": 47.0}, still, {}),
    }
    for material in ("Au", "Al", "Si", "SrTiO3"):
        found[f"{material} film"] = (FILM | {"material": material}, SETUP, ellipse)
        found[material] = (CRYSTAL | {"material": material}, still, ellipse)
    return found


def _judged(fit: ScaleFit, dose: str, ratio: float, ellipticity: float, angle_deg: float) -> list[Outcome]:
    if not fit.ok:
        return [Outcome("angle per pixel", "%", dose, reason=fit.reason)]
    twice = 2 * np.radians(angle_deg)
    vector = np.log1p(ellipticity) * np.array([np.cos(twice), np.sin(twice)])
    true = DELTA * ratio
    error, sigma = fit.mrad_per_pixel / true - 1, fit.mrad_per_pixel_uncertainty / true
    return [
        Outcome("angle per pixel", "%", dose, 100 * error, 100 * sigma, 0.2),
        *(
            Outcome("ellipse", "%", dose, 100 * float(found - wanted), 100 * width, 0.3)
            for found, wanted, width in zip(fit.ellipse_vector, vector, fit.ellipse_vector_uncertainty, strict=True)
        ),
    ]


def scale_of(
    method: str,
    specimen: str,
    crystal: str = "Au",
    *,
    also: str = "",
    tolerance: float = NOMINAL_TOLERANCE,
    dead: float = 0.0,
    masked: bool = True,
) -> list[Outcome]:
    """A mean pattern through the estimator as a calibration feeds it: disk first, then rings or spots."""
    mean, mask = _pattern(specimen, dead)
    if also:
        mean = 0.5 * (mean + _pattern(also, dead)[0])
    mask = mask if masked else np.zeros(mask.shape, bool)
    disk = find_disk(mean, mask)
    fit = (fit_rings if method == "rings" else fit_spots)(mean, crystal, KEV, DELTA, disk, mask, tolerance)
    projector = _specimens()[specimen][2].get("projector", {})
    ellipse = float(projector.get("ellipticity", 0.0)), float(projector.get("ellipse_angle_deg", 0.0))
    return _judged(fit, "3e6 e", float(projector.get("angle_ratio", 1.0)), *ellipse)


def _rings(name: str, *told: Any, **more: Any) -> Trap:
    kept = {key: more.pop(key) for key in ("stated", "quick") if key in more}
    return Trap("rings", name, partial(scale_of, "rings", *told, **more), **kept)


def _spots(name: str, *told: Any, **more: Any) -> Trap:
    kept = {key: more.pop(key) for key in ("stated", "quick") if key in more}
    return Trap("spots", name, partial(scale_of, "spots", *told, **more), **kept)


AU_AL = "fcc metals have equal ratios: docstrings of fit_rings and fit_spots; told only by a nominal scale to 0.3 %"
STRAIN = "a scale and an even strain are the same on the detector: docstring of fit_spots"

TRAPS: tuple[Trap, ...] = (
    _rings("gold film (honest)", "Au film"),
    _rings("vacuum", "vacuum", quick=True),
    _rings("amorphous film", "amorphous"),
    _rings("gold taken for silicon", "Au film", "Si"),
    _rings("gold taken for strontium titanate", "Au film", "SrTiO3"),
    _rings("gold taken for aluminium, nominal to 3 %", "Au film", "Al", stated=AU_AL),
    _rings("gold taken for aluminium, nominal to 0.3 %", "Au film", "Al", tolerance=TELLS_GOLD),
    _rings("aluminium taken for gold, nominal to 3 %", "Al film", "Au", stated=AU_AL),
    _rings("aluminium taken for gold, nominal to 0.3 %", "Al film", "Au", tolerance=TELLS_GOLD),
    _rings("silicon taken for gold", "Si film", "Au"),
    _rings("strontium titanate taken for gold", "SrTiO3 film", "Au"),
    _rings("gold and silicon together", "Au film", "Au", also="Si film"),
    _rings("few grains", "few grains"),
    _rings("one grain", "one grain"),
    _rings("single crystal of gold", "Au"),
    _rings("camera length 10 % off", "Au film, camera 10 % off"),
    _rings("ellipse of 20 %", "Au film, ellipse 20 %"),
    _rings("disk and rings clipped at 12 bit", "Au film, clipped"),
    _rings("disk and rings wrapped at 12 bit", "Au film, wrapped"),
    _rings("a gap of 4 px through the disk, masked", "Au film, gap"),
    _rings("a gap of 4 px through the disk, no mask", "Au film, gap", masked=False),
    _rings("5 % dead pixels, two hot, masked", "Au film", dead=0.05),
    _rings("5 % dead pixels, two hot, no mask", "Au film", dead=0.05, masked=False),
    _rings("2000 electrons in all", "Au film, low dose"),
    _spots("gold (honest)", "Au"),
    _spots("vacuum", "vacuum", quick=True),
    _spots("amorphous film", "amorphous"),
    _spots("gold film", "Au film"),
    _spots("gold taken for silicon", "Au", "Si"),
    _spots("gold taken for strontium titanate", "Au", "SrTiO3"),
    _spots("gold taken for aluminium, nominal to 3 %", "Au", "Al", stated=AU_AL),
    _spots("gold taken for aluminium, nominal to 0.3 %", "Au", "Al", tolerance=TELLS_GOLD),
    _spots("silicon taken for gold", "Si", "Au"),
    _spots("aluminium taken for gold, nominal to 0.3 %", "Al", "Au", tolerance=TELLS_GOLD),
    _spots("strontium titanate taken for gold", "SrTiO3", "Au"),
    _spots("two gold crystals, 27 degrees apart", "Au", also="Au turned"),
    _spots("camera length 10 % off", "Au camera 10 % off"),
    _spots("strained by 6 % one way and -6 % the other", "Au strained 6 % one way"),
    _spots("strained by 5 % both ways", "Au strained 5 % both ways"),
    _spots("strained by 2 % both ways", "Au strained 2 % both ways", stated=STRAIN),
    _spots("disk and spots clipped at 12 bit", "Au clipped"),
    _spots("5 % dead pixels, two hot, masked", "Au", dead=0.05),
    _spots("5 % dead pixels, two hot, no mask", "Au", dead=0.05, masked=False),
    _spots("300 electrons in all", "Au low dose"),
)
