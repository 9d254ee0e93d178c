"""Runs watched while they come: when the rule for stopping stops them, asked every 1.6 % of their frames."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from stem4d.calibrate.pixels import Mask
from stem4d.detector import DetectorFacts
from stem4d.dose import centre_of_mass_noise_mrad
from stem4d.plan import Plan
from stem4d.quality.online import watch
from tests.blind.world import Frames

ASKED_EVERY = 1 / 64
"""Part of the frames between two questions: half a row of the smallest scans that the promise holds for."""


def facts_of(plan: Plan, max_count_rate_hz: float) -> DetectorFacts:
    """What is known of a plan's detector: that it loses a tenth at this rate [1/s]."""
    return DetectorFacts(
        name=plan.detector.name,
        shape=plan.detector.shape,
        pixel_pitch_um=plan.detector.pixel_pitch_um,
        bit_depths=(plan.detector.bit_depth,),
        max_frame_rate_hz=1e6,
        max_count_rate_per_px_hz=max_count_rate_hz,
    )


def first_stop(
    plan: Plan, comes: Iterable[Frames], bad: Mask, detector: DetectorFacts | None = None
) -> tuple[int, str] | None:
    """Frames and reason at the first stop; None where it never stops."""
    ask = watch(plan, None, bad, detector)
    summed, most = np.zeros(plan.detector.shape, np.uint64), np.zeros(plan.detector.shape, np.uint32)
    done = 0
    for frames in comes:
        summed = summed + frames.sum(0, dtype=np.uint64)
        most = np.maximum(most, frames.max(0))
        done += len(frames)
        reason = ask(summed, most, done)
        if reason is not None:
            return done, reason
    return None


def asking_little(alpha_mrad: float, electrons: float, times: float) -> tuple[dict[str, Any], ...]:
    """A centre of mass alone, whose smallest deflection is so many times the noise that the planned electrons leave."""
    noise = centre_of_mass_noise_mrad(alpha_mrad, electrons)
    return ({"kind": "com", "target_d_a": 4.0, "smallest_deflection_mrad": times * noise},)


def analyses(random: np.random.Generator, alpha_mrad: float, highest_mrad: float) -> tuple[dict[str, Any], ...]:
    """A centre of mass, which needs the whole disk, and half the time a dark field too."""
    wanted: list[dict[str, Any]] = [{"kind": "com", "target_d_a": 4.0}]
    if random.random() < 0.5:
        ring = {"name": "adf", "inner_mrad": 1.3 * alpha_mrad, "outer_mrad": 0.95 * highest_mrad}
        wanted.append({"kind": "virtual", "detectors": [ring]})
    return tuple(wanted)


def specimen(random: np.random.Generator) -> dict[str, Any]:
    """What may lie under a beam."""
    kinds: tuple[dict[str, Any], ...] = (
        {"specimen": "amorphous", "thickness_nm": float(random.uniform(2, 20))},
        {"specimen": "crystal", "material": str(random.choice(["Au", "Si", "SrTiO3"])), "thickness_nm": 5.0},
        {"specimen": "polycrystal", "material": "Au", "grain_nm": 3.0, "thickness_nm": 4.0},
        {"specimen": "mos2", "vacancy_fraction": 0.05},
        {"specimen": "square", "spacing_a": 3.6, "atom_phase_rad": 0.8, "vacancy_fraction": 0.1, "modulation": 0.3},
        {"specimen": "random", "spacing_a": 4.0, "atom_phase_rad": 0.9, "modulation": 0.3},
    )
    return {**kinds[int(random.integers(len(kinds)))], "seed": int(random.integers(2**31))}
