"""Blind measures on known lattices: angle per pixel and ellipse, step and shear."""

from dataclasses import replace

import numpy as np

from stem4d import optics
from stem4d.calibrate.crystals import square
from stem4d.calibrate.disk import find_disk
from stem4d.calibrate.rings import fit_rings
from stem4d.calibrate.spots import fit_spots
from stem4d.calibrate.step import fit_step
from stem4d.lattice_constants import GOLD_A, STRONTIUM_TITANATE_A
from tests.blind.outcomes import Outcome
from tests.blind.world import Setup, bad_pixels, dark_field, frames_of, mask_of, scene, seed_of

PLACES = 4
"""Of the ring specimen, each some 80 nm wide."""


def scaled(random: np.random.Generator) -> list[Outcome]:
    """Angle per pixel and ellipse from the spots of a gold crystal, with a small aperture."""
    energy = float(random.choice([200.0, 300.0]))
    # The 420 spots lie at 0.8 of the detector's half width.
    delta = 1e3 * optics.wavelength_a(energy) * np.sqrt(20) / GOLD_A / (0.8 * 64)
    alpha = float(random.uniform(2.8, 3.6)) * delta
    setup = Setup(energy, alpha, delta, 128, (16, 16), 0.25, 2e4)
    gold = {"specimen": "crystal", "material": "Au", "thickness_nm": 3.0, "angle_deg": float(random.uniform(0, 90))}
    return _scale(random, setup, gold, 1, "256 x 2e4 e, gold [001]", "spots")


def ringed(random: np.random.Generator) -> list[Outcome]:
    """Angle per pixel and ellipse from the rings of a gold film, with a small aperture."""
    energy = float(random.choice([80.0, 200.0, 300.0]))
    # The 311 ring, the fourth, lies at 0.8 of the detector's half width; disks are small enough to part 111 from 200.
    delta = 1e3 * optics.wavelength_a(energy) * np.sqrt(11) / GOLD_A / (0.8 * 64)
    setup = Setup(energy, float(random.uniform(2.2, 3.0)) * delta, delta, 128, (14, 14), 5.0, 2e4)
    # Several places of a film of fine grains: a ring of a few of them is no ring.
    gold = {"specimen": "polycrystal", "material": "Au", "thickness_nm": 4.0, "grain_nm": 4.0}
    return _scale(random, setup, gold, PLACES, f"{PLACES} x 196 x 2e4 e, gold film", "rings")


def _scale(
    random: np.random.Generator, setup: Setup, gold: dict[str, object], places: int, dose: str, how: str
) -> list[Outcome]:
    """One reference specimen at several places, fitted by its spots or its rings."""
    names = (f"angle per pixel, {how}", f"ellipse, each part, {how}")
    ratio, ellipticity, axis = (float(random.uniform(*span)) for span in ((0.98, 1.02), (0.0, 0.02), (-90, 90)))
    one = scene(
        setup,
        "gold-0",
        seed=seed_of(random),
        projector={"angle_ratio": ratio, "ellipticity": ellipticity, "ellipse_angle_deg": axis},
        misalignment_mrad=(random.uniform(-3, 3, 2) * setup.mrad_per_pixel).tolist(),
        areas={f"gold-{place}": {**gold, "seed": seed_of(random)} for place in range(places)},
        **bad_pixels(128, random),
    )
    seen = [frames_of(replace(one, position=f"gold-{place}", run=place + 1)).mean(axis=0) for place in range(places)]
    mean, mask = np.mean(seen, axis=0), mask_of(one)
    disk = find_disk(mean, mask)
    if not disk.ok:
        return [Outcome(name, "%", dose, reason=disk.reason) for name in names]
    fit = (fit_rings if how == "rings" else fit_spots)(mean, "Au", setup.energy_kev, setup.mrad_per_pixel, disk, mask)
    if not fit.ok:
        return [Outcome(name, "%", dose, reason=fit.reason) for name in names]
    true = setup.mrad_per_pixel * ratio
    twice = 2 * np.radians(axis)
    vector = np.log1p(ellipticity) * np.array([np.cos(twice), np.sin(twice)])
    error, sigma = fit.mrad_per_pixel - true, fit.mrad_per_pixel_uncertainty
    return [
        Outcome(names[0], "%", dose, 100 * error / true, 100 * sigma / true, 0.2),
        *(
            Outcome(names[1], "%", dose, 100 * float(found - wanted), 100 * each, 0.3)
            for found, wanted, each in zip(fit.ellipse_vector, vector, fit.ellipse_vector_uncertainty, strict=True)
        ),
    ]


def stepped(random: np.random.Generator) -> list[Outcome]:
    """Step along both scan axes and shear from a strontium titanate crystal, focused."""
    setup = Setup(200.0, 20.0, 2.4, 24, (72, 72), 0.085, 2e3)
    ratio = random.uniform(0.96, 1.04, 2)
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
    frames, mask = frames_of(one), mask_of(one)
    # Columns of Sr and of TiO look alike at these angles: the lattice that shows is the centred one.
    dark = dark_field(frames, mask, 9.5)
    fit = fit_step([dark], np.ones(dark.shape, bool), setup.step_nm, square(STRONTIUM_TITANATE_A / 10 / np.sqrt(2)))
    dose = "5184 x 2e3 e, 22 periods"
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
