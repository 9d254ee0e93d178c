"""Blind trial of damage and contamination: specimens that fade, shrink, swell with bubbles and are grown over."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from devices.simulator.scene import Scene, dose_after_all, make_ready, render, shifts_px, specimen_positions_nm
from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps
from stem4d.quality.between import compare
from stem4d.quality.contamination import MOST_RAD
from stem4d.quality.damage import LARGEST_CHANGE, MOST_AREA, MOST_LOST
from stem4d.quality.grade import DOUBT_SIGMAS
from stem4d.quality.judge import joined, judge
from stem4d.quality.pass_images import SMOOTH_PX
from stem4d.quality.regions import subject_of_plan
from stem4d.simulate import fluence as doses
from stem4d.simulate import patterns as physics
from stem4d.simulate.damage import Damage, contamination_rad, shrinkage
from stem4d.verdict import QualityResult
from tests.blind.world import TOGETHER, Setup, bad_pixels, mask_of, scene, seed_of
from tests.quality_trial.simulated import maps_of, plan_of
from tests.quality_trial.tally import Case

SETUP = Setup(200.0, 10.0, 1.25, 40, (24, 24), 0.2, 2000.0)
"""A focused probe of 3 Å; 500 e/Å² a pass."""
PASSES = 3
PASS_E_PER_A2 = SETUP.electrons / (10 * SETUP.step_nm) ** 2
BETWEEN_E_PER_A2 = (PASSES - 1) * PASS_E_PER_A2
"""From the middle of the first pass to that of the last."""


@dataclass(frozen=True)
class Told:
    """What is true of a run, and how much an estimate may be off before an answer can be wrong."""

    truth: float
    limit: float

    def case(self, found: QualityResult, note: str) -> Case:
        """The verdict beside the truth."""
        sigma = found.uncertainty or 0.0
        doubt = max(0.1 * self.limit, DOUBT_SIGMAS * sigma)
        text = f"{note}: true {self.truth:.4g}, found {found.value} ± {found.uncertainty}, limit {self.limit}"
        return Case(found.metric, self.truth > self.limit, abs(self.truth - self.limit) <= doubt, found.verdict, text)


def knobs(random: np.random.Generator) -> dict[str, float]:
    """What the beam does, each independently and every other time; sizes from far below to far above the limits."""
    drawn: dict[str, float] = {}

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    if random.random() < 0.6:
        # Angles about 0.7 1/Å fade at 1.4 times the fluence that detail of 1 Å does.
        drawn["critical_e_per_a2"] = BETWEEN_E_PER_A2 / 1.4 / -np.log(1 - log_uniform(0.02, 0.7))
    if random.random() < 0.6:
        drawn["shrinkage_per_e_per_a2"] = log_uniform(0.004, 0.12) / BETWEEN_E_PER_A2
    if random.random() < 0.5:
        drawn["bubble_onset_e_per_a2"] = float(random.uniform(1.0, 2.0)) * PASS_E_PER_A2
        drawn["bubble_radius_a"] = float(random.uniform(4, 8))
        drawn["bubble_phase_rad"] = float(random.uniform(0.5, 2.0))
        drawn["bubble_spacing_a"] = 40.0
    if random.random() < 0.6:
        drawn["contamination_rad_per_e_per_a2"] = log_uniform(0.1, 8.0) / BETWEEN_E_PER_A2
    return drawn


def instrument(random: np.random.Generator, damage: dict[str, float]) -> Scene:
    """A microscope in good order over a film of small grains that suffers."""
    area = {
        "specimen": "polycrystal",
        "material": "Au",
        "grain_nm": 1.5,
        "thickness_nm": float(random.uniform(2.0, 5.0)),
        "seed": seed_of(random),
        "beam_damage": damage,
        "drift_nm_per_min": random.uniform(-0.05, 0.05, 2).tolist(),
    }
    return scene(
        SETUP,
        "there",
        seed=seed_of(random),
        areas={"there": area},
        beam={"drift_per_h": float(random.uniform(-1.0, 1.0))},
        **bad_pixels(SETUP.pixels, random),
    )


@dataclass(frozen=True)
class Passes:
    """All passes over one area: what was counted, and what was to be expected."""

    counted: tuple[RunMaps, ...]
    expected: tuple[np.ndarray, np.ndarray]
    """Frames of the first and the last without noise, in electrons."""
    fluences: tuple[doses.Fluence, ...]
    """Before the first pass, and after each."""
    starts_s: tuple[float, ...]
    scenes: tuple[Scene, ...]


def expose(one: Scene, bad: Mask) -> Passes:
    """Passes half a minute apart."""
    starts = tuple(30.0 * which for which in range(PASSES))
    scenes = tuple(replace(one, run=which + 1) for which in range(PASSES))
    plan = plan_of(SETUP, ANALYSES, PASSES)
    fluences, counted, expected = [doses.untouched()], [], []
    everything = np.arange(one.frames)
    parts = np.split(everything, range(TOGETHER, one.frames, TOGETHER))
    for now, start in zip(scenes, starts, strict=True):
        bench = make_ready(now, start)
        bench.expose_first(fluences[-1])
        come = [render(now, bench, part, start, np.ones(len(part), np.bool_)) for part in parts]
        counted.append(maps_of(np.concatenate(come), plan, bad))
        if start in (starts[0], starts[-1]):
            expected.append(expectation(now, fluences[-1], start))
        fluences.append(dose_after_all(now, fluences[-1], everything, start))
    return Passes(tuple(counted), (expected[0], expected[1]), tuple(fluences), starts, scenes)


def expectation(now: Scene, before: doses.Fluence, start_s: float) -> np.ndarray:
    """Electrons in every pixel of every frame (n, det_y, det_x), without noise, as ``render`` goes about it."""
    bench = make_ready(now, start_s)
    bench.expose_first(before)
    shape = now.scan.shape
    found = []
    for row in range(shape[0]):
        frames = np.arange(row * shape[1], (row + 1) * shape[1])
        _, ready = bench.move_to(start_s, start_s)
        ready = bench.suffer(ready, frames, start_s, np.ones(len(frames), np.bool_))
        found.append(physics.patterns(ready, specimen_positions_nm(now, frames, start_s), shifts_px(now, frames)))
    return np.concatenate(found).astype(np.float64) * SETUP.electrons


ANALYSES: tuple[dict[str, Any], ...] = ({"kind": "com", "target_d_a": 7.0},)


def trial(number: int) -> list[Case]:
    """One run with its faults, judged as the product does."""
    random = np.random.default_rng((6, 3, number))
    damage = knobs(random)
    one = instrument(random, damage)
    bad = mask_of(one)
    passes = expose(one, bad)
    plan = plan_of(SETUP, ANALYSES, PASSES)
    results = {each.metric: each for each in judge(plan, passes.counted, passes.starts_s, None, bad)}
    inner_px = compare(passes.counted, subject_of_plan(plan, joined(passes.counted), bad)).inner_px
    truths = {
        "damage.decay": Told(decay(passes, bad, inner_px), MOST_LOST),
        "damage.area": Told(area_lost(passes, damage), MOST_AREA),
        "damage.change": Told(bubble_height(passes, damage, bad), LARGEST_CHANGE),
        "contamination.frame": Told(layer_rad(passes, damage), MOST_RAD),
    }
    note = f"trial {number} {({key: f'{value:.3g}' for key, value in damage.items()})}"
    return [told.case(results[metric], note) for metric, told in truths.items()]


def decay(passes: Passes, bad: Mask, inner_px: float) -> float:
    """Part of the share of counts beyond a radius that the last pass lacks."""
    y, x = np.indices(bad.shape) - (SETUP.pixels - 1) / 2
    ring = (np.hypot(y, x) >= inner_px) & ~bad
    first, last = (each[:, ring].sum() / each[:, ~bad].sum() for each in passes.expected)
    return float(1 - last / first)


def middles(passes: Passes, what: Any) -> tuple[Any, Any]:
    """A figure of the fluence in the middle of the first pass and of the last: the mean of before and after."""
    values = [what(fluence) for fluence in passes.fluences]
    return (values[0] + values[1]) / 2, (values[-2] + values[-1]) / 2


def area_lost(passes: Passes, damage: dict[str, float]) -> float:
    """Part of the area lost between the first pass and the last, by the simulator's law."""
    first, last = middles(passes, lambda one: shrinkage(one.values, Damage(**damage)) if one.values.size else 0.0)
    return float((last - first) / (1 - first))


def layer_rad(passes: Passes, damage: dict[str, float]) -> float:
    """Phase of the layer between the middle column of the field and its outer ones, grown between first and last."""
    if "contamination_rad_per_e_per_a2" not in damage:
        return 0.0
    layout = make_ready(passes.scenes[0]).move_to(0.0, 0.0)[1].layout
    assert layout is not None
    places = specimen_positions_nm(passes.scenes[0], np.arange(passes.scenes[0].frames), 0.0)
    at = np.rint(10 * places @ np.array(layout.to_px).T - layout.origin).astype(int)

    def across(fluence: doses.Fluence) -> float:
        layer = contamination_rad(layout, doses.on_tile(fluence, layout), Damage(**damage))
        lines = layer[at[:, 0], at[:, 1]].reshape(SETUP.scan)
        middle = SETUP.scan[1] // 2
        return float(lines[:, middle - 1 : middle + 1].mean() - lines[:, [0, -1]].mean())

    first, last = middles(passes, across)
    return last - first


def bubble_height(passes: Passes, damage: dict[str, float], bad: Mask) -> float:
    """Largest change that bubbles make, in standard deviations of shot noise, of all images that the check looks at."""
    if "bubble_onset_e_per_a2" not in damage:
        return 0.0
    area = passes.scenes[-1].truth.areas["there"]
    assert area.beam_damage is not None
    without = area.model_copy(update={"beam_damage": area.beam_damage.model_copy(update=NO_BUBBLES)})
    truth = passes.scenes[-1].truth.model_copy(update={"areas": {"there": without}})
    smooth = expectation(replace(passes.scenes[-1], truth=truth), passes.fluences[-2], passes.starts_s[-1])
    y, x = (axis - (SETUP.pixels - 1) / 2 for axis in np.indices(bad.shape))
    disk = SETUP.alpha_mrad / SETUP.mrad_per_pixel
    heights = []
    for ring in (np.hypot(y, x) < disk, np.hypot(y, x) >= 1.2 * disk, np.hypot(y, x) >= 0):
        one, other = (each[:, ring & ~bad].sum(axis=1).reshape(SETUP.scan) for each in (passes.expected[1], smooth))
        heights.append(np.abs(filtered(2 * np.sqrt(one) - 2 * np.sqrt(other))))
    near = (np.hypot(y, x) < 1.25 * disk) & ~bad
    for axis in (y, x):
        one, other = (
            ((each[:, near] * axis[near]).sum(axis=1) / each[:, near].sum(axis=1)).reshape(SETUP.scan)
            for each in (passes.expected[1], smooth)
        )
        # A disk of radius r has r/2 for the spread of one electron along an axis.
        noise = disk / 2 / np.sqrt(smooth[:, near].sum(axis=1).mean())
        heights.append(np.abs(filtered((one - other) / noise)))
    return float(np.max([each[2:-2, 2:-2].max() for each in heights]))


NO_BUBBLES = {"bubble_onset_e_per_a2": None}


def filtered(change: np.ndarray) -> np.ndarray:
    """As the check smooths it, in units of the noise that is left of two images with a noise of one."""
    point = np.zeros((17, 17))
    point[8, 8] = 1.0
    left = np.sqrt(2 * (ndimage.gaussian_filter(point, SMOOTH_PX) ** 2).sum())
    return np.asarray(ndimage.gaussian_filter(change, SMOOTH_PX) / left)
