"""Blind measures on the specimen itself: rotation, defocus and astigmatism, drift."""

from dataclasses import replace

import numpy as np

from stem4d import optics
from stem4d.calibrate.angles import add_frames, empty_images, group_angles
from stem4d.calibrate.drift import fit_drift
from stem4d.calibrate.rotation import fit_rotation
from stem4d.calibrate.tilt import fit_tilts
from stem4d.simulate.scanning import turn
from tests.blind.outcomes import Outcome
from tests.blind.world import Setup, bad_pixels, centres_of_mass, dark_field, frames_of, mask_of, scene, seed_of


def specimen(random: np.random.Generator) -> dict[str, object]:
    """Something with structure in every direction: a lattice with vacancies, or atoms at random."""
    if random.random() < 0.5:
        kind = str(random.choice(["square", "hexagonal"]))
        spacing = float(random.uniform(2.8, 4.2))
        lattice = {"vacancy_fraction": 0.1, "modulation": 0.3, "angle_deg": float(random.uniform(0, 90))}
        return {"specimen": kind, "spacing_a": spacing, "atom_phase_rad": float(random.uniform(0.6, 1.2)), **lattice}
    return {"specimen": "random", "spacing_a": float(random.uniform(3, 5)), "atom_phase_rad": 0.9, "modulation": 0.3}


def turned(random: np.random.Generator) -> list[Outcome]:
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
    frames, mask = frames_of(one), mask_of(one)
    fit = fit_rotation(*centres_of_mass(frames, mask, 20.0), dark_field(frames, mask, 16.0))
    dose = "2304 x 2e4 e, focused"
    if not fit.ok:
        names = ("rotation", "handedness wrong", "half turn left open")
        return [Outcome(name, "deg" if name == "rotation" else "", dose, reason=fit.reason) for name in names]
    circle = 360.0 if fit.half_turn_known else 180.0
    error = (fit.rotation_deg - angle + circle / 2) % circle - circle / 2
    wrong = float(fit.mirrored != mirrored)
    return [
        Outcome("rotation", "deg", dose, error, fit.rotation_uncertainty_deg, 0.5),
        Outcome("handedness wrong", "", dose, wrong, limit=0.0),
        Outcome("half turn left open", "", dose, float(not fit.half_turn_known), limit=0.0),
    ]


def drifting(random: np.random.Generator) -> list[Outcome]:
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
        images.append([dark_field(frames, clean, 9.0)])
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


def defocused(random: np.random.Generator) -> list[Outcome]:
    """Defocus, twofold astigmatism and rotation from the tilted images of a defocused scan."""
    energy, alpha = float(random.choice([200.0, 300.0])), float(random.uniform(15, 24))
    sign = float(random.choice([-1.0, 1.0]))
    # The probe, 20 % more defocus and 8 nm of astigmatism included, has to fit into the window of 20 λ/α.
    widest_nm = (18.7 * optics.wavelength_a(energy) / (2e-6 * alpha**2) / 10 - 8) / 1.2
    told = sign * float(random.uniform(0.4, 0.9)) * min(widest_nm, 33.0)
    setup = Setup(energy, alpha, alpha / 20, 64, (44, 44), 0.08, 2e4, defocus_nm=told)
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
    frames, mask = frames_of(one), mask_of(one)
    images = empty_images(group_angles((64, 64), (31.5, 31.5), 20.0, mask), (44, 44))
    add_frames(images, frames, 0, 65535)
    # As the calibration does, which has the sign from the rotation.
    fit = fit_tilts(images, setup.step_nm, setup.mrad_per_pixel, alpha, energy, told, trust_sign=True)
    dose = "1936 x 2e4 e, defocused"
    names = ("defocus", "twofold astigmatism, each part", "rotation from tilts", "handedness from tilts wrong")
    if not fit.ok:
        return [
            Outcome(name, unit, dose, reason=fit.reason)
            for name, unit in zip((*names, names[1]), ("nm", "nm", "deg", "", "nm"), strict=True)
        ]
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
        Outcome(names[3], "", dose, float(fit.mirrored != mirrored), limit=0.0),
    ]
