"""What the plan rules see of a calibration: single figures with their uncertainties, by the rules' own names."""

from math import sqrt
from typing import Any

from stem4d.rules.registry import Calibrated

_FIELDS: dict[str, dict[str, str]] = {
    "mrad_per_pixel": {"mrad_per_pixel": "mrad_per_pixel"},
    "ellipticity": {"ellipticity": "ellipticity"},
    "convergence_semi_angle": {"convergence_semi_angle": "convergence_semi_angle_mrad"},
    "rotation": {"rotation": "rotation_deg"},
    "scan_step": {"scan_step_y": "step_y_nm", "scan_step_x": "step_x_nm", "scan_shear": "shear"},
    "defocus": {"defocus": "defocus_nm"},
    "current": {"current_ratio": "true_over_commanded"},
    "descan": {"descan": "range_after_px"},
}
"""By kind: name in the rules to name in the calibration's value."""


def figures_of(kind: str, value: Any, uncertainty: Any, step_nm: float) -> dict[str, Calibrated]:
    """The figures of one calibration; one without an uncertainty counts as exact.

    ``step_nm`` is the step that the plan asks for: a step is calibrated as a part of what the scan was told.
    """
    if kind == "centre":
        # The rules ask whether it is known; where it lies they have from the plan.
        return {"centre": Calibrated(value=0.0, uncertainty=max((uncertainty or {}).get("centre_px", (0.0,))))}
    scale = dict.fromkeys(("step_y_nm", "step_x_nm"), step_nm / value.get("nominal_step_nm", step_nm))
    found = {
        name: Calibrated(
            value=value[field] * scale.get(field, 1.0),
            uncertainty=float((uncertainty or {}).get(field) or 0.0) * scale.get(field, 1.0),
        )
        for name, field in _FIELDS.get(kind, {}).items()
        if value.get(field) is not None
    }
    if "scan_step_y" in found and "scan_step_x" in found:
        y, x = found["scan_step_y"], found["scan_step_x"]
        worst = max(y.uncertainty, x.uncertainty)
        found["scan_step"] = Calibrated(value=sqrt(y.value * x.value), uncertainty=worst)
    return found
