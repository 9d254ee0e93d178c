"""The specimen's drift, from shifts between repeated scans of the plan's area."""

from math import hypot

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.drift import fit_drift
from stem4d.maps import RunMaps
from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, clean

SCANS = 3
"""The first, and two that a steady rate has to explain both."""
MOST_POSITIONS = 48
BASELINE_S = 30.0
"""Between the scans: a drift of 0.1 nm/min moves a tenth of a step of 0.5 nm in that time."""
ELECTRONS_PER_PATTERN = 1e3
SHIFT_PX = 0.1
"""Shift over the baseline that a rate may be off by, however slow it is."""


def measure(bench: Bench) -> tuple[Measured, ...]:
    """Repeated scans at the plan's step, booked on the area's budget."""
    plan = bench.plan
    shape = (min(plan.scan.shape[0], MOST_POSITIONS), min(plan.scan.shape[1], MOST_POSITIONS))
    scan = bench.request(shape, electrons_per_pattern=ELECTRONS_PER_PATTERN).model_copy(
        update={"step_nm": plan.scan.step_nm}
    )
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
    times_min = [(at - started_s[0]) / 60 for at in started_s]
    moved = [hypot(*place) for place in fit.places_nm]
    return (
        Measured(
            kind="drift",
            verdict="pass" if fit.ok else "fail",
            value={
                "drift_nm_per_min": clean(fit.rate_nm_per_min),
                "speed_nm_per_min": clean(hypot(*fit.rate_nm_per_min)),
                "shift_limit_nm_per_min": SHIFT_PX * scan.step_nm / times_min[-1],
                "jumped": fit.jump is not None,
            },
            uncertainty={"drift_nm_per_min": clean(fit.rate_uncertainty_nm_per_min)},
            residual=clean(fit.residual_px),
            reason=fit.reason,
            evidence=tuple(evidence),
            curves={
                "x": times_min,
                "data": clean(moved),
                "fit": clean([hypot(*fit.rate_nm_per_min) * at for at in times_min]),
                "x_label": "time [min]",
                "y_label": "distance moved [nm]",
            },
        ),
    )


def _images(maps: RunMaps) -> list[npt.NDArray[np.number]]:
    """What counts together of one scan."""
    return [*maps.virtual.values(), maps.total]
