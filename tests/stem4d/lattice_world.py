"""Kinematic patterns and images of known lattices, to test the calibrations from them: not the product's simulator.

Patterns are sums of disks on a grid finer than the detector's, so nothing of the estimators' models is used.
"""

import numpy as np

from stem4d.calibrate.crystals import crystal_named, families, zone_001
from stem4d.calibrate.disk import DiskFit, find_disk
from stem4d.optics import wavelength_a

FINE = 4
HEIGHTS = {
    "fcc": {3: 1.0, 4: 0.5, 8: 0.3, 11: 0.35, 12: 0.12},
    "diamond": {3: 1.0, 8: 0.6, 11: 0.35, 16: 0.15, 19: 0.2},
    "primitive": {1: 0.15, 2: 1.0, 3: 0.2, 4: 0.7, 5: 0.15, 6: 0.5, 8: 0.35, 10: 0.15, 12: 0.2},
}
"""Light in a ring by h² + k² + l², about as the kinematic theory has it."""


def to_pixels(angles, mrad_per_pixel, ellipticity, angle_deg):
    """Pixels from the centre of angles (..., 2) on (y, x): circles become ellipses, the long axis from x towards y."""
    phi = np.radians(angle_deg)
    along, across = np.array([np.sin(phi), np.cos(phi)]), np.array([np.cos(phi), -np.sin(phi)])
    matrix = np.sqrt(1 + ellipticity) * np.outer(along, along) + np.outer(across, across) / np.sqrt(1 + ellipticity)
    return angles @ matrix.T / mrad_per_pixel


def disks(shape, centre, points, weights, radius_px, ellipticity=0.0, angle_deg=0.0, fine=FINE):
    """Disks of unit counts times their weight at points (n, 2) from the centre, anti-aliased by a finer grid."""
    big = (shape[0] * fine, shape[1] * fine)
    at = (points + centre + 0.5) * fine - 0.5
    # Bilinear: rounding would move single spots by a part of the finer pixel.
    low = np.floor(at).astype(int)
    part = at - low
    light = np.zeros(big)
    for i in (0, 1):
        for j in (0, 1):
            y, x = low[:, 0] + i, low[:, 1] + j
            inside = (y >= 0) & (x >= 0) & (y < big[0]) & (x < big[1])
            share = np.where(i, part[:, 0], 1 - part[:, 0]) * np.where(j, part[:, 1], 1 - part[:, 1]) * weights
            np.add.at(light, (y[inside], x[inside]), share[inside])
    dy, dx = np.meshgrid(*(np.fft.fftfreq(n) * n / fine for n in big), indexing="ij")
    away = to_pixels(np.stack([dy, dx], axis=-1), 1.0, ellipticity, angle_deg + 90)
    distance = np.hypot(away[..., 0], away[..., 1])
    top = np.clip((radius_px - distance) * fine + 0.5, 0, 1)
    spread = np.fft.irfft2(np.fft.rfft2(light) * np.fft.rfft2(top / top.sum()), big)
    return np.maximum(spread.reshape(shape[0], fine, shape[1], fine).sum(axis=(1, 3)), 0.0)


def ring_angles(rng, crystal, energy_kev, number, grain_blur_mrad, highest_mrad):
    """Spots of many grains: angles (n, 2) [mrad] and the light in each."""
    known = crystal_named(crystal)
    wavelength = 1e3 * wavelength_a(energy_kev)
    points, weights = [], []
    for family in families(known, highest_mrad / wavelength):
        square = round((family.g_per_a * known.lattice_constant_a) ** 2)
        light = HEIGHTS[known.lattice].get(square, 1.5 / square**1.5)
        phi = rng.uniform(0, 2 * np.pi, number)
        radius = family.g_per_a * wavelength
        strength = rng.exponential(1.0, number)
        points.append(
            radius * np.stack([np.sin(phi), np.cos(phi)], axis=1) + rng.normal(0, grain_blur_mrad, (number, 2))
        )
        weights.append(light * strength / strength.sum())
    return np.concatenate(points), np.concatenate(weights)


def ring_pattern(
    rng,
    crystal="gold",
    *,
    shape=(192, 192),
    energy_kev=200.0,
    mrad_per_pixel=0.26,
    ellipticity=0.01,
    angle_deg=20.0,
    centre=None,
    semi_angle_mrad=1.0,
    grains=4000,
    grain_blur_mrad=0.15,
    dose=1e8,
):
    """Noisy counts of a ring specimen; a tenth of the beam in the rings, a twentieth in a smooth background."""
    centre = np.array([(n - 1) / 2 for n in shape]) if centre is None else np.asarray(centre)
    angles, weights = ring_angles(rng, crystal, energy_kev, grains, grain_blur_mrad, mrad_per_pixel * max(shape))
    points = to_pixels(angles, mrad_per_pixel, ellipticity, angle_deg)
    radius = semi_angle_mrad / mrad_per_pixel
    points = np.concatenate([points, np.zeros((1, 2))])
    weights = np.append(0.1 * weights / weights.sum(), 0.85)
    pattern = disks(shape, centre, points, weights, radius, ellipticity, angle_deg)
    grid = np.indices(shape, dtype=float)
    tail = 1 / (1 + ((grid[0] - centre[0]) ** 2 + (grid[1] - centre[1]) ** 2) / (6 / mrad_per_pixel) ** 2) ** 1.5
    return rng.poisson((pattern + 0.05 * tail / tail.sum()) * dose).astype(float)


def spot_pattern(
    rng,
    crystal="aluminium",
    *,
    shape=(192, 192),
    energy_kev=200.0,
    mrad_per_pixel=0.26,
    ellipticity=0.01,
    angle_deg=20.0,
    centre=None,
    semi_angle_mrad=1.5,
    rotation_deg=10.0,
    dose=1e7,
    tilt=0.3,
):
    """Noisy counts of a crystal along [001]; spots vary in light as a small tilt of the crystal makes them."""
    centre = np.array([(n - 1) / 2 for n in shape]) if centre is None else np.asarray(centre)
    known = crystal_named(crystal)
    wavelength = 1e3 * wavelength_a(energy_kev)
    hk = zone_001(known, mrad_per_pixel * max(shape) / wavelength)
    turn = np.radians(rotation_deg)
    first, second = np.array([np.sin(turn), np.cos(turn)]), np.array([np.cos(turn), -np.sin(turn)])
    angles = (hk[:, :1] * first + hk[:, 1:] * second) * wavelength / known.lattice_constant_a
    square = (hk**2).sum(axis=1)
    weights = 1.0 / (1 + square / 4.0) ** 2 * np.exp(tilt * rng.normal(size=len(hk)))
    points = np.concatenate([to_pixels(angles, mrad_per_pixel, ellipticity, angle_deg), np.zeros((1, 2))])
    weights = np.append(0.25 * weights / weights.sum(), 0.7)
    pattern = disks(shape, centre, points, weights, semi_angle_mrad / mrad_per_pixel, ellipticity, angle_deg)
    grid = np.indices(shape, dtype=float)
    tail = 1 / (1 + ((grid[0] - centre[0]) ** 2 + (grid[1] - centre[1]) ** 2) / (5 / mrad_per_pixel) ** 2) ** 1.5
    return rng.poisson((pattern + 0.05 * tail / tail.sum()) * dose).astype(float)


def with_bad_pixels(rng, pattern):
    """Two hot pixels at full scale and 1 % dead ones: the pattern and the mask of them."""
    bad = rng.uniform(size=pattern.shape) < 0.01
    broken = np.where(bad, 0.0, pattern)
    for _ in range(2):
        y, x = (int(rng.integers(0, n)) for n in pattern.shape)
        broken[y, x], bad[y, x] = 65535.0 * max(1.0, pattern.max() / 1000), True
    return broken, bad


def disk_of(pattern, bad=None) -> DiskFit:
    """Its bright-field disk."""
    fit = find_disk(pattern, bad)
    assert fit.ok, fit.reason
    return fit


def lattice_image(
    rng,
    lattice,
    *,
    shape=(128, 128),
    step_y=0.05,
    step_x=0.05,
    shear=0.0,
    rotation_deg=12.0,
    electrons=200.0,
    contrast=0.3,
    amorphous=0.0,
):
    """Noisy counts of a scan over a lattice: waves of the two shortest orders and their sum, and speckle."""
    basis = lattice.reciprocal()
    turn = np.radians(rotation_deg)
    # Turns x towards y on (y, x).
    rotate = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    i, j = np.indices(shape, dtype=float)
    y = step_y * i
    place = np.stack([y, step_x * j + shear * y])
    image = np.zeros(shape)
    for (h, k), part in (((1, 0), 1.0), ((0, 1), 1.0), ((1, 1), 0.5), ((1, -1), 0.5), ((2, 0), 0.25), ((0, 2), 0.25)):
        g = rotate @ (h * basis[0] + k * basis[1])
        image += part * np.cos(2 * np.pi * (g[0] * place[0] + g[1] * place[1]) + rng.uniform(0, 2 * np.pi))
    image = 1 + contrast * image / 3.5
    if amorphous:
        spectrum = np.fft.fft2(rng.normal(size=shape))
        ky, kx = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
        speckle = np.fft.ifft2(spectrum * np.exp(-((ky**2 + kx**2) / (2 * 0.1**2)))).real
        image = image + amorphous * speckle / speckle.std()
    return rng.poisson(np.maximum(image, 0.0) * electrons).astype(float)
