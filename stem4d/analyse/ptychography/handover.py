"""What a multislice engine needs to go on from here: phaser's parameter file as plain data, and its patterns.

Lengths are in Å there, its defocus is positive for overfocus, its affine matrix acts on (y, x) of the scan. Its engine
transforms with exp(-2πi k·r) as ours does, so that patterns keep their orientation.
"""

from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d import optics
from stem4d.analyse.geometry import angles_per_px
from stem4d.analyse.method import Given, NotPossible
from stem4d.analyse.ptychography.geometry import Crop
from stem4d.analyse.ptychography.limits import half_period_a
from stem4d.analyse.ptychography.options import PtychographyOptions

ITERATIONS, GROUP, LEARNING_RATE = 20, 32, 1e-2
"""On strontium titanate of 20 slices Adam at this rate came to a correlation of 0.93 in 20 iterations, its LSQ-ML to
0.5 in 30."""
SMOOTHED_SLICES_A = 10.0
"""Width over which phaser smooths neighbouring slices: one projection tells little of depth."""
SLICES_MOST = 200


def slices_of(given: Given, options: PtychographyOptions, size: int) -> dict[str, float | int]:
    """Number and thickness [Å] of slices: as asked, else what one slice carries at the half-period, evenly.

    Raises
    ------
    NotPossible
        Where the thickness is not known, or the slices would be too many.
    """
    if given.thickness_nm is None:
        raise NotPossible("The thickness is not known: a multislice engine has to be told how deep the specimen is.")
    thickness_a = 10 * given.thickness_nm
    carried = optics.single_slice_thickness_a(given.beam_energy_kev, half_period_a(given, options, size))
    wanted = carried if options.slice_thickness_nm is None else 10 * options.slice_thickness_nm
    number = max(ceil(thickness_a / wanted - 1e-6), 1)
    if number > SLICES_MOST:
        raise NotPossible(f"{thickness_a:.3g} Å are {number} slices of {wanted:.3g} Å; {SLICES_MOST} are the most.")
    return {"n": number, "slice_thickness": thickness_a / number}


def parameters(
    given: Given, options: PtychographyOptions, crop: Crop, scan_shape: tuple[int, int], patterns: str, name: str
) -> dict[str, Any]:
    """The content of phaser's parameter file (version 1.0 of its format, phaserEM 0.3).

    Parameters
    ----------
    given, options
        As of the method.
    crop : Crop
        The square that the patterns were cut to.
    scan_shape : (int, int)
        (scan_y, scan_x).
    patterns : str
        File of the patterns as the parameter file names it.
    name : str
        Of the reconstruction, and of the folder its results go to.

    Raises
    ------
    NotPossible
        Without defocus, or as `slices_of`.
    """
    if given.defocus_nm is None:
        raise NotPossible("The defocus is not known, and with it the probe to begin from.")
    # Where a displacement of the scan shows on the detector's grid, both in Å: Aᵀ/δ.
    affine = angles_per_px(given).T / given.mrad_per_pixel
    slices = slices_of(given, options, crop.size)
    constraints: list[dict[str, Any]] = [{"type": "clamp_object_amplitude", "amplitude": 1.1}]
    if slices["n"] > 1:
        constraints.append({"type": "layers", "sigma": SMOOTHED_SLICES_A, "weight": 0.5})
    return {
        "file_type": "phaser_plan",
        "version": "1.0",
        "name": name,
        "backend": "jax",
        "raw_data": {
            "type": "manual",
            "path": patterns,
            "diff_step": given.mrad_per_pixel,
            "kv": given.beam_energy_kev,
            "adu": given.counts_per_electron,
        },
        "init": {
            "scan": {
                "type": "raster",
                "shape": list(scan_shape),
                "step_size": [10 * step for step in given.scan_step_nm],
                "affine": affine.tolist(),
            },
            "probe": {
                "type": "focused",
                "conv_angle": given.convergence_semi_angle_mrad,
                "defocus": -10 * given.defocus_nm,
            },
        },
        "post_init": [{"type": "drop_nans", "threshold": 0.9}],
        "slices": slices,
        "engines": [
            {
                "type": "gradient",
                "niter": max(options.iterations, ITERATIONS),
                "grouping": GROUP,
                "probe_modes": options.probe_modes,
                "noise_model": {"type": "poisson", "eps": 0.1},
                "solvers": {part: {"type": "adam", "learning_rate": LEARNING_RATE} for part in ("object", "probe")},
                "regularizers": [],
                "group_constraints": [
                    {
                        "type": "limit_probe_support",
                        "max_angle": given.convergence_semi_angle_mrad + given.mrad_per_pixel,
                    }
                ],
                "iter_constraints": constraints,
                "save": {"every": max(options.iterations, ITERATIONS)},
            }
        ],
    }


def not_known(given: Given) -> list[str]:
    """What stands in the parameters though nobody measured it, a sentence each."""
    told = []
    if given.scan_rotation_deg is None:
        told.append("The rotation from scan to detector was not measured: 0 deg stands in the parameters.")
    if given.mirrored is None:
        told.append("Whether the detector is mirrored was not measured: the parameters have it not mirrored.")
    nominal = [
        name
        for name in ("defocus_nm", "convergence_semi_angle_mrad", "mrad_per_pixel")
        if name not in given.uncertainty
    ]
    if nominal:
        told.append(f"Without an uncertainty, as nominal figures have none: {', '.join(nominal)}.")
    return told


def numbers(
    patterns: npt.NDArray[Any], usable: npt.NDArray[np.bool_], mark: float
) -> tuple[npt.NDArray[np.float32], int]:
    """Patterns as phaser takes them, zero beam at N // 2, and how many pixels had to be made up.

    Parameters
    ----------
    patterns, usable
        As `stem4d.analyse.ptychography.patterns.cut` gives them.
    mark : float
        Value of a pixel that is not known.

    Returns
    -------
    (float32 array (..., N, N), int)
        NaN throughout where there is no usable frame, which ``drop_nans`` leaves out. phaser's reader has no mask: a
        pixel that is not known gets the mean of its known neighbours, 5 x 5 px.
    """
    seen = np.fft.fftshift(patterns, axes=(-2, -1)).astype(np.float32)
    known = seen != np.float32(mark)
    made_up = ~known & usable[..., None, None]
    if made_up.any():
        box = (*(1,) * (seen.ndim - 2), 5, 5)
        total = ndimage.uniform_filter(np.where(known, seen, 0), box, mode="constant")
        share = ndimage.uniform_filter(known.astype(np.float32), box, mode="constant")
        seen = np.where(made_up, total / np.maximum(share, 1e-3), seen)
    seen[~usable] = np.nan
    return seen, int(made_up.sum())
