"""An integrating detector: a gain on a dark level, with read noise and an uneven response.

As in `counts`, a pixel's noise depends on (seed, run, row, column, pixel) alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.detector import container_bytes, full_scale
from stem4d.simulate.counts import Counter, Floats32, Frames, Mask, check_request, record


@dataclass(frozen=True)
class Integrator:
    """An integrating detector; maps and masks are (det_y, det_x)."""

    bit_depth: int
    hot: Mask
    """These stand at full scale."""
    dead: Mask
    """These stand at 0."""
    counts_per_electron: float
    dark_counts: Floats32
    """Level without beam [counts]."""
    read_noise_counts: float
    """Standard deviation of a pixel's level from frame to frame [counts]."""
    response: Floats32
    """Gain of each pixel relative to the mean one."""

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Unsigned integer that holds a count."""
        return np.dtype(f"uint{8 * container_bytes(self.bit_depth)}")


def uneven(shape: tuple[int, int], mean: float, spread: float, seed: int) -> Floats32:
    """A map around a mean whose pixels scatter with a standard deviation, drawn from a seed; never below 0."""
    drawn = np.random.default_rng(seed).normal(mean, spread, shape) if spread > 0 else np.full(shape, mean)
    return np.maximum(drawn, 0).astype(np.float32)


def integrate(
    fractions: npt.NDArray[np.float32],
    electrons: float | npt.NDArray[np.float64],
    keys: npt.NDArray[np.uint64],
    detector: Integrator,
) -> Frames:
    """Read out an integrating detector.

    Parameters
    ----------
    fractions : float32 array (n, det_y, det_x)
        Part of the beam in each pixel.
    electrons : float or float array (n,)
        Mean electrons a pattern receives; 0 for a blanked beam.
    keys : uint64 array (n,)
        From `counts.noise_keys`.
    detector : Integrator
        Gain, dark level, noise and bad pixels.

    Returns
    -------
    unsigned integer array (n, det_y, det_x)
        dark + gain response Poisson(electrons) + normal read noise, rounded, between 0 and full scale.

    Raises
    ------
    BadInput
        As `counts.record` does.
    """
    check_request(fractions, electrons, keys, detector.hot.shape)
    never = np.zeros(detector.hot.shape, np.bool_)
    arrived = record(fractions, electrons, keys, Counter(32, never, never))
    top = full_scale(detector.bit_depth)
    frames = np.empty(fractions.shape, detector.dtype)
    gain = detector.counts_per_electron * detector.response
    for frame, electrons_there, key in zip(frames, arrived, keys, strict=True):
        noise = np.random.default_rng(int(key)).standard_normal(gain.shape, np.float32)
        level = detector.dark_counts + gain * electrons_there + np.float32(detector.read_noise_counts) * noise
        frame[:] = np.clip(np.rint(level), 0, top)
    frames[:, detector.hot] = top
    frames[:, detector.dead] = 0
    return frames
