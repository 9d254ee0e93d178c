"""DPC and iDPC from centre of mass maps: deflections in the scan's frame, fields and phase, each with its noise."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt

from stem4d.analyse.com import pictures as draw
from stem4d.analyse.com.curl import CurlCheck, check_curl
from stem4d.analyse.com.fields import phase_gradient_per_mrad
from stem4d.analyse.com.grid import FEWEST, filled
from stem4d.analyse.com.noise import Region, region_of
from stem4d.analyse.geometry import angles_per_px, require_sound
from stem4d.analyse.method import Given, NotPossible, Outcome
from stem4d.analyse.usable import MOST_SATURATED
from stem4d.calibrate.rotation import RotationFit, fit_rotation
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.model import Positive, Strict
from stem4d.virtual_detectors import VirtualDetector

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LEAST_RESPONSE, POOR_RESPONSE = 0.3, 0.9
"""Of the centre of mass to the movement of the pattern: below the first it says nothing, below the second little."""
MOST_MISSING = 0.2
"""Part of the positions that may be filled in before the phase is integrated."""
MOST_MISMATCH_PX = 0.05
DARK = ("haadf", "adf")
"""Images by whose names what scatters is told, the best first."""
NEARLY_EQUAL = 0.1
"""Part by which the steps may differ for a fit with equal ones to tell the sign of all deflections."""
LEAST_SPREAD = 0.2
"""Of the electrons of a pattern [of the variance of an evenly filled disk] below which it is that of something else."""
STRUCTURE_SIGMAS = 5.0
"""By which the power of the deflections must exceed that of counting noise to be a specimen's."""


class ComOptions(Strict):
    """What is made of the centres of mass."""

    field: Literal["electric", "magnetic", "none"] = "electric"
    """What deflects."""
    phase: bool = True
    """Whether to integrate the deflections (iDPC)."""
    region_outer_mrad: Positive | None = None
    """Where frames are read again: radius within which the centre of mass is taken; all of the detector if absent."""


@dataclass(frozen=True)
class Deflected:
    """Deflections in the scan's frame, (scan_y, scan_x); NaN where they are not known."""

    y_mrad: Array
    x_mrad: Array
    sigma_y_mrad: Array
    sigma_x_mrad: Array
    """Counting noise of each position."""
    known: Mask
    region: Region

    @property
    def noise_mrad(self) -> tuple[float, float]:
        """Rms noise (y, x)."""
        return _rms(self.sigma_y_mrad[self.known]), _rms(self.sigma_x_mrad[self.known])


def deflections(
    given: Given,
    maps: RunMaps,
    rotation_deg: float | None,
    com_region: VirtualDetector | None = None,
    com_counts: npt.NDArray[np.number] | None = None,
    summed: Mask | None = None,
) -> Deflected:
    """Deflections about the origin of each position, turned and mirrored into the scan's frame.

    Where the region cuts the pattern, or bad pixels lie in it, what that does is taken back to first order.

    Raises
    ------
    NotPossible
        Without a centre of mass anywhere, or where the region hardly lets it move.
    BadInput
        If arrays do not fit the maps.
    """
    shape, detector = maps.scan_shape, (maps.sum_pattern.shape[0], maps.sum_pattern.shape[1])
    require_sound(given, shape, detector)
    counts = com_counts
    if counts is None:
        counts = maps.total if com_region is None else maps.total * _share(maps, given.bad_pixels, com_region)
    if counts.shape != shape:
        raise BadInput(field="com_counts", value=counts.shape, limit=f"{shape}, as the maps")
    com = np.stack([maps.com_y_px, maps.com_x_px]).astype(np.float64)
    known = maps.recorded & np.isfinite(com).all(axis=0) & (counts > 0)
    if not known.any():
        raise NotPossible("no position has a centre of mass: no frame was recorded, or none holds a count")
    weights = np.ones(detector, bool) if com_region is None else com_region.weights(detector).astype(bool)
    of = known if summed is None else known & summed
    if not of.any():
        raise NotPossible("none of the frames whose patterns were summed has a centre of mass")
    region = region_of(maps.sum_pattern, com[:, of], counts[of].astype(np.float64), given.bad_pixels, weights)
    if region.least_response < LEAST_RESPONSE:
        raise NotPossible(
            f"the centre of mass moves by only {region.least_response:.2f} of what the pattern does: its region cuts "
            "the disk. Take it over a larger region, with a pass over the frames"
        )
    back = np.linalg.inv(region.response)
    turned = angles_per_px(given, rotation_deg)
    middle = region.middle_px[:, None, None]
    place = np.einsum("ab,byx->ayx", back, com - region.offset_px[:, None, None] - middle) + middle
    angle = np.einsum("ab,byx->ayx", turned, place - given.origin_at(shape))
    angle[:, ~known] = np.nan
    through = turned @ back
    covariance = through @ _spread(region, given) @ through.T
    electrons = np.where(known, counts / given.counts_per_electron, np.nan)
    sigma = [np.sqrt(covariance[axis, axis] / electrons) for axis in (0, 1)]
    return Deflected(angle[0], angle[1], sigma[0], sigma[1], known, region)


def com_outcome(
    given: Given,
    maps: RunMaps,
    options: ComOptions | None = None,
    com_region: VirtualDetector | None = None,
    com_counts: npt.NDArray[np.number] | None = None,
    summed: Mask | None = None,
) -> Outcome:
    """Deflection, fields and phase from the maps of a pass, without looking at a frame.

    Parameters
    ----------
    given : Given
        With the origin of every position where the pattern moves with the scan.
    maps : RunMaps
        Of the pass.
    options : ComOptions, optional
        What is made of them.
    com_region : Annulus or PixelMask, optional
        Where the accumulator took the centre of mass; the whole detector if absent.
    com_counts : ndarray, shape (scan_y, scan_x), optional
        Counts it was taken from; if absent, the part of ``maps.total`` that the sum of all patterns has there.
    summed : ndarray of bool, shape (scan_y, scan_x), optional
        Positions that ``maps.sum_pattern`` is the sum of; all that were recorded if absent.

    Returns
    -------
    Outcome
        Doubtful where the rotation is not known or leaves curl, patterns are saturated or cut, or nothing moves.

    Raises
    ------
    NotPossible, BadInput
        As `deflections`.
    """
    chosen = options or ComOptions()
    rotation, mirrored, doubts = _rotation(given, maps, chosen.field)
    given = replace(given, mirrored=mirrored)
    found = deflections(given, maps, rotation, com_region, com_counts, summed)
    doubts += _doubts(given, found, maps)
    noise = found.noise_mrad
    moved = [found.y_mrad[found.known], found.x_mrad[found.known]]
    power = sum(float(np.mean((each - each.mean()) ** 2)) for each in moved)
    excess = power / max(noise[0] ** 2 + noise[1] ** 2, 1e-300) - 1
    # Of 2n squares of normal deviates; the two means are taken out.
    if excess < STRUCTURE_SIGMAS / sqrt(max(found.known.sum(), 1)):
        doubts.append("the deflections do not exceed their counting noise")
    figures: dict[str, float | int | str | bool | None] = {
        "positions": int(found.known.sum()),
        "mean_deflection_mrad": float(np.hypot(*moved).mean()),
        "rms_deflection_mrad": sqrt(power / 2),
        "noise_y_mrad": noise[0],
        "noise_x_mrad": noise[1],
        "power_over_noise": excess,
        "com_response": found.region.least_response,
        "scan_rotation_deg": rotation,
        "mirrored": mirrored,
    }
    figures |= _systematic(given, maps)
    values = [filled(each, found.known) for each in (found.y_mrad, found.x_mrad)]
    pictures = draw.deflection(given, found)
    told = f"deflection {sqrt(power / 2):.3g} mrad rms per axis, counting noise {_rms(np.array(noise)):.3g} mrad"
    if rotation is not None:
        pictures += draw.fields(given, found, chosen.field)
    if min(maps.scan_shape) >= FEWEST and rotation is not None:
        curl = check_curl(values[0], values[1], found.known, given.scan_step_nm, noise)
        pictures += draw.differentials(given, curl, found.known)
        figures |= _curl_figures(curl)
        if curl.doubt:
            doubts.append(curl.doubt)
        missing = 1 - float(found.known.mean())
        if chosen.phase and missing <= MOST_MISSING:
            phase, more = draw.phase(given, values, found, chosen.field)
            # The phase is what most look for: first.
            pictures, figures = phase + pictures, figures | more
            told += f"; phase {more['phase_rms_rad']:.3g} rad rms, noise {more['phase_noise_rad']:.3g} rad"
        elif chosen.phase:
            doubts.append(f"{missing:.0%} of the positions are missing: the phase is not integrated over so many")
    elif rotation is not None and chosen.phase:
        doubts.append(f"{maps.scan_shape} positions (y, x) are too few for curl and phase; it takes {FEWEST} each way")
    verdict: Literal["good", "doubtful"] = "doubtful" if doubts else "good"
    return Outcome(verdict, "; ".join([told, *doubts]), figures, pictures)


def _systematic(given: Given, maps: RunMaps) -> dict[str, float | int | str | bool | None]:
    """What uncertainties of scale and origin do: a factor of all deflections, a ramp of the phase over the field."""
    figures: dict[str, float | int | str | bool | None] = {}
    if (scale := given.uncertainty.get("mrad_per_pixel")) is not None:
        figures["deflection_relative_uncertainty"] = scale / given.mrad_per_pixel
    if (origin := given.uncertainty.get("origin_px")) is not None:
        size = max(n * step for n, step in zip(maps.scan_shape, given.scan_step_nm, strict=True))
        per_nm = phase_gradient_per_mrad(given.beam_energy_kev) * given.mrad_per_pixel
        figures["phase_ramp_uncertainty_rad"] = origin * per_nm * size
    return figures


def _rotation(given: Given, maps: RunMaps, field: str) -> tuple[float | None, bool | None, list[str]]:
    """Rotation and handedness that were measured before, or that these maps tell."""
    if given.scan_rotation_deg is not None:
        doubts = ["whether the detector is mirrored is not known: that it is not was taken"]
        doubts = doubts if given.mirrored is None else []
        if field != "magnetic" and _upside_down(given, maps):
            doubts.append(
                f"the deflections point away from what scatters: the scan's rotation of {given.scan_rotation_deg:.1f} "
                "deg looks half a turn off, unless charge and not mass makes the field"
            )
        return given.scan_rotation_deg, given.mirrored, doubts
    untold = "the scan's rotation is not known: directions are those of the detector, and there is no field's sign"
    steps = given.scan_step_nm
    if abs(steps[0] - steps[1]) > 1e-3 * max(steps):
        return None, given.mirrored, [untold]
    fit = _found_rotation(given, maps)
    if not fit.ok:
        return None, given.mirrored, [f"{untold} ({fit.reason})"]
    told = f"rotation {fit.rotation_deg:.1f} ± {fit.rotation_uncertainty_deg:.1f} deg found in these deflections"
    if not fit.half_turn_known:
        words = f"{told} but for half a turn: all signs may be the opposite ones"
        return fit.rotation_deg, fit.mirrored, [words]
    return fit.rotation_deg, fit.mirrored, []


def _found_rotation(given: Given, maps: RunMaps) -> RotationFit:
    dark = next((maps.virtual[name] for name in DARK if name in maps.virtual), None)
    return fit_rotation(maps.com_y_px, maps.com_x_px, maps.recorded, dark, given.mirrored, maps.saturated_px)


def _upside_down(given: Given, maps: RunMaps) -> bool:
    """Whether the dark field tells the other sign of all deflections than the rotation that was given."""
    steps, rotation = given.scan_step_nm, given.scan_rotation_deg
    if rotation is None or min(maps.scan_shape) < FEWEST or abs(steps[0] - steps[1]) > NEARLY_EQUAL * max(steps):
        return False
    fit = _found_rotation(given, maps)
    return fit.ok and fit.half_turn_known and abs((fit.rotation_deg - rotation + 180) % 360 - 180) > 90


def _doubts(given: Given, found: Deflected, maps: RunMaps) -> list[str]:
    doubts = []
    if _outshone(found.region, given):
        doubts.append(
            "the electrons of a pattern spread less than over the disk: some frames or pixels outshine the others by "
            "far; noise is that of an evenly filled disk"
        )
    saturated = float((maps.saturated_px[found.known] > 0).mean())
    if saturated > MOST_SATURATED:
        doubts.append(f"pixels stand at full scale in {saturated:.0%} of the patterns, which holds their centre back")
    response = found.region.least_response
    if response < POOR_RESPONSE:
        doubts.append(
            f"the centre of mass moves by {response:.2f} of what the pattern does, as its region or the detector cuts "
            "it; deflections are divided by that"
        )
    if found.region.mismatch_px > MOST_MISMATCH_PX:
        doubts.append(
            f"the centres of mass were taken over another region than is known, {found.region.mismatch_px:.2g} px off "
            "the mean pattern's: noise and response may be wrong"
        )
    return doubts


def _curl_figures(curl: CurlCheck) -> Mapping[str, float | None]:
    return {
        "curl_smoothed_positions": curl.smoothed_positions,
        "curl_rms_mrad_per_nm": curl.rms,
        "curl_noise_mrad_per_nm": curl.noise,
        "curl_sigmas": curl.sigmas,
        "divergence_rms_mrad_per_nm": curl.divergence_rms,
        "rotation_left_deg": curl.rotation_deg,
        "rotation_left_uncertainty_deg": curl.rotation_uncertainty_deg,
    }


def _share(maps: RunMaps, bad: Mask, region: VirtualDetector) -> float:
    """Part of all counts that lie in a region: a map of the total counts what was scattered beside it too."""
    good = np.where(bad, 0.0, maps.sum_pattern)
    return float((good * region.weights(good.shape)).sum() / max(float(good.sum()), 1e-30))


def _spread(region: Region, given: Given) -> Array:
    """Covariance of where electrons land [px²], at least that of an evenly filled disk where it is not cut."""
    least = 1e-3 * _disk_px2(given)
    value, vectors = np.linalg.eigh((region.spread_px2 + region.spread_px2.T) / 2)
    if _outshone(region, given):
        least = _disk_px2(given)
    whole: Array = vectors @ np.diag(np.maximum(value, least)) @ vectors.T
    return whole


def _disk_px2(given: Given) -> float:
    """Variance along an axis of where the electrons of an evenly filled disk land [px²]."""
    return (given.convergence_semi_angle_mrad / given.mrad_per_pixel / 2) ** 2


def _outshone(region: Region, given: Given) -> bool:
    """Whether patterns that are not cut have less spread than a disk gives them: a few frames are most of the sum."""
    uncut = region.least_response >= POOR_RESPONSE
    return uncut and region.least_spread_px2 < LEAST_SPREAD * _disk_px2(given)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
