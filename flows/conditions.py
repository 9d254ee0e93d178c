"""What has to be good for a night to go on: each a small function that says what is wrong, and the wait until it is."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from devices.protocols import DetectorWitness
from devices.safety import SafeLevel, make_safe
from flows.notify import tell_people
from stem4d.errors import NightbeamError
from stem4d.night import Conditions
from stem4d.schedule import in_words
from storage.disk import free_bytes
from tasks.lab import Lab

LOOK_S = 5.0
"""How often it is looked while the night waits [s of the instrument's time]."""

MOST_LIT_S = 60.0
"""A beam that cannot be blanked for so long ends the night [s of the instrument's time]: waiting mends nothing then."""

Condition = Callable[[Lab], str | None]
"""What is wrong, for a person; None where it is good or cannot be told."""


def vacuum(highest_pa: float) -> Condition:
    """Whether the pressure is low enough."""

    def look(opened: Lab) -> str | None:
        found = _reading(opened, "vacuum_pascal")
        bad = found is not None and found > highest_pa
        return f"the vacuum is {found:.3g} Pa, and {highest_pa:.3g} Pa is the limit" if bad else None

    return look


def emission(lowest_ua: float) -> Condition:
    """Whether the gun emits."""

    def look(opened: Lab) -> str | None:
        found = _reading(opened, "emission_ua")
        bad = found is not None and found < lowest_ua
        return f"the emission is {found:.3g} µA, and {lowest_ua:.3g} µA is the least" if bad else None

    return look


def no_cryo_fill(opened: Lab) -> str | None:
    """Whether no cold trap is being filled."""
    left_s = _reading(opened, "cryo_fill_s")
    return f"a cryo fill goes on for {in_words(left_s)}" if left_s else None


def room_on_disk(next_bytes: int) -> Condition:
    """Whether the disk has more than its reserve free, and room for so much beside it."""

    def look(opened: Lab) -> str | None:
        free, reserve = free_bytes(opened.settings.data_folder), opened.settings.disk_reserve_gb * 1e9
        if free > reserve + next_bytes:
            return None
        more = f" and {next_bytes / 1e9:.3g} GB what comes next" if next_bytes else ""
        return f"the disk has {free / 1e9:.3g} GB free, and {reserve / 1e9:.3g} GB are its reserve{more}: make room"

    return look


def answers(opened: Lab) -> str | None:
    """Whether column and detector answer."""
    instrument = opened.instrument
    try:
        instrument.column.snapshot()
        if isinstance(instrument.detector, DetectorWitness):
            instrument.detector.snapshot()
    except NightbeamError as error:
        return _silent(opened, error)
    return None


def wanted(conditions: Conditions, next_bytes: int = 0) -> tuple[Condition, ...]:
    """The functions that a night's file asks for; ``next_bytes`` is what the disk has to take next."""
    return tuple(_wanted(conditions, next_bytes))


def _wanted(conditions: Conditions, next_bytes: int) -> Iterator[Condition]:
    if conditions.network:
        yield answers
    if conditions.vacuum_pascal is not None:
        yield vacuum(conditions.vacuum_pascal)
    if conditions.emission_ua is not None:
        yield emission(conditions.emission_ua)
    if conditions.cryo_fill:
        yield no_cryo_fill
    if conditions.disk:
        yield room_on_disk(next_bytes)


def wrong(opened: Lab, looks: tuple[Condition, ...]) -> str:
    """What is wrong now, all of it, once each; empty where everything is good."""
    return "; ".join(dict.fromkeys(said for look in looks if (said := _said(opened, look))))


def _said(opened: Lab, look: Condition) -> str | None:
    """What a look says; where the instrument does not answer, nobody knows whether it is good."""
    try:
        return look(opened)
    except NightbeamError as error:
        return _silent(opened, error)


def _silent(opened: Lab, error: NightbeamError) -> str:
    return f"{opened.file.name} does not answer: {error}"


@dataclass
class Waiting:
    """The wait for better conditions."""

    opened: Lab
    conditions: Conditions
    ask: Callable[[], str]
    """Why a person ends the wait; empty to go on waiting."""
    show: Callable[[str], None]
    """Told what is waited for, and with nothing when it is over."""
    next_bytes: int = 0
    """What the disk has to take next."""
    sleep: Callable[[float], None] = time.sleep

    def until_good(self) -> str:
        """Return when all is good: at once, or after it has been good for the settle time; gives why it is given up."""
        looks = wanted(self.conditions, self.next_bytes)
        cause = wrong(self.opened, looks)
        if not cause:
            return ""
        try:
            return self._wait(looks, cause)
        finally:
            self.show("")

    def _wait(self, looks: tuple[Condition, ...], cause: str) -> str:
        opened, most_s = self.opened, 60 * self.conditions.wait_at_most_min
        lit = self._lit()
        opened.tell("waiting", f"{cause}; {lit or 'the night waits, beam blanked'}")
        if lit:
            self._alarm(f"{cause}; {lit}")
        waited_s, good_s, lit_s = 0.0, 0.0, 0.0
        while True:
            self.show(cause)
            if asked := self.ask():
                return asked
            if waited_s >= most_s:
                return f"waited {in_words(waited_s)} in vain: {cause}"
            if lit_s >= MOST_LIT_S:
                return f"{cause}; {lit}, tried again for {in_words(lit_s)}"
            self._pass()
            waited_s += LOOK_S
            if lit:
                # Nothing is good while the beam may be on, whatever answers again.
                lit, lit_s = self._lit(), lit_s + LOOK_S
                if not lit:
                    opened.tell("waiting", f"the beam is blanked, after {in_words(lit_s)}")
            now = wrong(opened, looks)
            if now or lit:
                cause, good_s = now or cause, 0.0
                continue
            good_s += LOOK_S
            if good_s >= self.conditions.settle_s:
                words = f"all is good again since {in_words(good_s)}, after {in_words(waited_s)} of waiting"
                opened.tell("waiting", words, waited_s=waited_s)
                return ""

    def _lit(self) -> str:
        """Why the beam may still be on, after blanking and else closing the valves was tried; empty where it is off."""
        report = make_safe(self.opened.instrument, SafeLevel.HOLD, "the night waits")
        return "" if report.beam_off else report.words

    def _alarm(self, words: str) -> None:
        """It needs somebody now, and not at the night's end."""
        trouble = tell_people(self.opened.settings, "needs_you", f"nightbeam, {self.opened.file.name}", words)
        if trouble:
            self.opened.show("message", trouble)

    def _pass(self) -> None:
        pass_time(self.opened, LOOK_S, self.sleep)


def pass_time(opened: Lab, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Time passes on the instrument's clock; where it does not answer, on ours."""
    try:
        opened.instrument.pause(seconds)
    except NightbeamError:
        sleep(seconds)


def _reading(opened: Lab, name: str) -> float | None:
    found = opened.instrument.column.snapshot()
    value = next((one.value for one in found if one.name == name), None)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
