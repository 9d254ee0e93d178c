"""The scan step, from the known lattice of a reference specimen in virtual images over the plan's own field."""

from dataclasses import replace
from typing import Any

import numpy as np

from stem4d.calibrate.crystals import square
from stem4d.calibrate.step import StepFit, fit_step
from stem4d.instrument import ReferenceArea
from stem4d.lattice_constants import ALUMINIUM_A, GOLD_A, SILICON_A, STRONTIUM_TITANATE_A
from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, clean, not_measurable, of_fit

PERIODS_NM = {
    "Au": (GOLD_A / 20,),
    "Al": (ALUMINIUM_A / 20,),
    "Si": (SILICON_A / 10 / 8**0.5,),
    "SrTiO3": (STRONTIUM_TITANATE_A / 10, STRONTIUM_TITANATE_A / 10 / 2**0.5),
}
"""Sides of the square cells that crystals show along [001]: half the cubic cell of fcc metals, the (220) of silicon; of
strontium titanate the cell, or its half at 45 degrees where titanium and strontium look alike (at low angles)."""
SAME_STEP = 0.01
"""Relative difference below which two lattices give the same step: both were then seen, and it is no contradiction."""
POSITIONS_PER_PERIOD = 5
FEWEST_POSITIONS = 32
MOST_POSITIONS = 192
"""Along an axis: a field beyond this many fine steps does not resolve a crystal's lattice."""
ELECTRONS_PER_PATTERN = 2e4
"""Noise of an image is then below a percent of its counts, and a lattice modulates them by several."""


def measure(bench: Bench) -> tuple[Measured, ...]:
    """The step along both axes and the shear, beside the step that the scan was told."""
    found = bench.references("lattice")
    if not found:
        return (not_measurable("scan_step", "the instrument file names no reference specimen with a lattice to image"),)
    area, place = found[0]
    field_nm = max(bench.plan.scan.field_nm)
    positions = positions_for(area, field_nm)
    if positions > MOST_POSITIONS:
        reason = f"a field of {field_nm:g} nm is too wide to resolve the lattice of {area.crystal}"
        return (not_measurable("scan_step", f"{reason}: measure it at a smaller field and scale it by hand"),)
    scan = bench.request((positions, positions), electrons_per_pattern=ELECTRONS_PER_PATTERN)
    # In focus: a lattice shows best there, whatever the plan is for.
    optics = bench.plan.optics.model_copy(update={"defocus_nm": 0.0})
    scanned = bench.scan("lattice", place, scan, plan=bench.plan.model_copy(update={"optics": optics}))
    maps = scanned.maps()
    images = [maps.virtual[name].astype(np.float64) for name in ("disk", "beyond_disk")]
    fits = {each: fit_step(images, maps.recorded, scan.step_nm, square(each)) for each in _periods_nm(area)}
    period_nm, fit = _only_one(fits)
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
            period_nm=period_nm,
        ),
    )


def positions_for(area: ReferenceArea, field_nm: float) -> int:
    """Positions along an axis that show the lattice of an area over a field; more than ``MOST_POSITIONS`` cannot be."""
    return max(round(field_nm / min(_periods_nm(area)) * POSITIONS_PER_PERIOD), FEWEST_POSITIONS)


def _periods_nm(area: ReferenceArea) -> tuple[float, ...]:
    return (area.period_nm,) if area.period_nm is not None else PERIODS_NM[area.crystal]


def _only_one(fits: dict[float, StepFit]) -> tuple[float, StepFit]:
    """The lattice that fits; refused where two fit and say different steps, and the first one where none does."""
    good = [(period, fit) for period, fit in fits.items() if fit.ok]
    if not good:
        return next(iter(fits.items()))
    period, fit = min(good, key=lambda each: each[1].residual)
    apart = [other for other, each in good if abs(each.step_nm / fit.step_nm - 1) > SAME_STEP]
    if apart:
        words = " and ".join(f"{each:.4g} nm" for each in (period, *apart))
        return period, replace(fit, ok=False, reason=f"lattices of {words} fit the image with different steps")
    return period, fit


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
