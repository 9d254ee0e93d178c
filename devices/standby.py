"""The acquisition process of the next exposure, started before it is needed: its imports take a second."""

from collections.abc import Callable

from devices.worker import Worker


class Standby:
    """At most one worker that waits; each receives one exposure."""

    def __init__(self, on_started: Callable[[int], None], imports: tuple[str, ...] = ()) -> None:
        self._on_started, self._imports = on_started, imports
        self._waiting: Worker | None = None

    def begin(self) -> None:
        """Start one, unless one waits already; does not wait for it."""
        if self._waiting is not None and not self._waiting.lives:
            self.end()
        if self._waiting is None:
            self._waiting = Worker(self._on_started, self._imports)

    def take(self) -> Worker | None:
        """The one that waits, which is the caller's from now on."""
        waiting, self._waiting = self._waiting, None
        return waiting

    def end(self) -> None:
        """Nothing more is exposed."""
        if (waiting := self.take()) is not None:
            waiting.end()
