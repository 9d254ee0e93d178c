"""The lattice of a mean pattern whose undeflected disk is known, for masks that are to lie on it."""

import numpy as np
import numpy.typing as npt

from stem4d.analyse.lattice import find_lattice
from stem4d.analyse.method import NotPossible
from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.scale_fit import good_counts
from stem4d.calibrate.spots import bragg_peaks

Array = npt.NDArray[np.float64]
USUAL_EDGE_PX = 0.5


def lattice_of(summed: Array, bad: npt.NDArray[np.bool_], origin_px: tuple[float, float], radius_px: float) -> Array:
    """Rows g1, g2 (y, x) [px], by length.

    Parameters
    ----------
    summed : ndarray, shape (det_y, det_x)
        Sum of patterns on one origin [counts].
    bad : ndarray of bool, shape (det_y, det_x)
    origin_px : (float, float)
        Of the direct beam.
    radius_px : float
        Of a disk.

    Raises
    ------
    NotPossible
        Where the Bragg disks lie on no one lattice.
    """
    disk = DiskFit(origin_px, radius_px, (0.0, 0.0), 0.0, USUAL_EDGE_PX, 0.0, True, "")
    peaks, heights = bragg_peaks(*good_counts(summed, bad), disk)
    found = find_lattice(peaks - np.array(origin_px), heights)
    if found is None:
        raise NotPossible(f"no lattice holds the {len(peaks)} Bragg disks that stand out; give g1_mrad and g2_mrad")
    return found[0].T
