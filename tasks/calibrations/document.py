"""The table of the kinds of calibration as the page docs/calibrations.md holds it."""

from datetime import timedelta

from stem4d.calibrate.limits import LIMITS
from stem4d.rules.limits import NEED_IN_WORDS
from tasks.calibrations.kinds import KINDS


def table() -> str:
    """A line of Markdown for every kind."""
    lines = [
        "| kind | made | measured after | how | holds for | at most | warns where a standard error exceeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS.values():
        limits = "; ".join(f"{each.name}: {each.words}" for each in LIMITS.get(kind.name, ())) or "–"
        after = ", ".join(kind.after) or "–"
        if kind.uses:
            after += f"; better after {', '.join(kind.uses)}"
        settings = ", ".join(f"`{each}`" for each in kind.settings)
        cells = (f"`{kind.name}`", NEED_IN_WORDS[kind.needs], after, kind.how, settings, _time(kind.lifetime), limits)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _time(lifetime: timedelta) -> str:
    if lifetime >= timedelta(days=1):
        return f"{lifetime.days} days"
    minutes = int(lifetime.total_seconds() // 60)
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"
