"""What the beam does to a specimen: fading detail, contamination, shrinkage, bubbles, by the fluence each place got.

A caller renders a scan in batches of rows: `expose` adds a batch's dose to a fluence map, `damaged` makes the bench
that the next batch is rendered with. The fluence map is the only state; it is an array and can be kept and resumed.
`stem4d.simulate.fluence` keeps it in the specimen's frame, for when the tile is another.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.fft

from stem4d.errors import BadInput
from stem4d.simulate.draws import uniform
from stem4d.simulate.patterns import Prepared
from stem4d.simulate.transmission import Layout, transmit

Floats = npt.NDArray[np.floating[Any]]
Singles = npt.NDArray[np.float32]

FADE_BANDS_PER_A = (0.0, 0.1, 0.2, 0.4, 0.75, 1.25)
"""Frequencies that fade as one, as their middle does: from each to the next, the last without end [1/Å]. Detail of 1 Å,
by which the critical fluence is stated, is the middle of one."""
SMALL_CHANGE = 0.1
"""What may change between two updates of a tile: parts of a critical fluence, of an onset, of a radian. Counts then lag
by 5 % on average where a scan alone damages so much."""
CONTAMINATION_A = 30.0
"""Distance over which a contamination layer is smooth [Å]: adsorbed molecules come from around the beam."""


@dataclass(frozen=True)
class Damage:
    """How fast a specimen suffers; a fluence of infinity, or a rate of 0, is none of it."""

    critical_e_per_a2: float = float("inf")
    """Fluence at which the intensity that detail of 1 Å scatters has faded to 1/e, as spot fading is stated (Egerton,
    Li and Malac, Micron 35, 2004); its amplitude is then at exp(-1/2)."""
    critical_power: float = 1.0
    """Detail of period d fades at the critical fluence times (d/Å)^power: fine detail goes first."""
    contamination_rad_per_e_per_a2: float = 0.0
    """Phase that grows with the dose [rad Å²/e]."""
    shrinkage_per_e_per_a2: float = 0.0
    """Part of the area lost per fluence at first [Å²/e]; it slows down towards `shrinkage_limit`."""
    shrinkage_limit: float = 0.15
    """Part of the area that can be lost."""
    bubble_onset_e_per_a2: float = float("inf")
    """Fluence at which bubbles start to grow."""
    bubble_spacing_a: float = 80.0
    """Distance of neighbouring bubbles [Å]."""
    bubble_radius_a: float = 30.0
    """Radius at three times the onset [Å]; it grows with the square root of what lies above the onset."""
    bubble_depth: float = 0.8
    """Part of the specimen's contrast that is gone inside a bubble."""
    bubble_phase_rad: float = 0.5
    """Phase missing in the middle of a bubble: the mean inner potential of what has left."""
    seed: int = 0


def small_step_e_per_a2(damage: Damage) -> float:
    """Fluence that changes nothing by more than `SMALL_CHANGE`; a lattice by a tenth of that."""
    steps = [damage.critical_e_per_a2, damage.bubble_onset_e_per_a2]
    if damage.contamination_rad_per_e_per_a2 > 0:
        steps.append(1 / damage.contamination_rad_per_e_per_a2)
    if damage.shrinkage_per_e_per_a2 > 0:
        # A length shrinks by half of what its area does.
        steps.append(0.2 / damage.shrinkage_per_e_per_a2)
    return SMALL_CHANGE * min(steps)


def no_fluence(layout: Layout) -> Singles:
    """A fluence map (y, x) [e/Å²] of a specimen that no beam has met."""
    return np.zeros(layout.shape, np.float32)


def expose(
    fluence: Singles, layout: Layout, positions_nm: Floats, electrons: Floats | float, probe_radius_a: float
) -> Singles:
    """Fluence after a batch of probe positions.

    Parameters
    ----------
    fluence : float32 array (y, x)
        So far [e/Å²]; not changed.
    layout : Layout
        The tile's.
    positions_nm : float array (n, 2)
        Where the probe stood, (y, x) in the specimen's frame [nm].
    electrons : float array (n,) or float
        Electrons at each, of the whole dwell time: the dose, not the counts.
    probe_radius_a : float
        Rms radius of the illuminated patch [Å]. The probe is taken as a Gaussian of this radius, which holds
        the dose exactly and its shape to the probe's own rings.

    Returns
    -------
    float32 array (y, x)
        Its sum times the area of a pixel has grown by all electrons.
    """
    rows, columns = layout.shape
    at = (10 * np.asarray(positions_nm, np.float64) @ np.array(layout.to_px).T - layout.origin) % layout.shape
    whole = np.floor(at).astype(np.int64)
    part = at - whole
    dose = np.broadcast_to(np.asarray(electrons, np.float64), len(at))
    grid = np.zeros(layout.shape)
    for y in (0, 1):
        for x in (0, 1):
            share = np.abs(1 - y - part[:, 0]) * np.abs(1 - x - part[:, 1]) * dose
            np.add.at(grid, ((whole[:, 0] + y) % rows, (whole[:, 1] + x) % columns), share)
    step_y, step_x = layout.view.pixel_a
    # A radial rms ρ is ρ/√2 along each axis: exp(-π²ρ²k²).
    k = _frequency(layout)
    spread = scipy.fft.irfft2(scipy.fft.rfft2(grid) * np.exp(-((np.pi * probe_radius_a * k) ** 2)), s=layout.shape)
    # A narrow probe rings on coarse pixels: without what lies below 0, the rest is brought back to the dose.
    spread = np.maximum(spread, 0)
    spread *= dose.sum() / max(float(spread.sum()), 1e-30)
    added: Singles = (fluence + spread / (step_y * step_x)).astype(np.float32)
    return added


def damaged(bench: Prepared, phase: Singles, fluence: Singles, damage: Damage) -> Prepared:
    """The bench of a specimen that has received a fluence.

    Parameters
    ----------
    bench : Prepared
        From `prepare`.
    phase : float32 array (slices, y, x)
        Of the fresh specimen, from `phase_rad` with the bench's specimen and layout [rad].
    fluence : float32 array (y, x)
        From `expose` [e/Å²].
    damage : Damage
        How fast it suffers.

    Raises
    ------
    BadInput
        For vacuum, and for maps that are not on the bench's tile.
    """
    if bench.layout is None or phase.shape[1:] != bench.layout.shape or fluence.shape != bench.layout.shape:
        shape = None if bench.layout is None else bench.layout.shape
        raise BadInput(field="fluence", value=fluence.shape, limit=f"must be on the specimen's tile {shape}")
    changed = damaged_phase_rad(phase, bench.layout, fluence, damage)
    return replace(bench, tile=transmit(changed, bench.layout, bench.limit_per_a))


def damaged_phase_rad(phase: Singles, layout: Layout, fluence: Singles, damage: Damage) -> Singles:
    """Phase (slices, y, x) after a fluence [rad]; see `damaged`.

    Notes
    -----
    In this order: the potential's frequencies fade by exp(-F/(2 F_c(k))), F_c = critical · k^-power in Å, so that
    high-angle counts decay by exp(-F/F_c) and detail fades; bubbles take contrast and phase away; the area shrinks by
    1 - shrinkage, towards the middle of the dose; contamination adds a smooth phase.
    """
    changed = _faded(phase, layout, fluence, damage) if np.isfinite(damage.critical_e_per_a2) else phase.copy()
    inside = bubbles(layout, fluence, damage)
    if inside is not None:
        changed *= 1 - damage.bubble_depth * inside
        changed -= np.float32(damage.bubble_phase_rad / len(phase)) * inside
    lost = shrinkage(fluence, damage)
    if lost > 0:
        changed = _shrunk(changed, layout, fluence, lost)
    if damage.contamination_rad_per_e_per_a2 > 0:
        changed[0] += contamination_rad(layout, fluence, damage)
    return changed


def contamination_rad(layout: Layout, fluence: Singles, damage: Damage) -> Singles:
    """Phase (y, x) of the layer that has grown [rad]: the dose, smooth over `CONTAMINATION_A`."""
    rows, columns = layout.shape
    # What leaves a tile that does not repeat must not come back on its other side.
    reach = [0 if layout.repeats else ceil(3 * CONTAMINATION_A / size) for size in layout.view.pixel_a]
    shape = tuple(scipy.fft.next_fast_len(n + r, real=True) for n, r in zip(layout.shape, reach, strict=True))
    wide = replace(layout, shape=(int(shape[0]), int(shape[1])))
    smooth = np.exp(-2 * (np.pi * CONTAMINATION_A * _frequency(wide)) ** 2).astype(np.float32)
    layer = scipy.fft.irfft2(scipy.fft.rfft2(fluence, s=wide.shape) * smooth, s=wide.shape)[:rows, :columns]
    grown: Singles = np.float32(damage.contamination_rad_per_e_per_a2) * layer
    return grown


def critical_e_per_a2(damage: Damage, k_per_a: Floats) -> Floats:
    """Fluence at which a frequency's intensity has faded to 1/e."""
    critical: Floats = damage.critical_e_per_a2 * np.maximum(k_per_a, 1e-3) ** -damage.critical_power
    return critical


def shrinkage(fluence: Singles, damage: Damage) -> float:
    """Part of the area lost, by the mean fluence of what was exposed: limit · (1 - exp(-rate F/limit))."""
    if damage.shrinkage_per_e_per_a2 <= 0 or fluence.max() <= 0:
        return 0.0
    # Weighted by the dose itself, so that it does not depend on how much fresh specimen the tile holds.
    mean = float(np.sum(fluence.astype(np.float64) ** 2) / np.sum(fluence, dtype=np.float64))
    return damage.shrinkage_limit * (1 - float(np.exp(-damage.shrinkage_per_e_per_a2 * mean / damage.shrinkage_limit)))


def bubbles(layout: Layout, fluence: Singles, damage: Damage) -> Singles | None:
    """How deep each place (y, x) is in a bubble, 0 to 1; None where no place has reached the onset."""
    if not fluence.max() > damage.bubble_onset_e_per_a2:
        return None
    rows, columns = layout.shape
    corners = np.array([[y, x] for y in (0, rows) for x in (0, columns)], np.float64) + layout.origin
    to_px = np.array(layout.to_px)
    side = damage.bubble_spacing_a
    cells = corners @ np.linalg.inv(to_px).T / side
    low, high = np.floor(cells.min(0)).astype(int), np.ceil(cells.max(0)).astype(int)
    y, x = (axis.ravel() for axis in np.mgrid[low[0] : high[0], low[1] : high[1]])
    places = side * np.stack([y + uniform(damage.seed, 21, y, x), x + uniform(damage.seed, 22, y, x)], axis=1)
    size = 0.6 + 0.8 * uniform(damage.seed, 23, y, x)
    at = places @ to_px.T - layout.origin
    depth = np.zeros(layout.shape, np.float32)
    back = np.linalg.inv(to_px)
    for (at_y, at_x), scale in zip(at, size, strict=True):
        if not (0 <= at_y < rows and 0 <= at_x < columns):
            continue
        above = float(fluence[int(at_y), int(at_x)]) / damage.bubble_onset_e_per_a2 - 1
        if above <= 0:
            continue
        radius = damage.bubble_radius_a * scale * np.sqrt(above / 2)
        reach = radius * np.linalg.norm(to_px, axis=1) + 1
        part = tuple(
            slice(max(int(middle - r), 0), min(int(middle + r) + 2, n))
            for middle, r, n in zip((at_y, at_x), reach, layout.shape, strict=True)
        )
        off = np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in part), indexing="ij"), -1) - (at_y, at_x)
        # A ball seen from above: its thickness along the beam over its diameter.
        ball = np.sqrt(np.maximum(1 - np.sum((off @ back.T) ** 2, axis=-1) / radius**2, 0)).astype(np.float32)
        depth[part] = np.maximum(depth[part], ball)
    return depth


def _frequency(layout: Layout) -> Floats:
    step_y, step_x = layout.view.pixel_a
    q_y, q_x = scipy.fft.fftfreq(layout.shape[0], step_y), scipy.fft.rfftfreq(layout.shape[1], step_x)
    return layout.view.k_per_a(q_y[:, None], q_x[None, :])


def _faded(phase: Singles, layout: Layout, fluence: Singles, damage: Damage) -> Singles:
    """Bands of frequency, each faded by the fluence of its place."""
    k = _frequency(layout)
    edges = (*FADE_BANDS_PER_A, np.inf)
    total = np.zeros_like(phase)
    for low, high in pairwise(edges):
        band = (k >= low) & (k < high)
        if not band.any():
            continue
        middle = (low + high) / 2 if np.isfinite(high) else 1.3 * low
        left = np.exp(-fluence / np.float32(2 * critical_e_per_a2(damage, np.array(middle))))
        for one, out in zip(phase, total, strict=True):
            out += left * scipy.fft.irfft2(scipy.fft.rfft2(one) * band, s=layout.shape)
    return total


def _shrunk(phase: Singles, layout: Layout, fluence: Singles, lost: float) -> Singles:
    """Every place takes what stood further out, by 1/sqrt(1 - lost) from the middle of the dose; linear between.

    Beyond a tile that does not repeat its border goes on: what is drawn in from there was never known.
    """
    weight = fluence.astype(np.float64)
    middle = [float(np.sum(weight.sum(1 - axis) * np.arange(n)) / weight.sum()) for axis, n in enumerate(layout.shape)]
    shrunk = np.empty_like(phase)
    where = [(np.arange(n) - c) / np.sqrt(1 - lost) + c for n, c in zip(layout.shape, middle, strict=True)]
    (y, part_y), (x, part_x) = (
        (np.floor(each).astype(np.int64), (each - np.floor(each)).astype(np.float32)) for each in where
    )
    # numpy's own ways to take an index from beyond an axis.
    mode: Literal["wrap", "clip"] = "wrap" if layout.repeats else "clip"
    for one, out in zip(phase, shrunk, strict=True):
        lines = (1 - part_y)[:, None] * one.take(y, 0, mode=mode) + part_y[:, None] * one.take(y + 1, 0, mode=mode)
        out[:] = (1 - part_x) * lines.take(x, 1, mode=mode) + part_x * lines.take(x + 1, 1, mode=mode)
    return shrunk
