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
SEARCH_FREQUENCIES = 300
SEARCH_IMAGES = 60
ROUGH_FREQUENCIES = 200
MOST_FREQUENCIES = 800
"""How many are looked at in the search, by the candidates, and in the end."""
CANDIDATES = 2
"""Maxima of each handedness that are climbed."""
ROUGH = 2
ROUNDS = 10
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
    climbed: dict[bool, list[tuple[Array, Climb]]] = {}
    sharpness = 0.0
    for side, geometry in geometries.items():
        starts, contrast = _search(made, geometry, nominal_defocus_nm, order[:SEARCH_FREQUENCIES], highest)
        sharpness = max(sharpness, contrast)
        tried = [_climbed(made, geometry, start, few, ROUGH, None, True) for start in starts]
        climbed[side] = [(values, last) for values, last, _, _ in tried if last is not None]
    if not any(climbed.values()):
        return "no alignment of the images was found: no structure, or a defocus far from the nominal one"
    best = {side: max(tried, key=lambda each: each[1].likelihood) for side, tried in climbed.items() if tried}
    side = max(best, key=lambda each: best[each][1].likelihood)
    geometry = geometries[side]
    every = aliases(one.frequencies, np.sort(order[:MOST_FREQUENCIES]), made.step_nm, highest)
    start = np.concatenate([best[side][0], np.zeros(number - 4)])
    values, last, settled, spread = _climbed(made, geometry, start, every, ROUNDS, best[side][1].power)
    if last is None:
        return "the fit of the images ran away: too little structure or dose"
    data, energy, _ = spectra(made, shifts_nm(geometry, values), geometry.weights)
    margin = inf if len(geometries) == 1 else 0.0
    if len(best) == 2:
        ahead = best[side][1].likelihood - best[not side][1].likelihood
        margin = sqrt(2 * ahead / _share_of_spread(spread, few, one))
    # Of noise alone as strong as all there is.
    level = float((np.abs(data[:, every.at]) ** 2).sum()) / (len(every.at) * (len(data) - 1))
    nothing = -len(every.at) * (len(data) - 1) * (1 + np.log(level))
    widened = _share_of_spread(spread, every, one)
    return Found(
        values=values,
        covariance=np.linalg.inv(last.information) * widened,
        mirrored=side,
        margin=margin,
        upright=_upright(made, geometry, values, last, every, widened),
        sharpness=sharpness,
        significance=sqrt(max(2 * (last.likelihood - nothing) / widened, 0.0)),
        residual=last.power.noise / energy,
        settled=settled,
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
        settled = bool((np.abs(step) < SETTLED * np.sqrt(np.diag(inverse))).all())
        if settled:
            break
        values = values + step
    return values, last, settled, spread


def _search(
    made: Stack, geometry: Geometry, nominal_defocus_nm: float, at: npt.NDArray[np.intp], highest: float
) -> tuple[list[Array], float]:
    """Best first-order starts on a grid of defocus and turn, and the best likelihood over the median."""
    low = min(highest, sqrt(SEARCHED_PHASE / (geometry.wavelength_nm * abs(nominal_defocus_nm))))
    every = np.unique(np.linspace(0, len(made.contrast) - 1, SEARCH_IMAGES).astype(int))
    small = Geometry(
        geometry.angles[every], geometry.frequencies, geometry.alpha, geometry.soft, geometry.wavelength_nm,
        geometry.weights[every],
    )  # fmt: skip
    less = Stack(made.contrast[every], made.dark_field, made.chosen, made.step_nm)
    data, energy, _ = spectra(less, np.zeros((len(every), 2)), small.weights)
    seen = aliases(geometry.frequencies, at, made.step_nm, low)
    pair = np.nonzero(np.abs(seen.k) < low)
    d = np.ascontiguousarray(data[:, at[pair[0]]])
    k = seen.k[pair]
    reach = abs(nominal_defocus_nm) * float(np.abs(geometry.angles).max()) * 2 * low
    turns = np.arange(0.0, 2 * pi, 2 * pi / max(24, ceil(2 * pi * reach / SEARCH_STEP)))
    parts = np.linspace(1 - SEARCHED, 1 + SEARCHED, max(9, ceil(2 * SEARCHED * reach / SEARCH_STEP)))
    guess = first_power(small, np.array([-nominal_defocus_nm, 0.0, 0.0, 0.0]), data[:, at].T, seen, energy)
    ratio = energy / float(guess.signal[0])
    like = np.empty((len(parts), len(turns)))
    explained: list[float] = []
    scale = 2 * pi / geometry.wavelength_nm
    z, q0 = small.angles[:, None], geometry.wavelength_nm * k[None, :]
    weight = small.weights[:, None].astype(np.float32)
    unit = (small.weights / np.linalg.norm(small.weights)).astype(np.complex64)
    half = scale * (np.abs(q0[0]) ** 2 / 2)
    for j, turn in enumerate(turns):
        q = q0 * np.exp(1j * turn)
        moved = (-nominal_defocus_nm * scale * (z.conj() * q).real).astype(np.float32)
        falls, rises = (
            (np.clip((geometry.alpha - np.abs(side)) / geometry.soft + 0.5, 0, 1) * weight).astype(np.float32)
            for side in (z - q, z + q)
        )
        wave = unit_waves(np.float32(parts[0]) * moved)
        onwards = unit_waves(np.float32(parts[1] - parts[0]) * moved)
        for i, part in enumerate(parts):
            bend = np.exp(1j * part * nominal_defocus_nm * half).astype(np.complex64)
            model = wave * (falls * bend - rises * bend.conj())
            common = unit @ model
            norm = (model.real**2 + model.imag**2).sum(axis=0) - np.abs(common) ** 2
            # The data have no common part already.
            along = np.einsum("tk,tk->k", model.conj(), d)
            gain = float((np.abs(along) ** 2 / (ratio + norm)).sum()) / energy
            explained.append(gain)
            like[i, j] = gain - float(np.log1p(norm / ratio).sum())
            wave = wave * onwards
    starts, left = [], like.copy()
    for _ in range(CANDIDATES):
        i, j = (int(each) for each in np.unravel_index(int(np.argmax(left)), left.shape))
        values = np.zeros(4)
        values[0], values[ROTATION] = -nominal_defocus_nm * parts[i], turns[j]
        starts.append(values)
        near = np.minimum(np.abs(np.arange(len(turns)) - j), len(turns) - np.abs(np.arange(len(turns)) - j)) <= 1
        left[np.ix_(np.abs(np.arange(len(parts)) - i) <= 1, near)] = -np.inf
    return starts, max(explained) / float(np.median(explained))


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
