"""Defocus, low aberrations, rotation and handedness from how the tilted bright-field images of a scan lie."""

from dataclasses import dataclass
from math import degrees, hypot, nan, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d import optics
from stem4d.calibrate.angles import TiltImages
from stem4d.calibrate.tilt_model import (
    PARAMETERS,
    ROTATION,
    Geometry,
    Projection,
    derivatives,
    project,
    shifts_nm,
)
from stem4d.calibrate.tilt_search import (
    SEARCHED,
    Stack,
    dark_spectrum,
    frequencies,
    lighter,
    reach_px,
    search,
    significance,
    spectra,
    stack,
)
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]

Order = Literal["first", "second", "third"]
NUMBER: dict[Order, int] = {"first": 4, "second": 8, "third": 9}
"""How many of `PARAMETERS` each order fits."""
SMALLEST_PX = 16
"""Fewest positions along an axis."""
MIN_RECORDED = 0.9
MIN_REACH_PX = 1.0
"""Scan steps that the outermost image must move: else there is nothing to measure."""
MAX_REACH = 0.3
"""Part of the field that the outermost image may move: else too little of it is common to all."""
MAX_SATURATED = 1e-3
"""Part of the disk's counts that may stand at full scale."""
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
MIN_MARGIN = 4.0
"""Sigmas by which one handedness must fit better than the other."""
MIN_HALF_TURN = 3.0
"""Sigmas that the likeness of the found phase to the dark field must reach to tell the sign of the defocus."""
MAX_ROTATION_ERROR_DEG = 5.0
"""A rotation that is known no better is of no use."""
FEW = 2.5
"""The error grows where few independent frequencies carry it; found on simulated scans of 10 to 200 of them."""


@dataclass(frozen=True)
class TiltFit:
    """First-order aberrations and the lie of the detector; NaN where nothing was found or asked for."""

    defocus_nm: float
    """Underfocus positive."""
    defocus_uncertainty_nm: float
    astigmatism_nm: float
    """C12."""
    astigmatism_uncertainty_nm: float
    astigmatism_angle_deg: float
    """φ12 from x towards y in the specimen frame, in [0, 180)."""
    astigmatism_angle_uncertainty_deg: float
    rotation_deg: float
    """Scan x axis turned towards y, for a defocus of the nominal sign."""
    rotation_uncertainty_deg: float
    mirrored: bool
    mirrored_known: bool
    mirrored_margin: float
    """Sigmas by which the other handedness fits worse."""
    half_turn_known: bool
    """Whether the sign of defocus was confirmed: -defocus with half a turn more shifts all images the same way."""
    half_turn_margin: float
    """Sigmas of the likeness of the found phase to the dark field, negative where they contradict."""
    coefficients_nm: Array
    """Fitted `tilt_model.PARAMETERS` (rotation in rad), NaN beyond the order."""
    covariance: Array
    """Of those that were fitted."""
    sharpness: float
    """Likelihood of the best alignment over the median of all that were tried: 1 is nothing, 2 and more good."""
    significance: float
    """Sigmas that the aligned images stand above noise."""
    residual: float
    """Power that the fit leaves over that of counting noise: 1 is all noise. Finer structure than the scan adds too."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


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


def fit_tilts(
    images: TiltImages,
    step_nm: float,
    mrad_per_px: float | Array,
    convergence_semi_angle_mrad: float,
    beam_energy_kev: float,
    nominal_defocus_nm: float,
    order: Order = "first",
    rotation_hint_deg: float | None = None,
    mirrored: bool | None = None,
) -> TiltFit:
    """Fit aberrations, rotation and handedness to the images of a defocused scan of a thin specimen.

    Parameters
    ----------
    images : TiltImages
        From `angles.group_angles`, `empty_images` and `add_frames`.
    step_nm : float
        Scan step, the same along both axes [nm].
    mrad_per_px : float or ndarray, shape (2, 2)
        Angle per detector pixel [mrad]; a symmetric matrix on (y, x) where there is an elliptic distortion. The
        mirror is not part of it.
    convergence_semi_angle_mrad, beam_energy_kev : float
        Aperture [mrad] and energy [keV].
    nominal_defocus_nm : float
        Defocus about which to search, with its sign [nm].
    order : {"first", "second", "third"}
        First: defocus and twofold astigmatism. Second: coma and threefold astigmatism too. Third: Cs too.
    rotation_hint_deg : float, optional
        A rotation known to better than a right angle: it tells the sign of the defocus.
    mirrored : bool, optional
        The handedness, where it is known.

    Returns
    -------
    TiltFit
        ``ok`` is false with a reason where the images do not determine it or contradict the sign of the defocus.

    Raises
    ------
    BadInput
        If a number is not positive, or the nominal defocus is 0.
    """
    positive = {
        "step_nm": step_nm,
        "convergence_semi_angle_mrad": convergence_semi_angle_mrad,
        "beam_energy_kev": beam_energy_kev,
        "abs(nominal_defocus_nm)": abs(nominal_defocus_nm),
        "determinant of mrad_per_px": float(np.linalg.det(np.eye(2) * mrad_per_px)),
    }
    for name, value in positive.items():
        if not (value > 0 and np.isfinite(value)):
            raise BadInput(field=name, value=value, limit="must be positive")
    shape = images.recorded.shape
    if min(shape) < SMALLEST_PX:
        return _nothing(f"{shape[0]} x {shape[1]} positions are too few; it takes {SMALLEST_PX} each way")
    if images.recorded.mean() < MIN_RECORDED:
        return _nothing(f"only {images.recorded.mean():.0%} of the positions were recorded")
    if images.saturated.sum() > MAX_SATURATED * images.recorded.sum() * len(images.groups.pixels):
        return _nothing("the bright-field disk is saturated")
    if not images.images[:, images.recorded].mean(axis=1).min() > 0:
        return _nothing("no counts in a part of the disk: it does not lie where it was said to")
    alpha = convergence_semi_angle_mrad * 1e-3
    wavelength = optics.wavelength_a(beam_energy_kev) / 10
    made = stack(images, step_nm, 2 * alpha / wavelength)
    projection = np.eye(2) * mrad_per_px
    geometries = {
        each: _geometry(images, made, projection, each, alpha, wavelength)
        for each in ((False, True) if mirrored is None else (mirrored,))
    }
    outer = float(np.abs(next(iter(geometries.values())).angles).max()) * abs(nominal_defocus_nm) / step_nm
    if outer < MIN_REACH_PX:
        return _nothing(f"the outermost images move {outer:.1f} scan steps; it takes {MIN_REACH_PX} or more")
    if outer > MAX_REACH * min(made.chosen.shape):
        return _nothing(f"the outermost images move {outer:.0f} scan steps, too much of the field; scan a larger one")
    tried: dict[bool, list[_Refined]] = {}
    sharpness = 0.0
    for each, geometry in geometries.items():
        data = spectra(made, np.zeros((len(made.contrast), 2)), geometry.weights)[0]
        starts, median = search(data, geometry, nominal_defocus_nm, step_nm)
        sharpness = max(sharpness, starts[0][0] / median)
        fewer, thin = lighter(made, geometry)
        refined = [_refined(fewer, thin, start, ROUGH) for _, start in starts]
        tried[each] = [one for one in refined if one is not None]
    if not any(tried.values()):
        return _nothing("no alignment of the images was found: no structure, or a defocus far from the nominal one")
    # Every candidate is measured by the weights of the one that explains most, over all frequencies alike.
    every = [one for refined in tried.values() for one in refined]
    first = max(every, key=lambda one: one.explains(np.ones(len(one.noise))))
    share = first.share
    best = {each: max(side, key=lambda one: one.explains(share)) for each, side in tried.items() if side}
    side = max(best, key=lambda each: best[each].explains(share))
    start = np.concatenate([best[side].values, np.zeros(NUMBER[order] - 4)])
    final = _refined(made, geometries[side], start, ROUNDS)
    if final is None:
        return _nothing("the fit of the images ran away: too little structure or dose")
    margin = np.inf if mirrored is not None else 0.0
    if mirrored is None and len(best) == 2:
        scatter = sqrt(4 * first.spread * float(((share * first.noise) ** 2).sum())) / first.energy
        margin = (best[side].explains(share) - best[not side].explains(share)) / scatter
    upright = _upright(final, made, geometries[side])
    reason = _reason(final, margin, upright, nominal_defocus_nm, alpha, wavelength, rotation_hint_deg)
    return _assembled(final, side, margin, upright, sharpness, rotation_hint_deg is not None, reason)


def _geometry(
    images: TiltImages, made: Stack, projection: Array, mirrored: bool, alpha: float, wavelength_nm: float
) -> Geometry:
    at = images.groups.angles_px * np.array([-1.0 if mirrored else 1.0, 1.0])
    angles = at @ projection.T * 1e-3
    mean = images.images[:, images.recorded].mean(axis=1, dtype=np.float64)
    soft = images.groups.width_px * sqrt(float(np.linalg.det(projection))) * 1e-3
    return Geometry(angles[:, 1] + 1j * angles[:, 0], frequencies(made), alpha, soft, wavelength_nm, np.sqrt(mean))


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


def _reason(
    final: _Refined,
    margin: float,
    upright: float,
    nominal_defocus_nm: float,
    alpha: float,
    wavelength_nm: float,
    rotation_hint_deg: float | None,
) -> str:
    defocus, error = -float(final.values[0]), sqrt(float(final.covariance[0, 0]))
    turn, turn_error = degrees(final.values[ROTATION]), degrees(sqrt(float(final.covariance[ROTATION, ROTATION])))
    allowed = max(0.01 * abs(defocus), wavelength_nm / alpha**2 / 4)
    sigmas = final.significance
    if sigmas < MIN_SIGNIFICANCE:
        return f"the images do not align: {sigmas:.1f} sigma above noise; no structure or too little dose"
    if not final.settled:
        return "the fit of the images did not settle"
    if not 1 - 1.2 * SEARCHED < defocus / nominal_defocus_nm < 1 + 1.2 * SEARCHED:
        return f"defocus {defocus:.4g} nm is far from the nominal {nominal_defocus_nm:.4g} nm"
    if error > allowed or turn_error > MAX_ROTATION_ERROR_DEG:
        return f"defocus is known only to {error:.2g} nm, rotation to {turn_error:.2g} degrees: too little dose"
    if margin < MIN_MARGIN:
        return f"both handednesses fit, {margin:.1f} sigma apart"
    hinted = rotation_hint_deg is not None and abs((turn - rotation_hint_deg + 180) % 360 - 180) > 90
    if hinted or upright <= -MIN_HALF_TURN:
        return f"the defocus has the other sign than the nominal {nominal_defocus_nm:.4g} nm"
    return ""


def _assembled(
    final: _Refined, mirrored: bool, margin: float, upright: float, sharpness: float, hinted: bool, reason: str
) -> TiltFit:
    values, covariance = final.values, final.covariance
    error = np.sqrt(np.diag(covariance))
    a, b = float(values[1]), float(values[2])
    size = hypot(a, b)
    along = np.array([a, b]) / size if size > 0 else np.array([1.0, 0.0])
    part = covariance[1:3, 1:3]
    size_error = sqrt(float(along @ part @ along))
    around = np.array([-along[1], along[0]])
    angle_error = degrees(sqrt(float(around @ part @ around)) / size) / 2 if size > 0 else nan
    return TiltFit(
        defocus_nm=-float(values[0]),
        defocus_uncertainty_nm=float(error[0]),
        astigmatism_nm=size,
        astigmatism_uncertainty_nm=size_error,
        astigmatism_angle_deg=degrees(np.arctan2(b, a)) / 2 % 180,
        astigmatism_angle_uncertainty_deg=min(angle_error, 52.0),
        rotation_deg=180 - (180 - degrees(values[ROTATION])) % 360,
        rotation_uncertainty_deg=degrees(error[ROTATION]),
        mirrored=mirrored,
        mirrored_known=margin >= MIN_MARGIN,
        mirrored_margin=margin,
        half_turn_known=hinted or abs(upright) >= MIN_HALF_TURN,
        half_turn_margin=upright,
        coefficients_nm=np.concatenate([values, np.full(len(PARAMETERS) - len(values), nan)]),
        covariance=covariance,
        sharpness=sharpness,
        significance=final.significance,
        residual=float(final.share @ final.noise) / final.energy / max(float(final.share.sum()), 1e-300),
        ok=not reason,
        reason=reason,
    )


def _nothing(reason: str) -> TiltFit:
    return TiltFit(
        *(nan,) * 8, False, False, 0.0, False, 0.0,
        np.full(len(PARAMETERS), nan), np.full((4, 4), nan), nan, nan, nan, ok=False, reason=reason,
    )  # fmt: skip
