"""What devices refuse before anything is changed: out of range, none of those that exist, faster than frames come."""

from devices.protocols import ExposureRequest
from stem4d.detector import DetectorFacts
from stem4d.errors import LimitViolation
from stem4d.model import Range


def within(device: str, setting: str, value: float, allowed: Range, unit: str) -> None:
    """Raise `LimitViolation` where a value is outside a range."""
    if not allowed.holds(value):
        raise LimitViolation(device=device, setting=setting, asked=value, limit=str(allowed), unit=unit)


def one_of(device: str, setting: str, value: float, allowed: tuple[float, ...], unit: str) -> None:
    """Raise `LimitViolation` where a value is none of those that exist (to a millionth)."""
    if not any(abs(value - exists) <= 1e-6 * abs(exists) for exists in allowed):
        limit = "one of " + ", ".join(f"{exists:g}" for exists in allowed)
        raise LimitViolation(device=device, setting=setting, asked=value, limit=limit, unit=unit)


def slow_enough(facts: DetectorFacts, request: ExposureRequest, rate_hz: float) -> None:
    """Raise `LimitViolation` for an exposure that is shorter than frames at a rate allow.

    A detector may take the shorter time without a word, and give its frames at its own.
    """
    shortest_us = 1e6 / rate_hz - facts.dead_time_us
    # Rates are given to a few digits: 30 kHz and 33.3 us belong together.
    if request.exposure_time_us < 0.998 * shortest_us:
        limit = f"at least {shortest_us:.4g} at {rate_hz:g} frames/s"
        raise LimitViolation(
            device=facts.name, setting="exposure_time_us", asked=request.exposure_time_us, limit=limit, unit="us"
        )
