"""The iteration: batches of patterns change the object, sums over all of them the probe and the positions.

It is ePIE (Maiden and Rodenburg, Ultramicroscopy 109, 2009) in batches: within one, updates of the object are added and
divided by the light that fell there; the probe follows once per iteration, Σ conj(O) Δψ over the number of patterns.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from stem4d.analyse.progress import tell
from stem4d.analyse.ptychography import kernels
from stem4d.analyse.ptychography.modes import orthogonal
from stem4d.analyse.ptychography.positions import Moves

Waves = npt.NDArray[np.complex64]
Floats = npt.NDArray[np.floating[Any]]

FRACTIONS = 8
"""Parts of a pixel, along each axis, that a probe is shifted by; what is left, 1/16 at most, is not."""
LANES = 2
"""Threads; each has its share of every batch, so that the result does not depend on who was first."""
SETTLED = 3
"""Iterations before positions move: until there is an object to hold them to."""
MARGIN_PX = 4
"""Of the object around the outermost windows: room for moved positions and slopes."""


@dataclass(frozen=True)
class Problem:
    """Patterns and where they belong."""

    patterns: npt.NDArray[Any]
    """(all, N, N) counts, in the order of the FFT."""
    used: npt.NDArray[np.int64]
    """Which of them take part."""
    lost: float
    """Value of a pixel that is not known."""
    positions_px: Floats
    """(used, 2): middles of the windows in the object, (y, x)."""
    off_px: Floats
    """(used, 2): how far the zero beam lies off pixel N // 2."""
    image_shape: tuple[int, int]
    support: npt.NDArray[np.bool_]
    """(N, N) where the probe may have a spectrum, in the order of the FFT."""
    electrons_per_count: float = 1.0


@dataclass(frozen=True)
class Effort:
    """How long, and what is refined."""

    iterations: int
    batch: int
    step: float = 1.0
    floor: float = 1.0
    """Least light that an update is divided by, over the probe's highest intensity."""
    probe: bool = True
    positions: bool = False
    affine: bool = False
    seed: int = 1


@dataclass
class State:
    """What is reconstructed."""

    image: Waves
    """Object, (Y, X)."""
    probe: Waves
    """(modes, N, N), its middle at pixel N // 2; Σ |P|² is the electrons of a pattern."""
    positions_px: Floats
    errors: list[float] = field(default_factory=list)
    """Of each iteration: misfit over what counting alone makes of it; 1 where nothing but noise is left."""


def reconstruct(problem: Problem, start: State, effort: Effort, name: str = "iterations") -> State:
    """Iterate from a start, which is left as it is.

    Parameters
    ----------
    problem : Problem
        The data.
    start : State
        Object, probe and positions to begin from.
    effort : Effort
        Iterations and what they refine.
    name : str
        What is told of its progress.

    Returns
    -------
    State
        The same for the same input, whatever the machine does besides.
    """
    state = State(start.image.copy(), start.probe.copy(), start.positions_px.copy())
    rng = np.random.default_rng(effort.seed)
    ramps = _ramps(problem)
    moves = Moves(start.positions_px, effort.affine)
    lanes = [_Lane(state, effort.batch) for _ in range(LANES)]
    shape = (LANES, *problem.image_shape)
    sums = _Sums(np.zeros(shape, np.complex64), np.zeros(shape, np.float32))
    with ThreadPoolExecutor(LANES) as pool:
        for iteration in range(effort.iterations):
            moving = (effort.positions or effort.affine) and iteration >= SETTLED
            _iterate(problem, state, effort, rng, ramps, lanes, sums, pool, moves if moving else None)
            tell(name, iteration + 1, effort.iterations)
    return state


def misfits(problem: Problem, state: State, batch: int = 16) -> Floats:
    """Misfit of every used pattern and what counting alone makes of it, (used, 2), as of `kernels.constrain`."""
    ramps = _ramps(problem)
    corners, which = placed(state.positions_px, problem.patterns.shape[-1])
    bank = shifted(state.probe)
    found = np.zeros((len(problem.used), 2), np.float32)
    lost, per_count = np.float32(problem.lost), np.float32(problem.electrons_per_count)
    waves = np.empty((batch, *state.probe.shape), np.complex64)
    for first in range(0, len(problem.used), batch):
        chosen = np.arange(first, min(first + batch, len(problem.used)))
        out = waves[: len(chosen)]
        kernels.exit_waves(out, state.image, bank, corners[chosen], which[chosen], *_of(ramps, chosen))
        spectra = scipy.fft.fft2(out, norm="ortho")
        part = np.empty((len(chosen), 2), np.float32)
        kernels.constrain(spectra, problem.patterns, problem.used[chosen], lost, per_count, part)
        found[chosen] = part
    return found


def placed(positions_px: Floats, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First pixels of windows (n, 2), and which of the shifted probes (n,) each has."""
    parts = np.rint(positions_px * FRACTIONS).astype(np.int64)
    whole = parts // FRACTIONS
    left = parts - whole * FRACTIONS
    return whole - size // 2, left[:, 0] * FRACTIONS + left[:, 1]


def shifted(probe: Waves) -> Waves:
    """The probe (modes, N, N) moved by all fractions of a pixel, (fractions, modes, N, N)."""
    size = probe.shape[-1]
    spectrum = scipy.fft.fft2(probe)
    ramp = _shift_ramps(size)
    bank = np.empty((FRACTIONS**2, *probe.shape), np.complex64)
    for y in range(FRACTIONS):
        for x in range(FRACTIONS):
            moved = spectrum * (ramp[y][:, None] * ramp[x][None, :])
            bank[y * FRACTIONS + x] = scipy.fft.ifft2(moved, overwrite_x=True)
    return bank


def _shift_ramps(size: int) -> Waves:
    fractions = np.arange(FRACTIONS) / FRACTIONS
    ramps: Waves = np.exp(-2j * np.pi * fractions[:, None] * scipy.fft.fftfreq(size)).astype(np.complex64)
    return ramps


@dataclass
class _Sums:
    image: Waves
    light: npt.NDArray[np.float32]


class _Lane:
    """What one thread writes to."""

    def __init__(self, state: State, batch: int) -> None:
        each = -(-batch // LANES)
        self.waves = np.empty((each, *state.probe.shape), np.complex64)
        self.probe = np.zeros((FRACTIONS**2, *state.probe.shape), np.complex64)


def _iterate(
    problem: Problem,
    state: State,
    effort: Effort,
    rng: np.random.Generator,
    ramps: tuple[Waves, Waves],
    lanes: list[_Lane],
    sums: _Sums,
    pool: ThreadPoolExecutor,
    moves: Moves | None,
) -> None:
    size, number = problem.patterns.shape[-1], len(problem.used)
    corners, which = placed(state.positions_px, size)
    bank = shifted(state.probe)
    floor = np.float32(effort.floor * float((np.abs(state.probe) ** 2).sum(0).max()))
    order = rng.permutation(number)
    errors, moved = np.zeros((number, 2), np.float32), np.zeros((number, 2), np.float32)
    lost, per_count = np.float32(problem.lost), np.float32(problem.electrons_per_count)

    def look(lane: int, chosen: npt.NDArray[np.int64]) -> None:
        mine = lanes[lane]
        waves = mine.waves[: len(chosen)]
        ramp, at, fraction = _of(ramps, chosen), corners[chosen], which[chosen]
        kernels.exit_waves(waves, state.image, bank, at, fraction, *ramp)
        waves = scipy.fft.fft2(waves, norm="ortho", overwrite_x=True)
        found = np.empty((len(chosen), 2), np.float32)
        kernels.constrain(waves, problem.patterns, problem.used[chosen], lost, per_count, found)
        errors[chosen] = found
        waves = scipy.fft.ifft2(waves, norm="ortho", overwrite_x=True)
        if len(ramp[0]):
            kernels.unramp(waves, *ramp)
        kernels.gather_updates(waves, state.image, bank, at, fraction, sums.image[lane], sums.light[lane], mine.probe)
        if moves is not None:
            kernels.displacements(waves, state.image, bank, at, fraction, found)
            moved[chosen] = found

    def change(parity: int, chosen: npt.NDArray[np.int64]) -> None:
        kernels.apply_update(
            state.image, sums.image, sums.light, corners[chosen], size, parity, np.float32(effort.step), floor
        )

    for first in range(0, number, effort.batch):
        batch = order[first : first + effort.batch]
        shares = np.array_split(batch, LANES)
        list(pool.map(look, range(LANES), shares))
        list(pool.map(change, range(LANES), [batch] * LANES))
    if effort.probe:
        state.probe = _new_probe(problem, state, lanes)
    for lane in lanes:
        lane.probe[:] = 0
    if moves is not None:
        state.positions_px = moves.after(state.positions_px, moved)
    misfit, expected = errors.sum(0, dtype=np.float64)
    state.errors.append(float(misfit / max(expected, 1e-30)))


def _new_probe(problem: Problem, state: State, lanes: list[_Lane]) -> Waves:
    """The probe changed by what all patterns lack, each share moved back to the middle; kept within the aperture."""
    size = state.probe.shape[-1]
    ramp = np.conj(_shift_ramps(size))
    total = np.zeros_like(state.probe)
    for y in range(FRACTIONS):
        for x in range(FRACTIONS):
            share = sum(lane.probe[y * FRACTIONS + x] for lane in lanes)
            total += scipy.fft.fft2(share) * (ramp[y][:, None] * ramp[x][None, :])
    lit = np.abs(state.image) ** 2
    corners, _ = placed(state.positions_px, size)
    field_ = lit[corners[:, 0].min() : corners[:, 0].max() + size, corners[:, 1].min() : corners[:, 1].max() + size]
    spectrum = scipy.fft.fft2(state.probe) + total / np.float32(len(problem.used) * field_.mean())
    return orthogonal(scipy.fft.ifft2(spectrum * problem.support).astype(np.complex64))


def _ramps(problem: Problem) -> tuple[Waves, Waves]:
    """exp(2πi off · pixel / N) for every used pattern; empty where all zero beams are in the middle."""
    size = problem.patterns.shape[-1]
    if np.abs(problem.off_px).max(initial=0) < 1e-3:
        empty = np.empty((0, size), np.complex64)
        return empty, empty
    turn = np.exp(2j * np.pi * problem.off_px[:, :, None] * (np.arange(size) - size // 2) / size).astype(np.complex64)
    return np.ascontiguousarray(turn[:, 0]), np.ascontiguousarray(turn[:, 1])


def _of(ramps: tuple[Waves, Waves], chosen: npt.NDArray[np.int64]) -> tuple[Waves, Waves]:
    return ramps if not len(ramps[0]) else (ramps[0][chosen], ramps[1][chosen])
