"""Each calibration once: an exposure on a hidden truth, the estimator, and how far it came out."""

from dataclasses import replace

import numpy as np

from devices.simulator.faults import BeamTruth, DropoutTruth
from devices.simulator.scene import Scene, detector_of
from stem4d import optics
from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus
from stem4d.calibrate.angles import add_frames, empty_images, group_angles
from stem4d.calibrate.centres import disk_centres
from stem4d.calibrate.crystals import square
from stem4d.calibrate.current import fit_current
from stem4d.calibrate.dark import fit_dark
from stem4d.calibrate.descan import DescanFit, fit_descan
from stem4d.calibrate.disk import find_disk
from stem4d.calibrate.disk_model import find_dead_in_disk
from stem4d.calibrate.drift import fit_drift
from stem4d.calibrate.gain import fit_gain
from stem4d.calibrate.pixels import find_bad_pixels
from stem4d.calibrate.rings import fit_rings
from stem4d.calibrate.rotation import fit_rotation
from stem4d.calibrate.step import fit_step
from stem4d.calibrate.tilt import fit_tilts
from stem4d.simulate.crystals import GOLD_A, STRONTIUM_TITANATE_A
from stem4d.simulate.scanning import turn
from tests.blind.outcomes import Outcome
from tests.blind.world import Frames, Setup, bad_pixels, frames_of, scene, seed_of

Random = np.random.Generator

OFF = BeamTruth(dropouts=(DropoutTruth(at_s=0.0, seconds=1e6, part=0.0),))
"""A beam that does not come."""


def vacuum(random: Random) -> list[Outcome]:
    """Bad pixels, centre, convergence angle, descan and current from one scan without specimen."""
    electrons = float(random.uniform(1e4, 2e4))
    alpha, radius = float(random.uniform(8, 30)), float(random.uniform(14, 26))
    setup = Setup(
        energy_kev=float(random.choice([80.0, 200.0, 300.0])),
        alpha_mrad=alpha,
        mrad_per_pixel=alpha / radius,
        pixels=96,
        scan=(64, 64),
        step_nm=1.0,
        electrons=electrons,
    )
    ratio, current = float(random.uniform(0.97, 1.03)), float(random.uniform(0.7, 1.4))
    delta = setup.mrad_per_pixel
    # The disk moves by up to 5 px between corners, and stands up to 4 px off.
    slope = random.uniform(-1, 1, (2, 2)) * 2.5 / 64 * delta
    off = random.uniform(-4, 4, 2)
    bad = bad_pixels(96, random)
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
    outcomes = list(_pixels(bad, mask, known | found.dead_known, dose))
    # The disk of the mean pattern of a moving disk: its centre is the middle's, its blur not the edge's.
    first = frames[:16].mean(axis=0)
    still = find_disk(first, mask)
    centres = disk_centres(frames, still if still.ok else disk, mask)
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


VACUUM = (("bad pixels found", "%"), ("centre", "px"), ("convergence angle", "%"), ("descan", "px"), ("current", "%"))


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
        return [Outcome("descan plane, rms over the scan", "px", dose, reason=fit.reason)]
    at = np.indices((64, 64)).reshape(2, -1) - 31.5
    wrong = (fit.slope_px_per_nm - slope) @ at + (np.array(fit.offset_px) - 47.5 - off)[:, None]
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
        Outcome("centre", "px", dose, found - 47.5 - true, sigma, 0.02 + floor)
        for found, true, sigma in zip(disk.centre_px, off, disk.centre_uncertainty_px, strict=True)
    ]
    relative = 100 * (disk.radius_px / radius - 1)
    sigma = 100 * disk.radius_uncertainty_px / radius
    return [*centre, Outcome("convergence angle", "%", dose, relative, sigma, 0.5)]


def gain(random: Random) -> list[Outcome]:
    """Counts per electron of a counting and of an integrating detector, from 64 frames of one scene."""
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


def specimen(random: Random) -> dict[str, object]:
    """Something with structure in every direction: a lattice with vacancies, or atoms at random."""
    if random.random() < 0.5:
        kind = str(random.choice(["square", "hexagonal"]))
        spacing = float(random.uniform(2.8, 4.2))
        lattice = {"vacancy_fraction": 0.1, "modulation": 0.3, "angle_deg": float(random.uniform(0, 90))}
        return {"specimen": kind, "spacing_a": spacing, "atom_phase_rad": float(random.uniform(0.6, 1.2)), **lattice}
    return {"specimen": "random", "spacing_a": float(random.uniform(3, 5)), "atom_phase_rad": 0.9, "modulation": 0.3}


def turned(random: Random) -> list[Outcome]:
    """Rotation and handedness from the centres of mass of a focused scan."""
    alpha = float(random.uniform(18, 25))
    setup = Setup(
        energy_kev=float(random.choice([80.0, 200.0])),
        alpha_mrad=alpha,
        mrad_per_pixel=alpha / 14,
        pixels=64,
        scan=(48, 48),
        step_nm=0.05,
        electrons=2e4,
    )
    angle, mirrored = float(random.uniform(-180, 180)), bool(random.random() < 0.5)
    one = scene(
        setup,
        "there",
        seed=seed_of(random),
        scan_detector_rotation_deg=angle,
        scan={"mirrored": mirrored},
        areas={"there": {"seed": seed_of(random), **specimen(random)}},
        **bad_pixels(64, random),
    )
    frames, mask = frames_of(one), _mask(one)
    fit = fit_rotation(*_centres_of_mass(frames, mask, 20.0), _dark_field(frames, mask, 16.0))
    dose = "2304 x 2e4 e, focused"
    if not fit.ok:
        return [Outcome("rotation", "deg", dose, reason=fit.reason)]
    circle = 360.0 if fit.half_turn_known else 180.0
    error = (fit.rotation_deg - angle + circle / 2) % circle - circle / 2
    wrong = float(fit.mirrored != mirrored)
    return [
        Outcome("rotation", "deg", dose, error, fit.rotation_uncertainty_deg, 0.5),
        Outcome("handedness wrong", "", dose, wrong, limit=0.0),
        Outcome("half turn left open", "", dose, float(not fit.half_turn_known), limit=1.0),
    ]


def _mask(one: Scene) -> np.ndarray:
    """Bad pixels, which another calibration finds: here as they are."""
    detector = detector_of(one)
    return detector.hot | detector.dead


def _centres_of_mass(frames: Frames, mask: np.ndarray, reach_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _dark_field(frames: Frames, mask: np.ndarray, inner_px: float) -> np.ndarray:
    """Counts beyond a radius (scan_y, scan_x)."""
    side = round(len(frames) ** 0.5)
    y, x = np.indices(mask.shape) - (mask.shape[0] - 1) / 2
    return np.asarray(frames[:, (np.hypot(y, x) > inner_px) & ~mask].sum(axis=1, dtype=float).reshape(side, side))


def drifting(random: Random) -> list[Outcome]:
    """Drift from five fast scans over a minute."""
    setup = Setup(200.0, 20.0, 2.4, 24, (32, 32), 0.06, 2e3, dwell_us=20.0)
    angle = float(random.uniform(-180, 180))
    times = np.array([0.0, 15.0, 30.0, 45.0, 60.0])
    # 2 to 6 steps over the minute, in any direction.
    direction, steps = random.uniform(0, 2 * np.pi), float(random.uniform(2, 6))
    rate = steps * setup.step_nm * np.array([np.sin(direction), np.cos(direction)])
    area = {"specimen": "random", "spacing_a": 4.0, "atom_phase_rad": 0.9, "modulation": 0.3, "seed": seed_of(random)}
    one = scene(
        setup,
        "there",
        seed=seed_of(random),
        scan_detector_rotation_deg=angle,
        areas={"there": {**area, "drift_nm_per_min": rate.tolist()}},
    )
    images = []
    for run, at_s in enumerate(times):
        frames = frames_of(replace(one, run=run + 1), float(at_s))
        clean = np.zeros(frames.shape[1:], bool)
        images.append([_dark_field(frames, clean, 9.0)])
    fit = fit_drift(images, times.tolist(), setup.step_nm, line_time_s=32 * 20e-6)
    dose = "5 x 1024 x 2e3 e"
    if not fit.ok:
        return [Outcome("drift", "%", dose, reason=fit.reason)] * 2
    # Features move along the specimen's axes; the images have the scan's.
    true = turn(angle).T @ rate
    size = float(np.hypot(*rate))
    limit = 100 * max(0.05, 0.1 / steps)
    return [
        Outcome("drift", "%", dose, 100 * (found - wanted) / size, 100 * sigma / size, limit)
        for found, wanted, sigma in zip(fit.rate_nm_per_min, true, fit.rate_uncertainty_nm_per_min, strict=True)
    ]


def defocused(random: Random) -> list[Outcome]:
    """Defocus, twofold astigmatism and rotation from the tilted images of a defocused scan."""
    energy, alpha = float(random.choice([200.0, 300.0])), float(random.uniform(15, 24))
    sign = float(random.choice([-1.0, 1.0]))
    told = sign * float(random.uniform(15, 30))
    setup = Setup(energy, alpha, alpha / 20, 64, (40, 40), 0.08, 2e4, defocus_nm=told)
    rest = {
        "defocus_nm": float(random.uniform(-0.2, 0.2)) * told,
        "astigmatism_nm": float(random.uniform(2, 8)),
        "astigmatism_angle_deg": float(random.uniform(0, 180)),
    }
    angle, mirrored = float(random.uniform(-180, 180)), bool(random.random() < 0.5)
    area = {"specimen": "random", "spacing_a": 4.0, "atom_phase_rad": 0.5, "modulation": 0.3, "seed": seed_of(random)}
    one = scene(
        setup,
        "there",
        seed=seed_of(random),
        scan_detector_rotation_deg=angle,
        scan={"mirrored": mirrored},
        aberrations=rest,
        areas={"there": area},
        **bad_pixels(64, random),
    )
    frames, mask = frames_of(one), _mask(one)
    images = empty_images(group_angles((64, 64), (31.5, 31.5), 20.0, mask), (40, 40))
    add_frames(images, frames, 0, 65535)
    fit = fit_tilts(images, setup.step_nm, setup.mrad_per_pixel, alpha, energy, told)
    dose = "1600 x 2e4 e, defocused"
    names = ("defocus", "twofold astigmatism, each part", "rotation from tilts")
    if not fit.ok:
        return [Outcome(name, "nm", dose, reason=fit.reason) for name in names]
    true = told + rest["defocus_nm"]
    depth_nm = optics.depth_of_field_a(energy, alpha) / 10
    twice = np.radians(2 * np.array([rest["astigmatism_angle_deg"], fit.astigmatism_angle_deg]))
    c12 = np.array([rest["astigmatism_nm"], fit.astigmatism_nm])
    parts = c12[:, None] * np.stack([np.cos(twice), np.sin(twice)], axis=1)
    circle = 360.0 if fit.half_turn_known else 180.0
    turned_by = (fit.rotation_deg - angle + circle / 2) % circle - circle / 2
    limit = max(0.05 * rest["astigmatism_nm"], 2.0)
    return [
        Outcome(
            names[0],
            "nm",
            dose,
            fit.defocus_nm - true,
            fit.defocus_uncertainty_nm,
            max(0.01 * abs(true), depth_nm / 4),
        ),
        *(
            Outcome(names[1], "nm", dose, float(error), fit.astigmatism_uncertainty_nm, limit)
            for error in parts[1] - parts[0]
        ),
        Outcome(names[2], "deg", dose, turned_by, fit.rotation_uncertainty_deg, 0.5),
        Outcome("handedness from tilts wrong", "", dose, float(fit.mirrored != mirrored), limit=0.0),
    ]


RINGS = ("angle per pixel", "ellipse, each part")


def scaled(random: Random) -> list[Outcome]:
    """Angle per pixel and ellipse from the rings of a gold specimen, with a small aperture."""
    energy = float(random.choice([80.0, 200.0, 300.0]))
    # The 311 ring, the fourth, lies at 0.8 of the detector's half width; disks are small enough to part 111 from 200.
    delta = 1e3 * optics.wavelength_a(energy) * np.sqrt(11) / GOLD_A / (0.8 * 64)
    setup = Setup(energy, float(random.uniform(2.2, 3.0)) * delta, delta, 128, (14, 14), 6.0, 2e4)
    ratio, ellipticity, axis = (float(random.uniform(*span)) for span in ((0.97, 1.03), (0.0, 0.02), (-90, 90)))
    # Three places of a film of fine grains: a ring of a few grains is no ring.
    gold = {"specimen": "polycrystal", "material": "Au", "thickness_nm": 5.0, "grain_nm": 8.0}
    one = scene(
        setup,
        "gold-0",
        seed=seed_of(random),
        projector={"angle_ratio": ratio, "ellipticity": ellipticity, "ellipse_angle_deg": axis},
        misalignment_mrad=(random.uniform(-3, 3, 2) * setup.mrad_per_pixel).tolist(),
        areas={f"gold-{place}": {**gold, "seed": seed_of(random)} for place in range(3)},
        **bad_pixels(128, random),
    )
    places = [replace(one, position=f"gold-{place}", run=place + 1) for place in range(3)]
    mean, mask = np.mean([frames_of(each).mean(axis=0) for each in places], axis=0), _mask(one)
    disk = find_disk(mean, mask)
    dose = "588 x 2e4 e, gold"
    if not disk.ok:
        return [Outcome(name, "", dose, reason=disk.reason) for name in RINGS]
    fit = fit_rings(mean, "Au", energy, setup.mrad_per_pixel, disk, mask)
    if not fit.ok:
        return [Outcome(name, "", dose, reason=fit.reason) for name in RINGS]
    true = setup.mrad_per_pixel * ratio
    twice = 2 * np.radians(axis)
    vector = np.log1p(ellipticity) * np.array([np.cos(twice), np.sin(twice)])
    return [
        Outcome(
            RINGS[0],
            "%",
            dose,
            100 * (fit.mrad_per_pixel / true - 1),
            100 * fit.mrad_per_pixel_uncertainty / true,
            0.2,
        ),
        *(
            Outcome(RINGS[1], "%", dose, 100 * float(found - wanted), 100 * sigma, 0.3)
            for found, wanted, sigma in zip(fit.ellipse_vector, vector, fit.ellipse_vector_uncertainty, strict=True)
        ),
    ]


def stepped(random: Random) -> list[Outcome]:
    """Step along both scan axes and shear from a strontium titanate crystal, focused."""
    setup = Setup(200.0, 20.0, 2.4, 24, (96, 96), 0.085, 2e3)
    ratio = random.uniform(0.93, 1.07, 2)
    shear = float(random.uniform(-0.02, 0.02))
    area = {"specimen": "crystal", "material": "SrTiO3", "thickness_nm": 3.0, "angle_deg": float(random.uniform(0, 90))}
    one = scene(
        setup,
        "there",
        seed=seed_of(random),
        scan={"step_ratio": ratio.tolist(), "shear": shear},
        scan_detector_rotation_deg=float(random.uniform(-180, 180)),
        areas={"there": area},
        **bad_pixels(24, random),
    )
    frames, mask = frames_of(one), _mask(one)
    # Columns of Sr and of TiO look alike at these angles: the lattice that shows is the centred one.
    dark = _dark_field(frames, mask, 9.5)
    fit = fit_step([dark], np.ones(dark.shape, bool), setup.step_nm, square(STRONTIUM_TITANATE_A / 10 / np.sqrt(2)))
    dose = "9216 x 2e3 e, 21 periods"
    if not fit.ok:
        return [Outcome("step", "%", dose, reason=fit.reason)] * 2 + [Outcome("shear", "%", dose, reason=fit.reason)]
    true = setup.step_nm * ratio
    found = np.array([fit.step_y_nm, fit.step_x_nm])
    sigmas = np.array([fit.step_y_uncertainty_nm, fit.step_x_uncertainty_nm])
    return [
        *(
            Outcome("step", "%", dose, float(error), float(sigma), 0.5)
            for error, sigma in zip(100 * (found / true - 1), 100 * sigmas / true, strict=True)
        ),
        Outcome("shear", "%", dose, 100 * (fit.shear - shear), 100 * fit.shear_uncertainty, 0.5),
    ]
