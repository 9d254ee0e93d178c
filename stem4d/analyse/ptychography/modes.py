"""Mutually incoherent modes of a probe: a start for them, orthogonal sets, and their shares."""

import numpy as np
import numpy.typing as npt

Waves = npt.NDArray[np.complex64]

MINOR_SHARE = 0.3
"""Of the light that all further modes begin with: shares move slowly, and more from too much than from too little."""


def several(probe: Waves, number: int) -> Waves:
    """Modes (number, N, N) of a probe (N, N): itself, and itself times low powers of y and x, as a source of finite
    size begins with. Their light adds up to the probe's."""
    size = probe.shape[-1]
    counts = float((np.abs(probe) ** 2).sum())
    weight = np.abs(probe) ** 2 / counts
    at = np.arange(size) - size // 2
    spread = np.sqrt(float((weight * (at[:, None] ** 2 + at[None, :] ** 2)).sum()) / 2)
    y, x = at[:, None] / spread, at[None, :] / spread
    powers = [(i, order - i) for order in range(number) for i in range(order + 1)][:number]
    raw = np.stack([probe * y**i * x**j for i, j in powers]).reshape(number, -1)
    basis, _ = np.linalg.qr(raw.T)
    part = np.full(number, MINOR_SHARE / max(number - 1, 1))
    part[0] = 1 - MINOR_SHARE if number > 1 else 1
    modes = basis.T * np.sqrt(counts * part)[:, None]
    start: Waves = modes.reshape(number, size, size).astype(np.complex64)
    return start


def orthogonal(modes: Waves) -> Waves:
    """The same mixed state in orthogonal modes, the brightest first."""
    if len(modes) == 1:
        return modes
    flat = modes.reshape(len(modes), -1).astype(np.complex128)
    values, vectors = np.linalg.eigh(flat @ flat.conj().T)
    order = np.argsort(values)[::-1]
    mixed = vectors[:, order].conj().T @ flat
    return mixed.reshape(modes.shape).astype(np.complex64)


def shares(modes: Waves) -> npt.NDArray[np.float64]:
    """Part of the light in each mode."""
    light = (np.abs(modes.astype(np.complex128)) ** 2).sum((1, 2))
    return np.asarray(light / light.sum())
