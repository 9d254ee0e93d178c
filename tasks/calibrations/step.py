"""The scan step, from the known lattice of a reference specimen in virtual images over the plan's own field."""

import numpy as np

from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, not_measurable, of_fit

FINEST_NM = 0.05
"""Four positions a lattice period of 0.2 nm."""
MOST_POSITIONS = 192
"""Along an axis: a field beyond this many fine steps does not resolve a crystal's lattice."""
ELECTRONS_PER_PATTERN = 2e4


def measure(bench: Bench) -> tuple[Measured, ...]:
    """The step along both axes and the shear, beside the step that the scan was told."""
    found = bench.reference("lattice")
    if found is None:
        return (not_measurable("scan_step", "the instrument file names no reference specimen with a lattice to image"),)
    area, place = found
    field_nm = max(bench.plan.scan.field_nm)
    positions = min(max(round(field_nm / FINEST_NM), 32), 2 * MOST_POSITIONS)
    if positions > MOST_POSITIONS:
        reason = f"a field of {field_nm:g} nm is too wide to resolve the lattice of {area.crystal}"
        return (not_measurable("scan_step", f"{reason}: measure it at a smaller field and scale it by hand"),)
    from stem4d.calibrate.step import fit_step

    scan = bench.request((positions, positions), electrons_per_pattern=ELECTRONS_PER_PATTERN)
    scanned = bench.scan("lattice", place, scan)
    maps = scanned.maps()
    images = np.stack([maps.virtual["disk"], maps.virtual["beyond_disk"]]).astype(np.float64)
    fit = fit_step(images, maps.recorded, scan.step_nm, area.crystal)
    # The plan may step more or less finely over the same field: the scan generator's error is a scale of the step.
    return (
        of_fit(
            "scan_step",
            fit,
            ("step_y_nm", "step_x_nm", "shear"),
            evidence=(scanned.dataset_id,),
            nominal_step_nm=scan.step_nm,
            crystal=area.crystal,
        ),
    )
