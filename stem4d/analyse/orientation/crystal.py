"""A crystal from the text of a CIF: its cell, atoms, symmetry, and the kinematic strength of its reflections."""

from dataclasses import dataclass
from math import pi

import gemmi
import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput
from stem4d.scattering import LARGEST_K_PER_A, scattering_factor_a

Array = npt.NDArray[np.float64]

USUAL_B_A2 = 0.5
"""Debye-Waller B [Å²] of an atom whose CIF says nothing."""
SAME_SITE = 0.01
"""Distance of fractional coordinates within which two atoms of a CIF are one."""
WEAKEST = 1e-4
"""Of the strongest structure factor squared: what is weaker is left out."""
MOST_REFLECTIONS = 4000
LONGEST_A = 300.0
"""Edge of a cell: longer ones have more reflections than can be told apart, or are a mistake of units."""


@dataclass(frozen=True)
class Crystal:
    """Cell, atoms and symmetry; Cartesian axes (x, y, z) with a along x and b in the plane of x and y."""

    name: str
    orthogonal_a: Array
    """(3, 3): Cartesian [Å] = this @ fractions."""
    elements: tuple[str, ...]
    fractions: Array
    """(n, 3) of all atoms of the cell."""
    weight: Array
    """(n,) occupancy."""
    thermal_b_a2: Array
    """(n,)."""
    turns: Array
    """(m, 3, 3): rotations, Cartesian, that leave kinematic intensities as they are: the proper ones of its Laue
    group."""


def read_crystal(cif: str) -> Crystal:
    """The crystal that a CIF describes.

    Raises
    ------
    BadInput
        Where the text is no CIF, has no cell or no atoms, or names an element that there is none of.
    """
    try:
        document = gemmi.cif.read_string(cif)
    except (ValueError, RuntimeError) as fault:
        raise _bad(cif, f"must be the text of a CIF ({fault})") from fault
    block = next((one for one in document if one.find_value("_cell_length_a")), None)
    if block is None:
        raise _bad(cif, "must have a block with _cell_length_a")
    made = gemmi.make_small_structure_from_block(block)
    cell = made.cell
    if not made.sites:
        raise _bad(cif, "must have atoms with fractional coordinates (_atom_site_fract_x)")
    if not (cell.is_crystal() and cell.volume > 1):
        raise _bad(cif, "must have a cell of three lengths [Å] and three angles [deg]")
    if max(cell.a, cell.b, cell.c) > LONGEST_A:
        raise _bad(cif, f"must have a cell of at most {LONGEST_A:g} Å")
    orthogonal = np.array(cell.orth.mat.tolist())
    operations = _operations(made)
    elements, fractions, weight, thermal = [], [], [], []
    for site in made.sites:
        name = site.element.name
        scattering_factor_a(name, np.zeros(1))
        for at in _images(np.array(site.fract.tolist()), operations):
            elements.append(name)
            fractions.append(at)
            weight.append(site.occ)
            thermal.append(_thermal_b_a2(site))
    return Crystal(
        name=block.name,
        orthogonal_a=orthogonal,
        elements=tuple(elements),
        fractions=np.array(fractions),
        weight=np.array(weight),
        thermal_b_a2=np.array(thermal),
        turns=_proper(operations, orthogonal),
    )


@dataclass(frozen=True)
class Reflections:
    """Reflections (n) that may be seen, by length."""

    index: npt.NDArray[np.int64]
    """(n, 3)."""
    g_per_a: Array
    """(n, 3), Cartesian [1/Å]."""
    intensity: Array
    """(n,) |F|² over the largest of them."""


def reflections(crystal: Crystal, shortest_per_a: float, longest_per_a: float) -> Reflections:
    """Reflections of lengths between two [1/Å] that the structure does not forbid; of many the strongest 4000.

    Notes
    -----
    F = Σ f_e(g) exp(-B g²/4) exp(2πi h·x), kinematic; f_e as in `stem4d.scattering`.

    Raises
    ------
    BadInput
        Where there is none.
    """
    longest = min(longest_per_a, LARGEST_K_PER_A)
    most = np.floor(longest * np.linalg.norm(crystal.orthogonal_a, axis=0)).astype(int)
    axes = [np.arange(-n, n + 1) for n in most]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    g = index @ np.linalg.inv(crystal.orthogonal_a)
    length = np.linalg.norm(g, axis=1)
    there = (length >= shortest_per_a) & (length <= longest) & (length > 0)
    index, g, length = index[there], g[there], length[there]
    amplitude = np.zeros(len(index), np.complex128)
    for number, element in enumerate(crystal.elements):
        factor = scattering_factor_a(element, length) * np.exp(-crystal.thermal_b_a2[number] * length**2 / 4)
        amplitude += crystal.weight[number] * factor * np.exp(2j * pi * (index @ crystal.fractions[number]))
    strength = np.abs(amplitude) ** 2
    seen = strength > WEAKEST * strength.max(initial=0.0)
    if not seen.any():
        raise BadInput(
            field="crystal_cif",
            value=crystal.name,
            limit=f"reflections between {shortest_per_a:.3g} and {longest:.3g} 1/Å, where the detector records beside "
            "the direct beam",
            unit="1/Å",
            remedy="Check the cell, the angle per pixel and the camera length",
        )
    chosen = np.flatnonzero(seen)
    chosen = chosen[np.argsort(-strength[chosen], kind="stable")[:MOST_REFLECTIONS]]
    chosen = chosen[np.argsort(length[chosen], kind="stable")]
    return Reflections(index[chosen], g[chosen], strength[chosen] / strength[chosen].max())


def _bad(cif: str, limit: str) -> BadInput:
    return BadInput(field="crystal_cif", value=cif, limit=limit)


def _operations(made: gemmi.SmallStructure) -> list[tuple[Array, Array]]:
    """Rotations and shifts of fractions: of the space group, or else those that are listed."""
    group: gemmi.SpaceGroup | None = made.spacegroup
    listed = [gemmi.Op(text) for text in made.symops] or [gemmi.Op("x,y,z")]
    found = listed if group is None else list(group.operations())
    return [(np.array(one.rot) / gemmi.Op.DEN, np.array(one.tran) / gemmi.Op.DEN) for one in found]


def _images(at: Array, operations: list[tuple[Array, Array]]) -> list[Array]:
    kept: list[Array] = []
    for turn, shift in operations:
        place = (turn @ at + shift) % 1.0
        apart = [np.abs((place - other + 0.5) % 1.0 - 0.5).max() for other in kept]
        if not apart or min(apart) > SAME_SITE:
            kept.append(place)
    return kept


def _thermal_b_a2(site: gemmi.SmallStructure.Site) -> float:
    mean = site.u_iso if site.u_iso > 0 else (site.aniso.u11 + site.aniso.u22 + site.aniso.u33) / 3
    return 8 * pi**2 * mean if mean > 0 else USUAL_B_A2


def _proper(operations: list[tuple[Array, Array]], orthogonal: Array) -> Array:
    back = np.linalg.inv(orthogonal)
    kept: list[Array] = []
    for turn, _ in operations:
        cartesian = orthogonal @ turn @ back
        cartesian = cartesian * np.sign(np.linalg.det(cartesian))
        if not any(np.abs(cartesian - other).max() < 1e-3 for other in kept):
            kept.append(cartesian)
    return np.array(kept)
