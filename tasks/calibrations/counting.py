"""Counts per electron, from how much the pixels of a standing vacuum pattern vary."""

from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, of_fit

GRID = 16
"""Frames along each axis: 256 of one scene."""
FIELD_SHARE = 0.01
"""Of the plan's field: the disk stands still, and the frames are repeats of one scene."""


def measure(bench: Bench) -> tuple[Measured, ...]:
    """One vacuum scan over next to no field, at the plan's dwell."""
    from stem4d.calibrate.gain import fit_gain

    field_nm = max(bench.plan.scan.field_nm) * FIELD_SHARE
    scanned = bench.scan("gain", bench.vacuum, bench.request((GRID, GRID), field_nm=field_nm))
    detector = scanned.plan.detector
    fit = fit_gain(
        scanned.frames(),
        bad_pixels=bench.geometry.bad_pixel_mask(detector.shape),
        full_scale=detector.full_scale,
    )
    return (of_fit("counts_per_electron", fit, ("counts_per_electron",), evidence=(scanned.dataset_id,)),)
