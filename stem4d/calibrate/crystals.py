"""Reference lattices: crystals with the reflections their structure allows, and lattices in the plane of a scan.

Lattice constants and B: `stem4d.lattice_constants`. Selection rules: International Tables for Crystallography A.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, isfinite, radians, sin, sqrt
from typing import Literal

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
from stem4d.scattering import debye_waller, scattering_factor_a

Array = npt.NDArray[np.float64]

Lattice = Literal["fcc", "diamond", "primitive"]
Index = tuple[int, int, int]


@dataclass(frozen=True)
class Crystal:
    """A cubic crystal."""

    name: str
    lattice: Lattice
    lattice_constant_a: float
    strong: tuple[Index, ...]
    """Families that cannot be missing where they are recorded: the strongest of the kinematic theory."""
    atoms: tuple[str, ...]
    """Elements of the formula, one for each atom."""
    thermal_b_a2: Mapping[str, float]
    """Debye-Waller B of each element [Å²]."""


@dataclass(frozen=True)
class Family:
    """Reflections of equal length."""

    index: Index
    """One of them, h >= k >= l >= 0; the first one where different indices have one length (333 and 511)."""
    g_per_a: float
    """Length of the reciprocal vector [1/Å]."""
    multiplicity: int


CRYSTALS = {
    crystal.name: crystal
    for crystal in (
        Crystal("gold", "fcc", GOLD_A, ((1, 1, 1), (2, 0, 0), (2, 2, 0), (3, 1, 1)), ("Au",), GOLD_B_A2),
        Crystal("aluminium", "fcc", ALUMINIUM_A, ((1, 1, 1), (2, 0, 0), (2, 2, 0), (3, 1, 1)), ("Al",), ALUMINIUM_B_A2),
        Crystal("silicon", "diamond", SILICON_A, ((1, 1, 1), (2, 2, 0), (3, 1, 1)), ("Si",), SILICON_B_A2),
        Crystal(
            "strontium titanate",
            "primitive",
            STRONTIUM_TITANATE_A,
            ((1, 1, 0), (2, 0, 0), (2, 1, 1)),
            ("Sr", "Ti", "O", "O", "O"),
            STRONTIUM_TITANATE_B_A2,
        ),
    )
}
"""The crystals that are known by name."""
SYMBOLS = {"Au": "gold", "Al": "aluminium", "Si": "silicon", "SrTiO3": "strontium titanate"}


def crystal_named(name: str) -> Crystal:
    """A reference crystal by its name or formula, whatever the case.

    Raises
    ------
    BadInput
        If it is not known.
    """
    by_name = {**CRYSTALS, **{symbol.lower(): CRYSTALS[full] for symbol, full in SYMBOLS.items()}}
    found = by_name.get(name.strip().lower())
    if found is None:
        known = ", ".join([*CRYSTALS, *SYMBOLS])
        raise BadInput(field="crystal", value=name, limit=f"must be one of {known}")
    return found


def allowed(lattice: Lattice, index: Index) -> bool:
    """Whether the structure factor may differ from zero."""
    h, k, l = index  # noqa: E741
    if index == (0, 0, 0):
        return False
    if lattice == "primitive":
        return True
    odd = (h % 2) + (k % 2) + (l % 2)
    if lattice == "fcc":
        return odd in (0, 3)
    return odd == 3 or (odd == 0 and (h + k + l) % 4 == 0)


def families(crystal: Crystal, longest_per_a: float) -> tuple[Family, ...]:
    """Allowed reflections of a powder up to a length [1/Å], by length."""
    most = int(longest_per_a * crystal.lattice_constant_a)
    by_length: dict[int, list[Index]] = {}
    for h in range(-most, most + 1):
        for k in range(-most, most + 1):
            for l in range(-most, most + 1):  # noqa: E741
                square = h * h + k * k + l * l
                if sqrt(square) <= longest_per_a * crystal.lattice_constant_a and allowed(crystal.lattice, (h, k, l)):
                    by_length.setdefault(square, []).append((h, k, l))
    return tuple(
        Family(
            index=min(_ordered(one) for one in members),
            g_per_a=sqrt(square) / crystal.lattice_constant_a,
            multiplicity=len(members),
        )
        for square, members in sorted(by_length.items())
    )


def _ordered(index: Index) -> Index:
    h, k, l = sorted((abs(each) for each in index), reverse=True)  # noqa: E741
    return h, k, l


def zone_001(crystal: Crystal, longest_per_a: float) -> npt.NDArray[np.int64]:
    """Allowed (h, k) of the reflections hk0 up to a length [1/Å], shape (n, 2), by length.

    The zone axis [001]; h counts along the crystal's first axis and k along its second.
    """
    most = int(longest_per_a * crystal.lattice_constant_a)
    limit = (longest_per_a * crystal.lattice_constant_a) ** 2
    found = [
        (h, k)
        for h in range(-most, most + 1)
        for k in range(-most, most + 1)
        if h * h + k * k <= limit and allowed(crystal.lattice, (h, k, 0))
    ]
    return np.array(sorted(found, key=lambda hk: (hk[0] ** 2 + hk[1] ** 2, hk)), dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class PlanarLattice:
    """Two shortest lattice vectors in the plane of the scan."""

    a_nm: float
    b_nm: float
    angle_deg: float
    """Between them."""

    def reciprocal(self) -> npt.NDArray[np.float64]:
        """Rows are the reciprocal vectors of a and b (y, x) [1/nm], a along x."""
        for name, value in (("a_nm", self.a_nm), ("b_nm", self.b_nm)):
            if not isfinite(value) or value <= 0:
                raise BadInput(field=f"lattice.{name}", value=value, limit="must be positive", unit="nm")
        if not 20 <= self.angle_deg <= 160:
            raise BadInput(
                field="lattice.angle_deg", value=self.angle_deg, limit="must lie between 20 and 160", unit="deg"
            )
        turn = radians(self.angle_deg)
        real = np.array([[0.0, self.a_nm], [self.b_nm * sin(turn), self.b_nm * cos(turn)]])
        inverse: npt.NDArray[np.float64] = np.linalg.inv(real).T
        return inverse


def square(period_nm: float) -> PlanarLattice:
    """A square lattice, as of a perovskite along [001] or a cross grating."""
    return PlanarLattice(period_nm, period_nm, 90.0)


def hexagonal(period_nm: float) -> PlanarLattice:
    """A hexagonal lattice, as of MoS2 or graphene."""
    return PlanarLattice(period_nm, period_nm, 120.0)


def falloff_a(crystal: Crystal, k_per_a: Array) -> Array:
    """By how much the atoms' scattering falls with the angle: -d ln(Σ f² exp(-B k²/2)) / dk [Å], for each k [1/Å]."""
    small = 1e-4
    low, high = (
        np.log(
            sum(
                (scattering_factor_a(each, k) * debye_waller(k, crystal.thermal_b_a2[each])) ** 2
                for each in crystal.atoms
            )
        )
        for k in (k_per_a - small, k_per_a + small)
    )
    fall: Array = -(high - low) / (2 * small)
    return fall
