"""The rotation of the scan to the detector and its handedness, from the centre of mass over the plan's area."""

from math import cos, sin
from typing import Any

import numpy as np

from stem4d.calibrate.rotation import fit_rotation
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
            curves=_curl_by_angle(maps, fit.rotation_deg, mirrored=fit.mirrored),
        ),
    )


def _curl_by_angle(maps: RunMaps, found_deg: float, *, mirrored: bool) -> dict[str, Any]:
    """Rms curl of the deflections in the scan's frame, if the scan were turned by each of many angles."""
    y, x = (np.nan_to_num(com - np.nanmean(com)) for com in (maps.com_y_px, maps.com_x_px))
    y = -y if mirrored else y
    angles = np.linspace(-90.0, 90.0, 91)
    curls = []
    for turned in np.radians(angles):
        in_scan_y, in_scan_x = cos(turned) * y - sin(turned) * x, sin(turned) * y + cos(turned) * x
        curl = np.gradient(in_scan_x, axis=0) - np.gradient(in_scan_y, axis=1)
        curls.append(float(np.sqrt(np.mean(curl**2))))
    # Without the half turn that no curl can tell.
    mark = (found_deg + 90) % 180 - 90
    return {
        "x": angles.tolist(),
        "data": curls,
        "mark": clean(mark),
        "x_label": "rotation [deg]",
        "y_label": "curl of the centre of mass [px per position]",
    }
