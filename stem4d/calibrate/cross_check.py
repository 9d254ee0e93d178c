"""Rotation from deflections against rotation from tilted images: one figure, or a disagreement."""

from dataclasses import dataclass
from math import hypot, nan

from stem4d.calibrate.rotation import RotationFit
from stem4d.calibrate.tilt import TiltFit

WORST_SIGMAS = 4.0
"""Sigmas of both together by which they may differ."""
SYSTEMATIC_DEG = 0.3
"""Difference that neither's noise knows of: scan distortion and thickness act on them differently."""


@dataclass(frozen=True)
class Lie:
    """How the detector lies to the scan, from two measurements; NaN where they contradict each other."""

    rotation_deg: float
    """Scan x axis turned towards y, in (-180, 180]."""
    rotation_uncertainty_deg: float
    mirrored: bool
    half_turn_known: bool
    """Whether ``rotation_deg`` and not ``rotation_deg + 180`` is meant."""
    residual: float
    """Difference of the two rotations over its standard error; NaN where only the images say anything."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def cross_check(rotation: RotationFit, tilts: TiltFit) -> Lie:
    """Combine both, weighted by their errors.

    Where only one of them knows a rotation from one half a turn further, it decides; where neither does, the turn
    is the one that belongs to the nominal sign of the defocus, and stays declared open. Deflections that were refused
    for their standard error alone still count by their weight. Where they leave the handedness open too they say
    nothing, and the images must know the half turn by themselves.

    Parameters
    ----------
    rotation : RotationFit
        From the deflections of a scan.
    tilts : TiltFit
        From the tilted images of the same or another scan with the same scan rotation and projector.

    Returns
    -------
    Lie
        ``ok`` is false with a reason where one of them failed or both disagree.
    """
    if not (rotation.ok or rotation.imprecise):
        return _nothing(f"deflections: {rotation.reason}")
    if not tilts.ok:
        return _nothing(f"tilted images: {tilts.reason}")
    if rotation.imprecise and not rotation.mirrored_known:
        return _images_alone(tilts)
    if rotation.mirrored != tilts.mirrored:
        return _nothing(
            f"the handednesses disagree: mirrored is {rotation.mirrored} by deflections, {tilts.mirrored} by images"
        )
    apart = (tilts.rotation_deg - rotation.rotation_deg + 180) % 360 - 180
    opposite = abs(apart) > 90
    if opposite and rotation.half_turn_known:
        # Patterns move towards atoms: the deflections know, the images have it from the sign of the defocus.
        return _nothing("half a turn apart: the defocus has the other sign than the nominal one")
    difference = (apart + 90) % 180 - 90
    error = hypot(rotation.rotation_uncertainty_deg, tilts.rotation_uncertainty_deg, SYSTEMATIC_DEG)
    if abs(difference) > WORST_SIGMAS * error:
        return _nothing(
            f"the rotations disagree: {rotation.rotation_deg:.2f} by deflections, {tilts.rotation_deg:.2f} by images, "
            f"{abs(difference) / error:.1f} sigma",
            difference / error,
        )
    weights = rotation.rotation_uncertainty_deg**-2, tilts.rotation_uncertainty_deg**-2
    combined = tilts.rotation_deg - difference * weights[0] / sum(weights)
    return Lie(
        rotation_deg=180 - (180 - combined) % 360,
        rotation_uncertainty_deg=sum(weights) ** -0.5,
        mirrored=rotation.mirrored,
        half_turn_known=rotation.half_turn_known or tilts.half_turn_known,
        residual=difference / error,
        ok=True,
        reason="",
    )


def _images_alone(tilts: TiltFit) -> Lie:
    if not tilts.half_turn_known:
        return _nothing("neither the deflections nor the images tell the rotation from one half a turn further")
    return Lie(
        rotation_deg=tilts.rotation_deg,
        rotation_uncertainty_deg=tilts.rotation_uncertainty_deg,
        mirrored=tilts.mirrored,
        half_turn_known=True,
        residual=nan,
        ok=True,
        reason="",
    )


def _nothing(reason: str, residual: float = nan) -> Lie:
    return Lie(nan, nan, False, False, residual, ok=False, reason=reason)
