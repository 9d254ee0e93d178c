"""Stops by signal: pixels that count too fast for an analysis, and a lasting loss of beam that leaves none a use."""

from math import sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.pixels import Mask, find_bad_pixels
from stem4d.detector import DetectorFacts
from stem4d.dose import centre_of_mass_noise_mrad
from stem4d.plan import CentreOfMass, Plan
from stem4d.quality.rate import BRIGHTEST
from stem4d.quality.regions import USES_BRAGG_DISKS, Wanted
from stem4d.quality.signal import NOISE_FAILS
from stem4d.rules.limits import LIMITS

SURE_SIGMAS = 3.0
LOST_PART = 0.5
"""Part of the counts from before below which the beam is taken for lost: what ``beam.dropouts`` fails on."""
FEWEST_PIXELS = 10
"""A tenth of fewer pixels is none."""

Array = npt.NDArray[np.float64]


def too_fast(
    mean: Array,
    max_pattern: npt.NDArray[np.number],
    frames: int,
    plan: Plan,
    facts: DetectorFacts | None,
    places: tuple[tuple[Wanted, Mask, str], ...],
) -> str | None:
    """Why the counting rate spoils an analysis for good, or None.

    The mean of all frames is compared, which the peaks that ``saturation.rate`` judges are never below: what is surely
    beyond the limit here fails there. ``places`` are the good pixels that each analysis needs, and their name.
    """
    if facts is None or facts.integrates:
        return None
    live_s, limit_hz = plan.exposure.live_time_us * 1e-6, facts.max_count_rate_per_px_hz
    most = limit_hz * live_s
    if not (mean > most).any():
        return None
    steady = ~find_bad_pixels(mean, frames, max_pattern).hot
    for wanted, region, place in places:
        hard = _hard_part(wanted)
        look = mean[region & steady]
        if hard is None or look.size < FEWEST_PIXELS:
            continue
        counts = float(np.quantile(look, BRIGHTEST))
        if counts - SURE_SIGMAS * sqrt(counts / frames) > hard * most:
            return (
                f"counting rate: a tenth of the pixels of {place} count {counts / live_s:.3g} /s or more, a tenth is "
                f"lost at {limit_hz:.3g} /s, which {wanted.name} cannot use; lower the current or use a longer camera "
                "length"
            )
    return None


def _hard_part(wanted: Wanted) -> float | None:
    """Times the detector's limit from which on an analysis fails, in the place where it is judged."""
    if wanted.kind in USES_BRAGG_DISKS:
        return LIMITS["bragg_count_rate"].hard
    return LIMITS.get(f"count_rate/{wanted.kind}", LIMITS["count_rate/com"]).hard


def beam_lost(
    recent: float, frames: int, earlier: float, plan: Plan, facts: DetectorFacts | None, wanted: tuple[Wanted, ...]
) -> str | None:
    """Why the rest of an exposure is of no use to any of its analyses, or None.

    ``recent`` are the counts of the last ``frames`` frames, ``earlier`` those of a frame before them. One analysis that
    could use the rest, or of which nobody said what it takes, is enough to go on.
    """
    if facts is not None and facts.integrates:
        return None
    now, error = recent / frames, sqrt(max(recent, 1.0)) / frames
    if now + SURE_SIGMAS * error >= LOST_PART * earlier:
        return None
    alpha = plan.optics.convergence_semi_angle_mrad
    if not wanted or not all(_useless(one, now + SURE_SIGMAS * error, alpha) for one in wanted):
        return None
    return (
        f"the beam is lost in part: {now:.4g} counts a pattern over {frames} frames, {earlier:.4g} before; that is too "
        f"few for {', '.join(one.name for one in wanted)}"
    )


def _useless(wanted: Wanted, electrons: float, alpha_mrad: float) -> bool:
    """Whether so few electrons are surely none that an analysis can use."""
    if isinstance(wanted.asked, CentreOfMass) and wanted.asked.smallest_deflection_mrad is not None:
        noise = centre_of_mass_noise_mrad(alpha_mrad, electrons)
        return noise > NOISE_FAILS * wanted.asked.smallest_deflection_mrad
    limit = LIMITS.get(f"electrons_per_pattern/{wanted.kind}")
    return limit is not None and electrons < limit.wanted
