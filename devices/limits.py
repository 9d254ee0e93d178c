"""What a column refuses before anything is changed: a value outside its range, or none of those that exist."""

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
