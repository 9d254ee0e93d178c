"""Calibrations that an event of the instrument has spoiled: recorded, and known to the session at once."""

from collections.abc import Sequence

from db.calibrations import SPOILED
from db.clock import utc_now
from tasks.lab import Lab


def spoil(opened: Lab, what: str, kinds: Sequence[str]) -> None:
    """Calibrations of these kinds that were measured until now are to be measured again before they are used."""
    opened.memory.spoiled(what, kinds, utc_now())
    opened.tell(SPOILED, f"{what}: {', '.join(kinds)} to be measured again", kinds=" ".join(kinds), what=what)
