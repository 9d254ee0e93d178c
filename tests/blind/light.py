"""Blind measures of detector and beam: bad pixels, centre, angle, descan, current, counts per electron."""

from dataclasses import replace

import numpy as np

from devices.simulator.faults import BeamTruth, DropoutTruth
from devices.simulator.scene import Scene
from stem4d.calibrate.centres import disk_centres
from stem4d.calibrate.current import fit_current
from stem4d.calibrate.dark import fit_dark
from stem4d.calibrate.descan import DescanFit, fit_descan
from stem4d.calibrate.disk import find_disk
from stem4d.calibrate.disk_model import find_dead_at_edge, find_dead_in_disk
from stem4d.calibrate.gain import fit_gain
from stem4d.calibrate.pixels import find_bad_pixels
from stem4d.calibrate.still import still_disk
from tests.blind.outcomes import Outcome
from tests.blind.world import Frames, Setup, bad_pixels, frames_of, scene, seed_of

OFF = BeamTruth(dropouts=(DropoutTruth(at_s=0.0, seconds=1e6, part=0.0),))
"""A beam that does not come."""


def vacuum(random: np.random.Generator) -> list[Outcome]:
    """Bad pixels, centre, convergence angle, descan and current from one scan without specimen."""
    electrons = float(random.uniform(1e4, 2e4))
    alpha, radius = float(random.uniform(8, 30)), float(random.uniform(14, 22))
    setup = Setup(
        energy_kev=float(random.choice([80.0, 200.0, 300.0])),
        alpha_mrad=alpha,
        mrad_per_pixel=alpha / radius,
        pixels=80,
        scan=(64, 64),
        step_nm=1.0,
        electrons=electrons,
    )
    ratio, current = float(random.uniform(0.97, 1.03)), float(random.uniform(0.7, 1.4))
    delta = setup.mrad_per_pixel
    # The disk moves by up to 5 px between corners, and stands up to 4 px off.
    slope = random.uniform(-1, 1, (2, 2)) * 2.5 / 64 * delta
    off = random.uniform(-4, 4, 2)
    bad = bad_pixels(80, random)
    one = scene(
        setup,
        seed=seed_of(random),
        descan_error_mrad_per_nm=slope.tolist(),
        misalignment_mrad=(off * delta).tolist(),
        projector={"convergence_ratio": ratio},
        current_ratio_above_pa=[{"above_pa": 0.0, "ratio": current}],
        **bad,
    )
    frames = frames_of(one)
    dose = "4096 x 1e4 to 2e4 e, vacuum"
    mean, brightest = frames.mean(axis=0), frames.max(axis=0)
    found = find_bad_pixels(mean, len(frames), brightest)
    mask = found.mask
    disk = find_disk(mean, mask)
    if not disk.ok:
        return [Outcome(name, unit, dose, reason=disk.reason) for name, unit in VACUUM]
    dead, known = find_dead_in_disk(mean, len(frames), disk, mask)
    mask = mask | dead
    disk = find_disk(mean, mask)
    # The mean pattern's disk is blurred by its own movement, which a first round tells.
    some = frames[::37]  # no divisor of the row: places all over the field
    still = still_disk(disk, first := disk_centres(some, disk, mask), some, mask)
    edge, passed = find_dead_at_edge(mean, len(frames), still, first.centre_px, mask)
    mask = mask | edge
    centres = disk_centres(frames, still, mask)
    outcomes = list(_pixels(bad, mask, known | found.dead_known | passed, dose))
    maps = centres.centre_px.reshape(64, 64, 2)
    fit = fit_descan(maps[:, :, 0], maps[:, :, 1], np.isfinite(maps).all(axis=2), setup.step_nm)
    outcomes += _descan(fit, slope / delta, off, dose)
    outcomes += _single_frame(frames, one, mask, setup, off, ratio)
    totals = np.where(mask, 0, frames).sum(axis=(1, 2)).reshape(64, 64)
    exposure_s = setup.dwell_us * 1e-6
    ran = fit_current(mean, totals, exposure_s, disk, bad_pixels=mask)
    true_pa = setup.current_pa * current
    outcomes.append(
        Outcome(
            "current",
            "%",
            dose,
            100 * (ran.current_pa / true_pa - 1),
            100 * ran.current_uncertainty_pa / true_pa,
            3.0,
            ran.reason,
        )
    )
    return outcomes


VACUUM = (
    ("bad pixels missed", "%"),
    ("good pixels accused", "%"),
    ("descan plane, rms over the scan", "px"),
    ("descan slope times the field", "px"),
    ("centre", "px"),
    ("convergence angle", "%"),
    ("current", "%"),
)
"""What a refused vacuum scan is refused for: every figure that would have come of it."""


def _pixels(bad: dict[str, list[list[int]]], mask: np.ndarray, known: np.ndarray, dose: str) -> list[Outcome]:
    """Share of the bad pixels that were missed, and of good pixels that were accused, where the light was enough."""
    truly = np.zeros(mask.shape, bool)
    for y, x in [*bad["hot_pixels"], *bad["dead_pixels"]]:
        truly[y, x] = True
    hot = np.zeros(mask.shape, bool)
    for y, x in bad["hot_pixels"]:
        hot[y, x] = True
    knowable = truly & (known | hot)
    missed = 100 * (1 - mask[knowable].mean())
    accused = 100 * (mask & ~truly).sum() / (~truly).sum()
    return [
        Outcome("bad pixels missed", "%", dose, float(missed), limit=1.0),
        Outcome("good pixels accused", "%", dose, float(accused), limit=0.1),
    ]


def _descan(fit: DescanFit, slope: np.ndarray, off: np.ndarray, dose: str) -> list[Outcome]:
    """The whole plane: rms over the scan between the fitted and the true centre."""
    if not fit.ok:
        slopes = ("descan slope times the field",) * 4
        return [Outcome(name, "px", dose, reason=fit.reason) for name in ("descan plane, rms over the scan", *slopes)]
    at = np.indices((64, 64)).reshape(2, -1) - 31.5
    wrong = (fit.slope_px_per_nm - slope) @ at + (np.array(fit.offset_px) - 39.5 - off)[:, None]
    rms = float(np.sqrt((wrong**2).sum(axis=0).mean()))
    errors = (fit.slope_px_per_nm - slope).ravel() * 64
    sigmas = fit.slope_uncertainty_px_per_nm.ravel() * 64
    return [
        Outcome("descan plane, rms over the scan", "px", dose, rms, limit=0.01),
        *(
            Outcome("descan slope times the field", "px", dose, float(error), float(sigma), 0.02)
            for error, sigma in zip(errors, sigmas, strict=True)
        ),
    ]


def _single_frame(
    frames: Frames, one: Scene, mask: np.ndarray, setup: Setup, off: np.ndarray, ratio: float
) -> list[Outcome]:
    """Centre and radius of a disk that stands still: a fresh exposure of one position, ten frames."""
    calm = one.truth.model_copy(update={"descan_error_mrad_per_nm": ((0.0, 0.0), (0.0, 0.0))})
    short = one.scan.model_copy(update={"shape": (2, 5)})
    still = frames_of(replace(one, truth=calm, run=2, scan=short))
    total = float(still.sum(where=~mask))
    disk = find_disk(still.mean(axis=0), mask)
    dose = "10 x 1e4 to 2e4 e, vacuum"
    names = ("centre", "convergence angle")
    if not disk.ok:
        return [Outcome(name, "px", dose, reason=disk.reason) for name in names]
    radius = setup.alpha_mrad * ratio / setup.mrad_per_pixel
    # Shot noise of an edge-sensitive centre is about half of that of a centre of mass, r / (2 sqrt(N)).
    floor = radius / (2 * np.sqrt(total))
    centre = [
        Outcome("centre", "px", dose, found - 39.5 - true, sigma, 0.02 + floor)
        for found, true, sigma in zip(disk.centre_px, off, disk.centre_uncertainty_px, strict=True)
    ]
    relative = 100 * (disk.radius_px / radius - 1)
    sigma = 100 * disk.radius_uncertainty_px / radius
    return [*centre, Outcome("convergence angle", "%", dose, relative, sigma, 0.5)]


def gain(random: np.random.Generator) -> list[Outcome]:
    """Counts per electron of a counting and of an integrating detector, from 256 frames of one scene."""
    outcomes = []
    for kind in ("counting", "integrating"):
        electrons = float(random.uniform(5e4, 2e5))
        true = 1.0 if kind == "counting" else float(random.uniform(5, 40))
        setup = Setup(200.0, 20.0, 0.8, 64, (16, 16), 1.0, electrons)
        detector = {"kind": kind, "counts_per_electron": true}
        if kind == "integrating":
            detector |= {"dark_counts": 100.0, "dark_spread_counts": 10.0, "read_noise_counts": 4.0}
        one = scene(setup, seed=seed_of(random), detector=detector, **bad_pixels(64, random))
        dose = "256 x 5e4 to 2e5 e"
        dark = None
        if kind == "integrating":
            dim = replace(one, run=2, truth=one.truth.model_copy(update={"beam": OFF}))
            dark = fit_dark(frames_of(dim))
            if not dark.ok:
                outcomes.append(Outcome(f"counts per electron, {kind}", "%", dose, reason=dark.reason))
                continue
        frames = frames_of(one)
        mask = find_bad_pixels(frames.mean(axis=0), len(frames), frames.max(axis=0)).mask
        fit = fit_gain(frames, dark, mask, 65535)
        outcomes.append(
            Outcome(
                f"counts per electron, {kind}",
                "%",
                dose,
                100 * (fit.counts_per_electron / true - 1),
                100 * fit.counts_per_electron_uncertainty / true,
                1.0,
                fit.reason,
            )
        )
    return outcomes
