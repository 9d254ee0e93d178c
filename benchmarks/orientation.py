"""Orientation mapping in patterns a second, and the maps of a pass against a second pass over its frames."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from math import pi
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accumulator import DETECTOR, MIDDLE, SEED, make_scan
from benchmarks.harness import Figure
from stem4d.accumulate import Accumulator, AccumulatorSpec, Annulus
from stem4d.analyse.com.outcome import com_outcome
from stem4d.analyse.method import Given
from stem4d.analyse.orientation.crystal import read_crystal, reflections
from stem4d.analyse.orientation.directions import about_beam, misorientation_deg, onto_beam
from stem4d.analyse.orientation.method import ORIENTATION, OrientationOptions
from stem4d.analyse.virtual.masks import Ring, VirtualOptions
from stem4d.analyse.virtual.method import VIRTUAL
from stem4d.analyse.virtual.outcome import virtual_outcome
from stem4d.maps import RunMaps
from stem4d.optics import wavelength_a

GOLD = """data_gold
_cell_length_a 4.0786
_cell_length_b 4.0786
_cell_length_c 4.0786
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Au1 Au 0 0 0
"""
ENERGY_KEV, ALPHA_MRAD, ELECTRONS, PATTERNS = 200.0, 1.8, 2e4, 256
ROUNDS = 5
SCAN = (128, 128)
"""Of `make_scan`, the first half of the rows and of the positions in it."""


class _Memory:
    """`Rows` over frames (scan_y, scan_x, det_y, det_x)."""

    def __init__(self, frames: Any) -> None:
        self.frames, self.dtype = frames, frames.dtype
        self.scan_shape, self.detector_shape = frames.shape[:2], frames.shape[2:]
        self.recorded = np.ones(self.scan_shape, bool)

    def read(self, first: int, stop: int) -> Iterator[tuple[Any, Any]]:
        """All rows at once."""
        frames = self.frames[first:stop].reshape(-1, *self.detector_shape)
        yield np.arange(first * self.scan_shape[1], stop * self.scan_shape[1]), frames


def run() -> Iterator[Figure]:
    """The figures; nothing here has a goal."""
    for side, mrad_per_px in ((96, 0.9), (192, 0.45)):
        yield from _oriented(side, mrad_per_px)
    handle = os.memfd_create("nightbeam-bench")
    try:
        frames, hot = make_scan(handle, Path(f"/proc/{os.getpid()}/fd/{handle}"))
        yield from _without_frames(frames[: SCAN[0] * SCAN[1]], hot)
    finally:
        os.close(handle)


def _given(side: int, mrad_per_px: float, alpha_mrad: float, bad: Any) -> Given:
    middle = np.full(2, (side - 1) / 2)
    return Given(ENERGY_KEV, alpha_mrad, mrad_per_px, (1.0, 1.0), middle, bad, 0.0)


def _oriented(side: int, mrad_per_px: float) -> Iterator[Figure]:
    rng = np.random.default_rng(SEED)
    beam = rng.normal(size=(PATTERNS, 3))
    beam /= np.linalg.norm(beam, axis=1, keepdims=True)
    truth = about_beam(rng.uniform(0, 2 * pi, PATTERNS)) @ onto_beam(beam)
    rows = _Memory(_spots(truth, side, mrad_per_px, rng).reshape(4, -1, side, side))
    known = _given(side, mrad_per_px, ALPHA_MRAD, np.zeros((side, side), bool))
    for step in (2.0, 1.0):
        options = OrientationOptions(crystal_cif=GOLD, angular_step_deg=step)
        begun = time.perf_counter()
        prepared = ORIENTATION.prepare(known, options, rows)
        library_s = time.perf_counter() - begun
        seconds, found = _timed(lambda o=options, p=prepared: ORIENTATION.part(known, o, rows, p, 0, 4))
        outcome = ORIENTATION.finish(known, options, prepared, found)
        off = misorientation_deg(found["rotation"].reshape(-1, 3, 3), truth, prepared["turns"])
        shown = next(one.values for one in outcome.pictures if one.name == "misorientation").reshape(-1)
        indexed = np.isfinite(shown)
        yield Figure(
            f"orientation, {side}² px, {step:g} deg: patterns a second",
            PATTERNS / seconds,
            "1/s",
            "",
            "",
            f"one thread; {len(prepared['rotation'])} templates of gold in {library_s:.2f} s; {indexed.mean():.0%} "
            f"indexed, {(off[indexed] > step).sum()} of them wrong, median error {np.median(off[indexed]):.3f} deg at "
            f"{ELECTRONS:g} electrons",
        )


def _spots(truth: Any, side: int, mrad_per_px: float, rng: np.random.Generator) -> Any:
    wavelength = wavelength_a(ENERGY_KEV)
    seen = reflections(read_crystal(GOLD), 0.05, side * mrad_per_px * 1e-3 / wavelength)
    y, x = np.indices((side, side)) - (side - 1) / 2
    radius = ALPHA_MRAD / mrad_per_px
    frames = np.zeros((len(truth), side, side), np.uint16)
    disk = np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)
    broad = np.exp(-np.hypot(y, x) * mrad_per_px / 13)
    for frame, rotation in zip(frames, truth, strict=True):
        g = seen.g_per_a @ rotation.T
        power = seen.intensity * np.exp(-(((g[:, 2] + wavelength * np.square(g).sum(1) / 2) / 0.02) ** 2))
        image = np.zeros((side, side))
        for k in np.flatnonzero(power > 1e-4 * power.max()):
            at = g[k, [1, 0]] * wavelength * 1e3 / mrad_per_px
            image += power[k] * np.clip(radius + 0.5 - np.hypot(y - at[0], x - at[1]), 0, 1)
        image *= 0.1 * ELECTRONS / max(image.sum(), 1e-12)
        frame[:] = rng.poisson(image + ELECTRONS * (0.8 * disk / disk.sum() + 0.1 * broad / broad.sum()))
    return frames


def _without_frames(frames: Any, hot: Any) -> Iterator[Figure]:
    """Outcomes from the maps of a pass against the time of the pass that would have to be made again."""
    rings = (Annulus("bf", MIDDLE, 0, 32), Annulus("adf", MIDDLE, 40, 90))
    spec = AccumulatorSpec(DETECTOR, np.uint16, rings, 4095, bad_pixels=hot, threads=2)
    accumulator = Accumulator(spec)
    taken = accumulator.add(frames)
    maps = RunMaps(
        recorded=np.ones(SCAN, bool),
        total=taken.total.reshape(SCAN).astype(np.uint64),
        com_y_px=taken.centre_px[:, 0].reshape(SCAN).astype(np.float32),
        com_x_px=taken.centre_px[:, 1].reshape(SCAN).astype(np.float32),
        maximum=taken.maximum.reshape(SCAN).astype(np.uint32),
        saturated_px=taken.saturated_px.reshape(SCAN),
        invalid_px=taken.invalid_px.reshape(SCAN),
        sum_pattern=accumulator.sum_pattern,
        max_pattern=accumulator.max_pattern.astype(np.uint32),
        full_scale=4095,
        virtual={ring.name: taken.virtual[:, k].reshape(SCAN).astype(np.uint64) for k, ring in enumerate(rings)},
    )
    known = _given(DETECTOR[0], 1.0, 32.0, hot)
    pass_s, _ = _timed(lambda: Accumulator(spec).add(frames))
    rows = _Memory(frames.reshape(*SCAN, *DETECTOR))
    options = VirtualOptions(
        detectors=(Ring(name="bf", inner_mrad=0.0, outer_mrad=32.0), Ring(name="adf", inner_mrad=40.0, outer_mrad=90.0))
    )
    prepared = VIRTUAL.prepare(known, options, rows)
    again_s, _ = _timed(lambda: VIRTUAL.part(known, options, rows, prepared, 0, SCAN[0]))
    against = f"a second pass over {frames.nbytes / 1e9:.2f} GB in memory, 2 threads"
    for name, call in (
        ("com_outcome with iDPC", partial(com_outcome, known, maps)),
        ("virtual_outcome", partial(virtual_outcome, known, maps)),
    ):
        seconds, _ = _timed(call)
        detail = f"{1e3 * seconds:.1f} ms against {1e3 * pass_s:.0f} ms"
        yield Figure(f"{name}: times a second pass", seconds / pass_s, "", "", against, detail)
    detail = f"{1e3 * again_s:.0f} ms, masks for the origin included"
    yield Figure("virtual images by a pass that follows: times a plain pass", again_s / pass_s, "", "", against, detail)


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Median seconds, after one that is not counted, and the value."""
    value = call()
    seconds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        value = call()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds), value
