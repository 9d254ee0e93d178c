"""The scan step, from the known lattice of a reference specimen in virtual images over the plan's own field."""

from typing import Any

import numpy as np

from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, clean, not_measurable, of_fit

PERIOD_NM = {"Au": 0.40782 / 2, "Al": 0.40495 / 2, "Si": 0.54310 / 8**0.5, "SrTiO3": 0.3905}
"""Side of the square cell that crystals show along [001]: half the cubic cell of fcc metals, its (220) of silicon."""
POSITIONS_PER_PERIOD = 5
FEWEST_POSITIONS = 32
MOST_POSITIONS = 192
"""Along an axis: a field beyond this many fine steps does not resolve a crystal's lattice."""
ELECTRONS_PER_PATTERN = 2e4


def measure(bench: Bench) -> tuple[Measured, ...]:
    """The step along both axes and the shear, beside the step that the scan was told."""
    found = bench.reference("lattice")
    if found is None:
        return (not_measurable("scan_step", "the instrument file names no reference specimen with a lattice to image"),)
    area, place = found
    field_nm, period_nm = max(bench.plan.scan.field_nm), area.period_nm or PERIOD_NM[area.crystal]
    positions = max(round(field_nm / period_nm * POSITIONS_PER_PERIOD), FEWEST_POSITIONS)
    if positions > MOST_POSITIONS:
        reason = f"a field of {field_nm:g} nm is too wide to resolve the lattice of {area.crystal}"
        return (not_measurable("scan_step", f"{reason}: measure it at a smaller field and scale it by hand"),)
    from stem4d.calibrate.step import fit_step, square

    scan = bench.request((positions, positions), electrons_per_pattern=ELECTRONS_PER_PATTERN)
    scanned = bench.scan("lattice", place, scan)
    maps = scanned.maps()
    images = [maps.virtual[name].astype(np.float64) for name in ("disk", "beyond_disk")]
    fit = fit_step(images, maps.recorded, scan.step_nm, square(period_nm))
    # The plan may step more or less finely over the same field: the scan generator's error is a scale of the step.
    return (
        of_fit(
            "scan_step",
            fit,
            ("step_y_nm", "step_x_nm", "shear"),
            evidence=(scanned.dataset_id,),
            curves=_waves(fit),
            nominal_step_nm=scan.step_nm,
            crystal=area.crystal,
        ),
    )


def _waves(fit: Any) -> dict[str, Any] | None:
    """Frequencies of the lattice's waves as they were found, against those of the fitted step."""
    if "found" not in fit.drawing:
        return None
    found, predicted = (np.hypot(*np.asarray(fit.drawing[name]).T) for name in ("found", "predicted"))
    order = np.argsort(predicted)
    return {
        "x": clean(predicted[order]),
        "data": clean(found[order]),
        "fit": clean(predicted[order]),
        "x_label": "wave of the fitted lattice [cycles per position]",
        "y_label": "wave as found [cycles per position]",
    }
