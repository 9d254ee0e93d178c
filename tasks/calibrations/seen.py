"""What one vacuum scan says: bad pixels, disk, the disk's place in every frame, and the current."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.centres import Centres, disk_centres
from stem4d.calibrate.current import CurrentFit, fit_current
from stem4d.calibrate.descan import DescanFit, fit_descan
from stem4d.calibrate.descan_surface import DescanSurface, fit_descan_surface
from stem4d.calibrate.disk import DiskFit, find_disk
from stem4d.calibrate.disk_model import find_dead_at_edge, find_dead_in_disk
from stem4d.calibrate.pixels import find_bad_pixels
from stem4d.calibrate.still import still_disk
from stem4d.calibrate.vacuum import not_vacuum
from storage.read import open_frames
from tasks.calibrated import Calibrated
from tasks.calibrations.bench import Bench, Scanned

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]

EDGE_EVERY = 5
"""Frames from one to the next that dead pixels at the edge are looked for by: no divisor of a row's 16."""
STILL_FRAMES = 100
"""Frames from all over the scan that say what the disk is when it stands still."""


@dataclass(frozen=True)
class Seen:
    """What one vacuum scan says; ``descan``, ``surface`` and ``current`` are absent where there is no disk."""

    scanned: Scanned
    bad: tuple[tuple[int, int], ...]
    disk: DiskFit
    descan: DescanFit | None = None
    surface: DescanSurface | None = None
    current: CurrentFit | None = None

    @property
    def usable(self) -> bool:
        """Whether there is a disk that moves along a plane."""
        return self.disk.ok and self.descan is not None and self.descan.ok


def look(bench: Bench, scanned: Scanned, geometry: Calibrated) -> Seen:
    """Pixels first, as two hot ones spoil any centre; then the disk, its place in each frame, and the counts."""
    first = scanned.maps()
    offset = bench.offset_counts
    mean = first.mean_pattern - offset
    mask = geometry.bad_pixel_mask(scanned.plan.detector.shape)
    if bench.dark is not None:
        mask |= bench.dark.bad
    mask |= find_bad_pixels(mean, first.frames, np.maximum(first.max_pattern - offset, 0.0), gaps=mask).mask
    disk = find_disk(mean, mask)
    if not disk.ok:
        return Seen(scanned, listed(mask), disk)
    # Up to the disk's edge a dead pixel has no even neighbours, but the disk's model has a level for it.
    dead, _known = find_dead_in_disk(mean, first.frames, disk, mask)
    mask |= dead
    disk = find_disk(mean, mask)
    if not disk.ok:
        return Seen(scanned, listed(mask), disk)
    if reason := not_vacuum(mean, disk, mask, first.max_pattern, scanned.plan.detector.full_scale):
        return Seen(scanned, listed(mask), replace(disk, ok=False, reason=reason))
    gain = bench.counts_per_electron
    centres = _centres(bench, scanned, disk, mask)
    # Once more without the blur that the movement itself makes, and without the dead pixels that its edge passed.
    every = max(len(centres.counts) // STILL_FRAMES, 1) | 1
    still = still_disk(disk, centres.every(every), _some(bench, scanned, every), mask)
    mask |= find_dead_at_edge(mean, first.frames, still, centres.centre_px[::EDGE_EVERY], mask)[0]
    centres = _centres(bench, scanned, still, mask)
    y, x = (centres.centre_px[:, axis].reshape(first.recorded.shape) for axis in (0, 1))
    step_nm = scanned.plan.scan.step_nm
    known = bench.known.get("counts_per_electron")
    error = (known.uncertainty or {}) if known else {}
    current = fit_current(
        np.where(mask, 0.0, mean),
        _totals(scanned, mask, offset),
        scanned.exposure_s,
        disk,
        counts_per_electron=gain,
        counts_per_electron_uncertainty=error.get("counts_per_electron", 0.0),
        # As measured. A data sheet's rate is a bound, and some detectors correct for it themselves.
        dead_time_s=known.value.get("dead_time_s", 0.0) if known else 0.0,
        dead_time_uncertainty_s=error.get("dead_time_s", 0.0),
        bad_pixels=mask,
    )
    return Seen(
        scanned,
        listed(mask),
        disk,
        fit_descan(y, x, first.recorded, step_nm),
        fit_descan_surface(y, x, first.recorded, step_nm),
        current,
    )


def listed(mask: Mask) -> tuple[tuple[int, int], ...]:
    """The pixels of a mask as (y, x)."""
    return tuple((int(y), int(x)) for y, x in zip(*mask.nonzero(), strict=True))


def _centres(bench: Bench, scanned: Scanned, disk: DiskFit, mask: Mask) -> Centres:
    """Of every frame, batch by batch: memory does not grow with the scan."""
    with open_frames(scanned.path) as frames:
        parts = [
            disk_centres(bench.without_dark(batch), disk, mask, bench.counts_per_electron)
            for _first, batch in frames.batches()
        ]
    return Centres(
        np.concatenate([each.centre_px for each in parts]),
        np.concatenate([each.uncertainty_px for each in parts]),
        np.concatenate([each.counts for each in parts]),
    )


def _some(bench: Bench, scanned: Scanned, every: int) -> npt.NDArray[np.number]:
    """Every so many of the frames, from the first one on."""
    picked, at = [], 0
    with open_frames(scanned.path) as frames:
        for _first, batch in frames.batches():
            picked.append(bench.without_dark(batch[-at % every :: every]))
            at += len(batch)
    return np.concatenate(picked)


def _totals(scanned: Scanned, mask: Mask, offset: Array) -> Array:
    """Counts of each frame over the good pixels, the dark level taken off."""
    good, dark = ~mask, float(offset[~mask].sum())
    with open_frames(scanned.path) as frames:
        sums = [np.array(batch)[:, good].sum(axis=1, dtype=np.float64) for _first, batch in frames.batches()]
    return np.concatenate(sums) - dark
