"""The strain analysis in its three steps: prepare once, fit frames by rows, finish with maps and a verdict."""

import numpy as np

from stem4d.analyse.geometry import require_sound
from stem4d.analyse.method import Given, Method, Outcome, Parts, Rows
from stem4d.analyse.strain.fit import disks_from_arrays, fit
from stem4d.analyse.strain.options import StrainOptions
from stem4d.analyse.strain.outcome import Facts, outcome
from stem4d.analyse.strain.prepare import prepared
from stem4d.errors import BadInput

FACTS = ("radius_px", "edge_width_px", "share_on_lattice", "overlap_px", "highest")


def prepare(given: Given, options: StrainOptions, rows: Rows) -> Parts:
    """Find the lattice and the disks to look for; see ``prepare.prepared``."""
    require_sound(given, rows.scan_shape, rows.detector_shape)
    _check_region(options, rows)
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


def _check_region(options: StrainOptions, rows: Rows) -> None:
    """Refuse a region that is not within the scan."""
    if options.reference_region is not None:
        _, _, y1, x1 = options.reference_region
        if y1 > rows.scan_shape[0] or x1 > rows.scan_shape[1]:
            limit = f"must lie within the scan of {rows.scan_shape[0]} x {rows.scan_shape[1]} positions"
            raise BadInput(field="reference_region", value=options.reference_region, limit=limit)


STRAIN = Method("strain", StrainOptions, prepare, part, finish)
