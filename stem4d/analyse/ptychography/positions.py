"""Positions that follow the data: each for itself, or all by one affine change."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

FARTHEST_STEP_PX = 0.5
"""Of one position in one iteration: beyond, the slope says nothing."""
PART_TAKEN = 0.7
"""Of a displacement that is found: noise of one iteration is averaged over the next."""
AFFINE_TAKEN = 3.0
"""Of an affine change that is found: it has no noise to speak of, and the object, which followed the wrong positions,
holds most of it back."""


@dataclass(frozen=True)
class Moves:
    """Where positions began, and whether only an affine change is allowed."""

    began_px: Floats
    affine: bool

    def after(self, positions_px: Floats, moved_px: Floats) -> Floats:
        """Positions (n, 2) moved by what an iteration found; their mean stays, since the object could follow it."""
        length = np.hypot(moved_px[:, 0], moved_px[:, 1])[:, None]
        found = moved_px * np.minimum(1, FARTHEST_STEP_PX / np.maximum(length, 1e-9))
        if self.affine:
            found = affine_part(self.began_px, found)
        new = positions_px + (AFFINE_TAKEN if self.affine else PART_TAKEN) * found
        shifted: Floats = new - (new - self.began_px).mean(0)
        return shifted


def affine_part(positions_px: Floats, moved_px: Floats) -> Floats:
    """The affine change of positions (n, 2) that comes nearest to their displacements."""
    terms = np.column_stack([np.ones(len(positions_px)), positions_px - positions_px.mean(0)])
    fitted, *_ = np.linalg.lstsq(terms, moved_px, rcond=None)
    near: Floats = terms @ fitted
    return near
