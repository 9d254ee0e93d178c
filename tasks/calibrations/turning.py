"""The rotation of the scan to the detector and its handedness, from the centre of mass over the plan's area."""

from math import isfinite
from typing import Any

import numpy as np

from stem4d.calibrate.rotation import curl_by_angle, fit_rotation
from stem4d.maps import RunMaps
from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, clean, of_fit

ELECTRONS_PER_PATTERN = 2e4
"""The centre of mass is then known to a few thousandths of the disk's radius, which 48 x 48 positions turn into half a
degree."""


def measure(bench: Bench) -> tuple[Measured, ...]:
    """One scan of the area; what it costs is booked on the area's budget, and refused where that cannot bear it."""
    scan = bench.request_here(ELECTRONS_PER_PATTERN)
    scanned = bench.scan("rotation", bench.this_area, scan)
    maps = scanned.maps()
    fit = fit_rotation(
        maps.com_y_px,
        maps.com_x_px,
        maps.recorded,
        dark_field=maps.virtual["beyond_disk"],
        saturated_px=maps.saturated_px,
    )
    return (
        of_fit(
            "rotation",
            fit,
            ("rotation_deg", "mirrored", "half_turn_known"),
            errors=dict.fromkeys(("mirrored", "half_turn_known"), "no_error"),
            evidence=(scanned.dataset_id,),
            curves=_curl(maps, mirrored=fit.mirrored) if isfinite(fit.rotation_deg) else None,
        ),
    )


def _curl(maps: RunMaps, *, mirrored: bool) -> dict[str, Any]:
    """What the fit made smallest, at angles of half a turn: the other half no curl can tell."""
    angles = np.linspace(-90.0, 90.0, 91)
    return {
        "x": angles.tolist(),
        "data": clean(curl_by_angle(maps.com_y_px, maps.com_x_px, maps.recorded, mirrored, angles)),
        "x_label": "rotation [deg]",
        "y_label": "curl, share of the deflections",
    }
