"""A polycrystal: grains in random orientations, each the part of the film that lies nearest to its seed."""

from collections.abc import Iterator
from math import ceil, floor, pi
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from stem4d.simulate.crystals import Cell
from stem4d.simulate.draws import uniform

Floats = npt.NDArray[np.floating[Any]]

JITTER = 0.5
"""Part of its cell over which a grain's seed is drawn; the rest keeps grains from becoming slivers."""
REACH = 1.15
"""How far a grain may extend from its seed, over the distance of seeds; what is further belongs to another."""


def grains(
    cell: Cell,
    seed: int,
    distance_a: float,
    thickness_a: float,
    box_a: tuple[tuple[float, float], tuple[float, float]],
    depths_a: tuple[float, float],
) -> Iterator[tuple[str, Floats]]:
    """Atoms of the grains that reach into a box.

    Parameters
    ----------
    cell : Cell
        What grains consist of.
    seed : int
        Of places and orientations.
    distance_a, thickness_a : float
        Distance of neighbouring seeds and thickness of the film [Å].
    box_a, depths_a : pairs of float
        Part of the film wanted: ((y from, to), (x from, to)) and (z from, to) [Å].

    Yields
    ------
    (str, float array (n, 3))
        Species and places (z, y, x) [Å] of one grain's atoms.
    """
    layers = max(round(thickness_a / distance_a), 1)
    sizes = np.array([thickness_a / layers, distance_a, distance_a])
    radius = REACH * float(sizes.max())
    bounds = np.array([(max(depths_a[0], 0.0), min(depths_a[1], thickness_a)), *box_a])
    # Two cells more on each side: their seeds may be the nearest to an atom of a grain within.
    low, high = (
        [floor(side[0] / distance_a) - 4 for side in box_a],
        [ceil(side[1] / distance_a) + 4 for side in box_a],
    )
    z, y, x = np.mgrid[0:layers, low[0] : high[0] + 1, low[1] : high[1] + 1]
    drawn = [uniform(seed, channel, z, y, x) for channel in range(6)]
    places = np.stack(
        [size * (at + 0.5 + JITTER * (u - 0.5)) for size, at, u in zip(sizes, (z, y, x), drawn[:3], strict=True)],
        axis=-1,
    )
    steps = np.stack(np.meshgrid(*([np.arange(-2, 3)] * 3), indexing="ij"), -1).reshape(-1, 3)
    steps = steps[np.argsort(np.abs(steps).sum(1), kind="stable")]
    for at_z, at_y, at_x in np.ndindex(z.shape):
        middle = places[at_z, at_y, at_x]
        inner = 2 <= at_y < z.shape[1] - 2 and 2 <= at_x < z.shape[2] - 2
        if not inner or np.any(middle + radius < bounds[:, 0]) or np.any(middle - radius > bounds[:, 1]):
            continue
        near = steps + np.array([at_z, at_y, at_x])
        near = near[(near[:, 0] >= 0) & (near[:, 0] < layers)]
        rotation = _rotation(*(float(drawn[channel][at_z, at_y, at_x]) for channel in (3, 4, 5)))
        for site in cell.sites:
            found = _nearest(
                places[near[:, 0], near[:, 1], near[:, 2]],
                rotation,
                np.array(cell.cell_a),
                np.array(site.at),
                radius,
                bounds,
            )
            if len(found):
                yield site.species, found


def _rotation(u: float, v: float, w: float) -> Floats:
    """A rotation out of three uniform numbers, drawn evenly from all of them (Shoemake, Graphics Gems III, 1992)."""
    a, b = np.sqrt(1 - u) * np.sin(2 * pi * v), np.sqrt(1 - u) * np.cos(2 * pi * v)
    c, d = np.sqrt(u) * np.sin(2 * pi * w), np.sqrt(u) * np.cos(2 * pi * w)
    return np.array(
        [
            [1 - 2 * (b * b + c * c), 2 * (a * b - c * d), 2 * (a * c + b * d)],
            [2 * (a * b + c * d), 1 - 2 * (a * a + c * c), 2 * (b * c - a * d)],
            [2 * (a * c - b * d), 2 * (b * c + a * d), 1 - 2 * (a * a + b * b)],
        ]
    )


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _nearest(seeds: Any, rotation: Any, sides: Any, offset: Any, radius: Any, bounds: Any) -> Any:
    """Lattice points within bounds that are nearer to the first seed than to any other."""
    found = np.empty((int(4.5 * (radius + sides.max()) ** 3 / sides.prod()) + 8, 3))
    count = 0
    most = (int(radius / sides[0]) + 2, int(radius / sides[1]) + 2, int(radius / sides[2]) + 2)
    p = np.empty(3)
    for i in range(-most[0], most[0] + 1):
        for j in range(-most[1], most[1] + 1):
            for k in range(-most[2], most[2] + 1):
                a, b, c = (i + offset[0]) * sides[0], (j + offset[1]) * sides[1], (k + offset[2]) * sides[2]
                distance = a * a + b * b + c * c
                if distance > radius * radius:
                    continue
                inside = True
                for axis in range(3):
                    p[axis] = seeds[0, axis] + rotation[axis, 0] * a + rotation[axis, 1] * b + rotation[axis, 2] * c
                    if p[axis] < bounds[axis, 0] or p[axis] >= bounds[axis, 1]:
                        inside = False
                if not inside:
                    continue
                for other in range(1, seeds.shape[0]):
                    away = 0.0
                    for axis in range(3):
                        away += (p[axis] - seeds[other, axis]) ** 2
                    if away < distance:
                        inside = False
                        break
                if inside:
                    found[count] = p
                    count += 1
    return found[:count]
