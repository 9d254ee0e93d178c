"""Fit of tilted images of a scan that is fine against the probe: two sidebands at every frequency."""

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.calibrate.tilt_found import Found
from stem4d.calibrate.tilt_model import Geometry, Projection, derivatives, project, shifts_nm
from stem4d.calibrate.tilt_search import (
    Stack,
    dark_spectrum,
    lighter,
    reach_px,
    search,
    significance,
    spectra,
)
from stem4d.calibrate.tilt_sides import distortion

Array = npt.NDArray[np.float64]

RINGS = 12
"""Rings of frequencies that share a noise level."""
ROUGH = 3
"""Rounds after which the candidates of the coarse search are compared."""
ROUNDS = 14
MEDIAN = 0.839
"""Median over mean of what two complex numbers explain of noise: of a chi-square of four degrees of freedom."""
STANDS_OUT = 4.0
"""Sigmas by which the signal around a frequency must exceed that of its ring to count for itself."""
FREEZE = 5
"""Rounds after which the weights are left as they are: where there is little signal they would never come to rest."""
SETTLED = 0.1
"""Steps below this part of the error end the iteration."""
MIN_SIGNIFICANCE = 12.0
"""Sigmas that the aligned images must stand above noise; the best of many fits to noise reaches 10."""
FEW = 2.5
"""The error grows where few independent frequencies carry it; found on simulated scans of 10 to 200 of them."""


@dataclass(frozen=True)
class _Refined:
    values: Array
    covariance: Array
    found: Projection
    noise: Array
    weight: Array
    energy: float
    spread: float
    settled: bool

    @property
    def share(self) -> Array:
        """Signal over signal and noise of each frequency."""
        return self.weight * self.noise

    @property
    def significance(self) -> float:
        """Sigmas that what is explained stands above noise."""
        return significance(self.found.power, self.noise, self.share, 2, self.spread)

    def explains(self, share: Array) -> float:
        """Explained power in units that do not depend on the window, each frequency by its ``share``."""
        return float((share * self.found.power).sum()) / self.energy


def fit_fine(made: Stack, geometries: dict[bool, Geometry], nominal_defocus_nm: float, number: int) -> Found | str:
    """Best parameters of images (`tilt_search.stack`), or why there are none.

    Parameters
    ----------
    made : Stack
        With the strongest frequencies.
    geometries : dict of Geometry
        For each handedness that is possible.
    nominal_defocus_nm : float
        About which to search [nm].
    number : int
        How many of `tilt_model.PARAMETERS` are fitted.
    """
    tried: dict[bool, list[_Refined]] = {}
    sharpness = 0.0
    for each, geometry in geometries.items():
        data = spectra(made, np.zeros((len(made.contrast), 2)), geometry.weights)[0]
        starts, median = search(data, geometry, nominal_defocus_nm, made.step_nm)
        sharpness = max(sharpness, starts[0][0] / median)
        fewer, thin = lighter(made, geometry)
        refined = [_refined(fewer, thin, start, ROUGH) for _, start in starts]
        tried[each] = [one for one in refined if one is not None]
    if not any(tried.values()):
        return "no alignment of the images was found: no structure, or a defocus far from the nominal one"
    # Every candidate is measured by the weights of the one that explains most, over all frequencies alike.
    every = [one for refined in tried.values() for one in refined]
    first = max(every, key=lambda one: one.explains(np.ones(len(one.noise))))
    share = first.share
    best = {each: max(side, key=lambda one: one.explains(share)) for each, side in tried.items() if side}
    side = max(best, key=lambda each: best[each].explains(share))
    start = np.concatenate([best[side].values, np.zeros(number - 4)])
    final = _refined(made, geometries[side], start, ROUNDS)
    if final is None:
        return "the fit of the images ran away: too little structure or dose"
    margin = inf if len(geometries) == 1 else 0.0
    if len(best) == 2:
        scatter = sqrt(4 * first.spread * float(((share * first.noise) ** 2).sum())) / first.energy
        margin = (best[side].explains(share) - best[not side].explains(share)) / scatter
    left = float(final.share @ final.noise) / final.energy / max(float(final.share.sum()), 1e-300)
    return Found(
        values=final.values,
        covariance=final.covariance,
        mirrored=side,
        margin=margin,
        upright=_upright(final, made, geometries[side]),
        sharpness=sharpness,
        significance=final.significance,
        residual=left,
        settled=final.settled,
        needed=MIN_SIGNIFICANCE,
        distortion=distortion(geometries[side], final.values, final.found, final.noise, final.spread),
    )


def _refined(made: Stack, geometry: Geometry, start: Array, rounds: int) -> _Refined | None:
    """Newton's method on the likelihood, with windows, noise and weights renewed in every round; None if it fails."""
    values = start.copy()
    limit = np.concatenate([np.full(3, 0.25 * abs(start[0])), [0.3], np.full(len(start) - 4, np.inf)])
    result, noise, weight = None, np.zeros(0), np.zeros(0)
    for round_ in range(rounds):
        if reach_px(geometry, values, made.step_nm).max() > 0.45 * min(made.chosen.shape):
            return None
        data, energy, spread = spectra(made, shifts_nm(geometry, values), geometry.weights)
        found = project(geometry, values, data)
        if round_ < FREEZE or result is None:
            noise, weight = _weights(made, geometry, found)
        changes = derivatives(geometry, values, found)
        scores = np.stack([2 * (each.conj() * found.left).real.sum(axis=0) for each in changes]) * weight
        curvature = np.array(
            [[2 * float((weight * (a.conj() * b).real.sum(axis=0)).sum()) for b in changes] for a in changes]
        )
        scale = np.sqrt(np.diag(curvature))
        if not (scale > 0).all() or np.linalg.cond(curvature / np.outer(scale, scale)) > 1e8:
            return None
        inverse = np.linalg.inv(curvature)
        outer = scores @ scores.T
        # Few frequencies estimate the scatter of their own scores badly.
        power = (scores / scale[:, None]) ** 2
        few = float(power.sum()) ** 2 / max(float((power.sum(axis=0) ** 2).sum()), 1e-300) / spread
        covariance = inverse @ outer @ inverse * spread * (1 + FEW / max(few, 1.0))
        step = np.clip(inverse @ scores.sum(axis=1), -limit, limit)
        settled = bool((np.abs(step) < SETTLED * np.sqrt(np.diag(covariance))).all())
        result = _Refined(values, covariance, found, noise, weight, energy, spread, settled)
        if settled:
            break
        values = values + step
    return result


def _rings(geometry: Geometry) -> npt.NDArray[np.intp]:
    length = np.abs(geometry.frequencies)
    ring: npt.NDArray[np.intp] = np.minimum((length / length.max() * RINGS).astype(np.intp), RINGS - 1)
    return ring


def _weights(made: Stack, geometry: Geometry, found: Projection) -> tuple[Array, Array]:
    """Noise power of each frequency from what its ring leaves, and the weight S/(N (S + N)) with the signal S."""
    ring = _rings(geometry)
    freedom = np.maximum(np.bincount(ring, weights=found.clear.sum(axis=0) - 3, minlength=RINGS), 1.0)
    noise = (np.bincount(ring, weights=(np.abs(found.left) ** 2).sum(axis=0), minlength=RINGS) / freedom)[ring]
    # Peaks of a lattice stand out of their ring; elsewhere a local estimate would only pick what fits by chance.
    power, known = np.zeros(made.chosen.shape), made.chosen.astype(np.float64)
    power[made.chosen] = found.power
    around = [ndimage.uniform_filter(each, 3, mode="wrap")[made.chosen] for each in (power, known)]
    local = around[0] / around[1] - 2 * noise
    usual = np.array([np.median(found.power[ring == each]) if (ring == each).any() else 0.0 for each in range(RINGS)])
    broad = np.maximum(usual[ring] / MEDIAN - 2 * noise, 0.0)
    peak = local - broad > STANDS_OUT * noise * np.sqrt(2 / (9 * around[1]))
    signal = np.where(peak, local, broad)
    return noise, signal / (noise * (signal + noise))


def _upright(final: _Refined, made: Stack, geometry: Geometry) -> float:
    """Sigmas of the likeness of the phase (u - v)/2i to the dark field: positive where atoms add phase."""
    # The probe's own transform, negative at some frequencies when defocused, is in the dark field but not in φ.
    probe = (geometry.weights @ final.found.sides[1]).real / float((geometry.weights**2).sum())
    dark = probe * dark_spectrum(made, reach_px(geometry, final.values, made.step_nm))
    cross = (((final.found.u - final.found.v) / 2j).conj() * dark).real
    strength = np.abs(final.found.u - final.found.v) * np.abs(dark)
    ring = _rings(geometry)
    mean = (np.bincount(ring, weights=strength, minlength=RINGS) / np.maximum(np.bincount(ring, minlength=RINGS), 1))[
        ring
    ]
    terms = np.where(mean > 0, final.share * cross / np.where(mean > 0, mean, 1.0), 0.0)
    error = sqrt(final.spread * float((terms**2).sum()))
    return float(terms.sum()) / error if error > 0 else 0.0
