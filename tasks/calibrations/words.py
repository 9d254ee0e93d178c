"""Calibrations in words for the console: a value with its error and unit, and what helps where a fit was refused."""

from collections.abc import Mapping
from typing import Any

from tasks.calibrations.measured import Measured

_SHOWN: Mapping[str, tuple[tuple[str, str], ...]] = {
    "centre": (("centre_px", "px"),),
    "descan": (("range_after_px", "px left of the movement"),),
    "current": (("true_over_commanded", "of the current set"),),
    "counts_per_electron": (("counts_per_electron", "counts/e"),),
    "dark_flat": (("offset_counts", "counts"),),
    "mrad_per_pixel": (("mrad_per_pixel", "mrad/px"),),
    "ellipticity": (("ellipticity", ""),),
    "convergence_semi_angle": (("convergence_semi_angle_mrad", "mrad"),),
    "rotation": (("rotation_deg", "deg"),),
    "scan_step": (("step_y_nm", "nm (y)"), ("step_x_nm", "nm (x)")),
    "defocus": (("defocus_nm", "nm"), ("astigmatism_nm", "nm of astigmatism")),
    "drift": (("drift_nm_per_min", "nm/min (y, x)"),),
}
"""By kind: the figures that a line shows, each with its unit."""

HELP: Mapping[str, str] = {
    "centre": "look at the vacuum scan: a beam on the detector, no specimen, an aperture that is not cut",
    "descan": "look at the vacuum scan: a smaller field, or more dose at each position",
    "current": "a vacuum area without specimen, and a disk wholly on the detector",
    "counts_per_electron": "a longer dwell, so that each pixel of the disk counts more",
    "mrad_per_pixel": "more reference areas of thin film, or a camera length that shows more rings",
    "ellipticity": "more reference areas of thin film, or a camera length that shows more rings",
    "rotation": "more dose (a longer dwell), a larger field, or another specimen with more structure; `defocus` "
    "measured in the same session gives the rotation too",
    "scan_step": "a field and a step that resolve the lattice of the reference area",
    "defocus": "more dose, a larger field, more defocus, or another specimen with more structure",
    "drift": "more dose, a larger field, or another specimen with more structure",
}
"""By kind: what would help where its gate refused the fit."""


def figures(kind: str, value: Mapping[str, Any], uncertainty: Mapping[str, Any] | None) -> str:
    """``7.36 ± 0.16 deg``; empty where there is nothing to show."""
    if kind == "pixel_mask" and "bad_pixels" in value:
        return f"{len(value['bad_pixels'])} bad pixels"
    shown = [
        f"{_number(value[name], (uncertainty or {}).get(name))} {unit}".strip()
        for name, unit in _SHOWN.get(kind, ())
        if value.get(name) is not None
    ]
    return ", ".join(shown)


def told(one: Measured) -> str:
    """A line for a kind that was measured: ``rotation: 7.36 ± 0.16 deg, pass``."""
    value = figures(one.kind, one.value, one.uncertainty)
    line = f"{one.kind}: {value}{', ' if value else ''}{one.verdict.replace('_', ' ')}"
    return f"{line}. {one.reason}" if one.reason else line


def refused(kind: str, reason: str) -> str:
    """The reason of a refused fit, and what would help."""
    return f"{reason}. What helps: {HELP[kind]}" if kind in HELP else reason


def _number(value: Any, error: Any) -> str:
    if isinstance(value, list):
        errors = error if isinstance(error, list) else [error] * len(value)
        return ", ".join(_number(one, each) for one, each in zip(value, errors, strict=True))
    if value is None:
        return "not known"
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"
