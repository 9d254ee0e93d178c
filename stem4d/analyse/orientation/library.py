"""Templates for every direction of the zone, and the polar grid that patterns are put on; plain arrays throughout."""

from math import ceil, pi

import numpy as np
import numpy.typing as npt

from stem4d.analyse.geometry import angles_per_px
from stem4d.analyse.method import Given, NotPossible
from stem4d.analyse.orientation.crystal import Crystal, reflections
from stem4d.analyse.orientation.directions import onto_beam, zone
from stem4d.optics import wavelength_a

Array = npt.NDArray[np.float64]

SMALLEST_DISK_PX = 1.5
"""Disks are taken to be at least so large."""
AZIMUTHS = (120, 360)
"""Fewest and most samples round a circle."""
FAINTEST = 0.01
"""Part of a template's strongest spot below which spots are left out."""
MOST_TEMPLATES = 40000


def disk_px(given: Given) -> float:
    """Radius of a disk [px]."""
    return max(given.convergence_semi_angle_mrad / given.mrad_per_pixel, SMALLEST_DISK_PX)


def polar_grid(given: Given, shape: tuple[int, int], largest_mrad: float | None) -> tuple[Array, int]:
    """Radii [mrad] and number of azimuths; from where disks clear the direct beam to the far edge of the detector.

    Raises
    ------
    NotPossible
        Where the detector records nothing beside the direct beam.
    """
    radius = disk_px(given)
    origin = given.origin_px.reshape(2, -1).mean(1)
    far = max(origin[0], shape[0] - 1 - origin[0], origin[1], shape[1] - 1 - origin[1])
    outer = (far - radius) * given.mrad_per_pixel
    outer = outer if largest_mrad is None else min(outer, largest_mrad)
    inner = (2 * radius + 1) * given.mrad_per_pixel
    step = max(radius / 2, 1.0) * given.mrad_per_pixel
    if outer < inner + step:
        raise NotPossible(
            f"the detector reaches {outer:.3g} mrad and disks clear the direct beam from {inner:.3g} mrad on: there is "
            "no room for spots; record with a shorter camera length or a smaller convergence angle"
        )
    number = ceil(2 * pi * outer / given.mrad_per_pixel / radius)
    azimuths = min(max(number, AZIMUTHS[0]), AZIMUTHS[1])
    return np.arange(inner, outer, step), azimuths + azimuths % 2


def offsets_px(given: Given, radii: Array, azimuths: int) -> Array:
    """(radii, azimuths, 2): where the polar grid lies about the origin (y, x) [px]; azimuths run from x towards y."""
    turn = np.arange(azimuths) * 2 * pi / azimuths
    angle = radii[:, None, None] * np.stack([np.sin(turn), np.cos(turn)], axis=-1)
    offset: Array = angle @ np.linalg.inv(angles_per_px(given)).T
    return offset


def build(
    crystal: Crystal, given: Given, radii: Array, azimuths: int, step_deg: float, excitation_per_a: float
) -> dict[str, npt.NDArray[np.generic]]:
    """Templates and what refinement needs of the crystal.

    Returns
    -------
    dict of ndarray
        ``turns`` (m, 3, 3); ``g`` (n, 3) [1/Å] and ``strength`` (n,) of the reflections, ``index`` (n, 3); ``rotation``
        (t, 3, 3) of the templates; their spots from ``first[t]`` to ``first[t + 1]``: ``ring``, ``azimuth`` (bins) and
        ``weight``, of norm 1 in each template.

    Notes
    -----
    Intensity |F|² exp(-s²/w²), s the excitation error -(g_z + λg²/2), w ``excitation_per_a`` or half the change of s
    that half a step makes at the longest reflection, if that is more; a spot's weight is the root of it.

    Raises
    ------
    BadInput
        Where no reflection lies between the radii.
    NotPossible
        Where the zone takes more templates than memory should hold.
    """
    wavelength = wavelength_a(given.beam_energy_kev)
    per_mrad = 1e-3 / wavelength
    seen = reflections(crystal, radii[0] * per_mrad, radii[-1] * per_mrad)
    directions = zone(crystal.turns, step_deg)
    if len(directions) > MOST_TEMPLATES:
        raise NotPossible(f"{len(directions)} templates of {crystal.name} are too many; take a larger angular step")
    rotations = onto_beam(directions)
    longest = float(np.linalg.norm(seen.g_per_a, axis=1).max())
    wide = max(excitation_per_a, longest * np.radians(step_deg) / 4)
    first, ring, azimuth, weight = [0], [], [], []
    spacing = radii[1] - radii[0]
    for rotation in rotations:
        g = seen.g_per_a @ rotation.T
        excitation = -(g[:, 2] + wavelength * np.square(g).sum(1) / 2)
        strength = seen.intensity * np.exp(-((excitation / wide) ** 2))
        there = strength > FAINTEST * strength.max()
        size = np.hypot(g[there, 0], g[there, 1]) / per_mrad
        at = np.rint((size - radii[0]) / spacing).astype(np.int64)
        turn = np.rint(np.arctan2(g[there, 1], g[there, 0]) * azimuths / (2 * pi)).astype(np.int64) % azimuths
        on = (at >= 0) & (at < len(radii))
        root = np.sqrt(strength[there])[on]
        ring.append(at[on])
        azimuth.append(turn[on])
        weight.append(root / max(float(np.linalg.norm(root)), 1e-12))
        first.append(first[-1] + int(on.sum()))
    return {
        "turns": crystal.turns,
        "g": seen.g_per_a,
        "strength": seen.intensity,
        "rotation": rotations,
        "first": np.array(first, np.int64),
        "ring": np.concatenate(ring).astype(np.int32),
        "azimuth": np.concatenate(azimuth).astype(np.int32),
        "weight": np.concatenate(weight).astype(np.float32),
        "wide_per_a": np.array([wide]),
    }
