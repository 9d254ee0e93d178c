"""The specimen's drift, from shifts between repeated scans of the plan's area."""

from math import hypot

from stem4d.quality.drift import fit_rate, shift_between
from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, clean

SCANS = 3
"""The first, and two that a steady rate has to explain both."""
MOST_POSITIONS = 48
BASELINE_S = 30.0
"""Between the scans: a drift of 0.1 nm/min moves a tenth of a step of 0.5 nm in that time."""
ELECTRONS_PER_PATTERN = 1e3


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
    shifts = [shift_between(seen[0], later) for later in seen[1:]]
    times_min = [(at - started_s[0]) / 60 for at in started_s[1:]]
    bad = next((shift.reason for shift in shifts if not shift.ok), "")
    rate = None if bad else fit_rate(shifts, times_min, scan.step_nm)
    if rate is None:
        reason = bad or "no steady rate explains the shifts"
        return (Measured("drift", "fail", reason=reason, evidence=tuple(evidence)),)
    fitted = [[component * at for component in rate.rate_nm_per_min] for at in times_min]
    left = [hypot(*(a - b for a, b in zip(s, f, strict=True))) for s, f in zip(rate.shifts_nm, fitted, strict=True)]
    return (
        Measured(
            kind="drift",
            verdict="pass",
            value={
                "drift_nm_per_min": list(rate.rate_nm_per_min),
                "speed_nm_per_min": rate.speed_nm_per_min,
            },
            uncertainty={
                "drift_nm_per_min": clean([float(rate.covariance[axis, axis]) ** 0.5 for axis in (0, 1)]),
                "speed_nm_per_min": clean(rate.speed_uncertainty_nm_per_min),
            },
            residual=clean(max(left)),
            evidence=tuple(evidence),
            curves={
                "x": [0.0, *times_min],
                "data": [0.0, *(hypot(*shift) for shift in rate.shifts_nm)],
                "fit": [0.0, *(hypot(*shift) for shift in fitted)],
                "x_label": "time [min]",
                "y_label": "distance moved [nm]",
            },
        ),
    )
