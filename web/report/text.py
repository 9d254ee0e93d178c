"""Says values in words: numbers with units, bytes, durations, times; what was not measured says so."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import floor, isfinite, log10

NOT_MEASURED = "not measured"
_THIN = "\u202f"
_MOST_DIGITS = 7
MOST_PIXELS = 50
"""Pixels that are named one by one."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNIT_SIGNS = {"us": "µs", "um": "µm", "deg": "°", "e/a2": "e⁻/Å²", "e/Å²": "e⁻/Å²", "e/A2": "e⁻/Å²", "e/A^2": "e⁻/Å²"}
_BYTE_STEPS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def unit_sign(unit: str) -> str:
    """A unit as it is printed: ``us`` is µs, ``e/A2`` is e⁻/Å²."""
    return _UNIT_SIGNS.get(unit, unit)


def number(value: float | None, digits: int = 4) -> str:
    """A number to so many significant digits, powers of ten beyond 10⁵ and below 10⁻³; counts stay whole."""
    if value is None or not isfinite(value):
        return NOT_MEASURED
    if isinstance(value, int) and abs(value) < 10**9:
        return f"{value:,}".replace(",", _THIN).replace("-", "−")
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        # Rounding may carry into the next decade (999.96 to 1000), so the decade is taken after it.
        value = float(f"{value:.{digits - 1}e}")
        decimals = max(0, digits - 1 - floor(log10(abs(value))))
        text = f"{value:,.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return text.replace(",", _THIN).replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if mantissa == "1" else f"{mantissa.replace('-', '−')} × {power}"


def quantity(value: float | None, unit: str = "", uncertainty: float | None = None) -> str:
    """A value with its uncertainty and unit, or ``not measured`` alone."""
    said = number(value)
    if said == NOT_MEASURED:
        return said
    if value is not None and uncertainty is not None and isfinite(uncertainty):
        said = _with_error(value, uncertainty)
    sign = unit_sign(unit)
    joint = "" if sign in ("", "°") else "\u00a0"
    return f"{said}{joint}{sign}"


def _with_error(value: float, uncertainty: float) -> str:
    """Both to the second digit of the uncertainty, and to no more than seven digits of the value."""
    if not uncertainty > 0:
        return f"{number(value)} ± 0"
    size = max(abs(value), uncertainty)
    last = floor(log10(float(f"{uncertainty:.1e}"))) - 1
    last = max(last, floor(log10(size)) - _MOST_DIGITS + 1)
    if 1e-3 <= size < 1e5:
        return f"{_rounded(value, last)} ± {_rounded(uncertainty, last)}"
    power = floor(log10(size))
    scaled = [_rounded(each / 10.0**power, last - power) for each in (value, uncertainty)]
    return f"({scaled[0]} ± {scaled[1]}) × 10{str(power).translate(_SUPERSCRIPTS)}"


def _rounded(value: float, last: int) -> str:
    """To the digit that stands for ``10**last``, with every zero up to it."""
    # Adding zero makes -0 into 0.
    text = f"{round(value, -last) + 0.0:,.{max(0, -last)}f}"
    return text.replace(",", _THIN).replace("-", "−")


def byte_size(count: int | None) -> str:
    """Bytes in the largest fitting decimal unit."""
    if count is None:
        return NOT_MEASURED
    for name, size in _BYTE_STEPS:
        if abs(count) >= size:
            return f"{number(count / size, 3)}\u00a0{name}"
    return f"{count}\u00a0bytes"


def duration(seconds: float | None) -> str:
    """A duration in its two largest units."""
    if seconds is None or not isfinite(seconds):
        return NOT_MEASURED
    if seconds < 0:
        return f"−{duration(-seconds)}"
    if seconds < 59.95:
        return f"{number(seconds, 3)}\u00a0s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    said = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s"
    return said.replace(" ", "\u00a0")


def time_utc(moment: datetime | None) -> str:
    """A time of day in UTC, to the second."""
    return NOT_MEASURED if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock_utc(moment: datetime) -> str:
    """The time alone, for a story whose date stands above it."""
    return f"{moment.astimezone(UTC):%H:%M:%S}"


def listed(items: Iterable[str]) -> str:
    """Items as a sentence has them: a, b and c."""
    *first, last = list(items) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def places(pixels: Sequence[Sequence[int]]) -> str:
    """Pixels (y, x) one by one, as many as there is room for, and how many more."""
    more = f" and {number(len(pixels) - MOST_PIXELS)} more" if len(pixels) > MOST_PIXELS else ""
    return ", ".join(f"({y}, {x})" for y, x in pixels[:MOST_PIXELS]) + more
