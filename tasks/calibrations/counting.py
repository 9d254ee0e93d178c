"""Counts per electron, from how much the pixels of a standing vacuum pattern vary."""

from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.gain import fit_gain
from tasks.calibrations.bench import Bench
from tasks.calibrations.exposed import VACUUM_ELECTRONS
from tasks.calibrations.measured import Measured, clean, of_fit

GRID = 16
"""Frames along each axis: 256 of one scene."""
POINTS = 40
"""Groups of pixels that the report draws."""
FIELD_SHARE = 0.01
"""Of the plan's field: the disk stands still, and the frames are repeats of one scene."""


def measure(bench: Bench) -> tuple[Measured, ...]:
    """One vacuum scan over next to no field, at the plan's dwell; of an integrating detector at that of its dark."""
    field_nm = max(bench.plan.scan.field_nm) * FIELD_SHARE
    least = VACUUM_ELECTRONS if bench.integrates else 0.0
    request = bench.request((GRID, GRID), electrons_per_pattern=least, field_nm=field_nm)
    scanned = bench.scan("gain", bench.vacuum, request)
    detector = scanned.plan.detector
    frames, bad = scanned.frames(), bench.bad_pixels
    fit = fit_gain(frames, bench.dark, bad, detector.full_scale)
    exposure_s = scanned.exposure_s
    return (
        of_fit(
            "counts_per_electron",
            fit,
            ("counts_per_electron",),
            evidence=(scanned.dataset_id,),
            also_uncertain={"dead_time_s": clean(fit.dead_part_uncertainty * exposure_s)},
            dead_time_s=clean(fit.dead_part * exposure_s),
            curves=_variance_by_mean(frames, bad, bench.offset_counts, fit.counts_per_electron),
        ),
    )


def _variance_by_mean(
    frames: npt.NDArray[np.unsignedinteger],
    bad: npt.NDArray[np.bool_],
    offset: npt.NDArray[np.float64],
    counts_per_electron: float,
) -> dict[str, Any]:
    """Variance against mean over groups of pixels of like mean; the slope is the counts per electron."""
    mean, variance = (frames.mean(axis=0) - offset)[~bad], frames.var(axis=0, ddof=1)[~bad]
    groups = np.array_split(np.argsort(mean), POINTS)
    at = [float(mean[group].mean()) for group in groups]
    fit = [each * counts_per_electron for each in at] if np.isfinite(counts_per_electron) else None
    return {
        "x": at,
        "data": [float(variance[group].mean()) for group in groups],
        "fit": fit,
        "x_label": "mean [counts]",
        "y_label": "variance [counts²]",
    }
