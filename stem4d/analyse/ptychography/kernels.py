"""Compiled steps of an iteration: exit waves, the modulus constraint, and what both leave for object and probe.

Waves are (n, modes, N, N). Patterns are in the order of the FFT; a pixel that holds ``lost`` is known of nothing.
"""

from typing import Any

import numpy as np
from numba import njit

SMALL = np.float32(1e-6)
"""Keeps an empty pixel of the model from a division by zero [electrons]; far below one."""
DARK = np.float32(0.1)
"""Electrons added to a pixel's variance: bounds what a single electron in a dark pixel of the model is worth."""


@njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def exit_waves(waves: Any, image: Any, bank: Any, corners: Any, which: Any, ramp_y: Any, ramp_x: Any) -> None:
    """Probe times object in every window, times the ramp that moves its pattern onto the middle of the detector.

    Parameters
    ----------
    waves : complex64 array (n, modes, N, N)
        Written.
    image : complex64 array (Y, X)
        Object.
    bank : complex64 array (fractions, modes, N, N)
        Probes shifted by fractions of a pixel.
    corners, which : int arrays (n, 2), (n,)
        First pixel of each window, and its probe in the bank.
    ramp_y, ramp_x : complex64 arrays (n, N)
        Empty where no pattern is off the middle.
    """
    count, modes, rows, columns = waves.shape
    ramped = ramp_y.shape[0] > 0
    for one in range(count):
        top, left, fraction = corners[one, 0], corners[one, 1], which[one]
        for mode in range(modes):
            for row in range(rows):
                probe = bank[fraction, mode, row]
                line = image[top + row, left : left + columns]
                out = waves[one, mode, row]
                for column in range(columns):
                    out[column] = probe[column] * line[column]
                if ramped:
                    factor = ramp_y[one, row]
                    for column in range(columns):
                        out[column] *= factor * ramp_x[one, column]


@njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def constrain(spectra: Any, patterns: Any, index: Any, lost: Any, per_count: Any, errors: Any) -> None:
    """Replace spectra by what they lack of the measured intensities, and by 0 where those are not known.

    Parameters
    ----------
    spectra : complex64 array (n, modes, N, N)
        Orthonormal transforms of exit waves; changed in place.
    patterns : array (all, N, N)
        Counts.
    index : int array (n,)
        Which of the patterns belong to the spectra.
    lost : float
        Marks pixels that are not known.
    per_count : float
        Electrons.
    errors : float32 array (n, 2)
        Σ (I - m)²/(m + c) over the known pixels and what counting alone makes of it, Σ I/(m + c), written; m is the
        model's intensity [electrons], c is `DARK`.

    Notes
    -----
    ΔΨ = Ψ (I - m) / (2 (m + c)), the step that lowers Σ (I - m)²/(m + c). In bright pixels that is the usual
    (sqrt(I/m) - 1) Ψ to first order; where much less than an electron falls, sqrt I of counts lies far below sqrt m on
    the average, which pulls the usual step towards a specimen that scatters too little, and this one does not. A pixel
    is never changed by more than twice its measured modulus.
    """
    count, modes, rows, columns = spectra.shape
    scale, measured = np.empty(columns, np.float32), np.empty(columns, np.float32)
    one_, two, half = np.float32(1), np.float32(2), np.float32(0.5)
    for one in range(count):
        misfit, expected = np.float32(0), np.float32(0)
        for row in range(rows):
            scale[:] = SMALL
            for mode in range(modes):
                wave = spectra[one, mode, row]
                for column in range(columns):
                    scale[column] += wave[column].real * wave[column].real + wave[column].imag * wave[column].imag
            counts = patterns[index[one], row]
            for column in range(columns):
                measured[column] = np.float32(counts[column])
            for column in range(columns):
                known = np.float32(0) if measured[column] == lost else one_
                intensity, model = measured[column] * per_count, scale[column]
                difference, inverse = intensity - model, one_ / (model + DARK)
                misfit += known * difference * difference * inverse
                expected += known * intensity * inverse
                factor = min(half * difference * inverse, two * np.sqrt(max(intensity, SMALL) / model))
                scale[column] = max(factor, -one_) * known
            for mode in range(modes):
                wave = spectra[one, mode, row]
                for column in range(columns):
                    wave[column] *= scale[column]
        errors[one, 0], errors[one, 1] = misfit, expected


@njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def unramp(waves: Any, ramp_y: Any, ramp_x: Any) -> None:
    """Take the ramps of `exit_waves` off again, in place."""
    count, modes, rows, columns = waves.shape
    for one in range(count):
        for mode in range(modes):
            for row in range(rows):
                factor = np.conj(ramp_y[one, row])
                out = waves[one, mode, row]
                for column in range(columns):
                    out[column] *= factor * np.conj(ramp_x[one, column])


@njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def gather_updates(
    lacking: Any,
    image: Any,
    bank: Any,
    corners: Any,
    which: Any,
    for_image: Any,
    light: Any,
    for_probe: Any,
) -> None:
    """Add up what the exit waves lack, as seen by the object and by the probe.

    Parameters
    ----------
    lacking : complex64 array (n, modes, N, N)
        Δψ in real space.
    image, bank, corners, which
        As of `exit_waves`.
    for_image : complex64 array (Y, X)
        Σ conj(P) Δψ is added.
    light : float32 array (Y, X)
        Σ |P|² is added.
    for_probe : complex64 array (fractions, modes, N, N)
        Σ conj(O) Δψ is added.
    """
    count, modes, rows, columns = lacking.shape
    for one in range(count):
        top, left, fraction = corners[one, 0], corners[one, 1], which[one]
        for mode in range(modes):
            for row in range(rows):
                probe, into = bank[fraction, mode, row], for_probe[fraction, mode, row]
                wave = lacking[one, mode, row]
                line = image[top + row, left : left + columns]
                update = for_image[top + row, left : left + columns]
                lit = light[top + row, left : left + columns]
                for column in range(columns):
                    p, o, d = probe[column], line[column], wave[column]
                    update[column] += np.conj(p) * d
                    lit[column] += p.real * p.real + p.imag * p.imag
                    into[column] += np.conj(o) * d


@njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def apply_update(
    image: Any, for_image: Any, light: Any, corners: Any, size: Any, parity: Any, step: Any, floor: Any
) -> None:
    """Change the object by step Σ conj(P) Δψ / max(Σ |P|², floor) in the windows of a batch, and clear the sums.

    A pixel is done by the first window that holds it; later ones find nothing left there. Rows of the other ``parity``
    are left to the other lane. ``for_image`` (2, Y, X) and ``light`` hold the sums of the two lanes.
    """
    for one in range(corners.shape[0]):
        top, left = corners[one, 0], corners[one, 1]
        for row in range(top + (top + parity) % 2, top + size, 2):
            line = image[row, left : left + size]
            first, second = for_image[0, row, left : left + size], for_image[1, row, left : left + size]
            lit, also = light[0, row, left : left + size], light[1, row, left : left + size]
            for column in range(size):
                line[column] += (first[column] + second[column]) * (step / max(lit[column] + also[column], floor))
            first[:] = 0
            second[:] = 0
            lit[:] = 0
            also[:] = 0


@njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def displacements(lacking: Any, image: Any, bank: Any, corners: Any, which: Any, moved: Any) -> None:
    """How far each window has to move so that the object's slope explains what its exit wave lacks.

    Parameters
    ----------
    lacking, image, bank, corners, which
        As of `gather_updates`; windows keep a pixel off the object's edge.
    moved : float32 array (n, 2)
        (y, x) [px], written; 0 where the object has no slope.

    Notes
    -----
    ψ(u + d) = P O(u + d): the d with the least Σ |Δψ - P (d · ∇O)|², ∇O by central differences.
    """
    count, modes, rows, columns = lacking.shape
    for one in range(count):
        top, left, fraction = corners[one, 0], corners[one, 1], which[one]
        yy, yx, xx, y, x = 0.0, 0.0, 0.0, 0.0, 0.0
        for row in range(rows):
            above, line, below = image[top + row - 1], image[top + row], image[top + row + 1]
            for column in range(columns):
                at = left + column
                down = np.complex64(0.5) * (below[at] - above[at])
                across = np.complex64(0.5) * (line[at + 1] - line[at - 1])
                lit = np.float32(0)
                seen = np.complex64(0)
                for mode in range(modes):
                    p = bank[fraction, mode, row, column]
                    lit += p.real * p.real + p.imag * p.imag
                    seen += np.conj(p) * lacking[one, mode, row, column]
                yy += lit * (down.real * down.real + down.imag * down.imag)
                xx += lit * (across.real * across.real + across.imag * across.imag)
                yx += lit * (down.real * across.real + down.imag * across.imag)
                y += seen.real * down.real + seen.imag * down.imag
                x += seen.real * across.real + seen.imag * across.imag
        determinant = yy * xx - yx * yx
        if determinant > 1e-9 * yy * xx and determinant > 0:
            moved[one, 0] = (xx * y - yx * x) / determinant
            moved[one, 1] = (yy * x - yx * y) / determinant
        else:
            moved[one, 0], moved[one, 1] = 0, 0
