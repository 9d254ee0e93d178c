"""Simulated runs with known faults of beam and detector: what is drawn, what flows, what is counted, what is lost."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.map_buffers import MapBuffers
from devices.simulator.scene import Scene, make_ready, shifts_px, specimen_positions_nm, times_s
from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus
from stem4d.detector import DetectorFacts, full_scale
from stem4d.dose import ELECTRONS_PER_PA_US
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.simulate.counts import Counter, noise_keys, record
from stem4d.simulate.patterns import patterns
from stem4d.simulate.wander import current_part
from tests.blind.specimens import specimen
from tests.blind.world import Setup, scene, seed_of

PIXELS, RADIUS_PX, SCAN = 28, 7.0, (24, 24)
MIDDLE = ((PIXELS - 1) / 2, (PIXELS - 1) / 2)
DWELL_US = 1e4
PASS_S = SCAN[0] * SCAN[1] * DWELL_US * 1e-6
DISK_PX = np.pi * RADIUS_PX**2
STEP_NM = 0.1
ALPHA_MRAD = 20.0
ENERGY_KEV = 200.0
DEEP_BITS = 24
NO_LIMIT_HZ = 1e9
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Drop:
    """One dropout: frames of which pass, and what part of the current flows."""

    of_pass: int
    first: int
    frames: int
    part: float


@dataclass(frozen=True)
class Faults:
    """What is wrong with one run, and by how much; drawn before anything is simulated."""

    electrons: float
    """Planned a pattern."""
    current_ratio: float
    bits: int
    rate_limit_hz: float
    drift: float
    """Change of the current over one pass."""
    drops: tuple[Drop, ...]
    hot: tuple[tuple[int, int, float], ...]
    """(y, x, mean counts)."""
    dead: tuple[tuple[int, int], ...]
    masked: tuple[tuple[int, int], ...]
    """Hot pixels that the mask knows."""
    budget_over_plan: float
    passes: int
    loss: str
    lost: int
    """Frames, for a kind of loss."""


def between(random: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is even."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def draw(random: np.random.Generator) -> Faults:
    """Each fault half the time, independent of the others."""

    def faulty() -> bool:
        return bool(random.random() < 0.5)

    electrons = between(random, 4000, 25000)
    # Limits are 1.1 and 0.5 of the plan: a tenth about them is in doubt, and some of a healthy beam is scattered away.
    kinds = (float(random.uniform(0.75, 0.99)), between(random, 1.0, 3.0), between(random, 0.25, 0.7))
    ratio = kinds[int(random.choice(3, p=(0.35, 0.42, 0.23)))]
    crest = 1.2 * ratio * electrons / DISK_PX
    passes = int(random.integers(1, 3))
    drops = tuple(_drop(random, passes) for _ in range(int(random.integers(1, 4)))) if faulty() else ()
    places = [tuple(int(v) for v in divmod(place, PIXELS)) for place in random.choice(PIXELS**2, 8, replace=False)]
    hot = (
        [(y, x, crest * between(random, 0.1, 20)) for y, x in places[: int(random.integers(1, 5))]] if faulty() else []
    )
    near = random.uniform(-0.6, 0.6, (3, 2)) * RADIUS_PX + MIDDLE
    dead = [tuple(int(v) for v in np.rint(place)) for place in near[: int(random.integers(1, 4))]] if faulty() else []
    return Faults(
        electrons=electrons,
        current_ratio=ratio,
        bits=int(np.rint(np.log2(crest * (between(random, 0.7, 1.6) if faulty() else between(random, 3, 20))))),
        rate_limit_hz=crest / (DWELL_US * 1e-6) * between(random, 0.35, 3.5) if random.random() < 0.8 else NO_LIMIT_HZ,
        drift=float(random.choice([-1, 1])) * between(random, 0.06, 0.4) if faulty() else 0.0,
        drops=drops,
        hot=tuple(hot),
        dead=tuple(place for place in dict.fromkeys(dead) if place not in places[6:8]),
        masked=tuple(places[6:8]),
        budget_over_plan=between(random, 1.0, 1.2),
        passes=passes,
        loss=str(random.choice(["scattered", "row", "end", "twice", "corrupt", "repeated"])) if faulty() else "",
        lost=int(random.integers(3, 40)),
    )


def _drop(random: np.random.Generator, passes: int) -> Drop:
    frames = round(between(random, 1, 3 * SCAN[1]))
    first = int(random.integers(0, SCAN[0] * SCAN[1] - frames))
    return Drop(int(random.integers(passes)), first, frames, float(random.uniform(0, 0.97)))


def plan_of(faults: Faults, planned_e_per_a2: float | None = None) -> Plan:
    """The plan of a run; its budget is a multiple of what it plans, if that is known."""
    budget = 1e9 if planned_e_per_a2 is None else planned_e_per_a2 * faults.budget_over_plan
    return Plan.model_validate_json(
        json.dumps(
            {
                "format_version": 1,
                "name": "blind",
                "sample": {
                    "name": "specimen",
                    "area": "there",
                    "sensitivity": "robust",
                    "thickness_nm": 5.0,
                    "fluence_budget_e_per_a2": budget,
                },
                "analyses": ({"kind": "com", "target_d_a": 2.0}, {"kind": "ptychography", "target_d_a": 2.0}),
                "optics": {
                    "beam_energy_kev": ENERGY_KEV,
                    "convergence_semi_angle_mrad": ALPHA_MRAD,
                    "probe_current_pa": faults.electrons / (DWELL_US * ELECTRONS_PER_PA_US),
                    "camera_length_mm": 100.0 / (ALPHA_MRAD / RADIUS_PX),
                },
                "scan": {"shape": SCAN, "step_nm": STEP_NM},
                "exposure": {"dwell_time_us": DWELL_US, "passes": faults.passes},
                "detector": {
                    "name": "blind",
                    "shape": (PIXELS, PIXELS),
                    "pixel_pitch_um": 100.0,
                    "bit_depth": faults.bits,
                    "mrad_per_pixel": ALPHA_MRAD / RADIUS_PX,
                },
            }
        )
    )


def facts_of(faults: Faults) -> DetectorFacts:
    """What the instrument's file says of the detector."""
    return DetectorFacts(
        name="blind",
        shape=(PIXELS, PIXELS),
        pixel_pitch_um=100.0,
        bit_depths=(faults.bits,),
        max_frame_rate_hz=1e6,
        max_count_rate_per_px_hz=faults.rate_limit_hz,
    )


@dataclass(frozen=True)
class Made:
    """One pass: what flowed and what came of it."""

    electrons: Floats
    """(frames,) mean electrons that were sent to each."""
    means: npt.NDArray[np.float32]
    """(frames, det_y, det_x) electrons that each pixel was to count, dead time aside."""
    deep: Counts
    """(frames, det_y, det_x) what a counter without end would have counted; hot and dead pixels in it."""
    recorded: Mask
    maps: RunMaps


def scene_of(faults: Faults, random: np.random.Generator) -> Scene:
    """The instrument on one specimen, its first pass."""
    setup = Setup(
        ENERGY_KEV, ALPHA_MRAD, ALPHA_MRAD / RADIUS_PX, PIXELS, SCAN, STEP_NM, faults.electrons, dwell_us=DWELL_US
    )
    settings: dict[str, Any] = {
        "seed": seed_of(random),
        "areas": {"there": {"seed": seed_of(random), **specimen(random)}},
        "current_ratio_above_pa": [{"above_pa": 0.0, "ratio": faults.current_ratio}],
        "beam": {"drift_per_h": faults.drift / PASS_S * 3600},
    }
    return scene(setup, "there", **settings)


def run_of(faults: Faults, random: np.random.Generator) -> list[Made]:
    """Simulate all passes over one specimen."""
    one = scene_of(faults, random)
    return [_pass(faults, replace(one, run=index + 1), index, random) for index in range(faults.passes)]


def started_s(faults: Faults) -> list[float]:
    """When each pass begins: right after the one before it."""
    return [index * PASS_S for index in range(faults.passes)]


def _pass(faults: Faults, one: Scene, index: int, random: np.random.Generator) -> Made:
    start_s, frames = index * PASS_S, np.arange(SCAN[0] * SCAN[1])
    when_s = start_s + times_s(one, frames)
    flowing = current_part(one.truth.beam.emission, when_s)
    for drop in faults.drops:
        if drop.of_pass == index:
            flowing[drop.first : drop.first + drop.frames] *= drop.part
    electrons = faults.electrons * faults.current_ratio * flowing
    _, ready = make_ready(one).move_to(start_s, start_s)
    fractions = patterns(ready, specimen_positions_nm(one, frames, start_s), shifts_px(one, frames))
    none = np.zeros((PIXELS, PIXELS), np.bool_)
    lost_us = 0.1 / faults.rate_limit_hz * 1e6 if faults.rate_limit_hz < NO_LIMIT_HZ else 0.0
    counter = Counter(DEEP_BITS, none, none, dead_time_us=lost_us, exposure_time_us=DWELL_US)
    deep = record(fractions, electrons, noise_keys(one.truth.seed, one.run, *np.divmod(frames, SCAN[1])), counter)
    deep = deep.astype(np.int64)
    for y, x, level in faults.hot:
        deep[:, y, x] += random.poisson(level, len(frames))
    for y, x in faults.masked:
        deep[:, y, x] = full_scale(faults.bits)
    for y, x in faults.dead:
        deep[:, y, x] = 0
    recorded, maps = _counted(faults, np.minimum(deep, full_scale(faults.bits)), random)
    return Made(electrons, fractions * electrons[:, None, None].astype(np.float32), deep, recorded, maps)


def mask_of(faults: Faults) -> Mask:
    """The calibrated pixel mask."""
    mask = np.zeros((PIXELS, PIXELS), np.bool_)
    for y, x in faults.masked:
        mask[y, x] = True
    return mask


def _counted(faults: Faults, counts: Counts, random: np.random.Generator) -> tuple[Mask, RunMaps]:
    """Frames on their way into the maps, with what is lost on it."""
    recorded = np.ones(len(counts), np.bool_)
    twice, corrupt = np.zeros(len(counts), np.bool_), np.zeros(len(counts), np.bool_)
    some = random.choice(len(counts), faults.lost, replace=False)
    if faults.loss in ("scattered", "corrupt"):
        recorded[some] = False
        corrupt[some] = faults.loss == "corrupt"
    elif faults.loss == "row":
        first = int(random.integers(SCAN[0])) * SCAN[1]
        recorded[first : first + SCAN[1]] = False
    elif faults.loss == "end":
        recorded[-faults.lost :] = False
    elif faults.loss == "twice":
        twice[some] = True
    elif faults.loss == "repeated":
        first = int(random.integers(1, len(counts) - faults.lost))
        counts[first : first + faults.lost] = counts[first - 1]
    kind = "uint8" if faults.bits <= 8 else "uint16" if faults.bits <= 16 else "uint32"
    spec = AccumulatorSpec(
        detector_shape=(PIXELS, PIXELS),
        dtype=kind,
        detectors=(
            Annulus("disk", MIDDLE, 0.0, RADIUS_PX),
            Annulus("beyond_disk", MIDDLE, 1.2 * RADIUS_PX, 2.0 * PIXELS),
        ),
        full_scale=full_scale(faults.bits),
        bad_pixels=mask_of(faults),
        com_region=Annulus("com", MIDDLE, 0.0, 1.25 * RADIUS_PX),
        threads=1,
    )
    accumulator, buffers = Accumulator(spec), MapBuffers(SCAN, spec)
    there = np.flatnonzero(recorded)
    buffers.put(there, accumulator.add(counts[there].astype(kind)))
    maps = buffers.finished(accumulator)
    return recorded, replace(maps, came_twice=twice.reshape(SCAN), corrupt=corrupt.reshape(SCAN))
