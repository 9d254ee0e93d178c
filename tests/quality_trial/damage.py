"""Blind trial of damage and contamination: specimens that fade, shrink, swell with bubbles and are grown over."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from devices.simulator.scene import (
    Scene,
    damage_of,
    detector_of,
    dose_after,
    make_ready,
    shifts_px,
    specimen_positions_nm,
    times_s,
)
from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps
from stem4d.optics import wavelength_a
from stem4d.quality.between import compare
from stem4d.quality.contamination import MOST_RAD
from stem4d.quality.damage import LARGEST_CHANGE, MOST_AREA, MOST_LOST
from stem4d.quality.grade import DOUBT_SIGMAS
from stem4d.quality.judge import joined, judge
from stem4d.quality.pass_images import SMOOTH_PX
from stem4d.quality.regions import subject_of_plan
from stem4d.simulate import fluence as doses
from stem4d.simulate import patterns as physics
from stem4d.simulate.counts import noise_keys, record
from stem4d.simulate.damage import Damage, contamination_rad, damaged, shrinkage
from stem4d.simulate.wander import current_part
from stem4d.verdict import QualityResult
from tests.blind.world import Setup, bad_pixels, mask_of, scene, seed_of
from tests.quality_trial.simulated import maps_of, plan_of
from tests.quality_trial.tally import Case

WIDE = Setup(200.0, 4.0, 4 / 7, 36, (24, 24), 0.25, 2e4)
"""A focused probe of 7 Å over 6 nm, as wide as a layer's edge and bubbles need."""
FINE = Setup(200.0, 10.0, 10 / 7, 36, (28, 28), 0.06, 4e4)
"""A focused probe of 3 Å, sampled as well as a change of scale needs."""
PARTS = 4
"""Parts of a pass that see the same damage."""
NO_BUBBLES = {"bubble_onset_e_per_a2": None}
ANALYSES: tuple[dict[str, Any], ...] = ({"kind": "com", "target_d_a": 7.0},)


@dataclass(frozen=True)
class Told:
    """What is true of a run, and how much an estimate may be off before an answer can be wrong."""

    truth: float
    limit: float
    open: bool = False
    """Whether the check cannot be held to it: it lies where the check does not look."""

    def case(self, found: QualityResult, note: str) -> Case:
        """The verdict beside the truth."""
        sigma = found.uncertainty or 0.0
        doubt = max(0.1 * self.limit, DOUBT_SIGMAS * sigma)
        text = f"{note}: true {self.truth:.4g}, found {found.value} ± {found.uncertainty}, limit {self.limit}"
        return Case(
            found.metric,
            self.truth > self.limit,
            self.open or abs(self.truth - self.limit) <= doubt,
            found.verdict,
            text,
        )


def knobs(random: np.random.Generator, setup: Setup, passes: int) -> dict[str, float]:
    """What the beam does, each independently and every other time; sizes from far below to far above the limits."""
    drawn: dict[str, float] = {}
    one_pass = setup.electrons / (10 * setup.step_nm) ** 2
    between = (passes - 1) * one_pass

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    if random.random() < 0.75:
        # Angles about 1.7 α fade at the fluence for 1 Å over their own frequency.
        per_a = 1.7e-3 * setup.alpha_mrad / wavelength_a(setup.energy_kev)
        drawn["critical_e_per_a2"] = between * per_a / -np.log(1 - log_uniform(0.02, 0.8))
    if setup is FINE and random.random() < 0.8:
        drawn["shrinkage_per_e_per_a2"] = log_uniform(0.01, 0.25) / between
    if setup is WIDE and random.random() < 0.75:
        # One or two bubbles, small against the field: what changes everywhere is no local change.
        drawn["bubble_onset_e_per_a2"] = float(random.uniform(0.3, 0.7)) * (between + one_pass / 2)
        drawn["bubble_radius_a"] = float(random.uniform(4, 8))
        drawn["bubble_phase_rad"] = float(random.uniform(1.0, 3.0))
        drawn["bubble_spacing_a"] = 60.0
    if random.random() < 0.8:
        # A field of 6 nm shows a tenth to a fifth of a layer whose edge is 6 nm wide.
        drawn["contamination_rad_per_e_per_a2"] = log_uniform(0.5, 50.0) / between
    return drawn


def instrument(random: np.random.Generator, setup: Setup, damage: dict[str, float]) -> Scene:
    """A microscope in good order over a film that suffers."""
    area = {
        "specimen": "amorphous",
        "thickness_nm": float(random.uniform(10.0, 30.0)),
        "seed": seed_of(random),
        "beam_damage": damage,
        # Up to a quarter of a step from pass to pass.
        "drift_nm_per_min": (random.uniform(-0.5, 0.5, 2) * setup.step_nm).tolist(),
    }
    return scene(
        setup,
        "there",
        seed=seed_of(random),
        areas={"there": area},
        beam={"drift_per_h": float(random.uniform(-1.0, 1.0))},
        **bad_pixels(setup.pixels, random),
    )


@dataclass(frozen=True)
class Passes:
    """All passes over one area: what was counted, and what was to be expected."""

    setup: Setup
    scene: Scene
    ready: physics.Prepared
    counted: tuple[RunMaps, ...]
    expected: tuple[np.ndarray, np.ndarray]
    """Frames of the first and the last without noise, in electrons."""
    fluences: tuple[doses.Fluence, ...]
    """Before the first pass, and after each."""
    lost: tuple[tuple[float, ...], ...]
    """Of the area, in each part of each pass, by the simulator's law."""
    starts_s: tuple[float, ...]


def expose(setup: Setup, one: Scene, bad: Mask, passes: int) -> Passes:
    """Passes half a minute apart; what would have been counted without noise is kept of the first and the last."""
    starts = tuple(30.0 * which for which in range(passes))
    plan, detector = plan_of(setup, ANALYSES, passes), detector_of(one)
    ready = make_ready(one).move_to(0.0, 0.0)[1]
    fluences, counted, expected, lost = [doses.untouched()], [], [], []
    everything = np.arange(one.frames)
    for which, start in enumerate(starts):
        fractions, after, shrunk = fractions_of(one, ready, fluences[-1], start)
        electrons = setup.electrons * current_part(one.truth.beam.emission, start + times_s(one, everything))
        keys = noise_keys(one.truth.seed, which, *np.divmod(everything, one.scan.shape[1]))
        counted.append(maps_of(record(fractions, electrons, keys, detector), plan, bad))
        expected.append(fractions * setup.electrons)
        fluences.append(after)
        lost.append(shrunk)
    return Passes(setup, one, ready, tuple(counted), (expected[0], expected[-1]), tuple(fluences), tuple(lost), starts)


def fractions_of(
    one: Scene, ready: physics.Prepared, before: doses.Fluence, start_s: float
) -> tuple[np.ndarray, doses.Fluence, tuple[float, ...]]:
    """Part of the beam in every pixel of every frame (n, det_y, det_x), the fluence afterwards, and the area lost."""
    damage, found, lost = damage_of(one), [], []
    assert damage is not None
    assert ready.layout is not None
    assert ready.phase is not None
    for frames in np.split(np.arange(one.frames), PARTS):
        tile = doses.on_tile(before, ready.layout)
        suffered = damaged(ready, ready.phase, tile, damage)
        lost.append(shrinkage(tile, damage))
        found.append(physics.patterns(suffered, specimen_positions_nm(one, frames, start_s), shifts_px(one, frames)))
        before = dose_after(one, before, frames, start_s)
    return np.concatenate(found), before, tuple(lost)


def trial(number: int) -> list[Case]:
    """Two runs with their faults, judged as the product does: a wide field, and a fine one for the change of scale."""
    random = np.random.default_rng((6, 3, number))
    cases = []
    for setup in (WIDE, FINE):
        count = int(random.integers(2, 4)) if setup is WIDE else 2
        damage = knobs(random, setup, count)
        one = instrument(random, setup, damage)
        bad = mask_of(one)
        passes = expose(setup, one, bad, count)
        plan = plan_of(setup, ANALYSES, count)
        results = {each.metric: each for each in judge(plan, passes.counted, passes.starts_s, None, bad)}
        if setup is WIDE:
            inner_px = compare(passes.counted, subject_of_plan(plan, joined(passes.counted), bad)).inner_px
            truths = {
                "damage.decay": Told(decay(passes, bad, inner_px), MOST_LOST),
                "damage.change": bubble(passes, damage, bad),
                "contamination.frame": Told(layer_rad(passes, damage), MOST_RAD),
            }
        else:
            truths = {"damage.area": Told(area_lost(passes), MOST_AREA)}
        note = f"trial {number} {count} passes { ({key: f'{value:.3g}' for key, value in damage.items()}) }"
        cases += [told.case(results[metric], note) for metric, told in truths.items()]
    return cases


def decay(passes: Passes, bad: Mask, inner_px: float) -> float:
    """Part of the share of counts beyond a radius that the last pass lacks."""
    y, x = np.indices(bad.shape) - (passes.setup.pixels - 1) / 2
    ring = (np.hypot(y, x) >= inner_px) & ~bad
    first, last = (each[:, ring].sum() / each[:, ~bad].sum() for each in passes.expected)
    return float(1 - last / first)


def middles(passes: Passes, what: Any) -> tuple[Any, Any]:
    """A figure of the fluence in the middle of the first pass and of the last: the mean of before and after."""
    values = [what(fluence) for fluence in passes.fluences]
    return (values[0] + values[1]) / 2, (values[-2] + values[-1]) / 2


def area_lost(passes: Passes) -> float:
    """Part of the area lost between the first pass and the last, line by line."""
    ratios = [(1 - last) / (1 - first) for first, last in zip(passes.lost[0], passes.lost[-1], strict=True)]
    return float(1 - np.mean(ratios))


def layer_rad(passes: Passes, damage: dict[str, float]) -> float:
    """Phase of the layer between the middle column of the field and its outer ones, grown between first and last."""
    if "contamination_rad_per_e_per_a2" not in damage:
        return 0.0
    layout = passes.ready.layout
    assert layout is not None
    places = specimen_positions_nm(passes.scene, np.arange(passes.scene.frames), 0.0)
    at = np.rint(10 * places @ np.array(layout.to_px).T - layout.origin).astype(int)

    def across(fluence: doses.Fluence) -> float:
        layer = contamination_rad(layout, doses.on_tile(fluence, layout), Damage(**damage))
        lines = layer[at[:, 0], at[:, 1]].reshape(passes.setup.scan)
        middle = passes.setup.scan[1] // 2
        return float(lines[:, middle - 1 : middle + 1].mean() - lines[:, [0, -1]].mean())

    first, last = middles(passes, across)
    return last - first


def bubble(passes: Passes, damage: dict[str, float], bad: Mask) -> Told:
    """Largest change that bubbles make, in standard deviations of shot noise, of all images that the check looks at.

    What they change at the border alone, where the check does not look, or sees half of, is left open.
    """
    if "bubble_onset_e_per_a2" not in damage:
        return Told(0.0, LARGEST_CHANGE)
    area = passes.scene.truth.areas["there"]
    assert area.beam_damage is not None
    without = area.model_copy(update={"beam_damage": area.beam_damage.model_copy(update=NO_BUBBLES)})
    truth = passes.scene.truth.model_copy(update={"areas": {"there": without}})
    one = replace(passes.scene, truth=truth)
    smooth = passes.setup.electrons * fractions_of(one, passes.ready, passes.fluences[-2], passes.starts_s[-1])[0]
    y, x = (axis - (passes.setup.pixels - 1) / 2 for axis in np.indices(bad.shape))
    disk = passes.setup.alpha_mrad / passes.setup.mrad_per_pixel
    heights = []
    for ring in (np.hypot(y, x) < disk, np.hypot(y, x) >= 1.2 * disk, np.hypot(y, x) >= 0):
        some, other = (
            each[:, ring & ~bad].sum(axis=1).reshape(passes.setup.scan) for each in (passes.expected[1], smooth)
        )
        heights.append(np.abs(filtered(2 * np.sqrt(some) - 2 * np.sqrt(other))))
    near = (np.hypot(y, x) < 1.25 * disk) & ~bad
    for axis in (y, x):
        some, other = (
            ((each[:, near] * axis[near]).sum(axis=1) / each[:, near].sum(axis=1)).reshape(passes.setup.scan)
            for each in (passes.expected[1], smooth)
        )
        # A disk of radius r has r/2 for the spread of one electron along an axis.
        noise = disk / 2 / np.sqrt(smooth[:, near].sum(axis=1).mean())
        heights.append(np.abs(filtered((some - other) / noise)))
    inside = float(np.max([each[4:-4, 4:-4].max() for each in heights]))
    return Told(inside, LARGEST_CHANGE, bool(inside < LARGEST_CHANGE < np.max(heights)))


def filtered(change: np.ndarray) -> np.ndarray:
    """As the check smooths it, in units of the noise that is left of two images with a noise of one."""
    point = np.zeros((17, 17))
    point[8, 8] = 1.0
    left = np.sqrt(2 * (ndimage.gaussian_filter(point, SMOOTH_PX) ** 2).sum())
    return np.asarray(ndimage.gaussian_filter(change, SMOOTH_PX) / left)
