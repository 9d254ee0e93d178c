"""A displacement field that is known: quadratic in position plus a Gaussian inclusion, and the strain it makes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput

Floats = npt.NDArray[np.floating[Any]]

LARGEST_STRAIN = 0.15
"""Largest change of length or angle a displacement may make: the lattice stays one, and positions can be inverted."""
_ROUNDS = 60


@dataclass(frozen=True)
class Displacement:
    """Displacement u(R) of a material point that stood at R, both (y, x) from the specimen's origin [nm].

    u = linear · R + quadratic · (R_y², R_y R_x, R_x²) + inclusion · d exp(-d²/(2 w²)), d from the inclusion's centre.
    """

    linear: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    """Displacement gradient at the origin: du_i/dR_j, (y, x)."""
    quadratic_per_nm: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.0,) * 3, (0.0,) * 3)
    """Coefficients of R_y², R_y R_x and R_x² for u_y and u_x [1/nm]: strain that grows linearly."""
    inclusion: float = 0.0
    """Expansion at the middle of the inclusion, the same in all directions."""
    inclusion_radius_nm: float = 5.0
    """w, where the radial strain changes sign [nm]."""
    inclusion_centre_nm: tuple[float, float] = (0.0, 0.0)

    def at(self, places_nm: Floats) -> Floats:
        """u (..., 2) [nm] at undeformed places (..., 2) [nm]."""
        y, x = places_nm[..., 0], places_nm[..., 1]
        squares = np.stack([y * y, y * x, x * x], axis=-1)
        away = places_nm - np.array(self.inclusion_centre_nm)
        bump = self.inclusion * np.exp(-np.sum(away**2, axis=-1, keepdims=True) / (2 * self.inclusion_radius_nm**2))
        moved: Floats = places_nm @ np.array(self.linear).T + squares @ np.array(self.quadratic_per_nm).T + bump * away
        return moved

    def gradient(self, places_nm: Floats) -> Floats:
        """du_i/dR_j (..., 2, 2), (y, x), at undeformed places (..., 2) [nm]."""
        y, x = places_nm[..., 0], places_nm[..., 1]
        zero = np.zeros_like(y)
        slopes = np.stack([np.stack([2 * y, zero], -1), np.stack([x, y], -1), np.stack([zero, 2 * x], -1)], axis=-2)
        away = places_nm - np.array(self.inclusion_centre_nm)
        width2 = self.inclusion_radius_nm**2
        bump = self.inclusion * np.exp(-np.sum(away**2, axis=-1) / (2 * width2))[..., None, None]
        outer = away[..., :, None] * away[..., None, :]
        total: Floats = (
            np.array(self.linear) + np.array(self.quadratic_per_nm) @ slopes + bump * (np.eye(2) - outer / width2)
        )
        return total


@dataclass(frozen=True)
class StrainMap:
    """Strain at places: F = turn(rotation) · [[1 + eyy, exy], [exy, 1 + exx]], each (...)."""

    exx: Floats
    eyy: Floats
    exy: Floats
    rotation_deg: Floats
    """From x towards y."""


def strain_at(displacement: Displacement, positions_nm: Floats) -> StrainMap:
    """True strain where the probe stands.

    Parameters
    ----------
    displacement : Displacement
        The field.
    positions_nm : float array (..., 2)
        Places (y, x) in the deformed specimen, where its atoms are now [nm].

    Raises
    ------
    BadInput
        Where the field deforms by more than `LARGEST_STRAIN` there.

    Notes
    -----
    The undeformed place R solves R + u(R) = r; F = 1 + du/dR = rotation times symmetric (polar decomposition).
    """
    places = undeformed_nm(displacement, positions_nm)
    f = np.eye(2) + displacement.gradient(places)
    # F = turn(a) D with D symmetric: (turn(-a) F) is symmetric where tan a = (F_yx - F_xy)/(F_yy + F_xx).
    angle = np.arctan2(f[..., 0, 1] - f[..., 1, 0], f[..., 0, 0] + f[..., 1, 1])
    c, s = np.cos(angle), np.sin(angle)
    eyy = c * f[..., 0, 0] - s * f[..., 1, 0] - 1
    exy = c * f[..., 0, 1] - s * f[..., 1, 1]
    exx = s * f[..., 0, 1] + c * f[..., 1, 1] - 1
    return StrainMap(exx, eyy, exy, np.degrees(angle))


def undeformed_nm(displacement: Displacement, positions_nm: Floats) -> Floats:
    """Where the material now at ``positions_nm`` (..., 2) stood; raises as `strain_at` does."""
    places = np.asarray(positions_nm, np.float64)
    for _ in range(_ROUNDS):
        moved = positions_nm - displacement.at(places)
        with np.errstate(over="ignore", invalid="ignore"):
            off = float(np.abs(moved - places).max(initial=0))
        places = moved
        if not off < 1e6 or off < 1e-9:
            break
    largest = float(np.abs(displacement.gradient(places)).max(initial=0)) if off < 1e6 else float("inf")
    if not largest <= LARGEST_STRAIN:
        raise BadInput(
            field="specimen.displacement",
            value=largest,
            limit=f"its gradient must stay within {LARGEST_STRAIN} over the field",
            remedy="Use a smaller gradient or a smaller field",
        )
    return places
