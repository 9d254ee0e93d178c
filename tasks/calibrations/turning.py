"""The rotation of the scan to the detector and its handedness, from the centre of mass over the plan's area."""

from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, of_fit

MOST_POSITIONS = 48
"""Along an axis, at the plan's own step: enough waves for half a degree at 2e4 electrons a pattern."""
ELECTRONS_PER_PATTERN = 2e4


def measure(bench: Bench) -> tuple[Measured, ...]:
    """One scan of the area; what it costs is booked on the area's budget, and refused where that cannot bear it."""
    from stem4d.calibrate.rotation import fit_rotation

    shape = (min(bench.plan.scan.shape[0], MOST_POSITIONS), min(bench.plan.scan.shape[1], MOST_POSITIONS))
    scan = bench.request(shape, electrons_per_pattern=ELECTRONS_PER_PATTERN).model_copy(
        update={"step_nm": bench.plan.scan.step_nm}
    )
    scanned = bench.scan("rotation", bench.this_area, scan)
    maps = scanned.maps()
    fit = fit_rotation(maps.com_y_px, maps.com_x_px, maps.recorded, dark_field=maps.virtual["beyond_disk"])
    return (
        of_fit(
            "rotation",
            fit,
            ("rotation_deg", "mirrored", "half_turn_known"),
            evidence=(scanned.dataset_id,),
        ),
    )
