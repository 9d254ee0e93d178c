"""Reference lattices: selection rules and lengths against published tables."""

from math import sqrt

import numpy as np
import pytest

from stem4d.calibrate.crystals import CRYSTALS, PlanarLattice, crystal_named, families, hexagonal, square, zone_001
from stem4d.errors import BadInput


def test_families_of_gold_are_those_of_the_powder_card() -> None:
    found = families(crystal_named("Au"), 0.85)
    assert [(each.index, each.multiplicity) for each in found] == [
        ((1, 1, 1), 8),
        ((2, 0, 0), 6),
        ((2, 2, 0), 12),
        ((3, 1, 1), 24),
        ((2, 2, 2), 8),
    ]
    # Spacings of PDF card 4-784 [Å], given to 0.001.
    assert [1 / each.g_per_a for each in found] == pytest.approx([2.355, 2.039, 1.442, 1.230, 1.1774], abs=1e-3)


def test_diamond_has_no_200_and_no_222() -> None:
    found = {each.index for each in families(crystal_named("silicon"), 0.8)}
    assert {(1, 1, 1), (2, 2, 0), (3, 1, 1), (4, 0, 0)} <= found
    assert not {(2, 0, 0), (2, 2, 2)} & found


def test_reflections_of_one_length_are_one_family() -> None:
    both = [each for each in families(crystal_named("Al"), 1.3) if each.multiplicity == 32]
    # 511 and 333: 24 + 8 reflections of the length sqrt(27).
    assert [each.g_per_a for each in both] == pytest.approx([sqrt(27) / 4.0495])


def test_zone_holds_both_signs_and_only_what_is_allowed() -> None:
    hk = zone_001(crystal_named("Si"), 0.75)
    assert {tuple(each) for each in hk} == {(a, b) for a in (2, -2) for b in (2, -2)} | {
        (4, 0),
        (-4, 0),
        (0, 4),
        (0, -4),
    }


def test_strong_families_are_allowed() -> None:
    for crystal in CRYSTALS.values():
        assert set(crystal.strong) <= {each.index for each in families(crystal, 1.2)}


def test_planar_lattices() -> None:
    for lattice, dot in ((square(0.39), 0.0), (hexagonal(0.318), 0.5), (PlanarLattice(0.3, 0.5, 100.0), None)):
        basis = lattice.reciprocal()
        if dot is not None:
            lengths = np.hypot(*basis.T)
            assert basis[0] @ basis[1] / lengths.prod() == pytest.approx(dot, abs=1e-12)
        # |a*| = 1 / (a sin γ)
        assert np.hypot(*basis[0]) == pytest.approx(1 / (lattice.a_nm * np.sin(np.radians(lattice.angle_deg))))


def test_unknown_crystals_and_lattices_are_refused() -> None:
    with pytest.raises(BadInput, match="gold"):
        crystal_named("unobtainium")
    with pytest.raises(BadInput, match="a_nm"):
        PlanarLattice(0.0, 1.0, 90.0).reciprocal()
    with pytest.raises(BadInput, match="angle"):
        PlanarLattice(1.0, 1.0, 5.0).reciprocal()
