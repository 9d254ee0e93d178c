"""The specimen's drift, from shifts between repeated scans of the plan's area."""

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.drift import fit_drift
from stem4d.maps import RunMaps
from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, clean

SCANS = 5
"""The fewest that tell a jump after any of them, and an acceleration, from a steady rate."""
BASELINE_S = 30.0
"""Between the scans: a drift of 0.1 nm/min moves a tenth of a step of 0.5 nm in that time."""
ELECTRONS_PER_PATTERN = 1e3
"""Few: the images are registered as wholes, and five scans come out of the area's budget."""
SHIFT_PX = 0.1
"""Shift over the baseline that a rate may be off by, however slow it is."""


def measure(bench: Bench) -> tuple[Measured, ...]:
    """Repeated scans at the plan's step, booked on the area's budget."""
    scan = bench.request_here(ELECTRONS_PER_PATTERN)
    seen, started_s, evidence = [], [], []
    for number in range(SCANS):
        if number:
            bench.opened.instrument.pause(BASELINE_S)
        started_s.append(bench.opened.instrument.now_s())
        scanned = bench.scan(f"drift-{number + 1}", bench.this_area, scan)
        seen.append(scanned.maps())
        evidence.append(scanned.dataset_id)
    fit = fit_drift(
        [_images(maps) for maps in seen],
        started_s,
        scan.step_nm,
        recorded=[maps.recorded for maps in seen],
        line_time_s=scan.duration_s / scan.shape[0],
    )
    # Shifts are counted in steps as asked; along each axis a step is what the scan calibration says.
    true = np.array(bench.step_ratio)
    rate = true * fit.rate_nm_per_min
    speed = float(np.hypot(*rate))
    times_min = [(at - started_s[0]) / 60 for at in started_s]
    return (
        Measured(
            kind="drift",
            verdict="pass" if fit.ok else "fail",
            value={
                "drift_nm_per_min": clean(rate),
                "speed_nm_per_min": clean(speed),
                "acceleration_nm_per_min2": clean(true * fit.acceleration_nm_per_min2),
                "shift_limit_nm_per_min": SHIFT_PX * scan.step_nm / times_min[-1],
                "jumped": fit.jump is not None,
                "jump_nm": clean(true * fit.jump.jump_nm) if fit.jump else None,
            },
            uncertainty={"drift_nm_per_min": clean(true * fit.rate_uncertainty_nm_per_min)},
            residual=clean(fit.residual_px),
            reason=fit.reason,
            evidence=tuple(evidence),
            curves={
                "x": times_min,
                "data": clean(np.hypot(*(true * fit.places_nm).T)),
                "fit": clean([speed * at for at in times_min]),
                "x_label": "time [min]",
                "y_label": "distance moved [nm]",
            },
        ),
    )


def _images(maps: RunMaps) -> list[npt.NDArray[np.number]]:
    """What counts together of one scan."""
    return [*maps.virtual.values(), maps.total]
