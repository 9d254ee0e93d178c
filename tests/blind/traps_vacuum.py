"""Traps for what a scan without specimen gives: disk, descan, current, counts per electron, the scale carried over."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from devices.simulator.faults import ProjectorTruth
from devices.simulator.scene import detector_of
from stem4d.calibrate.centres import disk_centres
from stem4d.calibrate.current import fit_current
from stem4d.calibrate.descan import fit_descan
from stem4d.calibrate.disk import find_disk
from stem4d.calibrate.disk_model import find_dead_in_disk
from stem4d.calibrate.gain import fit_gain
from stem4d.calibrate.pixels import find_bad_pixels
from stem4d.calibrate.scale import transferred_scale
from stem4d.calibrate.vacuum import not_vacuum
from stem4d.detector import full_scale
from tests.blind.outcomes import Outcome
from tests.blind.traps import Trap
from tests.blind.world import Frames, Setup, bad_pixels, frames_of, scene

ALPHA, DELTA = 20.0, 1.0
HOLE = Setup(200.0, ALPHA, DELTA, 64, (20, 20), 1.0, 2e4)
STILL = replace(HOLE, step_nm=0.001)
SLOPE = np.array([[0.1, 0.03], [-0.04, 0.08]])
"""Descan of the scans that move [px/nm]: 2.4 px over the field."""
OFF = np.array([1.3, -0.7])
DESCAN = {"descan_error_mrad_per_nm": (SLOPE * DELTA).tolist(), "misalignment_mrad": (OFF * DELTA).tolist()}
BRIGHT, BRIGHTER = 1.2e6, 2e7
"""Electrons a pattern that fill half the disk's pixels of a counter of 10 and of 12 bits, or all."""
MATERIAL = {
    "amorphous": {"specimen": "amorphous", "thickness_nm": 20.0},
    "thin film": {"specimen": "amorphous", "thickness_nm": 5.0},
    "gold": {"specimen": "crystal", "material": "Au", "thickness_nm": 5.0},
    "random": {"specimen": "random", "spacing_a": 4.0, "atom_phase_rad": 0.9, "modulation": 0.3},
    "mos2": {"specimen": "mos2"},
}


@cache
def _frames(specimen: str, setup: Setup, settings: str) -> tuple[Frames, np.ndarray]:
    """Frames, and the pixels that truly are bad."""
    told = _settings()[settings]
    areas = {"there": {"seed": 2, **MATERIAL[specimen]}} if specimen else {}
    one = scene(setup, "there" if specimen else "vacuum", seed=41, areas=areas, **told)
    detector = detector_of(one)
    return frames_of(one), detector.hot | detector.dead


def _settings() -> dict[str, dict[str, Any]]:
    random = np.random.default_rng(9)
    few, many = bad_pixels(64, random), bad_pixels(64, random, 0.05)
    noisy_row = {"noisy_pixels": [[30, x] for x in range(64)], "noise_counts": 200.0}
    lossy = {"detector": {"dead_time_us": 5.0}}
    return {
        "": DESCAN | few,
        "clean": DESCAN,
        "wraps": DESCAN | few | {"detector": {"wraps": True}},
        "dead 5 %": DESCAN | many,
        "quadrant": DESCAN | {"detector": {"gaps": [[0, 0, 32, 32]]}},
        "gap": DESCAN | {"detector": {"gaps": [[31, 0, 35, 64]]}},
        "noisy row": DESCAN | {"detector": noisy_row},
        "half off": {"misalignment_mrad": [32.0, 0.0]},
        "corner": {"misalignment_mrad": [28.0, 28.0]},
        "gone": {"misalignment_mrad": [60.0, 60.0]},
        "blanked": {"beam": {"dropouts": [{"at_s": 0.0, "seconds": 1e6}]}} | few,
        "dropout": DESCAN | {"beam": {"dropouts": [{"at_s": 0.01, "seconds": 0.006}]}},
        "half dropout": DESCAN | {"beam": {"dropouts": [{"at_s": 0.0, "seconds": 0.02, "part": 0.5}]}},
        "most of it lost": DESCAN | {"beam": {"dropouts": [{"at_s": 0.01, "seconds": 1e6}]}},
        "loses half": DESCAN | lossy,
        "quadratic": DESCAN
        | {"projector": {"descan_quadratic_mrad_per_nm2": [[0.01, 0.004, 0.002], [0.003, 0.008, 0.012]]}},
        "ellipse 3 %": DESCAN | {"projector": {"ellipticity": 0.03, "ellipse_angle_deg": 20.0}},
        "ellipse 10 %": DESCAN | {"projector": {"ellipticity": 0.1, "ellipse_angle_deg": 20.0}},
    }


def _cleaned(frames: Frames, mask: np.ndarray | None) -> np.ndarray:
    """Bad pixels as the calibration finds them, or those that were told."""
    if mask is not None:
        return mask
    mean = frames.mean(axis=0)
    found = find_bad_pixels(mean, len(frames), frames.max(axis=0)).mask
    disk = find_disk(mean, found)
    return found | find_dead_in_disk(mean, len(frames), disk, found)[0] if disk.ok else found


def _dose(setup: Setup) -> str:
    return f"400 x {setup.electrons:g} e"


def disk_of(settings: str, *, specimen: str = "", setup: Setup = STILL, told: bool = False) -> list[Outcome]:
    """Centre and radius of a disk that stands still, and the scale that is carried over by it."""
    frames, truly = _frames(specimen, setup, settings)
    mask = _cleaned(frames, truly if told else None)
    disk = find_disk(frames.mean(axis=0), mask)
    if not disk.ok:
        return [Outcome("centre", "px", _dose(setup), reason=disk.reason)]
    if reason := not_vacuum(frames.mean(axis=0), disk, mask, frames.max(axis=0), full_scale(setup.bit_depth)):
        return [Outcome("centre", "px", _dose(setup), reason=reason)]
    off = np.array(_settings()[settings].get("misalignment_mrad", (0.0, 0.0))) / DELTA
    # A disk off the axis is moved by the projector's ellipse as everything is.
    oval = ProjectorTruth(**_settings()[settings].get("projector", {})).matrix(1.0, mirrored=False)
    off = np.linalg.solve(oval, off)
    wrong = np.array(disk.centre_px) - 31.5 - off
    carried = transferred_scale(disk, ALPHA, 0.002 * ALPHA)
    outcomes = [
        *(
            Outcome("centre", "px", _dose(setup), float(error), sigma, 0.02)
            for error, sigma in zip(wrong, disk.centre_uncertainty_px, strict=True)
        ),
        Outcome(
            "radius",
            "%",
            _dose(setup),
            100 * (disk.radius_px / (ALPHA / DELTA) - 1),
            100 * disk.radius_uncertainty_px / (ALPHA / DELTA),
            0.5,
        ),
    ]
    error, sigma = 100 * (carried.mrad_per_pixel / DELTA - 1), 100 * carried.mrad_per_pixel_uncertainty / DELTA
    return [*outcomes, Outcome("scale carried over", "%", _dose(setup), error, sigma, 0.7, carried.reason)]


def descan_of(settings: str, *, specimen: str = "", setup: Setup = HOLE, told: bool = False) -> list[Outcome]:
    """The plane of the disk's centres over a vacuum scan: rms over the scan and each slope times the field."""
    frames, truly = _frames(specimen, setup, settings)
    mask = _cleaned(frames, truly if told else None)
    still = find_disk(frames[:16].mean(axis=0), mask)
    disk = still if still.ok else find_disk(frames.mean(axis=0), mask)
    if not disk.ok:
        return [Outcome("descan", "px", _dose(setup), reason=disk.reason)]
    whole = find_disk(frames.mean(axis=0), mask)
    if reason := not_vacuum(frames.mean(axis=0), whole, mask, frames.max(axis=0), full_scale(setup.bit_depth)):
        return [Outcome("descan", "px", _dose(setup), reason=reason)]
    maps = disk_centres(frames, disk, mask).centre_px.reshape(*setup.scan, 2)
    fit = fit_descan(maps[:, :, 0], maps[:, :, 1], np.isfinite(maps).all(axis=2), setup.step_nm)
    if not fit.ok:
        return [Outcome("descan", "px", _dose(setup), reason=fit.reason)]
    length = setup.scan[0] * setup.step_nm
    # The limit of 0.01 px rms is for 4096 positions; with 400 it is 0.03, and four slopes of 0.05 give that.
    return [
        Outcome("descan slope times the field", "px", _dose(setup), float(error), float(sigma), 0.05)
        for error, sigma in zip(
            (fit.slope_px_per_nm - SLOPE).ravel() * length,
            fit.slope_uncertainty_px_per_nm.ravel() * length,
            strict=True,
        )
    ]


def current_of(
    settings: str,
    *,
    specimen: str = "",
    setup: Setup = HOLE,
    told: bool = False,
    dead_time_s: float = 0.0,
    part: float = 1.0,
) -> list[Outcome]:
    """The beam current from a vacuum scan; ``part`` is the part of the nominal one that truly flows."""
    frames, truly = _frames(specimen, setup, settings)
    mask = _cleaned(frames, truly if told else None)
    mean = frames.mean(axis=0)
    totals = np.where(mask, 0, frames).sum(axis=(1, 2)).reshape(setup.scan)
    disk = find_disk(mean, mask)
    if reason := not_vacuum(mean, disk, mask, frames.max(axis=0), full_scale(setup.bit_depth)):
        return [Outcome("current", "%", _dose(setup), reason=reason)]
    fit = fit_current(mean, totals, setup.dwell_us * 1e-6, disk, dead_time_s=dead_time_s, bad_pixels=mask)
    true = setup.current_pa * part
    error, sigma = 100 * (fit.current_pa / true - 1), 100 * fit.current_uncertainty_pa / true
    return [Outcome("current", "%", _dose(setup), error, sigma, 3.0, fit.reason)]


def gain_of(settings: str, *, specimen: str = "", setup: Setup = STILL) -> list[Outcome]:
    """Counts per electron of a counting detector, from frames of one scene."""
    frames, truly = _frames(specimen, setup, settings)
    fit = fit_gain(frames, bad_pixels=truly, full_scale=full_scale(setup.bit_depth))
    sigma = 100 * fit.counts_per_electron_uncertainty
    return [Outcome("gain", "%", _dose(setup), 100 * (fit.counts_per_electron - 1), sigma, 1.0, fit.reason)]


def _trap(estimator: str, name: str, *told: Any, **more: Any) -> Trap:
    kept = {key: more.pop(key) for key in ("stated", "quick") if key in more}
    run = {"disk": disk_of, "descan": descan_of, "current": current_of, "gain": gain_of}[estimator]
    return Trap(estimator, name, partial(run, *told, **more), **kept)


FULL12 = replace(STILL, electrons=BRIGHTER, bit_depth=12)
HALF12 = replace(STILL, electrons=5.15e6, bit_depth=12)
"""A mean of 4096 counts in the disk: every other count is clipped."""

TRAPS: tuple[Trap, ...] = (
    _trap("disk", "vacuum (honest)", "", quick=True),
    _trap("disk", "clipped at 12 bit, four times full", "", setup=FULL12, quick=True),
    _trap("disk", "clipped at 12 bit, just full", "", setup=HALF12),
    _trap("disk", "wrapped at 12 bit, four times round", "wraps", setup=FULL12),
    _trap("disk", "wrapped at 12 bit, just full", "wraps", setup=HALF12),
    _trap("disk", "half off the detector", "half off"),
    _trap("disk", "three quarters off the detector", "corner"),
    _trap("disk", "off the detector", "gone"),
    _trap("disk", "beam blanked", "blanked", quick=True),
    _trap("disk", "5 % dead pixels, two hot", "dead 5 %"),
    _trap("disk", "a dead quadrant", "quadrant", told=True),
    _trap("disk", "a dead quadrant nobody knows of", "quadrant"),
    _trap("disk", "a masked gap of 4 px through it", "gap", told=True),
    _trap("disk", "a gap of 4 px through it nobody knows of", "gap"),
    _trap("disk", "a noisy row", "noisy row"),
    _trap("disk", "gold crystal in the beam", "clean", specimen="gold", setup=HOLE),
    _trap("disk", "atoms in the beam", "clean", specimen="random", setup=HOLE),
    _trap("disk", "ellipse of 3 %", "ellipse 3 %"),
    _trap("disk", "ellipse of 10 %", "ellipse 10 %"),
    _trap("descan", "vacuum (honest)", ""),
    _trap("descan", "thick film where vacuum was promised", "clean", specimen="amorphous"),
    _trap("descan", "thin film where vacuum was promised", "clean", specimen="thin film"),
    _trap("descan", "atoms where vacuum was promised", "clean", specimen="random"),
    _trap("descan", "gold crystal where vacuum was promised", "clean", specimen="gold"),
    _trap("descan", "clipped at 12 bit", "", setup=replace(HOLE, electrons=BRIGHTER, bit_depth=12)),
    _trap("descan", "wrapped at 12 bit", "wraps", setup=replace(HOLE, electrons=BRIGHTER, bit_depth=12)),
    _trap("descan", "beam lost for 60 of 400 positions", "dropout"),
    _trap("descan", "beam blanked", "blanked"),
    _trap("descan", "a dead quadrant nobody knows of", "quadrant"),
    _trap("descan", "a gap through the disk nobody knows of", "gap"),
    _trap("descan", "quadratic, a plane fitted", "quadratic"),
    _trap("descan", "10 electrons a pattern", "", setup=replace(HOLE, electrons=10.0)),
    _trap("current", "vacuum (honest)", "", quick=True),
    _trap("current", "thick film where vacuum was promised", "clean", specimen="amorphous"),
    _trap("current", "atoms where vacuum was promised", "clean", specimen="random"),
    _trap("current", "gold crystal where vacuum was promised", "clean", specimen="gold"),
    _trap("current", "MoS2 where vacuum was promised", "clean", specimen="mos2"),
    _trap("current", "clipped at 12 bit", "", setup=FULL12),
    _trap("current", "clipped at 12 bit, just full", "", setup=HALF12),
    _trap("current", "wrapped at 12 bit", "wraps", setup=FULL12),
    _trap("current", "half of the disk off the detector", "half off"),
    _trap("current", "beam blanked", "blanked"),
    _trap("current", "beam lost for 60 of 400 positions", "dropout"),
    _trap("current", "half of the beam for half of the scan", "half dropout"),
    _trap("current", "beam lost for 3 of 4 positions", "most of it lost"),
    _trap("current", "half of the counts lost to dead time", "loses half", dead_time_s=5e-6),
    _trap("current", "a dead quadrant nobody knows of", "quadrant"),
    _trap("current", "a dead quadrant, masked", "quadrant", told=True),
    _trap("current", "a masked gap through the disk", "gap", told=True),
    _trap("current", "a noisy row", "noisy row"),
    _trap("gain", "vacuum (honest)", ""),
    _trap("gain", "clipped at 12 bit", "", setup=FULL12, quick=True),
    _trap("gain", "clipped at 12 bit, just full", "", setup=HALF12),
    _trap("gain", "wrapped at 12 bit", "wraps", setup=FULL12),
    _trap("gain", "wrapped at 12 bit, just full", "wraps", setup=HALF12),
    _trap("gain", "half of the counts lost to dead time", "loses half"),
    _trap("gain", "beam blanked", "blanked"),
    _trap("gain", "beam lost for 60 of 400 frames", "dropout"),
    _trap("gain", "disk that moves over atoms", "clean", specimen="random", setup=HOLE),
    _trap("gain", "a noisy row", "noisy row"),
)
