"""Specimens as atoms: the same at the same places whatever region is asked, each out of (seed, cell).

Places are (y, x) [Å] in the specimen's frame from its origin, depths z [Å] from the entrance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, pi, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput
from stem4d.simulate.crystals import (
    CARBON_PER_A3,
    MOLYBDENUM_DISULFIDE,
    Cell,
    crystal,
    model,
)
from stem4d.simulate.draws import uniform
from stem4d.simulate.grains import grains
from stem4d.simulate.scanning import turn
from stem4d.simulate.specimen import Specimen
from stem4d.simulate.strain import undeformed_nm

Floats = npt.NDArray[np.floating[Any]]
Box = tuple[tuple[float, float], tuple[float, float]]
"""((y from, to), (x from, to)) [Å]."""

MODULATION_WAVES_A = (17.0, 23.0, 31.0, 43.0)
"""Periods of the slow modulation [Å]: a few over a typical atomic-resolution field."""
GLOBULE_PARTS = 120
"""Gaussian parts of one globule of the biological film, about as many as a small protein has residues."""
GLOBULE_RADIUS = 0.42
"""Radius of a globule over the distance of its neighbours."""


@dataclass(frozen=True)
class Atoms:
    """Atoms of one species: an element, ``model`` or ``part``; places and depths (n,) [Å], strengths (n,)."""

    species: str
    z_a: Floats
    y_a: Floats
    x_a: Floats
    weight: Floats


def depth_a(specimen: Specimen) -> float:
    """Thickness that atoms may stand in [Å]; 0 where they lie in one plane."""
    if specimen.kind == "mos2":
        return MOLYBDENUM_DISULFIDE.cell_a[0]
    return 10 * specimen.thickness_nm if specimen.kind in ("amorphous", "crystal", "strained", "polycrystal") else 0.0


def unit_cell(specimen: Specimen) -> Cell | None:
    """The cell that a lattice repeats; None for what has none."""
    if specimen.kind == "mos2":
        return MOLYBDENUM_DISULFIDE
    if specimen.kind in ("square", "hexagonal"):
        return model(specimen.kind, specimen.spacing_a)
    return crystal(specimen.material) if specimen.kind in ("crystal", "strained", "polycrystal") else None


def lattice_a(specimen: Specimen) -> Floats | None:
    """Vectors of the cell in the plane as columns of [[y], [x]] (2, 2) [Å]; None for what repeats nowhere."""
    cell = unit_cell(specimen)
    if cell is None or specimen.kind == "polycrystal":
        return None
    vectors: Floats = turn(specimen.angle_deg) @ np.diag(cell.cell_a[1:])
    return vectors


def atoms(specimen: Specimen, box_a: Box, depths_a: tuple[float, float] = (-np.inf, np.inf)) -> Iterator[Atoms]:
    """Atoms that stand in a box, in groups of one species.

    Parameters
    ----------
    specimen : Specimen
        What to build.
    box_a : Box
        Part of the plane wanted. Atoms outside may be given too.
    depths_a : (float, float)
        Depths wanted, from (included) to (not included) [Å].

    Raises
    ------
    BadInput
        For a material that is not known, or a displacement that tears the lattice.
    """
    for group in _groups(specimen, box_a, depths_a):
        kept = (group.z_a >= depths_a[0]) & (group.z_a < depths_a[1])
        if kept.all():
            yield group
        elif kept.any():
            yield Atoms(group.species, *(part[kept] for part in (group.z_a, group.y_a, group.x_a, group.weight)))


def _groups(specimen: Specimen, box_a: Box, depths_a: tuple[float, float]) -> Iterator[Atoms]:
    if specimen.kind == "random":
        yield _random(specimen, box_a)
    elif specimen.kind == "amorphous":
        yield from _film(specimen, box_a, depths_a)
    elif specimen.kind == "biological":
        yield _globules(specimen, box_a)
    elif specimen.kind == "polycrystal":
        element = crystal(specimen.material)
        for species, places in grains(
            element, specimen.seed, 10 * specimen.grain_nm, depth_a(specimen), box_a, depths_a
        ):
            yield Atoms(species, places[:, 0], places[:, 1], places[:, 2], np.ones(len(places)))
    elif specimen.kind != "vacuum":
        yield from _lattice(specimen, box_a, depths_a)


def _cells(box_a: Box, vectors: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices (y, x) of the cells that may reach into a box."""
    corners = np.array([[y, x] for y in box_a[0] for x in box_a[1]]) @ np.linalg.inv(vectors).T
    low, high = np.floor(corners.min(0)).astype(int) - 1, np.ceil(corners.max(0)).astype(int) + 1
    y, x = np.mgrid[low[0] : high[0] + 1, low[1] : high[1] + 1]
    if len(vectors) and abs(vectors[0, 1]) > 1e-12:
        # A turned lattice: most of the corners of its rectangle lie outside the box.
        reach = np.abs(vectors).sum(1)
        at = np.stack([y, x], -1) @ vectors.T
        near = np.ones(y.shape, np.bool_)
        for axis in (0, 1):
            near &= (at[..., axis] > box_a[axis][0] - 2 * reach[axis]) & (
                at[..., axis] < box_a[axis][1] + 2 * reach[axis]
            )
        return y[near], x[near]
    return y.ravel(), x.ravel()


def _lattice(specimen: Specimen, box_a: Box, depths_a: tuple[float, float]) -> Iterator[Atoms]:
    cell, vectors = unit_cell(specimen), lattice_a(specimen)
    assert cell is not None
    assert vectors is not None
    if specimen.kind == "strained":
        outline = np.stack(np.meshgrid(*(np.linspace(*side, 33) for side in box_a), indexing="ij"), -1)
        before = 10 * undeformed_nm(specimen.displacement, outline / 10)
        # A grid of 33: half a step more on each side holds what lies between its points.
        room = [(side[1] - side[0]) / 64 + 5 for side in box_a]
        box_a = tuple((before[..., i].min() - room[i], before[..., i].max() + room[i]) for i in (0, 1))  # type: ignore[assignment]
    cell_y, cell_x = _cells(box_a, vectors)
    side_z = cell.cell_a[0]
    thick = depth_a(specimen) if specimen.kind in ("crystal", "strained") else side_z
    for number, site in enumerate(cell.sites):
        places = np.stack([cell_y + site.at[1], cell_x + site.at[2]], axis=1) @ vectors.T
        if specimen.kind == "strained":
            places = places + 10 * specimen.displacement.at(places / 10)
        weight = np.full(len(places), site.strength)
        if site.light and specimen.vacancy_fraction > 0:
            weight = weight * (uniform(specimen.seed, 10 + number, cell_y, cell_x) >= specimen.vacancy_fraction)
        if specimen.modulation > 0:
            weight = weight * (1 + specimen.modulation * _slow(specimen.seed, places[:, 0], places[:, 1]))
        if specimen.kind in ("crystal", "strained"):
            # A hair less than the thickness: a whole number of cells ends below its last plane.
            layers = np.arange(ceil((thick - 1e-6) / side_z - site.at[0])) + site.at[0]
        else:
            layers = np.array([site.at[0]])
        for z in layers[layers >= 0] * (side_z if specimen.kind not in ("square", "hexagonal") else 0.0):
            if depths_a[0] <= z < depths_a[1]:
                yield Atoms(site.species, np.full(len(places), z), places[:, 0], places[:, 1], weight)


def _slow(seed: int, y_a: Floats, x_a: Floats) -> Floats:
    """A smooth function of position within [-1, 1]: a few plane waves, directions and phases out of the seed."""
    total = np.zeros_like(y_a)
    draws = np.random.default_rng(seed).uniform(0, 2 * pi, (len(MODULATION_WAVES_A), 2))
    for period_a, (direction, phase) in zip(MODULATION_WAVES_A, draws, strict=True):
        total += np.sin(2 * pi / period_a * (y_a * np.sin(direction) + x_a * np.cos(direction)) + phase)
    return total / len(MODULATION_WAVES_A)


def _random(specimen: Specimen, box_a: Box) -> Atoms:
    side, seed = specimen.spacing_a, specimen.seed
    cell_y, cell_x = _cells(box_a, np.diag([side, side]))
    y = side * (cell_y + uniform(seed, 1, cell_y, cell_x))
    x = side * (cell_x + uniform(seed, 2, cell_y, cell_x))
    weight = 0.4 + 1.2 * uniform(seed, 3, cell_y, cell_x)
    weight = weight * (1 + specimen.modulation * _slow(seed, y, x))
    return Atoms("model", np.zeros(len(y)), y, x, weight)


def _film(specimen: Specimen, box_a: Box, depths_a: tuple[float, float]) -> Iterator[Atoms]:
    """One atom anywhere in each of the boxes that a film is divided into.

    Such a film has no Bragg peaks, since the transform of a uniform density over a cell vanishes at every one of
    them, and its density hardly varies over long distances, as that of a solid does: S(k) = 1 - sinc² per axis.
    """
    thickness = depth_a(specimen)
    layers = max(round(thickness * CARBON_PER_A3 ** (1 / 3)), 1)
    height = thickness / layers
    side = 1 / sqrt(CARBON_PER_A3 * height)
    cell_y, cell_x = _cells(box_a, np.diag([side, side]))
    for layer in range(layers):
        if (layer + 1) * height <= depths_a[0] or layer * height >= depths_a[1]:
            continue
        depth = np.full(len(cell_y), layer)
        z, y, x = (
            size * (cell + uniform(specimen.seed, channel, cell_y, cell_x, depth))
            for channel, (size, cell) in enumerate(((height, depth), (side, cell_y), (side, cell_x)))
        )
        yield Atoms("C", z, y, x, np.ones(len(z)))


def _globules(specimen: Specimen, box_a: Box) -> Atoms:
    """Balls of Gaussian parts, one ball anywhere in each cell."""
    side = 10 * specimen.globule_nm
    wide: Box = ((box_a[0][0] - side, box_a[0][1] + side), (box_a[1][0] - side, box_a[1][1] + side))
    cell_y, cell_x = (np.repeat(cells, GLOBULE_PARTS) for cells in _cells(wide, np.diag([side, side])))
    part = np.tile(np.arange(GLOBULE_PARTS), len(cell_y) // GLOBULE_PARTS)
    whole, seed = np.zeros_like(part), specimen.seed
    middle_y = side * (cell_y + uniform(seed, 1, cell_y, cell_x, whole))
    middle_x = side * (cell_x + uniform(seed, 2, cell_y, cell_x, whole))
    # Uniform in a ball: radius from its cube, the height from a uniform cosine.
    radius = GLOBULE_RADIUS * side * np.cbrt(uniform(seed, 3, cell_y, cell_x, part))
    across = radius * np.sqrt(1 - (2 * uniform(seed, 4, cell_y, cell_x, part) - 1) ** 2)
    azimuth = 2 * pi * uniform(seed, 5, cell_y, cell_x, part)
    y, x = middle_y + across * np.sin(azimuth), middle_x + across * np.cos(azimuth)
    return Atoms("part", np.zeros(len(y)), y, x, np.ones(len(y)))


def check(specimen: Specimen) -> None:
    """Raise BadInput for what no specimen can be."""
    for field, low in (("thickness_nm", 0.1), ("grain_nm", 1.0), ("globule_nm", 2.0), ("spacing_a", 0.5)):
        value = getattr(specimen, field)
        if not value >= low:
            raise BadInput(field=f"specimen.{field}", value=value, limit=f"at least {low}", unit=field.rsplit("_")[-1])
    if specimen.slices < 1 or (specimen.slices > 1 and depth_a(specimen) == 0):
        limit = "at least 1, and 1 where all atoms stand in one plane"
        raise BadInput(field="specimen.slices", value=specimen.slices, limit=limit)
    unit_cell(specimen)
