"""Crystals and films the simulator knows: their cells, sites, densities and thermal motion."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput
from stem4d.lattice_constants import (
    ALUMINIUM_A,
    ALUMINIUM_B_A2,
    GOLD_A,
    GOLD_B_A2,
    SILICON_A,
    SILICON_B_A2,
    STRONTIUM_TITANATE_A,
    STRONTIUM_TITANATE_B_A2,
)

Floats = npt.NDArray[np.floating[Any]]

MOLYBDENUM_DISULFIDE_A = 3.160
"""In-plane constant of 2H-MoS2 [Å] (Wakabayashi, Smith and Nicklow, Phys. Rev. B 12, 1975: 3.160)."""
SULFUR_HEIGHT_A = 1.586
"""Distance of a plane of sulphur from that of molybdenum in MoS2 [Å] (Bronsema et al., Z. anorg. allg. Chem. 540,
1986)."""
CARBON_PER_A3 = 0.1003
"""Atoms of amorphous carbon in 1 Å³, at 2.0 g/cm³ as evaporated films have."""


@dataclass(frozen=True)
class Site:
    """One atom of a cell: species, position as fractions (z, y, x), strength, and whether vacancies may empty it."""

    species: str
    at: tuple[float, float, float]
    strength: float = 1.0
    light: bool = False


@dataclass(frozen=True)
class Cell:
    """A rectangular cell (z, y, x) [Å], z along the beam, its atoms, and B = 8π²u² of each element [Å²]."""

    cell_a: tuple[float, float, float]
    sites: tuple[Site, ...]
    thermal_b_a2: dict[str, float]


def _cubic(side_a: float, thermal_b_a2: dict[str, float], *atoms: tuple[str, float, float, float]) -> Cell:
    return Cell((side_a,) * 3, tuple(Site(name, (z, y, x)) for name, z, y, x in atoms), thermal_b_a2)


_FACES = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_QUARTERS = ((0.25, 0.25, 0.25), (0.25, 0.75, 0.75), (0.75, 0.25, 0.75), (0.75, 0.75, 0.25))

CELLS = {
    "Au": _cubic(GOLD_A, GOLD_B_A2, *(("Au", *at) for at in _FACES)),
    "Al": _cubic(ALUMINIUM_A, ALUMINIUM_B_A2, *(("Al", *at) for at in _FACES)),
    "Si": _cubic(SILICON_A, SILICON_B_A2, *(("Si", *at) for at in _FACES + _QUARTERS)),
    "SrTiO3": _cubic(
        STRONTIUM_TITANATE_A,
        STRONTIUM_TITANATE_B_A2,
        ("Sr", 0.0, 0.0, 0.0),
        ("Ti", 0.5, 0.5, 0.5),
        ("O", 0.5, 0.5, 0.0),
        ("O", 0.5, 0.0, 0.5),
        ("O", 0.0, 0.5, 0.5),
    ),
}
"""[001] along the beam."""

_LAYER_A = 2 * SULFUR_HEIGHT_A
MOLYBDENUM_DISULFIDE = Cell(
    (_LAYER_A, MOLYBDENUM_DISULFIDE_A * sqrt(3), MOLYBDENUM_DISULFIDE_A),
    (
        Site("Mo", (0.5, 0.0, 0.0)),
        Site("Mo", (0.5, 0.5, 0.5)),
        *(Site("S", (z, y, x), light=True) for z in (0.0, 1.0) for y, x in ((1 / 3, 0.0), (5 / 6, 0.5))),
    ),
    {"Mo": 0.3, "S": 0.4},
)
"""One 2H monolayer, the upper plane of sulphur at the entrance. B of the bulk, rounded."""


def model(kind: str, spacing_a: float) -> Cell:
    """A lattice of model atoms: heavy ones of strength 1 and light ones of 0.6, in a plane at the entrance."""
    heavy, light = (0.0, 0.0), (0.5, 0.5)
    if kind == "square":
        sites = (Site("model", (0.0, *heavy)), Site("model", (0.0, *light), 0.6, light=True))
        return Cell((1.0, spacing_a, spacing_a), sites, {})
    places = (((0.0, 0.0), 1.0), ((0.5, 0.5), 1.0), ((1 / 3, 0.0), 0.6), ((5 / 6, 0.5), 0.6))
    sites_ = tuple(Site("model", (0.0, *at), strength, light=strength < 1) for at, strength in places)
    return Cell((1.0, spacing_a * sqrt(3), spacing_a), sites_, {})


def crystal(material: str) -> Cell:
    """A crystal by its name; raises BadInput where there is none of that name."""
    if material not in CELLS:
        raise BadInput(field="specimen.material", value=material, limit=f"must be one of {', '.join(CELLS)}")
    return CELLS[material]
