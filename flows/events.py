"""What is scheduled beside the targets of a night: a gun flash, a cryo fill, a corrector check; and what it spoils."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flows.conditions import pass_time
from stem4d.night import Event
from stem4d.schedule import in_words
from tasks.lab import Lab
from tasks.spoiled import spoil

STEP_S = 5.0
"""How often it is asked whether the night goes on, while it waits [s of the instrument's time]."""


@dataclass
class Events:
    """Those of one session of a night."""

    opened: Lab
    events: tuple[Event, ...]
    hours: Callable[[], float]
    """Since the session began, on the instrument's clock."""
    ask: Callable[[], str]
    """Why a person ends a wait; empty to go on."""
    show: Callable[[str], None]
    """Told what is waited for, and with nothing when it is over."""
    taken: dict[str, int] = field(default_factory=dict)

    def take_place(self) -> None:
        """Wait for what is due, with the beam blanked, and tell which calibrations do not hold any more.

        What was due several times while a target ran takes place once.
        """
        for one in self.events:
            due = one.times(self.hours())
            if due > self.taken.get(one.name, 0):
                self.taken[one.name] = due
                self._take(one)

    def _take(self, one: Event) -> None:
        takes_s, waited_s = 60 * one.takes_min, 0.0
        self.opened.tell("event", f"{one.name}: the night waits {in_words(takes_s)}" if takes_s else one.name)
        if takes_s:
            self.opened.instrument.gate.blank()
            self.show(one.name)
        try:
            # What happens to the instrument happens: a person who ends the night does not end that.
            while waited_s < takes_s and not self.ask():
                step_s = min(STEP_S, takes_s - waited_s)
                pass_time(self.opened, step_s)
                waited_s += step_s
        finally:
            self.show("")
            if one.spoils:
                spoil(self.opened, one.name, one.spoils)
