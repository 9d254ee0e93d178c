"""What changes by itself while an experiment runs: where the specimen is, and how much current flows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Slip:
    """The stage slips at one moment of the instrument's time."""

    at_s: float
    by_nm: Pair
    """(y, x)"""


@dataclass(frozen=True)
class Drift:
    """How a specimen moves, (y, x) along the specimen's axes: features move that way in later images."""

    nm_per_min: Pair = (0.0, 0.0)
    starts_s: float = 0.0
    nm_per_min2: Pair = (0.0, 0.0)
    """Acceleration, from ``starts_s`` on."""
    jumps: tuple[Slip, ...] = ()


def displacement_nm(drift: Drift, times_s: Floats) -> Floats:
    """Where the specimen has gone (n, 2) at times of the instrument [nm]."""
    minutes = np.maximum(times_s - drift.starts_s, 0)[:, None] / 60
    moved: Floats = minutes * np.array(drift.nm_per_min) + minutes**2 / 2 * np.array(drift.nm_per_min2)
    for jump in drift.jumps:
        moved = moved + (times_s >= jump.at_s)[:, None] * np.array(jump.by_nm)
    return moved


@dataclass(frozen=True)
class Dropout:
    """For a while only a part of the current flows."""

    at_s: float
    seconds: float
    part: float


@dataclass(frozen=True)
class Emission:
    """How the true current goes on from what it was at the instrument's time 0."""

    drift_per_h: float = 0.0
    """Part of the current gained an hour; negative for a gun that tires. It never falls below 0."""
    dropouts: tuple[Dropout, ...] = ()


def current_part(emission: Emission, times_s: Floats) -> Floats:
    """True over nominal current (n,) at times of the instrument."""
    part: Floats = np.maximum(1 + emission.drift_per_h * times_s / 3600, 0)
    for dropout in emission.dropouts:
        during = (times_s >= dropout.at_s) & (times_s < dropout.at_s + dropout.seconds)
        part = np.where(during, part * dropout.part, part)
    return part
