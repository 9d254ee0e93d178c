"""Directions and rotations: an even grid over what symmetry leaves, and angles between orientations.

Axes (x, y, z) of the laboratory are right-handed with z along the beam, the scan seen along it; an orientation R takes
the crystal's Cartesian axes there: g(lab) = R g(crystal). R S is the same orientation for every turn S of the crystal.
"""

from math import ceil, pi, sqrt

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

GENERIC = np.array([0.31, 0.17, 0.935]) / np.linalg.norm([0.31, 0.17, 0.935])
"""On no symmetry element of any setting: the zone is what lies nearer to it than to all its images."""
EVEN = sqrt(3) / 2
"""Area of a place of the densest grid, over the square of the distance."""


def zone(turns: Array, step_deg: float) -> Array:
    """Beam directions (n, 3) in the crystal, about ``step_deg`` apart, one of each set that symmetry makes equal.

    A golden spiral over the sphere (Saff and Kuijlaars, Math. Intelligencer 19, 1997), cut to the Dirichlet cell of a
    generic direction.
    """
    number = ceil(4 * pi / (EVEN * np.radians(step_deg) ** 2))
    k = np.arange(number) + 0.5
    z, turn = 1 - 2 * k / number, pi * (1 + sqrt(5)) * k
    flat = np.sqrt(1 - z**2)
    whole = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)
    kept: Array = whole[_inside(whole, turns)]
    return kept


def onto_beam(directions: Array) -> Array:
    """Rotations (n, 3, 3) by the shortest way that take directions (n, 3) to z."""
    x, y, z = directions.T
    # Rodrigues' formula for the axis u × z; at -z itself half a turn about x.
    down = z < -1 + 1e-12
    k = 1 / np.where(down, 1.0, 1 + z)
    made = np.stack([1 - k * x * x, -k * x * y, -x, -k * x * y, 1 - k * y * y, -y, x, y, z], axis=1).reshape(-1, 3, 3)
    made[down] = np.diag([1.0, -1.0, -1.0])
    return made


def about_beam(angle_rad: Array) -> Array:
    """Rotations (n, 3, 3) about z, from x towards y."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    o, i = np.zeros_like(c), np.ones_like(c)
    return np.stack([c, -s, o, s, c, o, o, o, i], axis=-1).reshape(*np.shape(angle_rad), 3, 3)


def reduced(rotations: Array, turns: Array) -> Array:
    """The same orientations (n, 3, 3) with the beam direction in the zone."""
    beam = rotations[:, 2, :]
    near = np.einsum("ni,mij,j->nm", beam, turns, GENERIC)
    best: Array = rotations @ turns[near.argmax(1)]
    return best


def misorientation_deg(one: Array, other: Array, turns: Array) -> Array:
    """Smallest angle [deg] between orientations (n, 3, 3) and (n, 3, 3) or (3, 3)."""
    between = np.einsum("...ji,...jk->...ik", one, other)
    trace = np.einsum("...ik,mki->...m", between, turns)
    angle: Array = np.degrees(np.arccos(np.clip((trace.max(-1) - 1) / 2, -1, 1)))
    return angle


def bunge_deg(rotations: Array) -> Array:
    """Euler angles (n, 3) φ1, Φ, φ2 [deg] of the turn from laboratory to crystal (Bunge)."""
    g = np.swapaxes(rotations, -1, -2)
    tilt = np.arccos(np.clip(g[..., 2, 2], -1, 1))
    flat = np.sin(tilt) < 1e-9
    first = np.where(flat, np.arctan2(g[..., 0, 1], g[..., 0, 0]), np.arctan2(g[..., 2, 0], -g[..., 2, 1]))
    second = np.where(flat, 0.0, np.arctan2(g[..., 0, 2], g[..., 1, 2]))
    angles: Array = np.degrees(np.stack([first % (2 * pi), tilt, second % (2 * pi)], axis=-1))
    return angles


def _inside(directions: Array, turns: Array) -> npt.NDArray[np.bool_]:
    """Whether no turn brings a direction nearer to the generic one."""
    near = np.einsum("ni,mij,j->nm", directions, turns, GENERIC)
    inside: npt.NDArray[np.bool_] = directions @ GENERIC >= near.max(1) - 1e-9
    return inside
