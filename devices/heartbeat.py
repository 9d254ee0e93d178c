"""The beat between the owner of an instrument and its watchdog, and how long one may be silent; by the real clock."""

import time
from collections.abc import Callable

BEAT_S = 0.5
"""How often the owner says that it lives, and the watchdog that it has heard it."""
LATE_S = 2.0
"""Silence after which the other one counts as dead."""


class Silence:
    """How long the other end has said nothing, as far as this process was there to hear it.

    A process that did not run for a while finds the other's words waiting only when that one has run again: of a gap
    in its own time no more than a beat and a half counts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._looked_s, self._silent_s = clock, clock(), 0.0

    def heard(self) -> None:
        """Something came."""
        self._looked_s, self._silent_s = self._clock(), 0.0

    def late(self) -> bool:
        """Whether the silence has lasted too long; to be asked at least once a beat."""
        now_s = self._clock()
        self._silent_s += min(now_s - self._looked_s, 1.5 * BEAT_S)
        self._looked_s = now_s
        return self._silent_s > LATE_S
