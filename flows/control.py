"""What a person asks of a running night: read between batches of frames, between passes and between targets."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from db.resume import BY_A_PERSON as STOPPED_BY_A_PERSON
from devices.interrupts import raise_dropped
from stem4d.errors import NightbeamError
from stem4d.night import BY_A_PERSON
from storage import orders
from storage.orders import Order
from tasks.lab import Lab

TOO_LATE = "its deadline"
"""How that of a target begins whose time was over while it ran."""
LOOK_EVERY_S = 0.2
"""How often the folder is looked at while frames come [s]."""
WAIT_S = 0.2
"""How often while the night is paused [s]."""


@dataclass
class Control:
    """Orders as they have been taken, and what follows from them.

    While frames come nothing is written to the database, which may make a writer wait: events follow after the pass.
    """

    opened: Lab
    folder: Path
    open_targets: Callable[[], frozenset[str]]
    """Names of the targets that have not ended."""
    changed: Callable[[], None] = lambda: None
    """Called after orders were taken."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    running: str = ""
    """Name of the target that runs."""
    paused: bool = False
    stopped: str = ""
    """Why the night is to end: after the pass, or now."""
    asked: bool = False
    """Whether it was a person who stopped it."""
    now: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    """Why, by target."""
    _untold: list[tuple[str, str]] = field(default_factory=list)
    _looked_s: float = float("-inf")

    def break_off(self) -> str:
        """Why what is exposed just now is to end; empty to go on. Called between batches of frames."""
        raise_dropped()
        if self.clock() - self._looked_s >= LOOK_EVERY_S:
            self._take()
        return self.stopped if self.now else ""

    def between(self) -> str:
        """Why the running target is to end here, with the beam blanked; waits while the night is paused."""
        self.look()
        return self.stopped or self.skipped.get(self.running, "")

    def look(self) -> None:
        """Take what was asked, and wait while the night is paused and nothing else is wanted."""
        raise_dropped()
        self._take()
        self._tell()
        while self.paused and not self.stopped and self.running not in self.skipped:
            self.sleep(WAIT_S)
            self._take()
            self._tell()

    def refuse_old(self) -> None:
        """Answer what was asked of a night before this one."""
        for order in orders.waiting(self.folder):
            self._answer(order, ok=False, words="it was asked before this night began")

    def close(self) -> None:
        """Answer what came too late."""
        for order in orders.waiting(self.folder):
            self._answer(order, ok=False, words="the night has ended")
        self._tell()

    def _take(self) -> None:
        self._looked_s = self.clock()
        for order in orders.waiting(self.folder):
            ok, words = self._obey(order)
            self._answer(order, ok=ok, words=words)
            by = f" (asked by {order.by})" if order.by else ""
            what = order.kind.replace("_", " ") + (f" {order.target}" if order.target else "")
            self._untold.append((f"{what}{by}: {words}", order.kind))
            self.changed()

    def _obey(self, order: Order) -> tuple[bool, str]:
        match order.kind:
            case "pause":
                words = "paused already" if self.paused else "pauses after the pass that runs, beam blanked"
                self.paused = True
                return True, words
            case "resume":
                words = "goes on" if self.paused else "it was not paused"
                self.paused = False
                return True, words
            case "skip":
                return self._skip(order.target or "")
            case "stop":
                self.stopped, self.asked = self.stopped or STOPPED_BY_A_PERSON, True
                return True, "stops after the pass that runs; the same command goes on with the rest"
            case "stop_now":
                self.stopped, self.now, self.asked = f"{STOPPED_BY_A_PERSON}, at once", True, True
                return True, "stops now, beam blanked; the same command goes on with the rest"

    def _skip(self, target: str) -> tuple[bool, str]:
        if target not in self.open_targets():
            return False, f"there is no target {target} that has not ended"
        self.skipped[target] = BY_A_PERSON
        return True, "skipped after the pass that runs" if target == self.running else "will be skipped"

    def _answer(self, order: Order, *, ok: bool, words: str) -> None:
        try:
            orders.answer(self.folder, order, ok=ok, words=words)
        except OSError as error:
            # Obeyed all the same; on a full disk the one who asked hears nothing. It would be taken again and again.
            orders.withdraw(self.folder, order)
            self._untold.append((f"an order could not be answered: {error}", order.kind))

    def _tell(self) -> None:
        told, self._untold = self._untold, []
        for message, kind in told:
            try:
                self.opened.tell("order", message, order=kind)
            except NightbeamError as error:
                self.opened.show("order", f"{message} (not recorded: {error})")
