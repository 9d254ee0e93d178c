"""The owner's side of the watchdog: starts it, says that the owner lives, and blanks the beam itself where it dies.

One thread, the keeper, beats and listens. It has a connection to the instrument of its own, so that it can blank
whatever the owner's thread is in the middle of; a second Ctrl+C uses it too.
"""

import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from devices import safety_log
from devices.heartbeat import BEAT_S, LATE_S, Silence
from devices.interrupts import at_once
from devices.kennel import Dog, spawn
from devices.protocols import BeamGate, Instrument, Watchable
from devices.safety import SafeLevel, make_safe
from stem4d.dose import DoseLease
from stem4d.errors import DeviceFault
from stem4d.instrument import InstrumentFile

READY_S = 60.0
"""Longest start of a watchdog [s]: half a second as a rule, and a busy machine with a slow disk may take many."""
LOOK_S = 12.0
"""Longest answer to whether the watchdog reaches the instrument [s]; a driver's own time-out is 10 s."""


class Unwatched(DeviceFault):
    """Nothing is exposed: no watchdog could make the instrument safe."""


class Guard:
    """What watches an instrument, seen from its owner; one that was lost is replaced before the next exposure."""

    def __init__(self, file: InstrumentFile, path: Path, home: Path, opened: Callable[[], Instrument]) -> None:
        self._file, self._path, self._home, self._opened = file, path, home, opened
        self._folder = home / "instruments" / file.name
        self._watch: _Watch | None = self._start()

    def begin(self, instrument: Instrument) -> None:
        """The owner is in session: let the watchdog open its connection, which goes on beside what comes next.

        Raises
        ------
        Unwatched
            Where no second process could make the instrument safe.
        """
        by = instrument.watched_by if isinstance(instrument, Watchable) else "nobody"
        if by == "nobody":
            raise Unwatched(
                f"{self._file.name}: its driver {self._file.driver} does not say that a second process can make the "
                "instrument safe, so nobody would blank the beam if this one died. It cannot be used unattended"
            )
        if by == "nobody needed":
            self.end()
            self._watch = None
            return
        assert self._watch is not None
        self._watch.begin(self._opened)

    @property
    def needed(self) -> bool:
        """Whether there is a beam that could be left on."""
        return self._watch is not None

    @property
    def lost(self) -> str:
        """Why nobody watches any more; empty where somebody does."""
        return self._watch.lost if self._watch else ""

    def ready(self) -> str:
        """Wait until somebody watches, as every exposure does first; a watchdog that was lost is replaced.

        Returns
        -------
        str
            How the last one was lost; empty where it was not.

        Raises
        ------
        Unwatched
            With the reason, where none could be started.
        """
        if self._watch is None:
            return ""
        if lost := self._watch.lost:
            self._watch.end()
            self._watch = self._start()
            self._watch.begin(self._opened)
        self._watch.ready()
        return lost

    def check(self) -> None:
        """Raise `Unwatched` unless the watchdog answers at this moment, and reaches the instrument."""
        if self._watch is not None:
            self._watch.ready()
            self._watch.check()

    def lit(self, until_s: float | None) -> None:
        """The beam may be on until then by the real monotonic clock [s], and is blanked after it; None where it is off.

        Whoever hangs while its threads go on still beats: this ends its exposure.
        """
        if self._watch is not None:
            self._watch.until_s = until_s

    def goes_on(self, seconds: float) -> None:
        """There is progress: the beam may be on for so long from now at least, if it is on."""
        if self._watch is not None and (until_s := self._watch.until_s) is not None:
            self._watch.until_s = max(until_s, time.monotonic() + seconds)

    def blank_now(self) -> None:
        """Have the beam blanked at once beside what the owner is doing; does not wait for it."""
        if self._watch is not None:
            self._watch.hurry()

    def end(self) -> None:
        """The instrument is parked: nothing is left to watch."""
        if self._watch is not None:
            self._watch.end()

    def _start(self) -> "_Watch":
        try:
            return _Watch(spawn(self._path, self._home, self._folder), self._file.name, self._folder)
        except OSError as error:
            raise Unwatched(f"{self._file.name}: its watchdog could not be started ({error})") from None


@contextmanager
def guarding(file: InstrumentFile, path: Path, home: Path, opened: Callable[[], Instrument]) -> Iterator[Guard]:
    """A watchdog for the length of the block. It starts at once, so that the instrument can be opened meanwhile."""
    guard = Guard(file, path, home, opened)
    try:
        with at_once(guard.blank_now):
            yield guard
    finally:
        guard.end()


class WatchedGate:
    """A beam gate that lets the beam through only while somebody watches."""

    def __init__(self, gate: BeamGate, guard: Guard) -> None:
        self._gate, self._guard = gate, guard

    def blank(self) -> None:
        """Blank."""
        self._gate.blank()
        self._guard.lit(None)

    def unblank(self, lease: DoseLease) -> None:
        """Let the beam through until the lease expires.

        Raises
        ------
        Unwatched
            Where nobody watches; the beam is blanked.
        """
        self._guard.check()
        self._guard.lit(lease.expires_monotonic_s)
        self._gate.unblank(lease)
        if lost := self._guard.lost:
            # The keeper may have blanked just before.
            self._gate.blank()
            raise Unwatched(lost)

    def is_blanked(self) -> bool | None:
        """As the gate says."""
        return self._gate.is_blanked()

    def newest_token(self) -> int:
        """As the gate says."""
        return self._gate.newest_token()

    def see_owner(self, owner_token: int) -> int:
        """As the gate does."""
        return self._gate.see_owner(owner_token)


class _Watch:
    """One watchdog and the thread that keeps it."""

    def __init__(self, dog: Dog, name: str, folder: Path) -> None:
        self._dog, self._name, self._folder = dog, name, folder
        self.lost = ""
        self.until_s: float | None = None
        self._ready, self._seen = threading.Event(), threading.Event()
        self._ending = self._hurry = False
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._keeper: threading.Thread | None = None

    def begin(self, opened: Callable[[], Instrument]) -> None:
        self._keeper = threading.Thread(target=self._keep, args=(opened,), daemon=True, name="watchdog-keeper")
        self._keeper.start()

    def ready(self) -> None:
        if not self._ready.wait(READY_S):
            self._lose(f"the watchdog was not ready within {READY_S:g} s", None)
        self._require()

    def check(self) -> None:
        self._seen.clear()
        self._tell("look")
        if not self.lost and not self._seen.wait(LOOK_S):
            self._lose(f"the watchdog does not say within {LOOK_S:g} s whether it reaches the instrument", None)
        self._require()

    def hurry(self) -> None:
        """Called in a signal's handler: nothing here waits."""
        if not self._ending:
            self._hurry = True
            self._stir()

    def end(self) -> None:
        if self._ending:
            return
        self._ending = True
        self._tell("done")
        self._stir()
        if self._keeper is not None:
            self._keeper.join()
        # One that is still starting has nothing to make safe, and is not waited for.
        self._dog.end(patiently=self._ready.is_set() and not self.lost)
        os.close(self._wake)
        os.close(self._woken)

    def _stir(self) -> None:
        with suppress(OSError):
            os.write(self._wake, b"!")

    def _require(self) -> None:
        if self.lost:
            raise Unwatched(f"{self._name}: {self.lost}")

    def _tell(self, word: str) -> None:
        with suppress(OSError):  # a dead one's end is heard of in `_keep`
            os.write(self._dog.words, f"{word}\n".encode())

    def _lose(self, why: str, second: Instrument | None) -> None:
        """Nobody watches: whoever unblanks after this sees it, and what is on now is blanked here."""
        if self.lost or self._ending:
            return
        self.lost = why
        if second is not None:
            trouble = self._blank(second, why)
            if trouble:
                self.lost = f"{why}. {trouble}"
        self._ready.set()
        self._seen.set()

    def _blank(self, second: Instrument, reason: str) -> str:
        report = make_safe(second, SafeLevel.HOLD, reason)
        unwritten = safety_log.record(self._folder, "owner", report)
        if unwritten:
            print(f"safety: {unwritten}", file=sys.stderr)
        return report.words

    def _keep(self, opened: Callable[[], Instrument]) -> None:
        """Beat and listen until the end; the connection is for blanking alone."""
        try:
            second = opened()
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, nobody watches without it
            self._lose(f"there is no second connection to the instrument to blank by ({error})", None)
            return
        try:
            self._tell("open")
            self._follow(second)
        except Exception as error:  # noqa: BLE001 - as above: whatever ended this thread
            self._lose(f"nobody keeps the watchdog any more ({type(error).__name__}: {error})", second)
        finally:
            if isinstance(second, Watchable):
                second.leave()

    def _follow(self, second: Instrument) -> None:
        text, silence, beat_s = b"", Silence(), time.monotonic()
        streams = [self._woken, self._dog.answers]
        while not self._ending:
            for stream in select.select(streams, [], [], max(0.0, beat_s + BEAT_S - time.monotonic()))[0]:
                came = os.read(stream, 4096)
                if stream == self._woken:
                    if self._hurry:
                        self._hurry = False
                        self._blank(second, "a second Ctrl+C or SIGTERM")
                elif not came:
                    streams.remove(stream)
                    self._lose(self._dog.last_words(), second)
                else:
                    *lines, text = (text + came).split(b"\n")
                    silence.heard()
                    for line in lines:
                        self._take(json.loads(line), second)
            if time.monotonic() < beat_s + BEAT_S:
                continue
            beat_s = time.monotonic()
            if self.until_s is not None and beat_s > self.until_s:
                self._lose(
                    "the dose lease ran out while the beam was on: the run had said nothing for too long", second
                )
            if not self._ready.is_set():
                silence.heard()  # `ready` has a limit of its own
            elif not self.lost:
                self._tell("beat")
                if silence.late():
                    self._lose(f"the watchdog has said nothing for {LATE_S:g} s", second)

    def _take(self, said: dict[str, object], second: Instrument) -> None:
        match said:
            case {"ready": _}:
                self._ready.set()
            case {"seen": _}:
                self._seen.set()
            case {"trouble": why}:
                self._lose(f"the watchdog cannot do its work: {why}", second)
            case {"acted": why}:
                self._lose(f"the watchdog has made the instrument safe: {why}", second)
