"""Rotation from deflections and from tilted images, where one session has both: one figure, or neither."""

from collections.abc import Iterable
from dataclasses import replace

from db.vocabulary import Verdict
from stem4d.calibrate.cross_check import cross_check
from tasks.calibrations.measured import Measured, clean

CHECKED = ("rotation", "defocus")
"""Kinds that say the same of the detector's lie to the scan; recorded only after they were held against each other."""


HALF_TURN_OPEN: dict[str, tuple[Verdict, str]] = {
    "rotation": ("warn", "half a turn more cannot be excluded: what it turns may come out with the other sign"),
    "defocus": (
        "fail",
        "its sign is open: -defocus with half a turn more shifts all images the same way, and neither the images nor a "
        "rotation tell; measure the rotation, or with more dose",
    ),
}
"""Verdict and reason of a kind whose half turn nobody knows."""


def agreed(found: Iterable[Measured]) -> tuple[Measured, ...]:
    """Both, the rotation as they have it together; both failed where they contradict each other.

    A rotation that its deflections alone do not tell well enough is the one of both too: the images have the weight
    then. One alone, or beside one whose fit was refused for another reason, stands as it is; but where the half turn
    stays open, a defocus fails and a rotation warns.
    """
    return tuple(_half_turn_judged(one) for one in _held_together(tuple(found)))


def _half_turn_judged(one: Measured) -> Measured:
    if not one.usable or one.value.get("half_turn_known", True):
        return one
    verdict, reason = HALF_TURN_OPEN[one.kind]
    return replace(one, verdict=verdict, reason="; ".join(each for each in (one.reason, reason) if each))


def _held_together(found: tuple[Measured, ...]) -> tuple[Measured, ...]:
    by_kind = {one.kind: one for one in found}
    if not all(kind in by_kind and by_kind[kind].fit is not None for kind in CHECKED):
        return found
    rotation, defocus = (by_kind[kind] for kind in CHECKED)
    imprecise = rotation.fit.imprecise
    if not defocus.fit.ok or not (rotation.fit.ok or imprecise):
        return found
    lie = cross_check(rotation.fit, defocus.fit)
    if imprecise and not lie.ok and not defocus.fit.half_turn_known and not rotation.fit.mirrored_known:
        return found
    if not lie.ok:
        return tuple(
            replace(one, verdict="fail", reason=f"rotation and defocus contradict each other: {lie.reason}")
            for one in found
        )
    together = {
        "rotation_deg": lie.rotation_deg,
        "mirrored": lie.mirrored,
        "half_turn_known": lie.half_turn_known,
        "by_deflections_deg": clean(rotation.fit.rotation_deg),
        "by_tilted_images_deg": clean(defocus.fit.rotation_deg),
    }
    evidence = tuple(dict.fromkeys((*rotation.evidence, *defocus.evidence)))
    rotation = replace(
        rotation,
        verdict="pass",
        reason="",
        value={**rotation.value, **together},
        uncertainty={**(rotation.uncertainty or {}), "rotation_deg": lie.rotation_uncertainty_deg},
        evidence=evidence,
    )
    # Where the deflections know the half turn and both agree, the sign of the defocus is the nominal one.
    defocus = replace(defocus, value={**defocus.value, "half_turn_known": lie.half_turn_known})
    return tuple({"rotation": rotation, "defocus": defocus}.get(one.kind, one) for one in found)
