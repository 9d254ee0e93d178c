"""The method: patterns cut to a square, a reconstruction of them, two of their halves, and an outcome."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.analyse.geometry import require_sound
from stem4d.analyse.method import Given, Method, NotPossible, Outcome, Parts, Rows
from stem4d.analyse.ptychography import limits
from stem4d.analyse.ptychography.engine import MARGIN_PX, Effort, Problem, State, misfits, reconstruct
from stem4d.analyse.ptychography.geometry import aperture, crop_of, positions_px
from stem4d.analyse.ptychography.modes import several
from stem4d.analyse.ptychography.options import PtychographyOptions
from stem4d.analyse.ptychography.outcome import Found, Halves, outcome
from stem4d.analyse.ptychography.patterns import cut, mark_of

BATCH = 32
FEWEST = 9
"""Patterns below which nothing is reconstructed."""
ENOUGH = 2000
"""Patterns that tell the mean number of electrons."""
FEWEST_OF_HALF = 5
"""Iterations of the halves, at least."""


def prepare(given: Given, options: PtychographyOptions, rows: Rows) -> Parts:
    """The square that is cut out; refuses what no single slice can describe before anything is read."""
    require_sound(given, rows.scan_shape, rows.detector_shape)
    crop = crop_of(given, rows.scan_shape, rows.detector_shape)
    limits.refuse(given, options, rows.scan_shape, crop.size)
    return {"size_px": np.array(crop.size), "corner_px": crop.corner_px, "off_px": crop.off_px}


def part(given: Given, options: PtychographyOptions, rows: Rows, prepared: Parts, first: int, stop: int) -> Parts:
    """Cropped patterns of rows first to stop - 1."""
    return cut(given, rows, prepared["corner_px"], int(prepared["size_px"]), first, stop)


def finish(given: Given, options: PtychographyOptions, prepared: Parts, parts: Parts) -> Outcome:
    """Reconstruct all patterns, and both halves of them."""
    problem, start = begin(given, options, prepared, parts)
    effort = Effort(
        options.iterations,
        BATCH,
        probe=options.probe_refinement,
        positions=options.position_refinement,
        affine=options.affine_refinement,
    )
    found = reconstruct(problem, start, effort)
    if not (np.isfinite(found.errors).all() and np.isfinite(found.image).all() and np.isfinite(found.probe).all()):
        raise NotPossible("The reconstruction diverged: its numbers grew without bound. Check defocus, step, angles.")
    halves = _halves(problem, start, found, effort, parts["usable"].shape[1]) if options.half_data else None
    return outcome(
        given,
        options,
        Found(
            size=int(prepared["size_px"]),
            usable=parts["usable"],
            saturated=float(parts["saturated"][parts["usable"]].mean()),
            problem=problem,
            start=start,
            state=found,
            misfit=misfits(problem, found),
            halves=halves,
        ),
    )


PTYCHOGRAPHY = Method("ptychography", PtychographyOptions, prepare, part, finish)


def begin(given: Given, options: PtychographyOptions, prepared: Parts, parts: Parts) -> tuple[Problem, State]:
    """The data as the iteration takes them, and an empty object under the calibrated probe to start from."""
    patterns, usable = parts["patterns"], parts["usable"]
    size, scan_shape = int(prepared["size_px"]), (usable.shape[0], usable.shape[1])
    used = np.flatnonzero(usable.reshape(-1))
    if len(used) < FEWEST:
        raise NotPossible(f"Only {len(used)} patterns can be used; {FEWEST} are needed at least.")
    at, image_shape = positions_px(given, size, scan_shape, MARGIN_PX)
    flat, mark = patterns.reshape(-1, size, size), mark_of(patterns.dtype)
    probe, support = aperture(given, size)
    electrons = _electrons(given, flat, used, mark, probe)
    problem = Problem(
        patterns=flat,
        used=used,
        lost=mark,
        positions_px=at[used],
        off_px=prepared["off_px"].reshape(-1, 2)[used],
        image_shape=image_shape,
        support=support,
        electrons_per_count=1 / given.counts_per_electron,
    )
    lit = (probe * np.sqrt(electrons)).astype(np.complex64)
    return problem, State(np.ones(image_shape, np.complex64), several(lit, options.probe_modes), problem.positions_px)


def _electrons(
    given: Given, patterns: npt.NDArray[Any], used: npt.NDArray[np.int64], mark: float, probe: npt.NDArray[np.complex64]
) -> float:
    """Electrons of a pattern: what the known pixels hold, over the share of an empty pattern that falls on them."""
    counts, known = np.zeros(patterns.shape[1:]), np.zeros(patterns.shape[1:])
    for number in used[:: max(len(used) // ENOUGH, 1)]:
        here = patterns[number] != mark
        counts += np.where(here, patterns[number], 0)
        known += here
    disk = np.abs(np.fft.fft2(probe, norm="ortho")) ** 2
    share = float(disk[known > 0].sum())
    electrons = float((counts / np.maximum(known, 1)).sum()) / given.counts_per_electron
    if share < 0.5 or electrons <= 0:
        raise NotPossible(
            "The known pixels hold no electrons." if electrons <= 0 else "Most of the disk lies on pixels that are bad."
        )
    return electrons / share


def _halves(problem: Problem, start: State, found: State, effort: Effort, scan_x: int) -> Halves:
    """Two reconstructions of different patterns, the squares of a chess board; positions as the whole found them."""
    row, column = np.divmod(problem.used, scan_x)
    black = (row + column) % 2 == 0
    less = replace(effort, iterations=max(effort.iterations // 2, FEWEST_OF_HALF), positions=False, affine=False)
    parts = [
        replace(
            problem, used=problem.used[chosen], off_px=problem.off_px[chosen], positions_px=found.positions_px[chosen]
        )
        for chosen in (black, ~black)
    ]
    made = [
        reconstruct(each, State(start.image, start.probe, each.positions_px), less, f"iterations of half {number}")
        for number, each in enumerate(parts, 1)
    ]
    seen, empty = np.zeros(2), np.zeros(2)
    for each, other in zip(parts, reversed(made), strict=True):
        told = State(other.image, other.probe, each.positions_px)
        seen += misfits(each, told).sum(0, dtype=np.float64)
        empty += misfits(each, replace(told, image=start.image)).sum(0, dtype=np.float64)
    return Halves(made[0], made[1], float(seen[0] / seen[1]), float(empty[0] / empty[1]))
