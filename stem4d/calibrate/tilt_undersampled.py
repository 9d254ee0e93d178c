"""Fit of tilted images of a scan that is coarse against the probe: search, climb, handedness and sign."""

from math import ceil, inf, pi, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.tilt_aliased import (
    Aliases,
    Climb,
    Power,
    aliases,
    climb,
    first_power,
    rays,
)
from stem4d.calibrate.tilt_found import Found
from stem4d.calibrate.tilt_model import ROTATION, Geometry, shifts_nm, unit_waves
from stem4d.calibrate.tilt_search import SEARCHED, Stack, dark_spectrum, reach_px, spectra

Array = npt.NDArray[np.float64]

ALIASED = 1.5
"""Highest frequency that is modelled, times the step: a dozen aliases; more cost time and gain a tenth in error."""
SMEARED = 0.9
"""Or this part of the frequency that the size of a group of pixels smears out."""
SEARCHED_PHASE = 0.75
"""Or, for the search, where the phase πλCk² of the contrast reaches this part of π: beyond its first maximum."""
PLACES = 0.12
"""Grid of the search's transform [λ/α]; it changes over half of λ/α."""
ROUGH_FREQUENCIES = 300
MOST_FREQUENCIES = 800
"""How many are looked at by the candidates, and in the search and the end."""
CLOSE = 15.0
"""Likelihood by which another candidate may lag on the grid and still be climbed."""
NEEDED = 7.5
"""Sigmas that the fit must stand above noise, 3 to 5 of which the best of many fits to noise reaches, once 6.6."""
WIDER = 1.12
"""The error grows by this for the powers being found from the same images, and for what weak phase leaves out; found on
30 simulated scans at two doses."""
CANDIDATES = 2
"""Maxima of each handedness that are climbed."""
ROUGH = 2
CLOSER = 4
ROUNDS = 8
"""Rounds of the candidates, of the best of them by the same frequencies, and of that by all."""
SETTLED = 0.1
"""Steps below this part of the error end the climb."""
SEARCH_STEP = 0.7
"""Step of the search, as the movement of the outermost image over half the finest wavelength looked at."""


def fit_undersampled(
    made: Stack, geometries: dict[bool, Geometry], nominal_defocus_nm: float, number: int
) -> Found | str:
    """Most likely parameters of images (`tilt_search.stack` of all frequencies), or why there are none.

    Parameters
    ----------
    made : Stack
        With all frequencies of the scan.
    geometries : dict of Geometry
        For each handedness that is possible.
    nominal_defocus_nm : float
        About which to search [nm].
    number : int
        How many of `tilt_model.PARAMETERS` are fitted.
    """
    one = next(iter(geometries.values()))
    smeared = SMEARED / (one.soft * abs(nominal_defocus_nm))
    highest = min(ALIASED / made.step_nm, smeared, 2 * one.alpha / one.wavelength_nm)
    order = np.random.default_rng(0).permutation(len(one.frequencies))
    few = aliases(one.frequencies, order[:ROUGH_FREQUENCIES], made.step_nm, highest)
    pool: list[tuple[float, bool, Array]] = []
    sharpness = 0.0
    for side, geometry in geometries.items():
        starts, contrast = _search(made, geometry, nominal_defocus_nm, order[:MOST_FREQUENCIES], highest)
        sharpness = max(sharpness, contrast)
        pool += [(like, side, start) for like, start in starts]
    pool.sort(key=lambda each: -each[0])
    # The best of each handedness, and of the rest what comes close.
    firsts = {side: next(i for i, each in enumerate(pool) if each[1] == side) for side in geometries}
    best: dict[bool, tuple[Array, Climb]] = {}
    for i, (like, side, start) in enumerate(pool):
        if i in firsts.values() or like > pool[0][0] - CLOSE:
            values, last, _, spread = _climbed(made, geometries[side], start, few, ROUGH, None, True)
            if last is not None and (side not in best or last.gain > best[side][1].gain):
                best[side] = values, last
    if not best:
        return "no alignment of the images was found: no structure, or a defocus far from the nominal one"
    side = max(best, key=lambda each: best[each][1].gain)
    geometry = geometries[side]
    every = aliases(one.frequencies, np.sort(order[:MOST_FREQUENCIES]), made.step_nm, highest)
    start = np.concatenate([best[side][0], np.zeros(number - 4)])
    # The powers come to rest slowly; a few frequencies bring them close.
    values, last, _, _ = _climbed(made, geometry, start, few, CLOSER, best[side][1].power)
    if last is not None:
        values, last, settled, spread = _climbed(made, geometry, values, every, ROUNDS, last.power)
    if last is None:
        return "the fit of the images ran away: too little structure or dose"
    energy = spectra(made, shifts_nm(geometry, values), geometry.weights)[1]
    covariance = np.linalg.inv(last.information).astype(np.float64) * _share_of_spread(spread, every, one) * WIDER**2
    margin = inf if len(geometries) == 1 else 0.0
    if len(best) == 2:
        ahead = best[side][1].gain - best[not side][1].gain
        margin = sqrt(2 * ahead / _share_of_spread(spread, few, one))
    widened = _share_of_spread(spread, every, one)
    return Found(
        values=values,
        covariance=covariance,
        mirrored=side,
        margin=margin,
        upright=_upright(made, geometry, values, last, every, widened),
        sharpness=sharpness,
        significance=sqrt(max(2 * last.gain / widened, 0.0)),
        residual=last.power.noise / energy,
        settled=settled,
        needed=NEEDED,
    )


def _share_of_spread(spread: float, seen: Aliases, geometry: Geometry) -> float:
    """Neighbouring frequencies share what they hold; of a few at random fewer are neighbours."""
    return 1 + (spread - 1) * min(len(seen.at) / len(geometry.frequencies), 1.0)


def _climbed(
    made: Stack, geometry: Geometry, start: Array, seen: Aliases, rounds: int, power: Power | None, rough: bool = False
) -> tuple[Array, Climb | None, bool, float]:
    """Parameters, the likelihood there (None where it fails), whether it came to rest, and the windows' spread."""
    values, last, settled, spread = start.copy(), None, False, 1.0
    most = np.concatenate([np.full(3, 0.25 * abs(start[0])), [0.3], np.full(len(start) - 4, np.inf)])
    for _ in range(rounds):
        if reach_px(geometry, values, made.step_nm).max() > 0.45 * min(made.chosen.shape):
            return values, None, False, spread
        at_rest, energy, spread = spectra(made, shifts_nm(geometry, values), geometry.weights)
        data = np.ascontiguousarray(at_rest[:, seen.at].T)
        if power is None:
            power = first_power(geometry, values, data, seen, energy)
        last = climb(geometry, values, data, seen, power)
        power = power if rough else last.power
        scale = np.sqrt(np.diag(last.information))
        if not (scale > 0).all() or np.linalg.cond(last.information / np.outer(scale, scale)) > 1e8:
            return values, None, False, spread
        inverse = np.linalg.inv(last.information)
        step = np.clip(inverse @ last.score.sum(axis=0), -most, most)
        settled = bool((np.abs(step) < SETTLED * np.sqrt(spread * np.diag(inverse))).all())
        if settled:
            break
        values = values + step
    return values, last, settled, spread


def _search(
    made: Stack, geometry: Geometry, nominal_defocus_nm: float, at: npt.NDArray[np.intp], highest: float
) -> tuple[list[tuple[float, Array]], float]:
    """Best first-order starts with their likelihood on a grid of defocus and turn; the best over the median.

    The edges of the aperture are left out here: then the images are found aligned where the transform of a
    coefficient over their angles, at λC times the turned k, is large, and one transform serves all of the grid.
    """
    low = min(highest, sqrt(SEARCHED_PHASE / (geometry.wavelength_nm * abs(nominal_defocus_nm))))
    data, energy, _ = spectra(made, np.zeros((len(made.contrast), 2)), geometry.weights)
    data = data[:, at]
    seen = aliases(geometry.frequencies, at, made.step_nm, low)
    row, column = np.nonzero(np.abs(seen.k) < low)
    k = seen.k[row, column]
    blur = geometry.wavelength_nm / geometry.alpha
    reach = (1 + SEARCHED) * abs(nominal_defocus_nm) * geometry.wavelength_nm * low
    size = ceil(reach / (blur * PLACES)) + 1
    along = np.arange(-size, size + 1) * blur * PLACES
    places = (along[None, :] + 1j * along[:, None]).ravel()
    angles = geometry.angles * (2 * pi / geometry.wavelength_nm)
    seen_from = unit_waves((-(places.conj()[:, None] * angles[None, :]).real).astype(np.float32))
    norms = geometry.weights**2
    strength = np.abs((seen_from * geometry.weights.astype(np.float32)) @ data) ** 2
    norm = norms.sum() - np.abs(seen_from @ norms.astype(np.complex64)) ** 2 / norms.sum()
    outer = abs(nominal_defocus_nm) * float(np.abs(geometry.angles).max()) * 2 * low
    turns = np.arange(0.0, 2 * pi, 2 * pi / max(24, ceil(2 * pi * outer / SEARCH_STEP)))
    parts = np.linspace(1 - SEARCHED, 1 + SEARCHED, max(9, ceil(2 * SEARCHED * outer / SEARCH_STEP)))
    power = float(first_power(geometry, _start(nominal_defocus_nm, 0.0), data.T, seen, energy).signal[0]) / energy
    like, explained = np.empty((len(parts), len(turns))), np.empty((len(parts), len(turns)))
    for i, part in enumerate(parts):
        defocus = nominal_defocus_nm * part
        bend = power * 4 * np.sin(pi * geometry.wavelength_nm * defocus * np.abs(k) ** 2) ** 2
        for j, turn in enumerate(turns):
            place = -defocus * geometry.wavelength_nm * k * np.exp(1j * turn) / (blur * PLACES)
            index = (np.rint(place.imag).astype(np.intp) + size) * (2 * size + 1)
            index += np.rint(place.real).astype(np.intp) + size
            carried = bend * norm[index]
            explained[i, j] = float((bend * strength[index, row] / (1 + carried)).sum()) / energy
            like[i, j] = explained[i, j] - float(np.log1p(carried).sum())
    starts, left = [], like.copy()
    for _ in range(CANDIDATES):
        i, j = (int(each) for each in np.unravel_index(int(np.argmax(left)), left.shape))
        starts.append((float(like[i, j]), _start(nominal_defocus_nm * parts[i], turns[j])))
        near = np.minimum(np.abs(np.arange(len(turns)) - j), len(turns) - np.abs(np.arange(len(turns)) - j)) <= 1
        left[np.ix_(np.abs(np.arange(len(parts)) - i) <= 1, near)] = -np.inf
    return starts, float(explained.max() / np.median(explained))


def _start(defocus_nm: float, turn: float) -> Array:
    values = np.zeros(4)
    values[0], values[ROTATION] = -defocus_nm, turn
    return values


def _upright(made: Stack, geometry: Geometry, values: Array, last: Climb, seen: Aliases, spread: float) -> float:
    """Sigmas of the likeness of the found phase to the dark field: positive where atoms add phase."""
    dark = dark_spectrum(made, reach_px(geometry, values, made.step_nm))[seen.at]
    if not np.abs(dark).max() > 0:
        return 0.0
    probe = np.empty(last.phase.shape)
    for first in range(0, len(probe), 64):
        some = slice(first, first + 64)
        probe[some] = np.einsum("t,ktj->kj", geometry.weights, rays(geometry, values, seen.k[some])[1]).real
    expected = (last.phase * probe).sum(axis=1)
    terms = (expected.conj() * dark).real
    error = sqrt(spread * float((terms**2).sum()))
    return float(terms.sum()) / error if error > 0 else 0.0
