"""What is looked for in every frame of a data set: its lattice, which disks of it, and their outline."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stem4d.analyse.lattice import find_lattice, nodes, repeats
from stem4d.analyse.method import Given, NotPossible, Rows
from stem4d.analyse.strain.fit import Disks, fit, templates
from stem4d.analyse.strain.kernels import SEEN
from stem4d.analyse.strain.options import StrainOptions
from stem4d.analyse.strain.sample import Sample, look
from stem4d.calibrate.scale_fit import good_counts
from stem4d.calibrate.spots import bragg_peaks

Array = npt.NDArray[np.float64]

FAINTEST, FAINTEST_IN_MEAN = 0.7, 5.0
"""Standard errors that a disk's height exceeds in a usual frame, and in the mean of the sample, to be looked for."""
FIRST_BACKGROUND, FIRST_ELECTRONS = 0.1, 1.0
"""Background over height, and height, before they are known."""
LEAST_ORIGIN_SIGMA_PX = 1e-3
FEWEST_PEAKS = 2


@dataclass(frozen=True, eq=False)
class Found:
    """Disks to look for, where, and what the report says of them."""

    disks: Disks
    origin_px: Array
    """(2, scan_y, scan_x)"""
    radius_px: float
    edge_width_px: float
    share_on_lattice: float
    """Of the light of the disks that stand out."""
    overlap_px: float
    """How far neighbouring disks reach into each other; negative where they are apart."""
    highest: float
    """Largest count of a good pixel in the sample."""


def prepared(given: Given, options: StrainOptions, rows: Rows) -> Found:
    """Find the lattice once, in the mean of a sample of frames with the movement of their origin removed.

    Raises
    ------
    NotPossible
        Where there is no lattice, too few disks, or disks overlap and nobody accepted it.
    """
    sample = look(given, rows)
    counts, good = good_counts(sample.mean, ~sample.good)
    peaks, heights = bragg_peaks(counts, good, sample.disk)
    # Disks that touch are no peaks of their own; the pattern repeats all the same.
    lattice = find_lattice(peaks - np.array(sample.disk.centre_px), heights) or find_lattice(
        *repeats(counts, sample.disk.radius_px)
    )
    if lattice is None and len(peaks) < FEWEST_PEAKS:
        seen = f"{len(peaks)} Bragg disk{'s' * (len(peaks) != 1)}"
        raise NotPossible(f"{seen} beside the undeflected one in the mean of {sample.frames} frames; a lattice takes 2")
    if lattice is None:
        raise NotPossible(f"no lattice holds the {len(peaks)} Bragg disks: several crystals, or none")
    vectors, share = lattice
    shortest = float(np.hypot(*vectors).min())
    overlap = 2 * sample.disk.radius_px - shortest
    if overlap > 0 and not options.accept_disk_overlap:
        raise NotPossible(
            f"disks overlap by {overlap:.1f} px (radius {sample.disk.radius_px:.1f} px, {shortest:.1f} px apart): use a"
            " smaller convergence angle, or accept_disk_overlap"
        )
    gain = given.counts_per_electron
    disks = _in_mean(sample, vectors, (FIRST_BACKGROUND, FIRST_ELECTRONS), gain)
    disks = _in_mean(sample, disks.vectors_px, _levels(sample, disks, gain), gain)
    sigma = None if options.origin == "per_pattern" else max(sample.origin_sigma_px, LEAST_ORIGIN_SIGMA_PX)
    return Found(
        disks=replace(disks, bad_pixels=sample.bad_pixels, origin_sigma_px=sigma),
        origin_px=sample.origin_px,
        radius_px=sample.disk.radius_px,
        edge_width_px=sample.disk.edge_width_px,
        share_on_lattice=share,
        overlap_px=overlap,
        highest=sample.highest,
    )


def _in_mean(sample: Sample, vectors: Array, levels: tuple[float, float], gain: float) -> Disks:
    """The lattice refined in the mean, and those of its disks that are worth looking for in a frame."""
    coarse, fine = templates(sample.disk.radius_px, sample.disk.edge_width_px, vectors, *levels)
    every = nodes(vectors, (sample.mean.shape[0], sample.mean.shape[1]), sample.centre_px, fine.reach)
    least = max(FAINTEST, FAINTEST_IN_MEAN / np.sqrt(sample.frames))
    wanted = Disks(
        vectors_px=vectors,
        index=every,
        coarse=coarse,
        fine=fine,
        bad_pixels=~sample.good,
        # The fit takes disks of SEEN errors; with this gain those are ``least`` errors of a usual frame.
        counts_per_electron=gain * (least / SEEN) ** 2,
        origin_sigma_px=None,
    )
    found = fit(sample.mean[None], np.array([sample.disk.centre_px]), wanted)
    seen = np.isfinite(found.places[0, :, 0])
    if not np.isfinite(found.lattice_px).all() or np.linalg.matrix_rank(every[seen] - every[seen][:1]) < 2:
        raise NotPossible(f"{int(seen.sum())} disks of the lattice stand out of the noise; it takes 3 not in a line")
    return replace(wanted, vectors_px=found.lattice_px[0, :, 1:], index=every[seen], counts_per_electron=gain)


def _levels(sample: Sample, disks: Disks, gain: float) -> tuple[float, float]:
    """Background between the disks over the height of a usual disk, and that height [electrons a pixel]."""
    at = disks.index @ disks.vectors_px.T + np.array(sample.centre_px)
    y, x = np.indices(sample.mean.shape)
    clear = sample.good.copy()
    heights = []
    for place in at:
        distance = np.hypot(y - place[0], x - place[1])
        clear &= distance > disks.fine.reach
        inside = sample.mean[sample.good & (distance < 0.7 * sample.disk.radius_px)]
        heights.append(float(inside.mean()) if inside.size else 0.0)
    level = float(np.median(sample.mean[clear])) if clear.any() else 0.0
    height = max(float(np.median(heights)) - level, 1e-9 * gain)
    return float(np.clip(level / height, 0.0, 10.0)), height / gain
