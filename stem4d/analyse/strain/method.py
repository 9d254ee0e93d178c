"""The strain analysis in its three steps: prepare once, fit frames by rows, finish with maps and a verdict."""

from typing import Any

import numpy as np

from stem4d.analyse.method import Array, Given, Method, Outcome, Parts, Rows
from stem4d.analyse.strain.fit import disks_from_arrays, fit
from stem4d.analyse.strain.options import StrainOptions
from stem4d.analyse.strain.outcome import Facts, outcome
from stem4d.analyse.strain.prepare import prepared
from stem4d.errors import BadInput

FACTS = ("radius_px", "edge_width_px", "share_on_lattice", "overlap_px", "highest")


def prepare(given: Given, options: StrainOptions, rows: Rows) -> Parts:
    """Find the lattice and the disks to look for; see ``prepare.prepared``."""
    _check(given, options, rows)
    found = prepared(given, options, rows)
    facts = {name: np.array(getattr(found, name)) for name in FACTS}
    return {**found.disks.as_arrays(), "origin_px": found.origin_px, **facts}


def part(given: Given, options: StrainOptions, rows: Rows, looked: Parts, first: int, stop: int) -> Parts:
    """Fit the frames of rows first to stop - 1, each for itself; all arrays have those rows as first axis."""
    shape = (stop - first, rows.scan_shape[1])
    disks, origin = disks_from_arrays(looked), looked["origin_px"]
    flat = {
        "lattice_px": np.full((shape[0] * shape[1], 2, 3), np.nan),
        "covariance": np.full((shape[0] * shape[1], 2, 6), np.nan),
        "disks": np.zeros(shape[0] * shape[1], np.int32),
        "chi_square": np.full(shape[0] * shape[1], np.nan),
        "freedom": np.zeros(shape[0] * shape[1], np.int32),
        "recorded": np.zeros(shape[0] * shape[1], np.bool_),
    }
    for positions, frames in rows.read(first, stop):
        at = np.asarray(positions)
        fits = fit(frames, origin[:, at // shape[1], at % shape[1]].T, disks)
        at = at - first * shape[1]
        flat["recorded"][at] = True
        for name in ("lattice_px", "covariance", "disks", "chi_square", "freedom"):
            flat[name][at] = getattr(fits, name)
    return {name: values.reshape(*shape, *values.shape[1:]) for name, values in flat.items()}


def finish(given: Given, options: StrainOptions, looked: Parts, parts: Parts) -> Outcome:
    """Maps of strain and rotation with their uncertainties, figures and a verdict."""
    facts = Facts(**{name: float(looked[name]) for name in FACTS}, index=looked["index"])
    return outcome(given, options, facts, parts)


def _check(given: Given, options: StrainOptions, rows: Rows) -> None:
    """Refuse geometry that cannot be meant.

    Raises
    ------
    BadInput
    """
    if given.bad_pixels.shape != tuple(rows.detector_shape):
        limit = f"must have the detector's shape {tuple(rows.detector_shape)}"
        raise BadInput(field="bad_pixels", value=given.bad_pixels.shape, limit=limit)
    if given.origin_px.shape not in ((2,), (2, *rows.scan_shape)):
        limit = f"must be (2,) or (2, {rows.scan_shape[0]}, {rows.scan_shape[1]})"
        raise BadInput(field="origin_px", value=given.origin_px.shape, limit=limit)
    known = given.origin_px.reshape(2, -1)
    known = known[:, np.isfinite(known).all(axis=0)]
    if not known.size:
        raise BadInput(field="origin_px", value="NaN", limit="must be known somewhere", unit="px")
    centre: Array = known.mean(axis=1)
    if not all(0 <= at <= size - 1 for at, size in zip(centre, rows.detector_shape, strict=True)):
        raise BadInput(field="origin_px", value=centre.tolist(), limit="must lie on the detector", unit="px")
    for name in ("beam_energy_kev", "convergence_semi_angle_mrad", "mrad_per_pixel", "counts_per_electron"):
        value: Any = getattr(given, name)
        if not (np.isfinite(value) and value > 0):
            raise BadInput(field=name, value=value, limit="must be positive")
    if options.reference_region is not None:
        _, _, y1, x1 = options.reference_region
        if y1 > rows.scan_shape[0] or x1 > rows.scan_shape[1]:
            limit = f"must lie within the scan of {rows.scan_shape[0]} x {rows.scan_shape[1]} positions"
            raise BadInput(field="reference_region", value=options.reference_region, limit=limit)


STRAIN = Method("strain", StrainOptions, prepare, part, finish)
