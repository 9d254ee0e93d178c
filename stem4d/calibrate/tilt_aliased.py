"""Likelihood of tilted images of a scan that is coarse against the probe, and its climb to the best parameters.

A scan of step p sees a frequency k of the specimen at K = k - G, with G a multiple of 1/p along each axis. Where p is
longer than λ/α, the coefficients d of the images at K are A φ + noise: φ the coefficients of a weak phase at the
K + G, and A what `tilt_model` says of each with u = iφ, v = -iφ. With φ and noise normal, and the power P of φ a
function of |k| alone, d has the covariance C = N + A P A^H, of which the likelihood is maximised by Fisher's scoring.
It weights every alias by what it carries and needs no aligned image; structure beyond the aliases adds to N.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.tilt_model import ROTATION, Geometry, basis, path_nm, slope_nm, unit_waves

Array = npt.NDArray[np.float64]
Waves = npt.NDArray[np.complexfloating[Any, Any]]
Rings = npt.NDArray[np.intp]

RINGS = 8
"""Rings of |k| that share a power."""
TOGETHER = 64
"""Frequencies that are evaluated at once: they stay in cache."""
MOST_CHANGE = 4.0
"""Factor by which the power of a ring may change in a round."""
FLOOR = 1e-4
"""Smallest power of a ring as a part of the largest: from none it could never rise again."""


@dataclass(frozen=True)
class Aliases:
    """Coefficients of the images, and the frequencies of the specimen that each may come from."""

    at: Rings
    """(K,) which of the stack's frequencies are used."""
    k: Waves
    """(K, J) x + iy in the scan frame [1/nm]."""
    ring: Rings
    """(K, J) ring of |k|; `RINGS` where it lies beyond the last."""


@dataclass(frozen=True)
class Power:
    """Of the phase, ring by ring, and of the noise of a coefficient."""

    signal: Array
    """(RINGS + 1,), 0 beyond the last ring."""
    noise: float


@dataclass(frozen=True)
class Climb:
    """The likelihood at some parameters, and where to go from there."""

    gain: float
    """Logarithm of the likelihood over that of white noise of the same power."""
    score: Array
    """(K, parameters)."""
    information: Array
    """Fisher's, (parameters, parameters)."""
    power: Power
    """Improved by a round of expectation and maximisation."""
    phase: Waves
    """(K, J) most likely coefficients."""
    residual: float
    """Mean power that the model leaves of a coefficient."""


def aliases(frequencies: Waves, at: Rings, step_nm: float, highest_per_nm: float) -> Aliases:
    """Frequencies up to ``highest_per_nm`` that a scan of a step cannot tell from those ``at`` places of a list."""
    most = int(np.ceil(highest_per_nm * step_nm + 0.5))
    along = np.arange(-most, most + 1) / step_nm
    g = (along[None, :] + 1j * along[:, None]).ravel()
    k = frequencies[at][:, None] + g[None, :]
    k = k[:, (np.abs(k) < highest_per_nm).any(axis=0)]
    ring = np.minimum((np.abs(k) / highest_per_nm * RINGS).astype(np.intp), RINGS)
    return Aliases(at, k, ring)


def rays(geometry: Geometry, values: Array, k: Waves) -> tuple[Waves, Waves]:
    """Waves (K, T, J) that reach an image's ray by -q and by +q, smeared over its group of pixels and weighted."""
    z = geometry.angles.astype(np.complex64)[None, :, None]
    q = (geometry.wavelength_nm * k * np.exp(1j * values[ROTATION]))[:, None, :]
    width = geometry.soft / geometry.wavelength_nm
    slope = values[0] * q + (values[1] + 1j * values[2]) * q.conj()
    smeared = (np.sinc(slope.real * width) * np.sinc(slope.imag * width)).astype(np.float32)
    smeared = smeared * geometry.weights[None, :, None].astype(np.float32)
    # Single precision is exact to 1e-4 rad for the few dozen waves that χ comes to.
    waves = (values * (2 * pi / geometry.wavelength_nm)).astype(np.float32)
    here = path_nm(z, waves).astype(np.float32)
    found = []
    for side, sign in ((z - q.astype(np.complex64), 1), (z + q.astype(np.complex64), -1)):
        within = (np.float32(geometry.alpha) - np.abs(side)) / np.float32(geometry.soft) + np.float32(0.5)
        phase = np.float32(sign) * (here - path_nm(side, waves).astype(np.float32))
        found.append(unit_waves(phase) * (np.clip(within, 0, 1) * smeared))
    return found[0], found[1]


def columns(geometry: Geometry, one: Waves, other: Waves) -> Waves:
    """A (K, T, J) of a weak phase, less what all images share."""
    return _without_common(geometry, np.complex64(1j) * (one - other))


def climb(geometry: Geometry, values: Array, data: Waves, seen: Aliases, power: Power) -> Climb:
    """Likelihood of coefficients ``data`` (K, T), with its slopes along the parameters and better powers."""
    number, known = len(values), data.shape[1] - 1
    information = np.zeros((number, number))
    scores, phases, like, left_power = [], [], 0.0, 0.0
    strength, freedom = np.zeros(RINGS + 1), np.zeros(RINGS + 1)
    noise = np.float32(power.noise)
    for part in _parts(len(data)):
        k, ring, d = seen.k[part], seen.ring[part], data[part]
        one, other = rays(geometry, values, k)
        root = np.sqrt(power.signal[ring]).astype(np.float32)
        # B = A sqrt(P): then C = N + B B^H, and with M = N + B^H B its inverse is (1 - B M^-1 B^H) / N.
        b = columns(geometry, one, other) * root[:, None, :]
        bh = np.ascontiguousarray(b.conj().transpose(0, 2, 1))
        inner = bh @ b + noise * np.eye(b.shape[2], dtype=np.float32)
        inverse = np.linalg.inv(inner)
        seen_by = (bh @ d[:, :, None])[:, :, 0]
        mean = (inverse @ seen_by[:, :, None])[:, :, 0]
        left = d - (b @ mean[:, :, None])[:, :, 0]
        explained = float((seen_by.conj() * mean).real.sum())
        total = float((np.abs(d) ** 2).sum())
        logarithm = float(np.linalg.slogdet(inner)[1].sum()) + len(d) * (known - b.shape[2]) * np.log(power.noise)
        like -= (total - explained) / power.noise + logarithm
        left_power += float((np.abs(left) ** 2).sum())
        strength += np.bincount(ring.ravel(), (np.abs(mean) ** 2).ravel(), RINGS + 1)
        unknown = power.noise * np.einsum("kii->ki", inverse).real
        freedom += np.bincount(ring.ravel(), (1 - unknown).ravel(), RINGS + 1)
        phases.append(mean * root)
        gain = (b @ inverse) * root[:, None, :]
        gain_h = np.ascontiguousarray(gain.conj().transpose(0, 2, 1))
        spread = (np.eye(b.shape[2], dtype=np.float32) - noise * inverse) * root[:, :, None] * root[:, None, :]
        looped, whitened, filtered, score = [], [], [], np.empty((len(d), number))
        for i, change in enumerate(_changes(geometry, values, k, one, other)):
            fit = (left[:, None, :].conj() @ change)[:, 0, :]
            both = gain_h @ change
            score[:, i] = 2 * ((fit * phases[-1]).sum(axis=1).real / noise - np.einsum("kjj->k", both).real)
            looped.append(both)
            whitened.append((change - b @ (inverse @ (bh @ change))) / noise)
            filtered.append(change @ spread)
        for i in range(number):
            for j in range(i, number):
                same = float((looped[i] * looped[j].transpose(0, 2, 1)).sum().real)
                information[i, j] += 2 * (same + float(np.vdot(filtered[j], whitened[i]).real))
        scores.append(score)
    entries = len(data) * known
    information = np.triu(information) + np.triu(information, 1).T
    ratio = np.divide(strength, freedom, out=np.ones(RINGS + 1), where=freedom > 0)
    signal = power.signal * np.clip(ratio, 1 / MOST_CHANGE, MOST_CHANGE)
    signal[:RINGS] = np.maximum(signal[:RINGS], FLOOR * signal.max())
    better = Power(signal, left_power / (entries - float(freedom[:RINGS].sum())))
    like += entries * (1 + float(np.log((np.abs(data) ** 2).sum() / entries)))
    return Climb(like, np.concatenate(scores), information, better, np.concatenate(phases), left_power / data.size)


def first_power(geometry: Geometry, values: Array, data: Waves, seen: Aliases, noise: float) -> Power:
    """Equal in all rings, so that the phase explains what the images have beyond counting noise."""
    some = slice(0, TOGETHER)
    made = np.abs(columns(geometry, *rays(geometry, values, seen.k[some]))) ** 2
    carried = float((made * (seen.ring[some] < RINGS)[:, None, :]).sum()) / data[some].size
    beyond = max(float((np.abs(data) ** 2).mean()) - noise, 0.01 * noise)
    return Power(np.append(np.full(RINGS, beyond / carried), 0.0), noise)


def _parts(number: int) -> Iterator[slice]:
    return (slice(first, first + TOGETHER) for first in range(0, number, TOGETHER))


def _without_common(geometry: Geometry, values: Waves) -> Waves:
    unit = (geometry.weights / sqrt(float((geometry.weights**2).sum()))).astype(np.complex64)
    left: Waves = values - unit[:, None] * (unit @ values)[:, None, :]
    return left


def _changes(geometry: Geometry, values: Array, k: Waves, one: Waves, other: Waves) -> Iterator[Waves]:
    """Change of A with each parameter, edges of the aperture and the smear left as they are."""
    z = geometry.angles.astype(np.complex64)[None, :, None]
    q = (geometry.wavelength_nm * k * np.exp(1j * values[ROTATION])).astype(np.complex64)[:, None, :]
    low, high, number = z - q, z + q, len(values)
    scale = np.float32(2 * pi / geometry.wavelength_nm)
    for at, below, above in zip(*(basis(each, number) for each in (z, low, high)), strict=True):
        if at is None or below is None or above is None:
            # q turns by iq for a radian: the path at z - q changes by minus the slope there along iq.
            single = values.astype(np.float32)
            falls, rises = ((slope_nm(each, single).conj() * (1j * q)).real for each in (low, high))
        else:
            falls, rises = at - below, above - at
        yield _without_common(geometry, (scale * rises) * other - (scale * falls) * one)
