"""How atoms scatter electrons: tabulated factors, thermal motion, and the potential and phase that follow.

Spatial frequencies are k [1/Å] as a Fourier transform with the kernel exp(-2πi k·r) has them; the tables' s is k/2.
"""

from functools import lru_cache
from typing import Any

import gemmi
import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput

Floats = npt.NDArray[np.floating[Any]]

POTENTIAL_V_A2 = 47.87801
"""h²/(2π m0 e) [V Å²]: turns a scattering factor [Å] into a potential's transform [V Å³] (Kirkland, eq. C.10). An older
figure of the constant: CODATA 2018 gives 47.87765, less by 7.6e-6, far below what the factors are good for."""
LARGEST_K_PER_A = 4.0
"""Frequency up to which the five Gaussians were fitted [1/Å], s = 2/Å; they fall off too fast beyond."""


def scattering_factor_a(element: str, k_per_a: Floats) -> Floats:
    """Elastic electron scattering factor of a neutral atom at rest.

    Parameters
    ----------
    element : str
        Chemical symbol, hydrogen to californium.
    k_per_a : float array
        Spatial frequency [1/Å].

    Returns
    -------
    float array
        f_e = Σ a exp(-b (k/2)²) [Å], without the relativistic factor, which the interaction constant holds.

    Raises
    ------
    BadInput
        Where there is no such element.

    Notes
    -----
    International Tables for Crystallography C, table 4.3.2.2 (Peng, Ren, Dudarev and Whelan, Acta Cryst. A52, 1996).
    """
    s2 = np.square(k_per_a) / 4
    factor = np.zeros_like(s2)
    for height, width in _gaussians(element):
        factor += height * np.exp(-width * s2)
    return factor


def potential_v_a3(element: str, k_per_a: Floats, thermal_b_a2: float = 0.0) -> Floats:
    """Transform of one atom's projected potential [V Å³], thermal motion included.

    Parameters
    ----------
    element : str
        Chemical symbol.
    k_per_a : float array
        Spatial frequency [1/Å].
    thermal_b_a2 : float
        Debye-Waller B = 8π²u² [Å²], u the rms displacement along one axis.

    Notes
    -----
    V(k) = 47.878 V Å² f_e(k) exp(-B k²/4); its integral over k is the projected potential at the atom [V Å].
    """
    potential: Floats = POTENTIAL_V_A2 * scattering_factor_a(element, k_per_a) * debye_waller(k_per_a, thermal_b_a2)
    return potential


def debye_waller(k_per_a: Floats, thermal_b_a2: float) -> Floats:
    """Damping of the elastic amplitude by thermal motion, exp(-B s²) with s = k/2."""
    damping: Floats = np.exp(-thermal_b_a2 * np.square(k_per_a) / 4)
    return damping


@lru_cache
def _gaussians(element: str) -> tuple[tuple[float, float], ...]:
    found = gemmi.Element(element)
    # gemmi takes an unknown symbol for element 0.
    if found.atomic_number == 0 or found.c4322 is None:
        raise BadInput(field="element", value=element, limit="must be a chemical symbol from H to Cf")
    return tuple(zip(found.c4322.a, found.c4322.b, strict=True))
