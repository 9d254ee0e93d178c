"""Passes over continuous objects by a scan engine of known errors: rows that jitter or hum, lines that lag, barrel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stem4d.maps import RunMaps

Array = np.ndarray
PERIOD_PX = 6.3


@dataclass(frozen=True)
class Engine:
    """What a scan engine does, in steps; ``drift_px`` is the specimen's, from pass to pass."""

    jitter: float = 0.0
    """Rms of a row's place per axis."""
    hum: float = 0.0
    """Rms of a sine in the rows' places, per axis."""
    hum_per_row: float = 0.13
    lag: float = 0.0
    """Of the first column."""
    settles: float = 3.0
    """Columns."""
    barrel: float = 0.0
    """Outward movement of the middle of the field's edge."""
    drift_px: tuple[float, float] = (0.0, 0.0)


def film(rng: np.random.Generator) -> Callable[[Array, Array], Array]:
    """A random object of plane waves, of unit variance: it can be seen anywhere without interpolation."""
    waves, phases = rng.normal(0, 1 / 1.8, (120, 2)), rng.uniform(0, 2 * np.pi, 120)
    return lambda y, x: np.asarray(
        sum(np.cos(a * y + b * x + p) for (a, b), p in zip(waves, phases, strict=True)) / np.sqrt(60)
    )


def lattice(rng: np.random.Generator, turned: float = 0.4) -> Callable[[Array, Array], Array]:
    """A square lattice of four waves, turned by an angle [rad]."""
    first = 2 * np.pi / PERIOD_PX * np.array([np.sin(turned), np.cos(turned)])
    second = np.array([first[1], -first[0]])
    waves = (first, second, first + second, first - second)
    phases = rng.uniform(0, 2 * np.pi, 4)
    return lambda y, x: np.asarray(
        sum(
            height * np.cos(wave[0] * y + wave[1] * x + phase)
            for height, wave, phase in zip((1, 1, 0.5, 0.5), waves, phases, strict=True)
        )
    )


def passes(
    scene: Callable[[Array, Array], Array],
    rng: np.random.Generator,
    engine: Engine,
    *,
    number: int = 2,
    shape: tuple[int, int] = (48, 48),
    counts: float = 1000.0,
) -> list[RunMaps]:
    """Passes one after the other; jitter and hum are others in each, lag and barrel the same."""
    y, x = np.indices(shape).astype(float)
    half = (np.array(shape) - 1) / 2
    made = []
    for k in range(number):
        rows = np.arange(shape[0])
        turns = 2 * np.pi * engine.hum_per_row * rows + rng.uniform(0, 2 * np.pi, (2, 1))
        off = rng.normal(0, 1, (2, shape[0])) * engine.jitter + np.sqrt(2) * engine.hum * np.sin(turns)
        outward = 1 + engine.barrel / half[0] * (((y - half[0]) / half[0]) ** 2 + ((x - half[1]) / half[1]) ** 2)
        at_y = half[0] + (y - half[0]) * outward + off[0][:, None] - k * engine.drift_px[0]
        lagging = x - engine.lag * np.exp(-x / engine.settles)
        at_x = half[1] + (lagging - half[1]) * outward + off[1][:, None] - k * engine.drift_px[1]
        made.append(maps_of_scene(scene(at_y, at_x), rng, counts))
    return made


def maps_of_scene(scene: Array, rng: np.random.Generator, counts: float, **more: Any) -> RunMaps:
    """Maps whose one virtual image shows a scene; centres of mass show nothing but noise."""
    image = rng.poisson(counts * np.maximum(1 + 0.2 * scene, 0.02)).astype(np.uint64)
    nothing = np.zeros(scene.shape, np.uint32)
    com = (15.5 + rng.normal(0, 0.1, (2, *scene.shape))).astype(np.float32)
    parts: dict[str, Any] = {
        "recorded": np.ones(scene.shape, bool),
        "total": image + rng.poisson(counts, scene.shape).astype(np.uint64),
        "com_y_px": com[0],
        "com_x_px": com[1],
        "maximum": nothing,
        "saturated_px": nothing,
        "invalid_px": nothing,
        "sum_pattern": np.zeros((32, 32), np.uint64),
        "max_pattern": np.zeros((32, 32), np.uint32),
        "full_scale": 4095,
        "virtual": {"disk": image},
    }
    return RunMaps(**(parts | more))


def crystal(rng: np.random.Generator, period: float = 5.1, wide: float = 0.6) -> Callable[[Array, Array], Array]:
    """A square lattice of atoms so narrow that the step hardly resolves them: waves of every order, in steps."""
    origin = rng.uniform(0, period, 2)

    def at(y: Array, x: Array) -> Array:
        near = [(axis - start + period / 2) % period - period / 2 for axis, start in zip((y, x), origin, strict=True)]
        return np.asarray(np.exp(-(near[0] ** 2 + near[1] ** 2) / (2 * wide**2)))

    return at
