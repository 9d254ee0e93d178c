"""The aberrations, rotation and handedness that align the images, and what makes them doubtful."""

from dataclasses import dataclass, replace
from math import hypot, pi, sqrt

import numpy as np
import numpy.typing as npt

from stem4d import optics
from stem4d.analyse.geometry import projection_of
from stem4d.analyse.method import Array, Given, NotPossible, Parts
from stem4d.calibrate.angles import MOST_GROUPS, AngleGroups, TiltImages
from stem4d.calibrate.tilt import Order, TiltFit, fit_tilts

SURE = 2.0
"""Errors of the defocus that must lie within what is allowed of it for it to be good."""
ALLOWED_PART = 0.01
EXPECTED_PART = 0.25
"""How far from the nominal defocus one is expected where nobody said how well that is known."""
APART = 3.0
"""Errors by which a rotation may differ from the one that was given."""
FEW_DEGREES = 2.0
ROWS_TOGETHER = 16


@dataclass(frozen=True)
class Aligned:
    """What aligns the images."""

    fit: TiltFit
    projection: Array
    doubts: tuple[str, ...]

    @property
    def values(self) -> Array:
        """Those of `tilt_model.PARAMETERS` that were fitted."""
        known: Array = self.fit.coefficients_nm[np.isfinite(self.fit.coefficients_nm)]
        return known


def tilt_images(given: Given, groups: AngleGroups, parts: Parts) -> TiltImages:
    """The gathered counts in electrons, in groups as large as the fit takes them."""
    radius = optics.disk_radius_px(given.convergence_semi_angle_mrad, given.mrad_per_pixel)
    number = np.diff(np.append(groups.first, len(groups.pixels)))
    merged = max(1, round(radius * sqrt(pi / MOST_GROUPS) / groups.width_px))
    side = merged * groups.width_px
    cell = np.floor(groups.angles_px / side + (merged % 2) / 2).astype(np.int64)
    which = np.unique(cell, axis=0, return_inverse=True)[1].reshape(-1)
    pixels = np.bincount(which, weights=number)
    full = pixels >= 0.5 * side**2
    order = np.argsort(which, kind="stable")
    begins = np.searchsorted(which[order], np.arange(len(pixels)))
    angles = np.stack([np.bincount(which, weights=number * one) / pixels for one in groups.angles_px.T], axis=1)[full]
    shape = parts["recorded"].shape
    images = np.empty((len(angles), *shape), np.float32)
    for first in range(0, shape[0], ROWS_TOGETHER):
        rows = slice(first, first + ROWS_TOGETHER)
        sums = np.add.reduceat(parts["counts"][rows][..., order], begins, axis=-1, dtype=np.float64)[..., full]
        images[:, rows] = np.moveaxis(sums / given.counts_per_electron, -1, 0)
    return TiltImages(
        replace(groups, angles_px=angles, width_px=float(side), first=groups.first[: len(angles)]),
        images,
        np.asarray(parts["dark_field"], np.float32) / np.float32(given.counts_per_electron),
        np.asarray(parts["recorded"], bool),
        np.asarray(parts["saturated"], np.uint32),
        np.moveaxis(np.asarray(parts["centre_px"], np.float32), -1, 0),
    )


def aligned(given: Given, images: TiltImages, order: Order) -> Aligned:
    """Fit the images, and judge the fit against what is known of them.

    Raises
    ------
    NotPossible
        Where `fit_tilts` refuses: the images do not tell what aligns them, or a wrong optimum was found.
    """
    assert given.defocus_nm is not None
    projection = projection_of(given)
    fit = _fitted(given, images, projection, order, given.mirrored)
    if not fit.ok and given.mirrored is not None:
        other = _fitted(given, images, projection, order, not given.mirrored)
        if other.ok:
            told = "mirrored" if other.mirrored else "not mirrored"
            raise NotPossible(
                f"{fit.reason}; the images align where the detector is {told}, other than was said: "
                f"defocus {other.defocus_nm:.4g} nm, rotation {other.rotation_deg:.1f} deg. Say so, and analyse again"
            )
        raise NotPossible(f"{fit.reason}. {_remedy(fit)}")
    return Aligned(fit, projection, tuple(_doubts(given, fit)))


def allowed_nm(given: Given, defocus_nm: float) -> float:
    """How well a defocus has to be known: 1 %, or a quarter of the depth of field."""
    return max(ALLOWED_PART * abs(defocus_nm), depth_of_field_nm(given) / 4)


def depth_of_field_nm(given: Given) -> float:
    """λ/α² [nm]."""
    return optics.depth_of_field_a(given.beam_energy_kev, given.convergence_semi_angle_mrad) / 10


def _fitted(
    given: Given, images: TiltImages, projection: npt.NDArray[np.float64], order: Order, mirrored: bool | None
) -> TiltFit:
    return fit_tilts(
        images,
        given.scan_step_nm[0],
        projection,
        given.convergence_semi_angle_mrad,
        given.beam_energy_kev,
        given.defocus_nm or 0.0,
        order,
        given.scan_rotation_deg,
        mirrored,
        trust_sign=True,
    )


def _doubts(given: Given, fit: TiltFit) -> list[str]:
    doubts = []
    nominal = given.defocus_nm or 0.0
    allowed = allowed_nm(given, fit.defocus_nm)
    if SURE * fit.defocus_uncertainty_nm > allowed:
        doubts.append(
            f"the defocus is known to {fit.defocus_uncertainty_nm:.2g} nm only; a good one is known to "
            f"{allowed / SURE:.2g} nm, which takes more dose or a larger field"
        )
    said = given.uncertainty.get("defocus_nm")
    expected = EXPECTED_PART * abs(nominal) if said is None else APART * hypot(said, fit.defocus_uncertainty_nm)
    if abs(fit.defocus_nm - nominal) > expected:
        doubts.append(f"the defocus is further from the nominal {nominal:.4g} nm than the expected {expected:.2g} nm")
    if not fit.half_turn_known:
        doubts.append(
            f"the sign of the defocus is the nominal one's, the images tell it with {fit.half_turn_margin:.1f} sigma: "
            "with the other sign the rotation is half a turn more. A scan rotation from deflections tells it"
        )
    if given.scan_rotation_deg is not None:
        off = abs((fit.rotation_deg - given.scan_rotation_deg + 180) % 360 - 180)
        sigma = hypot(fit.rotation_uncertainty_deg, given.uncertainty.get("scan_rotation_deg", 0.0))
        if off > max(FEW_DEGREES, APART * sigma):
            doubts.append(f"the rotation differs by {off:.1f} deg from the {given.scan_rotation_deg:.1f} deg given")
    depth = depth_of_field_nm(given)
    if given.thickness_nm is not None and given.thickness_nm > depth:
        doubts.append(f"the specimen, {given.thickness_nm:.3g} nm, is thicker than the depth of field, {depth:.3g} nm")
    return doubts


def _remedy(fit: TiltFit) -> str:
    if np.isnan(fit.defocus_nm):
        return "It takes a defocused scan of a thin specimen with structure, and a nominal defocus right within a half"
    return "More dose, a larger field or a nominal defocus nearer to the true one may make it possible"
