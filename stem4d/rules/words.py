"""Figures and verdicts as a microscopist would read them."""

from stem4d.rules.registry import Judged
from stem4d.verdict import Verdict

_LONG_A = 1000.0
_POSSIBLE = {Verdict.PASS: "possible", Verdict.WARN: "doubtful", Verdict.FAIL: "not possible"}
_MINUTE_S, _HOUR_S = 60.0, 3600.0


def number(value: float) -> str:
    """Three figures, whole numbers up to 99 999, short exponents."""
    if 1e3 <= abs(value) < 99_999.5:
        return f"{value:.0f}"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def figures(unit: str, *values: float) -> list[str]:
    """Values in one common unit: long lengths in nm, long times in minutes or hours."""
    largest, divisor = max(abs(value) for value in values), 1.0
    if unit == "Å" and largest >= _LONG_A:
        unit, divisor = "nm", 10.0
    elif unit == "s" and largest >= 2 * _HOUR_S:
        unit, divisor = "h", _HOUR_S
    elif unit == "s" and largest >= 2 * _MINUTE_S:
        unit, divisor = "min", _MINUTE_S
    return [f"{number(value / divisor)} {unit}".rstrip() for value in values]


def sentence(judged: Judged, unit: str) -> str:
    """What a rule found, with the figure, the limit and by how much it is missed."""
    subject = judged.quantity[0].upper() + judged.quantity[1:]
    if judged.verdict is Verdict.NOT_MEASURABLE:
        return f"{subject}: not known. {judged.note}".rstrip()
    if judged.value is None or judged.limit is None:
        word = _POSSIBLE[judged.verdict]
        return f"{subject}: {word}. {judged.note}".rstrip()
    value, limit = figures(unit, judged.value, judged.limit)
    if judged.verdict is Verdict.PASS:
        text = f"{subject}: {value}, {judged.sense} {limit}."
    else:
        bound = "needed" if judged.verdict is Verdict.FAIL else "advised"
        text = f"{subject} is {value}{_missed_by(judged.value, judged.limit, judged.sense)}; "
        text += f"{judged.sense} {limit} is {bound}."
    return f"{text} {judged.note}".rstrip()


def _missed_by(value: float, limit: float, sense: str) -> str:
    if value <= 0 or limit <= 0:
        return ""
    ratio, word = (value / limit, "much") if sense == "at most" else (limit / value, "little")
    amount = f"{number(ratio)} times" if ratio >= 2 else f"{100 * (ratio - 1):.2g} %"
    return f", {amount} too {word}"
