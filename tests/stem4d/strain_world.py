"""What tests of the strain analysis share: patterns of a strained crystal whose truth is known, and its geometry."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.strain_set import RADIUS_PX, StrainSet, strain_set
from stem4d.analyse.method import Given, Outcome, Parts
from stem4d.analyse.strain.method import finish, part, prepare
from stem4d.analyse.strain.options import StrainOptions
from tests.stem4d.analyse_world import InMemory

Array = npt.NDArray[np.float64]

MRAD_PER_PIXEL = 0.2
DETECTOR = (128, 128)


def given(**changes: Any) -> Given:
    """The geometry of the strain set, with changes."""
    usual = Given(
        beam_energy_kev=200.0,
        convergence_semi_angle_mrad=RADIUS_PX * MRAD_PER_PIXEL,
        mrad_per_pixel=MRAD_PER_PIXEL,
        scan_step_nm=(1.0, 1.0),
        origin_px=np.array([63.5, 63.5]),
        bad_pixels=np.zeros(DETECTOR, bool),
        scan_rotation_deg=0.0,
    )
    return replace(usual, **changes)


def world(scan: tuple[int, int] = (6, 12), counts: float = 7600.0, seed: int = 3) -> StrainSet:
    """A small strain set: the left half unstrained, the right half strained."""
    return strain_set(scan, counts, seed)


def left_half(scan_shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The unstrained region."""
    return 0, 0, scan_shape[0], scan_shape[1] // 2


def analysed(
    known: Given,
    options: StrainOptions,
    data: npt.NDArray[Any],
    recorded: npt.NDArray[np.bool_] | None = None,
) -> tuple[Parts, Parts, Outcome]:
    """Prepared arrays, the fits of all rows, and the outcome."""
    rows = InMemory(data, recorded)
    looked = prepare(known, options, rows)
    fits = part(known, options, rows, looked, 0, data.shape[0])
    return looked, fits, finish(known, options, looked, fits)


def maps(outcome: Outcome) -> dict[str, tuple[Array, Array]]:
    """Values and uncertainties of the pictures that have both, by name."""
    return {each.name: (each.values, each.uncertainty) for each in outcome.pictures if each.uncertainty is not None}
