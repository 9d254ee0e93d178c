"""What a simulated stage really does: it comes near where it was sent, hangs back in its screws, and creeps.

Everything follows from a seed and the number of the move, so a later process finds the stage as it was left.
"""

from dataclasses import dataclass, replace
from math import radians, sin
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from devices.simulator.faults import Length, Place, Thousand
from stem4d.approach import StagePose
from stem4d.model import Strict

Floats = npt.NDArray[np.floating[Any]]
Pair = tuple[float, float]


class StageTruth(Strict):
    """The stage's errors; without any it is where it was sent."""

    reproducibility_nm: Length = 0.0
    """Standard deviation, per axis, of where a move ends."""
    backlash_nm: Annotated[float, Field(ge=0, le=1e4)] = 0.0
    """How far short of its end a move stays that goes down along x or y."""
    creep_nm: Thousand = 0.0
    """How far the specimen still goes after a move, in a direction of its own."""
    creep_s: Annotated[float, Field(ge=1e-3, le=1e6)] = 60.0
    """Time in which what is left of that falls to 1/e."""


class LensTruth(Strict):
    """What lenses and coils do besides what they were told."""

    hysteresis_nm: Place = 0.0
    """Defocus by which the lenses are off after a change of aperture, camera length or spot, until normalised."""
    beam_shift_pattern_mrad_per_nm: tuple[tuple[Thousand, Thousand], tuple[Thousand, Thousand]] = (
        (0.0, 0.0),
        (0.0, 0.0),
    )
    """Rows and columns (y, x): pattern shift [mrad] per beam shift [nm]."""


ORIGIN = StagePose(x_um=0.0, y_um=0.0)


@dataclass(frozen=True)
class StageMotion:
    """Where a stage was sent, and how it went."""

    pose: StagePose = ORIGIN
    number: int = 0
    """Moves so far."""
    moved_s: float = 0.0
    """The instrument's time of the last one."""
    short_nm: Pair = (0.0, 0.0)
    """By what it did not come down far enough (y, x)."""
    missed_nm: Pair = (0.0, 0.0)
    """By what the last move missed (y, x)."""
    towards: Pair = (0.0, 0.0)
    """Unit vector (y, x) of the creep after it."""


AT_REST = StageMotion()


def stored(
    motion: StageMotion, truth: StageTruth, seed: int, place_um: tuple[float, float, float], at_s: float
) -> StageMotion:
    """After going to a stored position: the stage comes there from the right side by itself."""
    x_um, y_um, z_um = place_um
    there = StagePose(x_um=x_um, y_um=y_um, z_um=z_um)
    return _ended(replace(motion, pose=there, short_nm=(0.0, 0.0)), truth, seed, at_s)


def moved(motion: StageMotion, truth: StageTruth, seed: int, pose: StagePose, at_s: float) -> StageMotion:
    """After one move, straight to a pose."""
    back = truth.backlash_nm

    def short(was_um: float, is_um: float, before: float) -> float:
        return before if is_um == was_um else back if is_um < was_um else 0.0

    was = motion.pose
    y, x = short(was.y_um, pose.y_um, motion.short_nm[0]), short(was.x_um, pose.x_um, motion.short_nm[1])
    return _ended(replace(motion, pose=pose, short_nm=(y, x)), truth, seed, at_s)


def _ended(motion: StageMotion, truth: StageTruth, seed: int, at_s: float) -> StageMotion:
    number = motion.number + 1
    random = np.random.default_rng((seed, number, 77))
    miss_y, miss_x = truth.reproducibility_nm * random.standard_normal(2)
    angle = 2 * np.pi * random.random()
    return replace(
        motion,
        number=number,
        moved_s=at_s,
        missed_nm=(float(miss_y), float(miss_x)),
        towards=(float(np.sin(angle)), float(np.cos(angle))),
    )


def height_nm(motion: StageMotion, place_um: tuple[float, float, float], area_height_nm: float) -> float:
    """How far the specimen lies above the eucentric plane, towards the source [nm]: as much more underfocus."""
    return area_height_nm + 1e3 * (motion.pose.z_um - place_um[2])


def displacement_nm(
    motion: StageMotion,
    truth: StageTruth,
    place_um: tuple[float, float, float],
    displaced_nm: Pair,
    area_height_nm: float,
    times_s: Floats,
) -> Floats:
    """Where an area's origin lies from the axis (n, 2), (y, x) [nm], at times of the instrument.

    The tilt's axis is x: what stands h above it moves by h sin α along y.
    """
    pose = motion.pose
    still = np.array([1e3 * (pose.y_um - place_um[1]), 1e3 * (pose.x_um - place_um[0])])
    still += np.array(displaced_nm) + np.array(motion.short_nm) + np.array(motion.missed_nm)
    still[0] += height_nm(motion, place_um, area_height_nm) * sin(radians(pose.alpha_deg))
    since_s = np.maximum(times_s - motion.moved_s, 0.0)
    crept = truth.creep_nm * -np.expm1(-since_s / truth.creep_s)
    lies: Floats = still + crept[:, None] * np.array(motion.towards)
    return lies
