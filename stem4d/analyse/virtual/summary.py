"""Virtual images: counts as parts of the incident electrons, and how much of their contrast is more than noise."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VirtualSummary:
    """Figures of one virtual image."""

    name: str
    positions: int
    mean_counts: float
    """Counts per position; NaN without any position."""
    mean_fraction: float | None
    """Of the incident electrons; None where those are not known."""
    contrast: float
    """Rms contrast beyond counting noise: sqrt(variance - mean) / mean."""
    contrast_uncertainty: float
    noise: float
    """What counting alone gives: 1 / sqrt(mean)."""

    @property
    def text(self) -> str:
        """One line for a report."""
        part = "" if self.mean_fraction is None else f", {self.mean_fraction:.2%} of the incident electrons"
        return (
            f"{self.name}: {self.mean_counts:.4g} counts a position{part}; contrast {self.contrast:.2%} ± "
            f"{self.contrast_uncertainty:.2%} beyond counting noise of {self.noise:.2%}"
        )


def summarise_virtual(
    name: str,
    counts: npt.NDArray[np.number],
    recorded: npt.NDArray[np.bool_],
    incident_electrons: float | None = None,
) -> VirtualSummary:
    """Mean and contrast of a virtual image, one count taken for one electron.

    Poisson counts of mean m have variance m: what is above is the specimen's. The error of the variance is that of
    n independent positions, sqrt(2/(n - 1)) of it.
    """
    values = np.asarray(counts, dtype=np.float64)[recorded]
    mean = float(values.mean()) if values.size else float("nan")
    if values.size < 2 or mean <= 0:
        contrast, error, noise = float("nan"), float("nan"), float("nan")
    else:
        variance = float(values.var(ddof=1))
        spread = sqrt(2 / (values.size - 1)) * variance
        beyond = max(variance - mean, 0.0)
        contrast, noise = sqrt(beyond) / mean, 1 / sqrt(mean)
        # Near zero the root of the variance's error bounds it; further up the error propagates.
        error = min(sqrt(spread), spread / (2 * sqrt(beyond)) if beyond > 0 else np.inf) / mean
    fraction = mean / incident_electrons if incident_electrons else None
    return VirtualSummary(name, int(values.size), mean, fraction, contrast, error, noise)
