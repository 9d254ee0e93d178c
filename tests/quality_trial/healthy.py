"""Healthy runs, whole: nothing may stop them, and no verdict may fail them."""

from dataclasses import dataclass, replace
from math import pi

import numpy as np

from stem4d.quality.judge import judge
from stem4d.verdict import Verdict
from tests.blind.world import Setup, bad_pixels, mask_of, scene, seed_of
from tests.quality_trial.online import ASKED_EVERY, analyses, asking_little, facts_of, first_stop, specimen
from tests.quality_trial.simulated import batches, maps_of, plan_of

SCANS = ((32, 32), (32, 40), (40, 32))
PAUSE_S = 30.0
"""Between the passes of a run."""


@dataclass(frozen=True)
class Healthy:
    """What was said of a run that has nothing wrong."""

    stopped: str | None
    failed: tuple[str, ...]
    warned: tuple[str, ...]
    """A warning is no error here: the figure may lie near its limit."""
    note: str


def trial(number: int) -> Healthy:
    """A run as a microscope in good order makes it: a little off, a little drift, bad pixels that are known."""
    random = np.random.default_rng((6, 31, number))
    pixels, radius = 48, float(random.uniform(8, 11))
    alpha = float(random.uniform(8, 22))
    delta = alpha / radius
    electrons = float(10 ** random.uniform(2.5, 4.2))
    scan = SCANS[int(random.integers(len(SCANS)))]
    depth = int(random.choice([12, 16]))
    step = float(random.uniform(0.03, 0.08))
    setup = Setup(float(random.choice([80.0, 200.0, 300.0])), alpha, delta, pixels, scan, step, electrons, 0.0, depth)
    passes = int(random.integers(1, 3))
    # Up to half a pixel of misalignment and of movement over the field; a tenth of a step of drift between the passes.
    off, slope = random.uniform(-0.5, 0.5, 2), random.uniform(-0.25, 0.25, (2, 2)) / max(scan) / step
    drift = random.uniform(-0.1, 0.1, 2) * step / (PAUSE_S / 60)
    empty = random.random() < 0.1
    area = {**specimen(random), "drift_nm_per_min": drift.tolist()}
    one = scene(
        setup,
        "vacuum" if empty else "there",
        seed=seed_of(random),
        areas={"there": area},
        misalignment_mrad=(off * delta).tolist(),
        descan_error_mrad_per_nm=(slope * delta).tolist(),
        current_ratio_above_pa=[{"above_pa": 0.0, "ratio": float(random.uniform(0.95, 1.05))}],
        beam={"drift_per_h": float(random.uniform(-0.05, 0.05))},
        **bad_pixels(pixels, random),
    )
    wanted = analyses(random, alpha, 23 * delta)
    if random.random() < 0.5:
        # What is asked for leaves room for the electrons that a specimen scatters off the detector.
        wanted = asking_little(alpha, electrons, 1.5)
    plan, bad = plan_of(setup, wanted, passes), mask_of(one)
    # The disk counts well below the rate at which a tenth is lost, crests of single frames too.
    disk_hz = electrons / (pi * radius**2 * setup.dwell_us * 1e-6)
    facts = facts_of(plan, disk_hz * float(random.uniform(4, 20)))
    size = round(ASKED_EVERY * one.frames)
    stopped, maps, starts = None, [], [which * PAUSE_S for which in range(passes)]
    for which, start in enumerate(starts):
        come = list(batches(replace(one, run=which + 1), size, start))
        stop = first_stop(plan, come, bad, facts)
        stopped = stopped or (None if stop is None else f"pass {which + 1}, frame {stop[0]}: {stop[1]}")
        maps.append(maps_of(np.concatenate(come), plan, bad))
    results = judge(plan, maps, starts, None, bad, facts)
    told = {
        verdict: tuple(f"{each.metric} {each.analysis}: {each.message}" for each in results if each.verdict is verdict)
        for verdict in (Verdict.FAIL, Verdict.WARN)
    }
    kind = "vacuum" if empty else area["specimen"]
    note = f"trial {number}: {kind}, {electrons:.3g} e, {passes} passes, {depth} bit"
    return Healthy(stopped, told[Verdict.FAIL], told[Verdict.WARN], note)
