"""How well each kind has to be known: a fit that is sound but says less than this is used with a warning."""

from dataclasses import dataclass, replace
from typing import Any

from stem4d.optics import depth_of_field_a
from stem4d.plan import Plan

TRANSFERRED = 0.007
"""Largest relative error of an angle per pixel that was transferred from a convergence angle."""
DEPTH_SHARE = 0.25
"""Part of the depth of field by which a defocus may be off: no image shows less."""


@dataclass(frozen=True)
class Limit:
    """Largest standard error of one figure of a kind: the larger of both parts."""

    name: str
    """In the uncertainty of a calibration."""
    unit: str
    most: float = 0.0
    part: float = 0.0
    """Of the value itself."""
    of: str = ""
    """The name of the value that ``part`` is of, where it is not ``name``."""

    def figure(self, value: float) -> float:
        """The largest standard error for a value."""
        return max(self.most, self.part * abs(value))

    @property
    def words(self) -> str:
        """For people: ``0.5 %``, ``5 % or 2 nm``."""
        parts = [f"{self.part:.1%}".replace(".0%", "%").replace("%", " %")] if self.part else []
        return " or ".join([*parts, *([f"{self.most:g} {self.unit}".strip()] if self.most else [])])


LIMITS: dict[str, tuple[Limit, ...]] = {
    "centre": (Limit("centre_px", "px", 0.02),),
    "descan": (Limit("plane_px", "px", 0.01),),
    "current": (Limit("true_over_commanded", "", part=0.03),),
    "counts_per_electron": (Limit("counts_per_electron", "counts/e", part=0.01),),
    "mrad_per_pixel": (Limit("mrad_per_pixel", "mrad", part=0.002),),
    "ellipticity": (Limit("ellipticity", "", 0.003),),
    "convergence_semi_angle": (Limit("convergence_semi_angle_mrad", "mrad", part=0.005),),
    "rotation": (Limit("rotation_deg", "deg", 0.5),),
    "scan_step": (Limit("step_y_nm", "nm", part=0.005), Limit("step_x_nm", "nm", part=0.005)),
    "defocus": (Limit("defocus_nm", "nm", part=0.01), Limit("astigmatism_nm", "nm", 2.0, 0.05)),
    "drift": (Limit("drift_nm_per_min", "nm/min", part=0.05, of="speed_nm_per_min"),),
}
"""How well a run has to know each kind. A bad pixel mask and a dark level state no error to bound."""


def limits_of(kind: str, value: dict[str, Any], plan: Plan) -> tuple[Limit, ...]:
    """The limits of a kind for a plan's optics: a defocus need be no better than the depth of field shows."""
    found = LIMITS.get(kind, ())
    if kind == "defocus":
        optics = plan.optics
        depth_nm = depth_of_field_a(optics.beam_energy_kev, optics.convergence_semi_angle_mrad) / 10
        return tuple(
            replace(each, most=DEPTH_SHARE * depth_nm) if each.name == "defocus_nm" else each for each in found
        )
    if kind == "mrad_per_pixel" and value.get("source") == "transfer":
        return tuple(replace(each, part=TRANSFERRED) for each in found)
    if kind == "drift" and "shift_limit_nm_per_min" in value:
        return tuple(replace(each, most=value["shift_limit_nm_per_min"]) for each in found)
    return found
