"""Runs that cannot be saved, and how soon they are stopped: saturated, too fast, without beam, off the detector."""

from dataclasses import dataclass
from itertools import takewhile
from math import pi

import numpy as np

from tests.blind.world import Setup, bad_pixels, mask_of, scene, seed_of
from tests.quality_trial.online import ASKED_EVERY, analyses, asking_little, facts_of, first_stop, specimen
from tests.quality_trial.simulated import batches, plan_of

FAULTS = ("saturated", "no beam", "beam lost on the way", "off the detector", "too fast", "too little beam left")
SCANS = ((32, 32), (32, 48), (48, 32), (40, 40))
WITHIN = 0.05
"""Part of the run's frames within which it has to be stopped, counted from where it was lost."""


@dataclass(frozen=True)
class Stopped:
    """When a hopeless run was stopped."""

    fault: str
    part: float
    """Of its frames, from the first that was lost; infinity where it never was."""
    note: str

    @property
    def in_time(self) -> bool:
        """Within WITHIN; earlier than the fault is too early."""
        return 0 < self.part <= WITHIN


def trial(number: int) -> Stopped:
    """One hopeless run, its fault of a size drawn at random."""
    random = np.random.default_rng((6, 32, number))
    fault = FAULTS[number % len(FAULTS)]
    pixels, radius = 48, float(random.uniform(8, 12))
    alpha = float(random.uniform(8, 22))
    scan = SCANS[int(random.integers(len(SCANS)))]
    electrons = float(10 ** random.uniform(2.5, 4.0))
    frames = scan[0] * scan[1]
    onset = 0
    delta = alpha / radius
    settings: dict[str, object] = {}
    limit_hz: float | None = None
    if fault == "saturated":
        # The mean of the disk is 1 to 10 times full scale of 12 bit, and specimens make crests.
        electrons = 4095 * pi * radius**2 * float(10 ** random.uniform(0, 1))
    setup = Setup(float(random.choice([80.0, 200.0, 300.0])), alpha, delta, pixels, scan, 0.05, electrons, bit_depth=12)
    if fault == "too fast":
        # The disk's mean is 2 to 8 times the rate at which a tenth is lost; of that, dead time leaves 1.7 to 4.4.
        limit_hz = setup.electrons / (pi * radius**2 * setup.dwell_us * 1e-6) / float(random.uniform(2, 8))
        settings["detector"] = {"dead_time_us": 0.1 / limit_hz * 1e6}
    if fault == "too little beam left":
        # Noise is 1.3 times below what is wanted, fails 1.5 times above it, and grows 2.6 times or more.
        onset = int(random.uniform(0.1, 0.9) * frames)
        off = {"at_s": onset * setup.dwell_us * 1e-6, "seconds": 1e6, "part": float(random.uniform(0.02, 0.15))}
        settings["beam"] = {"dropouts": [off]}
    elif "beam" in fault:
        onset = 0 if fault == "no beam" else int(random.uniform(0.1, 0.9) * frames)
        # A valve that closes, an emission that fails: up to 0.2 % comes through.
        part = float(random.choice([0.0, random.uniform(0, 0.002)]))
        off = {"at_s": onset * setup.dwell_us * 1e-6, "seconds": 1e6, "part": part}
        settings["beam"] = {"dropouts": [off]}
    if fault == "off the detector":
        # From half a radius over the edge to wholly beyond it, over one edge or a corner.
        over, angle = float(random.uniform(0.5, 1.5)) * radius, float(random.uniform(0, 2 * pi))
        way = np.array([np.sin(angle), np.cos(angle)])
        away = (pixels / 2 - radius + over) / np.abs(way).max()
        settings["misalignment_mrad"] = (away * way * delta).tolist()
    one = scene(
        setup,
        "there",
        seed=seed_of(random),
        areas={"there": specimen(random)},
        **settings,
        **bad_pixels(pixels, random),
    )
    wanted = analyses(random, alpha, 24 * delta)
    if fault == "too little beam left":
        wanted = asking_little(alpha, electrons, 1.3)
    plan = plan_of(setup, wanted)
    size = round(ASKED_EVERY * frames)
    last = onset + 0.1 * frames
    some = (batch for _, batch in takewhile(lambda each: each[0] * size < last, enumerate(batches(one, size))))
    stop = first_stop(plan, some, mask_of(one), None if limit_hz is None else facts_of(plan, limit_hz))
    kind = one.truth.areas["there"].specimen
    note = f"trial {number}: {kind}, {electrons:.3g} e, scan {scan}, onset {onset}, {settings}"
    if stop is None:
        return Stopped(fault, np.inf, note)
    return Stopped(fault, (stop[0] - onset) / frames, f"{note}: {stop[1]} ({stop[0]} frames)")
