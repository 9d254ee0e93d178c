"""One pass as the checks of the beam see it: totals without steady pixels, and the stretches that the beam dropped."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps
from stem4d.quality.dropouts import Dropouts, find_dropouts
from stem4d.quality.grade import DOUBT_SIGMAS

ROWS_ABOUT = 2
"""Rows above and below a stretch that tell its dark field."""
RISE_OF_LOSS = 0.2
"""Rise of the dark field over the counts that a stretch lost: a specimen that scatters over the edge of a detector
scatters as much within it (habit). Atoms make the dark field vary by much less."""


@dataclass(frozen=True)
class Seen:
    """One pass without its steady pixels, and the stretches that the beam dropped."""

    maps: RunMaps
    total: npt.NDArray[np.float64]
    dropouts: Dropouts
    scattered: int
    """Stretches that only scattered more: the specimen's."""
    clipped_part: float
    """Part of the counts in pixels at full scale, which do not follow the current."""
    rings: bool
    """Whether bright and dark field can be held against each other."""

    @property
    def steady(self) -> Mask:
        """Positions with their beam."""
        steady: Mask = self.maps.recorded & ~self.dropouts.affected & (self.total > 0)
        return steady


def seen_of(maps: RunMaps, not_counted: Mask | None) -> Seen:
    """One pass with what dropped out of it; ``not_counted`` are steady pixels that no electron made."""
    beside = 0.0 if not_counted is None else float(maps.mean_pattern[not_counted].sum())
    total = np.where(maps.recorded, np.maximum(maps.total.astype(np.float64) - beside, 0.0), 0.0)
    found = find_dropouts(total, maps.recorded)
    rings = {"disk", "beyond_disk"} <= set(maps.virtual)
    kept = [stretch for stretch in found.stretches if not (rings and _scatters(maps, found, stretch))]
    beams = np.zeros(total.size, np.bool_)
    for first, end, _ in kept:
        beams[first:end] = True
    beam_only = beams.reshape(total.shape)
    ours = Dropouts(found.affected & beam_only, found.lost & beam_only, tuple(kept), found.smallest_part)
    clipped = _clipped_counts(maps, not_counted)
    clipped_part = min(clipped / float(total.sum()), 1.0) if total.any() else 0.0
    return Seen(maps, total, ours, len(found.stretches) - len(kept), clipped_part, rings)


def _clipped_counts(maps: RunMaps, not_counted: Mask | None) -> float:
    """Counts of all frames in pixels at full scale, without those that are to be left out."""
    return float(clipped_px(maps, not_counted)[maps.recorded].sum()) * (maps.full_scale or 0)


def clipped_px(maps: RunMaps, not_counted: Mask | None) -> npt.NDArray[np.float64]:
    """Pixels at full scale in each frame, without those that always are and are to be left out."""
    full = maps.full_scale or 0
    always = 0 if not_counted is None else int((not_counted & (maps.max_pattern >= full)).sum())
    return np.maximum(maps.saturated_px.astype(np.float64) - always, 0.0)


def _scatters(maps: RunMaps, found: Dropouts, stretch: tuple[int, int, float]) -> bool:
    """Whether a stretch lost counts to scattering: the dark field then rises, which a current that falls cannot do.

    It is held against the same columns of the rows about it. That the dark field stays proves nothing: hot pixels and
    background stay too.
    """
    first, end, level = stretch
    height, columns = maps.scan_shape
    inside = np.zeros(height * columns, np.bool_)
    inside[first:end] = True
    within = inside.reshape(height, columns) & maps.recorded
    rows = np.arange(height)
    near = (rows >= first // columns - ROWS_ABOUT) & (rows <= (end - 1) // columns + ROWS_ABOUT)
    rest = near[:, None] & within.any(axis=0) & maps.recorded & ~found.affected
    # As many positions of each column as the stretch has.
    weight = within.sum(axis=0) / np.maximum(rest.sum(axis=0), 1)
    dark = maps.virtual["beyond_disk"].astype(np.float64)
    now = float(dark[within].sum())
    usual, usual_variance = (float((dark * rest * weight**power).sum()) for power in (1, 2))
    if not usual > 0 or not rest.any():
        return False
    counted = float(maps.total[within].sum())
    lost = counted * (1 - level) / max(level, 1e-3)
    return now - usual > max(DOUBT_SIGMAS * sqrt(now + usual_variance), RISE_OF_LOSS * lost)
