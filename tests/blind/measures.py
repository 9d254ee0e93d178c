"""Each calibration once: an exposure on a hidden truth, the estimator, and how far it came out."""

from tests.blind.lattices import ringed, scaled, stepped
from tests.blind.light import gain, vacuum
from tests.blind.specimens import defocused, drifting, turned

__all__ = ["defocused", "drifting", "gain", "ringed", "scaled", "stepped", "turned", "vacuum"]
