"""How the detector lies to the scan: the turn and handedness that leave the deflections without curl."""

from dataclasses import dataclass
from math import atan2, degrees, hypot, inf, nan, pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from stem4d.calibrate.shift import without_surface
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]
Waves = npt.NDArray[np.complex128]
Mask = npt.NDArray[np.bool_]

SMALLEST_PX = 12
"""Fewest positions along an axis: the window at the borders leaves half of them."""
MIN_RECORDED = 0.8
"""Part of the positions that must have been recorded: holes make curl of their own."""
TAPER = 0.1
"""Part of the field over which the window fades at each border."""
RINGS = 16
"""Rings of frequencies that share a noise level."""
ROUNDS = 6
"""Rounds of weights and angle; they settle in three or four."""
LONGEST_WAVES = 1.5
"""Frequencies below so many waves over the field belong to descan and to the window."""
MIN_CONTRAST = 5.0
"""Sigmas by which divergence must outweigh curl; the best angle of noise alone gets to about 3."""
MIN_MARGIN = 3.0
"""Sigmas by which one handedness must fit better than the other."""
MIN_HALF_TURN = 3.0
"""Sigmas that the correlation with the dark field must reach to tell a direction from its opposite."""
MAX_CURL = 0.8
"""Curl over divergence beyond which there is no minimum to speak of."""
MAX_UNCERTAINTY_DEG = 1.5
"""A rotation that is known no better is of no use: three times the half degree that reconstructions ask for."""
SHEAR_SIGMAS = 4.0
"""Significance from which on shear and unequal steps are believed: half of it is chance once in 20 fits."""
MAX_SHEAR, MAX_UNEQUAL = 0.04, 0.12
"""Shear of the scan and difference of its steps that are borne: projectors of 3 % ellipticity look like 0.03, and the
rotation is off by half the shear."""
MAX_SATURATED = 0.02
"""Part of the positions whose patterns may hold pixels at full scale: the centre of a clipped disk is another one."""


@dataclass(frozen=True)
class RotationFit:
    """Turn from scan to specimen frame and handedness of the detector; NaN where nothing was found."""

    rotation_deg: float
    """Scan x axis turned towards y, in (-180, 180]; in (-90, 90] where the half turn is open."""
    rotation_uncertainty_deg: float
    mirrored: bool
    """The detector's y axis runs against the specimen's."""
    mirrored_known: bool
    mirrored_margin: float
    """Sigmas by which this handedness fits better than the other; infinite where it was given."""
    half_turn_known: bool
    """Whether ``rotation_deg`` and not ``rotation_deg + 180`` is meant."""
    half_turn_margin: float
    """Sigmas of the correlation of the integrated deflection with the dark field; 0 without one."""
    residual: float
    """Curl over divergence, rms, weighted: 0 for a perfect field, 1 for noise."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""
    imprecise: bool = False
    """Refused for its standard error alone: the angle says little, and what it says is right."""


def fit_rotation(
    com_y_px: npt.NDArray[np.floating],
    com_x_px: npt.NDArray[np.floating],
    recorded: Mask,
    dark_field: npt.NDArray[np.number] | None = None,
    mirrored: bool | None = None,
    saturated_px: npt.NDArray[np.number] | None = None,
) -> RotationFit:
    """Find rotation and handedness from the centres of mass of any scan of a specimen with structure.

    Deflections by a thin specimen are a gradient, whatever the probe. In the frame of the scan they have no curl;
    the angle at which that is so is closed form, each frequency counting by its signal and noise.

    Parameters
    ----------
    com_y_px, com_x_px : ndarray, shape (scan_y, scan_x)
        Centres of mass over all of the pattern [px], bad pixels left out; NaN where there is none. The scan step
        must be the same along both axes.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        Positions that count.
    dark_field : ndarray, shape (scan_y, scan_x), optional
        A virtual image that is bright on atoms (in focus, minus a bright-field image does as well). It tells a
        rotation from one half a turn further, since patterns move towards atoms.
    mirrored : bool, optional
        The handedness, where it is known.
    saturated_px : ndarray, shape (scan_y, scan_x), optional
        Number of pixels at full scale in each pattern, as the accumulator counts them. A counter that wraps shows
        itself in no other way: its centres of mass move away from atoms.

    Returns
    -------
    RotationFit
        ``ok`` is false with a reason where the maps do not determine rotation and handedness, patterns are saturated,
        or the scan is sheared: drift during the scan, or steps that are not equal.

    Raises
    ------
    BadInput
        If the maps differ in shape.

    Notes
    -----
    With weight w = S/(N (S + N)), S and N the signal and noise of a frequency, the weighted curl is minus the
    logarithm of the likelihood of the angle, up to a constant. The error is White's sandwich.
    """
    maps = [com_y_px, com_x_px, *(each for each in (dark_field, saturated_px) if each is not None)]
    if com_y_px.ndim != 2 or any(each.shape != recorded.shape for each in maps):
        shapes = [each.shape for each in (*maps, recorded)]
        raise BadInput(field="com maps", value=shapes, limit="must be maps (scan_y, scan_x) of one shape")
    seen = recorded & np.isfinite(com_y_px) & np.isfinite(com_x_px)
    if min(seen.shape) < SMALLEST_PX:
        return _nothing(f"{seen.shape[0]} x {seen.shape[1]} positions are too few; it takes {SMALLEST_PX} each way")
    if seen.mean() < MIN_RECORDED:
        return _nothing(f"only {seen.mean():.0%} of the positions have a centre of mass")
    if saturated_px is not None and (part := float((saturated_px[seen] > 0).mean())) > MAX_SATURATED:
        return _nothing(f"pixels stand at full scale in {part:.0%} of the patterns: saturated")
    # Order 2: a descan that is not quite a plane is a smooth field with an angle of its own.
    field = np.stack([without_surface(each, seen, 2) for each in (com_y_px, com_x_px)])
    if not np.abs(field).max() > 0:
        return _nothing("the pattern does not move at all")
    window = _window(seen.shape)
    # Neighbouring coefficients share their noise through the window, and every one stands twice, with its conjugate.
    spread = 2 * window.size * float((window**4).sum()) / float((window**2).sum()) ** 2
    fits = {each: _fit(field, each) for each in ((False, True) if mirrored is None else (mirrored,))}
    best = min(fits, key=lambda each: fits[each].curl / max(fits[each].divergence, 1e-300))
    margin = inf if mirrored is not None else _margin(field, fits[best], best, spread)
    return _judged(fits[best], best, margin, spread, dark_field, seen, window)


def curl_by_angle(
    com_y_px: npt.NDArray[np.floating],
    com_x_px: npt.NDArray[np.floating],
    recorded: Mask,
    mirrored: bool,
    angles_deg: npt.NDArray[np.floating],
) -> Array:
    """What `fit_rotation` makes smallest: the share of the deflections that is curl, at each angle (n,), from 0 to 1.

    Rms, every frequency weighted as in the fit. All noise lies at the root of a half.
    """
    seen = recorded & np.isfinite(com_y_px) & np.isfinite(com_x_px)
    field = np.stack([without_surface(each, seen, 2) for each in (com_y_px, com_x_px)])
    weight = _fit(field, mirrored).weight
    curl, divergence = _parts(field, mirrored)
    power = [
        float((weight * np.abs(_turned(curl, divergence, float(angle))[0]) ** 2).sum())
        for angle in np.radians(angles_deg)
    ]
    whole = float((weight * (np.abs(curl) ** 2 + np.abs(divergence) ** 2)).sum())
    return np.sqrt(np.array(power) / max(whole, 1e-300))


@dataclass(frozen=True)
class _Fit:
    angle_rad: float
    curl: float
    """Weighted sums over all frequencies."""
    divergence: float
    curls: Waves
    divergences: Waves
    weight: Array


def _fading(number: int) -> tuple[Array, Array]:
    """Tukey's window, zero half a step beyond the borders, and its slope [1/position]."""
    at = (np.arange(number) + 0.5) / number
    near = np.minimum(at, 1 - at)
    inside = near >= TAPER
    rise = pi * near / (2 * TAPER)
    values = np.where(inside, 1.0, np.sin(rise) ** 2)
    slope = np.where(inside, 0.0, np.sin(2 * rise) * pi / (2 * TAPER * number) * np.sign(0.5 - at))
    return values, slope


def _window(shape: tuple[int, ...]) -> Array:
    window: Array = np.outer(*(_fading(n)[0] for n in shape))
    return window


def _window_slopes(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Derivatives of the window along y and x [1/position]."""
    (y, slope_y), (x, slope_x) = (_fading(n) for n in shape)
    return np.outer(slope_y, x), np.outer(y, slope_x)


def _frequencies(shape: tuple[int, ...]) -> tuple[Array, Array, Array, Mask]:
    """Frequencies (y, x) [rad per position], their length, and which of them count."""
    ky, kx = (2 * pi * k for k in np.meshgrid(*(fft.fftfreq(n) for n in shape), indexing="ij"))
    waves = np.hypot(ky * shape[0], kx * shape[1]) / (2 * pi)
    length = np.where(waves > 0, np.hypot(ky, kx), 1.0)
    # At Nyquist's frequency a wave and its opposite are the same and have no direction.
    return ky, kx, length, (waves >= LONGEST_WAVES) & (np.abs(ky) < 3.1) & (np.abs(kx) < 3.1)


def _parts(field: Array, mirrored: bool) -> tuple[Waves, Waves]:
    """Curl and divergence before any turn, (scan_y, scan_x) in frequencies, over the length of the frequency.

    Tested against w = W exp(-ik·r), W the window: ∫ w curl g = ∫ (g_y ∂x w - g_x ∂y w), which is zero without curl
    whatever the window. To transform a windowed field and take its curl would add that of the window.
    """
    shape = field[0].shape
    ky, kx, length, counts = _frequencies(shape)
    window, (slope_y, slope_x) = _window(shape), _window_slopes(shape)
    y, x = (-field[0] if mirrored else field[0]), field[1]
    hat_y, hat_x = fft.fft2(y * window), fft.fft2(x * window)
    curl = 1j * (ky * hat_x - kx * hat_y) - fft.fft2(x * slope_y - y * slope_x)
    divergence = 1j * (ky * hat_y + kx * hat_x) - fft.fft2(y * slope_y + x * slope_x)
    return curl * counts / length, divergence * counts / length


def _fit(field: Array, mirrored: bool) -> _Fit:
    curl, divergence = _parts(field, mirrored)
    weight = np.ones(curl.shape)
    angle, turned = 0.0, (curl, divergence)
    for _ in range(ROUNDS):
        cc, dd = float((weight * np.abs(curl) ** 2).sum()), float((weight * np.abs(divergence) ** 2).sum())
        cd = float((weight * (curl * divergence.conj()).real).sum())
        # Power of the curl turned by a: cc cos²a + 2 cd cos a sin a + dd sin²a, smallest at:
        angle = 0.5 * atan2(-2 * cd, dd - cc)
        turned = _turned(curl, divergence, angle)
        weight = _weights(*turned)
    power = [float((weight * np.abs(each) ** 2).sum()) for each in turned]
    return _Fit(angle, power[0], power[1], turned[0], turned[1], weight)


def _turned(curl: Waves, divergence: Waves, angle_rad: float) -> tuple[Waves, Waves]:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return c * curl + s * divergence, c * divergence - s * curl


def _rings(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    length = _frequencies(shape)[2]
    return np.minimum((length / pi * RINGS).astype(np.intp), RINGS - 1)


def _weights(curl: Waves, divergence: Waves) -> Array:
    """S/(N (S + N)): noise N is the curl of a ring, signal S what stands above it around a frequency."""
    counts = _frequencies(curl.shape)[3]
    noise = _ring_mean(np.abs(curl) ** 2)
    noise = np.maximum(noise, 1e-6 * float((np.abs(divergence) ** 2).max()) + 1e-300)
    # The sum of both does not depend on the angle, so that these weights cannot pull it.
    both = ndimage.uniform_filter(np.abs(curl) ** 2 + np.abs(divergence) ** 2, 3, mode="wrap")
    signal = np.maximum(both - 2 * noise, 0.0)
    weight: Array = np.where(counts, signal / (noise * (signal + noise)), 0.0)
    return weight


def _margin(field: Array, best: _Fit, mirrored: bool, spread: float) -> float:
    """Sigmas of the noise by which the other handedness leaves more curl."""
    curl, divergence = _parts(field, not mirrored)
    weight = best.weight
    cc, dd = float((weight * np.abs(curl) ** 2).sum()), float((weight * np.abs(divergence) ** 2).sum())
    cd = float((weight * (curl * divergence.conj()).real).sum())
    other, _ = _turned(curl, divergence, 0.5 * atan2(-2 * cd, dd - cc))
    return _above_noise(best, np.abs(other) ** 2 - np.abs(best.curls) ** 2, spread)


def _above_noise(fit: _Fit, excess: Array, spread: float) -> float:
    """Weighted sum of an excess of power, in standard errors of what the curl, which is noise, would make it."""
    noise = np.maximum(
        _ring_mean(np.abs(fit.curls) ** 2), ndimage.uniform_filter(np.abs(fit.curls) ** 2, 3, mode="wrap")
    )
    error = sqrt(2 * spread * float(((fit.weight * noise) ** 2).sum()))
    return float((fit.weight * excess).sum()) / error if error > 0 else 0.0


def _ring_mean(power: Array) -> Array:
    counts, ring = _frequencies(power.shape)[3], _rings(power.shape)
    number = np.maximum(np.bincount(ring[counts], minlength=RINGS), 1)
    mean: Array = (np.bincount(ring[counts], weights=power[counts], minlength=RINGS) / number)[ring]
    return mean


def _sigmas(terms: Array, spread: float) -> float:
    """Sum over its standard error where the terms were drawn about zero."""
    error = sqrt(spread * float((terms**2).sum()))
    return float(terms.sum()) / error if error > 0 else 0.0


def _judged(
    fit: _Fit,
    mirrored: bool,
    margin: float,
    spread: float,
    dark_field: npt.NDArray[np.number] | None,
    seen: Mask,
    window: Array,
) -> RotationFit:
    product = fit.weight * (fit.curls.conj() * fit.divergences).real
    curvature = fit.divergence - fit.curl
    # The larger of the sandwich and of what the noise predicts: few frequencies estimate their own scatter badly.
    predicted = fit.weight**2 * np.abs(fit.divergences) ** 2 * _ring_mean(np.abs(fit.curls) ** 2) / 2
    scatter = max(float((product**2).sum()), float(predicted.sum()))
    uncertainty = degrees(sqrt(spread * scatter) / curvature) if curvature > 0 else inf
    (unequal, shear), (unequal_error, shear_error) = _distortion(fit, spread)
    # The rotation is that of the x axis; what is sheared by more than chance turns it by half the shear.
    uncertainty = hypot(uncertainty, degrees(sqrt(max((shear / 2) ** 2 - shear_error**2, 0.0))))
    ratio = sqrt(fit.curl / fit.divergence) if fit.divergence > 0 else 1.0
    contrast = _above_noise(fit, np.abs(fit.divergences) ** 2 - np.abs(fit.curls) ** 2, spread)
    upright = 0.0
    if dark_field is not None:
        upright = _sigmas(_likeness(fit, without_surface(dark_field, seen, 1), window), spread)
    known = abs(upright) >= MIN_HALF_TURN
    angle = degrees(fit.angle_rad) + (180.0 if known and upright < 0 else 0.0)
    imprecise = False
    if contrast < MIN_CONTRAST or ratio > MAX_CURL:
        reason = f"no angle without curl: curl/divergence {ratio:.2f}, {contrast:.1f} sigma; vacuum or noise"
    elif abs(shear) > max(MAX_SHEAR, SHEAR_SIGMAS * shear_error) or abs(unequal) > max(
        MAX_UNEQUAL, SHEAR_SIGMAS * unequal_error
    ):
        reason = (
            f"the scan is sheared by {shear:+.2f}, its steps differ by {unequal:+.0%}: drift, a distorted scan, or a"
            " part of the detector that fails"
        )
    elif imprecise := not uncertainty <= MAX_UNCERTAINTY_DEG:
        reason = f"the rotation is known only to {uncertainty:.1f} degrees, at most {MAX_UNCERTAINTY_DEG:g}"
    elif margin < MIN_MARGIN:
        reason = f"both handednesses fit, {margin:.1f} sigma apart; scan a specimen without mirror lines"
    else:
        reason = ""
    return RotationFit(
        rotation_deg=angle - 360.0 if angle > 180.0 else angle,
        rotation_uncertainty_deg=uncertainty,
        mirrored=mirrored,
        mirrored_known=margin >= MIN_MARGIN,
        mirrored_margin=margin,
        half_turn_known=known,
        half_turn_margin=abs(upright),
        residual=ratio,
        ok=not reason,
        reason=reason,
        imprecise=imprecise,
    )


def _distortion(fit: _Fit, spread: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Difference of the steps and shear of the scan, as parts, and their errors: curl that goes with the divergence.

    A gradient in a frame stretched by [[e/2, s/2], [s/2, -e/2]] on (y, x) has, to first order, the curl
    d (s/2 (n_y² - n_x²) - e n_y n_x), d its divergence and n the direction of the frequency.
    """
    ky, kx, length, _ = _frequencies(fit.curls.shape)
    ny, nx = ky / length, kx / length
    columns = np.stack([-ny * nx * fit.divergences, 0.5 * (ny**2 - nx**2) * fit.divergences])
    normal = np.array([[float((fit.weight * (a.conj() * b).real).sum()) for b in columns] for a in columns])
    if not normal.any() or np.linalg.cond(normal) > 1e6:
        return (0.0, 0.0), (inf, inf)
    inverse = np.linalg.inv(normal)
    scores = fit.weight * (columns.conj() * fit.curls).real
    found = inverse @ scores.sum(axis=(1, 2))
    left = fit.curls - found[0] * columns[0] - found[1] * columns[1]
    scatter = (fit.weight * (columns.conj() * left).real).reshape(2, -1)
    errors = np.sqrt(spread * np.diag(inverse @ (scatter @ scatter.T) @ inverse))
    return (float(found[0]), float(found[1])), (float(errors[0]), float(errors[1]))


def _likeness(fit: _Fit, image: Array, window: Array) -> Array:
    """Real part of the cross-spectrum of the integrated deflection and an image, each ring by its strength."""
    other = fft.fft2((image - float((image * window).sum()) / float(window.sum())) * window)
    counts, ring = _frequencies(other.shape)[3], _rings(other.shape)
    # The divergence of a gradient is -k² times the potential; the normalisation takes care of k².
    cross = np.where(counts, -(fit.divergences.conj() * other).real, 0.0)
    strength = np.bincount(ring.ravel(), weights=(np.abs(fit.divergences) * np.abs(other) * counts).ravel())
    number = np.bincount(ring.ravel(), weights=counts.ravel().astype(np.float64))
    mean = (strength / np.maximum(number, 1))[ring]
    noise = np.bincount(ring.ravel(), weights=(np.abs(fit.curls) ** 2 * counts).ravel())[ring]
    signal = np.bincount(ring.ravel(), weights=(np.abs(fit.divergences) ** 2 * counts).ravel())[ring]
    agreement = np.maximum(1 - noise / np.maximum(signal, 1e-300), 0.0)
    terms: Array = np.where(mean > 0, agreement * cross / np.where(mean > 0, mean, 1.0), 0.0)
    return terms


def _nothing(reason: str) -> RotationFit:
    return RotationFit(nan, nan, False, False, 0.0, False, 0.0, nan, ok=False, reason=reason)
