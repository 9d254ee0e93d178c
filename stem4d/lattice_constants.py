"""The reference crystals at room temperature, for the simulator and for calibrations alike: lattice constants, and
B = 8π²u² of their atoms [Å²], rounded: Peng et al., Acta Cryst. A52, 456 (1996) for the elements, Abramov et al.,
Acta Cryst. B51, 942 (1995) for SrTiO3."""

GOLD_A = 4.0786
"""Lattice constant of gold at 26 °C [Å] (Swanson and Tatge, NBS Circular 539 vol. 1, 1953: 4.0786)."""
ALUMINIUM_A = 4.0495
"""Of aluminium at 25 °C [Å] (Swanson and Tatge, NBS Circular 539 vol. 1, 1953: 4.0494)."""
SILICON_A = 5.43102
"""Of silicon at 22.5 °C [Å] (CODATA 2018: 5.431020511)."""
STRONTIUM_TITANATE_A = 3.905
"""Of cubic SrTiO3 at 25 °C [Å] (Swanson and Fuyat, NBS Circular 539 vol. 3, 1954: 3.9050)."""

GOLD_B_A2 = {"Au": 0.62}
ALUMINIUM_B_A2 = {"Al": 0.86}
SILICON_B_A2 = {"Si": 0.47}
STRONTIUM_TITANATE_B_A2 = {"Sr": 0.62, "Ti": 0.44, "O": 0.72}
