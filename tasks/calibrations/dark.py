"""Dark level and response of integrating detectors; a counting detector has neither."""

import numpy as np

from db.vocabulary import Verdict
from stem4d.calibrate.dark import DarkFit, FlatFit, fit_dark, fit_flat
from tasks.calibrations.bench import Bench
from tasks.calibrations.exposed import VACUUM_ELECTRONS
from tasks.calibrations.measured import Measured, clean, not_measurable

GRID = 16
"""Frames along each axis, dark and lit: 256 know a pixel's offset to a sixteenth of its noise."""
FIELD_SHARE = 0.01
"""Of the plan's field, for the lit frames: the disk stands still."""


def measure(bench: Bench) -> tuple[Measured, ...]:
    """Frames with the beam blanked at the exposure of the vacuum scans, and as many of the disk in vacuum."""
    if not bench.integrates:
        name = bench.plan.detector.name
        return (not_measurable("dark_flat", f"{name} counts single electrons: it has no dark level"),)
    unlit = bench.scan_unlit("dark", bench.request((GRID, GRID), electrons_per_pattern=VACUUM_ELECTRONS))
    dark = fit_dark(unlit.frames())
    if not dark.ok:
        return (Measured("dark_flat", "fail", {}, None, None, dark.reason, (unlit.dataset_id,), fit=dark),)
    field_nm = max(bench.plan.scan.field_nm) * FIELD_SHARE
    request = bench.request((GRID, GRID), electrons_per_pattern=VACUUM_ELECTRONS, field_nm=field_nm)
    lit = bench.scan("flat", bench.vacuum, request)
    maps = lit.maps()
    # The gain comes after the dark level; where no earlier one is known, neither is the response's error.
    gain_known = "counts_per_electron" in bench.known
    gain = bench.counts_per_electron if gain_known else 1.0
    flat = fit_flat(maps.mean_pattern, maps.frames, dark, counts_per_electron=gain)
    return (_outcome(dark, flat, (unlit.dataset_id, lit.dataset_id), gain_known=gain_known),)


def _outcome(dark: DarkFit, flat: FlatFit, evidence: tuple[int, ...], *, gain_known: bool) -> Measured:
    """The dark frames decide; a disk that is no smooth illumination leaves the response unknown, with a warning.

    The maps of all pixels are not in the database: they come from the evidence again.
    """
    value = {
        "offset_counts": float(np.median(dark.offset_counts)),
        "read_noise_counts": float(np.median(dark.read_noise_counts)),
        "odd_pixels": int(dark.bad.sum()),
        "response_spread": clean(flat.spread) if flat.ok else None,
        "response_known_part": float(flat.known.mean()) if flat.ok else 0.0,
    }
    error = {
        "offset_counts": dark.offset_uncertainty_counts,
        "response_spread": clean(flat.response_uncertainty) if flat.ok and gain_known else None,
    }
    verdict: Verdict = "pass" if flat.ok else "warn"
    reason = "" if flat.ok else f"the response is not known: {flat.reason}"
    return Measured("dark_flat", verdict, value, error, dark.residual, reason, evidence, fit=dark)
