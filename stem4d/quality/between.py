"""The passes over one area compared: how they lie over each other, and how their high-angle counts went on."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.maps import RunMaps
from stem4d.predict import predict
from stem4d.quality.fading import FEWEST_COUNTS, Fading, fit_shares
from stem4d.quality.grade import DOUBT_SIGMAS
from stem4d.quality.pass_images import Overlay, lay_over
from stem4d.quality.regions import Subject

Array = npt.NDArray[np.float64]

ANNULI = 3
"""Most annuli beyond the disk, of equal counts; fine detail goes first, so the outermost is judged."""
SURE = 0.025
"""Width of doubt, as a part of the counts, up to which a narrower annulus is taken: a quarter of what may be lost."""
ONE_IS_NOT_ENOUGH = "one pass cannot tell it from the specimen: split the dose into passes over the same area"
STEADY = 0.002
"""Relative error of a share of counts that stays however many: a detector and a tilt hold no better (habit)."""
UNKNOWN_CONTRAST = 0.3
"""Relative spread of the lines' high-angle counts where no image tells it (habit)."""


@dataclass(frozen=True)
class Between:
    """What lies between the passes."""

    passes: tuple[RunMaps, ...]
    """Those that recorded something."""
    moments: Array
    """Doses by the middle of each, in doses of a whole pass."""
    overlays: tuple[Overlay, ...]
    """Each later pass over the first."""
    fading: Fading | None
    """Decay of the share of high-angle counts; None where it is not known."""
    inner_px: float
    """Where they begin, from the disk's centre [px]; NaN where it is not known."""
    where: str
    """What counts as high angles, or why nothing is known of them."""

    @property
    def last(self) -> Overlay | None:
        """The last pass over the first; None where they were not compared."""
        return self.overlays[-1] if self.overlays else None


def compare(passes: Sequence[RunMaps], subject: Subject) -> Between:
    """Compare the passes over one area, in order and of equal planned dose."""
    recorded, moments = tuple(one for one in passes if one.frames), _moments(passes)
    if len(recorded) < 2:
        return Between(recorded, moments, (), None, nan, ONE_IS_NOT_ENOUGH)
    if not subject.fit.ok:
        # Noise alone does not change from pass to pass, and that is not a specimen without damage.
        reason = f"no disk was found in the data ({subject.fit.reason}), so that they may be noise"
        return Between(recorded, moments, (), None, nan, reason)
    overlays = tuple(_overlays(recorded))
    return Between(recorded, moments, overlays, *_high_angles(recorded, moments, subject, overlays[-1]))


def _moments(passes: Sequence[RunMaps]) -> Array:
    """Doses by the middle of each pass that recorded something, in doses of a whole pass.

    Frames that were not recorded are taken as not exposed; where they were, the dose comes out too small.
    """
    parts = np.array([one.frames / one.recorded.size for one in passes])
    middles = np.cumsum(parts) - parts / 2
    return np.asarray(middles[parts > 0])


def _overlays(passes: Sequence[RunMaps]) -> list[Overlay]:
    """Each later pass over the first; every fit starts from the one before it."""
    found: list[Overlay] = []
    for later in passes[1:]:
        found.append(lay_over(passes[0], later, found[-1] if found else None))
    return found


def _high_angles(
    passes: Sequence[RunMaps], moments: Array, subject: Subject, last: Overlay
) -> tuple[Fading | None, float, str]:
    """Decay of the outermost annulus that is known well enough, where it begins, and that in words; or why not."""
    beyond = subject.beyond_disk()
    if subject.geometry is None or not beyond.any():
        return None, nan, "nothing is recorded beyond the bright-field disk"
    patterns = [np.where(subject.bad_pixels, 0, one.sum_pattern).astype(np.float64) for one in passes]
    totals = ring_counts(passes, subject, 0.0)[1]
    distance = subject.geometry.distance_px(subject.shape)
    extra = _other_specimen(passes, last)
    gain = _gain(totals.sum() / sum(one.frames for one in passes), subject)
    order = np.argsort(distance[beyond], kind="stable")
    summed = np.cumsum(np.sum(patterns, axis=0)[beyond][order])
    best: Fading | None = None
    inner = float(distance[beyond].min())
    for annuli in range(1, ANNULI + 1):
        first = int(np.searchsorted(summed, summed[-1] * (1 - 1 / annuli), side="right")) if annuli > 1 else 0
        start = float(distance[beyond][order][min(first, len(order) - 1)])
        counts, _ = ring_counts(passes, subject, start)
        fading = fit_shares(counts, totals, moments, gain, extra)
        if fading is None or (best is not None and DOUBT_SIGMAS * fading.lost_uncertainty > SURE):
            break
        best, inner = fading, start
    if best is None:
        return None, nan, f"fewer than {FEWEST_COUNTS:.0f} counts a pass beyond the bright-field disk"
    unit = "px" if subject.mrad_per_pixel is None else "mrad"
    return best, inner, f"beyond {inner * (subject.mrad_per_pixel or 1.0):.3g} {unit}"


def ring_counts(passes: Sequence[RunMaps], subject: Subject, inner_px: float) -> tuple[Array, Array]:
    """Counts of each pass beyond the disk from ``inner_px`` of its centre on, and all of them, bad pixels left out."""
    ring = subject.beyond_disk() & subject.region(inner_px, inf)
    patterns = [np.where(subject.bad_pixels, 0, one.sum_pattern).astype(np.float64) for one in passes]
    return np.array([each[ring].sum() for each in patterns]), np.array([each.sum() for each in patterns])


def _gain(counts_a_pattern: float, subject: Subject) -> float:
    """Counts an electron makes, where there are more than electrons were planned: shot noise is larger by it."""
    if subject.plan is None:
        return 1.0
    return max(counts_a_pattern / predict(subject.plan).electrons_per_pattern, 1.0)


def _other_specimen(passes: Sequence[RunMaps], last: Overlay) -> float:
    """Relative error of a share of counts because the passes do not show the same places.

    Drift takes lines away and brings in others like them; frames that are missing are missing somewhere.
    """
    first = passes[0]
    squares = STEADY**2
    image = first.virtual.get("beyond_disk")
    missing = 1 - min(one.frames / one.recorded.size for one in passes)
    drifted = last.shift_px if last.features else (0.0, 0.0)
    for axis, (moved, lines) in enumerate(zip(drifted, first.scan_shape, strict=True)):
        spread = UNKNOWN_CONTRAST
        if image is not None and first.recorded.all() and image.any():
            means = image.mean(axis=1 - axis)
            spread = float(means.std() / means.mean())
        squares += (2 * min(abs(moved) / lines, 1.0) ** 2 + missing**2) * spread**2
    return sqrt(squares)
