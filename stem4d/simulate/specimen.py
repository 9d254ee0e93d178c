"""What is under the beam, as a frozen description that atoms and potentials follow from."""

from dataclasses import dataclass
from typing import Literal

from stem4d.simulate.strain import Displacement

Kind = Literal[
    "vacuum",
    "random",
    "square",
    "hexagonal",
    "amorphous",
    "crystal",
    "polycrystal",
    "strained",
    "mos2",
    "biological",
]

MODEL_KINDS = ("random", "square", "hexagonal", "biological")
"""Kinds whose contrast is stated as a phase at 200 kV; the others scatter as their atoms do."""

NOWHERE = Displacement()
"""No displacement at all."""


@dataclass(frozen=True)
class Specimen:
    """What is under the beam. Fields that a kind does not name below are ignored by it.

    - ``vacuum``: nothing.
    - ``random``, ``square``, ``hexagonal``: model atoms of a stated phase in one plane.
    - ``amorphous``: a carbon film of a thickness.
    - ``crystal``: a material with [001] along the beam, turned in its plane.
    - ``polycrystal``: grains of a material in random orientations.
    - ``strained``: a crystal whose atoms are displaced by a known field; `strain_at` tells the strain.
    - ``mos2``: a monolayer of 2H-MoS2.
    - ``biological``: globules in ice with a stated rms phase.
    """

    kind: Kind
    seed: int = 0
    spacing_a: float = 4.0
    """Models: lattice constant, or side of the cell that holds one random atom [Å]."""
    atom_phase_rad: float = 0.6
    """Models: phase at the centre of a heavy atom at 200 kV, before any band limit [rad]."""
    modulation: float = 0.0
    """Lattices: amplitude of the slow modulation of the atoms' strength, as a fraction."""
    vacancy_fraction: float = 0.0
    """Model lattices and MoS2: part of the light sites (sulphur) that are empty."""
    material: str = "Au"
    """Crystals: one of `crystals.CELLS`."""
    thickness_nm: float = 5.0
    """Films and crystals; MoS2 and models have their own. Atoms stand at depths from 0 up to it."""
    angle_deg: float = 0.0
    """Lattices: rotation in the plane, from x towards y."""
    grain_nm: float = 10.0
    """Polycrystal: distance of neighbouring grains."""
    displacement: Displacement = NOWHERE
    """Strained: where the atoms have gone."""
    globule_nm: float = 6.0
    """Biological: distance of neighbouring globules."""
    rms_rad: float = 0.05
    """Biological: rms phase at 200 kV [rad]."""
    slices: int = 1
    """Slices of equal thickness that the wave goes through; 1 is a single transmission."""
