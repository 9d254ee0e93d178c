"""What the parts of one simulated instrument share: truth, log, clock, and where everything stands."""

import time
from collections.abc import Callable
from pathlib import Path

from devices.column_log import ColumnLog, Entry
from devices.protocols import ColumnSetting, ExposureRequest, ScanRequest
from devices.simulator.clock import FramesClock
from devices.simulator.settings import VACUUM, Truth
from stem4d.detector import DetectorFacts
from stem4d.errors import LimitViolation
from stem4d.instrument import InstrumentFacts
from stem4d.model import Range


class State:
    """One process's hold of a simulated instrument.

    Blanker, valves, stage, newest token, run number and clock come from the log, so a second process and a later
    session find them as they were left. Safety uses ``monotonic``, physics uses `now_s`.
    """

    def __init__(
        self,
        facts: InstrumentFacts,
        truth: Truth,
        folder: Path,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.facts, self.truth, self.folder = facts, truth, folder
        self.monotonic, self._sleep = monotonic, sleep
        self._log = ColumnLog(folder)
        self.frames_clock = FramesClock(folder)
        self.position, self.newest_token, self.run = VACUUM, 0, 0
        self.blanked, self.valves_closed, self.session_open, self.armed = True, False, False, False
        self.scan_ends_s: float | None = None
        """While a raster runs: simulated time of its end."""
        self.column: ColumnSetting | None = None
        self.scan: ScanRequest | None = None
        self.exposure: ExposureRequest | None = None
        self.detector: DetectorFacts = facts.all_detectors[0]
        self.sourced = self._ended = False
        self._base_s, self._opened_s = self.frames_clock.now_s(), monotonic()
        self.look()
        if not self.session_open:
            # A session starts as an operator would: valves opened, beam blanked.
            self.note("open")

    def now_s(self) -> float:
        """Simulated time [s]: what the frames have reached, or further where time was let pass."""
        if self.truth.speed == "real":
            return self._base_s + self.monotonic() - self._opened_s
        return max(self._base_s, self.frames_clock.now_s())

    def pass_time(self, seconds: float) -> None:
        """Let simulated time pass; in real time by waiting for it."""
        if self.truth.speed == "real":
            self._sleep(max(0.0, seconds))
        else:
            self._base_s = self.now_s() + max(0.0, seconds)

    def note(self, event: str, **facts: object) -> float:
        """Log what happens, take it in, and return the simulated time it got [s]."""
        at_s = self.now_s()
        self._log.append(event, at_s, **facts)
        self.look()
        return at_s

    def look(self) -> None:
        """Take in what the log says since the last look, whoever wrote it."""
        for entry in self._log.news():
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        event, at_s = entry["event"], float(entry["simulated_s"])
        if at_s > self.now_s():
            self._base_s += at_s - self.now_s()
        if event in ("blank", "unblank"):
            self.blanked = event == "blank"
            self.newest_token = max(self.newest_token, int(entry.get("token", 0)))
        elif event == "valves":
            self.valves_closed = self.blanked = True
        elif event == "open":
            self.session_open, self.valves_closed = True, False
        elif event == "close":
            self.session_open = False
        elif event == "stage":
            self.position = str(entry["position"])
        elif event == "expose":
            self.run = max(self.run, int(entry["run"]))
        elif event == "arm":
            self.armed = True
        elif event == "scan":
            self.scan_ends_s = at_s + float(entry["duration_s"])
        elif event in ("scanned", "stop"):
            self.scan_ends_s, self.armed = None, False

    def end(self) -> None:
        """Stop what runs, blank, and end the session; again does nothing."""
        if self._ended:
            return
        if self.scan_ends_s is not None:
            self.note("stop", device="instrument")
        self.note("blank")
        self.note("close")
        self.frames_clock.close()
        self._ended = True


def within(device: str, setting: str, value: float, allowed: Range, unit: str) -> None:
    """Raise `LimitViolation` where a value is outside a range."""
    if not allowed.holds(value):
        raise LimitViolation(device=device, setting=setting, asked=value, limit=str(allowed), unit=unit)


def one_of(device: str, setting: str, value: float, allowed: tuple[float, ...], unit: str) -> None:
    """Raise `LimitViolation` where a value is none of those that exist (to a millionth)."""
    if not any(abs(value - exists) <= 1e-6 * abs(exists) for exists in allowed):
        limit = "one of " + ", ".join(f"{exists:g}" for exists in allowed)
        raise LimitViolation(device=device, setting=setting, asked=value, limit=limit, unit=unit)
