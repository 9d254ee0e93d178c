"""Defocus, low aberrations, rotation and handedness from how the tilted bright-field images of a scan lie."""

from dataclasses import dataclass, replace
from math import degrees, hypot, inf, nan, sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from stem4d import optics
from stem4d.calibrate.angles import TiltImages
from stem4d.calibrate.tilt_fine import fit_fine
from stem4d.calibrate.tilt_found import Found
from stem4d.calibrate.tilt_model import PARAMETERS, ROTATION, Geometry, directions
from stem4d.calibrate.tilt_moved import Moved, moved_disk
from stem4d.calibrate.tilt_search import MOST_FREQUENCIES, SEARCHED, Stack, frequencies, stack
from stem4d.calibrate.tilt_undersampled import fit_undersampled
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]

Order = Literal["first", "second", "third"]
NUMBER: dict[Order, int] = {"first": 4, "second": 8, "third": 9}
"""How many of `PARAMETERS` each order fits."""
SMALLEST_PX = 16
"""Fewest positions along an axis."""
MIN_RECORDED = 0.9
MIN_REACH_PX = 1.0
"""Scan steps, or λ/α where that is less, that the outermost image must move: else there is nothing to measure."""
UNDERSAMPLED = 1.5
"""Step over λ/α from which on each coefficient is taken as several frequencies of the specimen; a probe of semi-angle
α makes structure down to λ/2α, which a step below that samples without any alias."""
MAX_REACH = 0.3
"""Part of the field that the outermost image may move: else too little of it is common to all."""
MAX_SATURATED = 1e-3
"""Part of the disk's counts that may stand at full scale."""
MODEL_PART = 0.004
"""Error of the defocus that stays however many electrons there are, as a part of it: angles are taken in groups, and
the specimen is no plane. From 50 hidden truths, whose errors were 1.3 times what counting noise explains."""
MIN_MARGIN = 4.0
"""Sigmas by which one handedness must fit better than the other."""
LINE_FOCUS = 0.1
"""Difference of defocus and astigmatism over their sum below which handedness is not told: one of the two foci is then
a line. With the other handedness defocus and astigmatism change places, and the images move the same way."""
MIN_HALF_TURN = 3.0
"""Sigmas that the likeness of the found phase to the dark field must reach to tell the sign of the defocus."""
MAX_CHI_SQUARE = 18.0
"""Of two degrees of freedom, by which the sidebands may contradict the shifts: chance exceeds it once in 8000 fits."""
MAX_DESCAN = 0.005
"""Part of the defocus, or turn [rad], that descan left in may change: half of what is asked of either."""
FARTHEST = 1.2 * SEARCHED
"""How far from the nominal defocus one is believed, as a part of it: a fit may end a little beyond the search."""
MOVED_SURELY = 5.0
"""Sigmas from which on the disk is held to move."""
MAX_ROTATION_ERROR_DEG = 5.0
"""A rotation that is known no better is of no use."""


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
    trust_sign: bool = False,
) -> TiltFit:
    """Fit aberrations, rotation and handedness to the images of a defocused scan of a thin specimen.

    Parameters
    ----------
    images : TiltImages
        From `angles.group_angles`, `empty_images` and `add_frames`.
    step_nm : float
        Scan step, the same along both axes [nm].
    mrad_per_px : float or ndarray, shape (2, 2)
        Angle per detector pixel [mrad]; a symmetric matrix on the detector's (y, x) where there is an elliptic
        distortion. It acts before the mirror, which is not part of it.
    convergence_semi_angle_mrad, beam_energy_kev : float
        Aperture [mrad] and energy [keV].
    nominal_defocus_nm : float
        Defocus about which to search, with its sign [nm].
    order : {"first", "second", "third"}
        First: defocus and twofold astigmatism. Second: coma and threefold astigmatism too. Third: Cs too.
    rotation_hint_deg : float, optional
        A rotation known to better than a right angle: it tells the sign of the defocus.
    mirrored : bool, optional
        The handedness, where it is known. Without it, an astigmatism about as large as the defocus is refused:
        they change places where the handedness is the other.
    trust_sign : bool
        Let the nominal sign of the defocus pass where neither a hint nor the images tell it; who does so has to heed
        ``half_turn_known``.

    Returns
    -------
    TiltFit
        ``ok`` is false with a reason where the images do not determine it, leave the sign of the defocus open or
        contradict it, where descan moves the disk, or the scan is distorted: by drift, or steps that are not equal.

    Raises
    ------
    BadInput
        If a number is not positive, or the nominal defocus is 0.
    """
    projection = np.asarray(mrad_per_px) if np.ndim(mrad_per_px) else mrad_per_px * np.eye(2)
    positive = {
        "step_nm": step_nm,
        "convergence_semi_angle_mrad": convergence_semi_angle_mrad,
        "beam_energy_kev": beam_energy_kev,
        "abs(nominal_defocus_nm)": abs(nominal_defocus_nm),
        "determinant of mrad_per_px": float(np.linalg.det(projection)),
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
    undersampled = step_nm > UNDERSAMPLED * wavelength / alpha
    made = stack(images, step_nm, 2 * alpha / wavelength, None if undersampled else MOST_FREQUENCIES)
    geometries = {
        each: _geometry(images, made, projection, each, alpha, wavelength)
        for each in ((False, True) if mirrored is None else (mirrored,))
    }
    outer = float(np.abs(next(iter(geometries.values())).angles).max()) * abs(nominal_defocus_nm) / step_nm
    least = MIN_REACH_PX * min(1.0, wavelength / alpha / step_nm)
    if outer < least:
        return _nothing(f"the outermost images move {outer:.1f} scan steps; it takes {least:.1g} or more")
    if outer > MAX_REACH * min(made.chosen.shape):
        return _nothing(f"the outermost images move {outer:.0f} scan steps, too much of the field; scan a larger one")
    fit = fit_undersampled if undersampled else fit_fine
    found = fit(made, geometries, nominal_defocus_nm, NUMBER[order])
    if isinstance(found, str):
        return _nothing(found)
    reason = (
        _reason(found, nominal_defocus_nm, alpha, wavelength, rotation_hint_deg)
        or _distorted(found)
        or _descan(found, moved_disk(images), step_nm, projection)
    )
    judged = _assembled(found, rotation_hint_deg is not None, reason)
    if judged.ok and not (judged.half_turn_known or trust_sign):
        return replace(judged, ok=False, reason=_open_sign(judged))
    return judged


def _geometry(
    images: TiltImages, made: Stack, projection: Array, mirrored: bool, alpha: float, wavelength_nm: float
) -> Geometry:
    mean = images.images[:, images.recorded].mean(axis=1, dtype=np.float64)
    soft = images.groups.width_px * sqrt(float(np.linalg.det(projection))) * 1e-3
    angles = directions(images.groups.angles_px, projection, mirrored)
    return Geometry(angles, frequencies(made), alpha, soft, wavelength_nm, np.sqrt(mean))


def _reason(
    final: Found,
    nominal_defocus_nm: float,
    alpha: float,
    wavelength_nm: float,
    rotation_hint_deg: float | None,
) -> str:
    defocus, error = -float(final.values[0]), sqrt(float(final.covariance[0, 0]))
    turn, turn_error = degrees(final.values[ROTATION]), degrees(sqrt(float(final.covariance[ROTATION, ROTATION])))
    allowed = max(0.01 * abs(defocus), wavelength_nm / alpha**2 / 4)
    sigmas = final.significance
    if sigmas < final.needed:
        return f"the images do not align: {sigmas:.1f} sigma above noise; no structure or too little dose"
    if not final.settled:
        return "the fit of the images did not settle"
    if not 1 - FARTHEST < defocus / nominal_defocus_nm < 1 + FARTHEST:
        return f"defocus {defocus:.4g} nm is far from the nominal {nominal_defocus_nm:.4g} nm"
    if error > allowed or turn_error > MAX_ROTATION_ERROR_DEG:
        return f"defocus is known only to {error:.2g} nm, rotation to {turn_error:.2g} degrees: too little dose"
    if final.margin < MIN_MARGIN:
        return f"both handednesses fit, {final.margin:.1f} sigma apart"
    twofold = hypot(*final.values[1:3])
    if final.margin < inf and abs(twofold - abs(defocus)) < LINE_FOCUS * (twofold + abs(defocus)):
        return (
            f"an astigmatism of {twofold:.3g} nm is almost the defocus, {abs(defocus):.3g} nm: a line focus moves the "
            "images along one direction alone, which does not tell the handedness; it has to be told"
        )
    hinted = rotation_hint_deg is not None and abs((turn - rotation_hint_deg + 180) % 360 - 180) > 90
    if hinted or final.upright <= -MIN_HALF_TURN:
        return f"the defocus has the other sign than the nominal {nominal_defocus_nm:.4g} nm"
    return ""


def _distorted(final: Found) -> str:
    seen = final.distortion
    if seen.chi_square <= MAX_CHI_SQUARE:
        return ""
    return (
        f"the scan is distorted, by drift or unequal steps: its images have {seen.size_nm:.2g} ± "
        f"{seen.uncertainty_nm:.1g} nm of astigmatism that their shifts have not (chi-square {seen.chi_square:.0f}, at "
        f"most {MAX_CHI_SQUARE:.0f})"
    )


def _descan(final: Found, moved: Moved | None, step_nm: float, projection: Array) -> str:
    """An image at r + H θ of angle θ - D r is moved by H / (1 - H D) instead of H."""
    if moved is None or moved.sigmas < MOVED_SURELY:
        return ""
    slope = float(np.linalg.norm(projection @ moved.slope, 2)) / step_nm
    part = slope * 1e-3 * (abs(float(final.values[0])) + hypot(*final.values[1:3]))
    if part <= MAX_DESCAN:
        return ""
    return (
        f"the disk moves by {slope:.2g} mrad/nm over the scan ({moved.sigmas:.0f} sigma), which changes defocus or "
        f"rotation by {part:.1%}, at most {MAX_DESCAN:.1%}: calibrate descan and take it back"
    )


def _open_sign(fit: TiltFit) -> str:
    return (
        f"the sign of the defocus is open: the images tell it with {fit.half_turn_margin:.1f} sigma, it takes "
        f"{MIN_HALF_TURN:.0f}; give a rotation from deflections"
    )


def _assembled(final: Found, hinted: bool, reason: str) -> TiltFit:
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
        defocus_uncertainty_nm=hypot(float(error[0]), MODEL_PART * float(values[0])),
        astigmatism_nm=size,
        astigmatism_uncertainty_nm=size_error,
        astigmatism_angle_deg=degrees(np.arctan2(b, a)) / 2 % 180,
        astigmatism_angle_uncertainty_deg=min(angle_error, 52.0),
        rotation_deg=180 - (180 - degrees(values[ROTATION])) % 360,
        rotation_uncertainty_deg=degrees(error[ROTATION]),
        mirrored=final.mirrored,
        mirrored_known=final.margin >= MIN_MARGIN,
        mirrored_margin=final.margin,
        half_turn_known=hinted or abs(final.upright) >= MIN_HALF_TURN,
        half_turn_margin=final.upright,
        coefficients_nm=np.concatenate([values, np.full(len(PARAMETERS) - len(values), nan)]),
        covariance=covariance,
        sharpness=final.sharpness,
        significance=final.significance,
        residual=final.residual,
        ok=not reason,
        reason=reason,
    )


def _nothing(reason: str) -> TiltFit:
    return TiltFit(
        *(nan,) * 8, False, False, 0.0, False, 0.0,
        np.full(len(PARAMETERS), nan), np.full((4, 4), nan), nan, nan, nan, ok=False, reason=reason,
    )  # fmt: skip
