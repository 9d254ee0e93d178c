"""What the parts of one simulated instrument share: truth, log, clock, and where everything stands."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf, isfinite
from pathlib import Path
from threading import Condition, RLock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from devices.column_log import ColumnLog, Entry, entry_of
from devices.dose_lease import require_token
from devices.protocols import BeamFound, ColumnSetting, ExposureRequest, ScanRequest
from devices.simulator.doses import Doses
from devices.simulator.settings import VACUUM, Truth
from devices.simulator.stage import AT_REST, StageMotion, moved, stored
from stem4d.approach import StagePose
from stem4d.detector import DetectorFacts
from stem4d.instrument import InstrumentFacts

if TYPE_CHECKING:
    from devices.simulator.scene import Scene

ROUNDING_S = 1e-9
"""Less simulated time than this is none: sums of times are not exact."""
ALWAYS = {"blank", "valves", "stop", "scanned", "close"}
"""Events that happen whether or not they can be logged: what makes an instrument safe never waits for a disk."""
ITSELF = "instrument"
"""Who blanked the beam, in the log, where nobody was left to do it."""


@dataclass
class Run:
    """One exposure that a source was asked for, and what the scan did since."""

    number: int
    scene: "Scene"
    started_s: float | None = None
    """Simulated time at which its scan started."""
    stopped_s: float = inf
    ended: bool = False
    """Whether its dose has been noted."""

    @property
    def suffers(self) -> bool:
        """Whether what it looks at is damaged by it."""
        area = self.scene.truth.areas.get(self.scene.position)
        return area is not None and area.beam_damage is not None


class State:
    """A simulated instrument as it stands; one object of one process holds it.

    Blanker, valves, stage, newest token, run number and clock are recovered from the log, so a later process finds
    them as they were left. Safety uses ``monotonic``, physics uses `now_s`.

    Threads: whoever reads or changes anything holds ``lock``; `note`, `claim` and `pass_time` take it themselves.
    ``changed`` wakes those who wait for an event. Nobody holds it while waiting or rendering, so that the beam can be
    blanked at any moment.
    """

    def __init__(
        self,
        facts: InstrumentFacts,
        truth: Truth,
        folder: Path,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.facts, self.truth = facts, truth
        self.real_time = truth.speed == "real"
        self.monotonic, self.sleep = monotonic, sleep
        self.lock = RLock()
        self.changed = Condition(self.lock)
        self.position, self.newest_token, self.newest_owner_token, self.run = VACUUM, 0, 0, 0
        self.stage: StageMotion = AT_REST
        self.lenses_off = False
        """Whether a change has left hysteresis in them."""
        self.blanked, self.valves_closed, self.session_open, self.armed = True, False, False, False
        self.scan_ends_s: float | None = None
        """While a raster runs: simulated time of its end."""
        self.column: ColumnSetting | None = None
        self.scan: ScanRequest | None = None
        self.exposure: ExposureRequest | None = None
        self.detector: DetectorFacts = facts.all_detectors[0]
        self.sourced = False
        self.current: Run | None = None
        """The run that a source was last asked for."""
        self._beam: list[tuple[float, bool]] = []
        """Every switch of the beam, oldest first: simulated time and whether it went on."""
        self._found: BeamFound | None = None
        """The beam as the last `unblank` has it: while it is on, and where the instrument had to blank it itself."""
        self._base_s, self._opened_s = 0.0, monotonic()
        self.doses = Doses(folder)
        self._log = ColumnLog(folder)
        self._recover()

    def _recover(self) -> None:
        for entry in self._log.entries():
            try:
                self._take(entry)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                self._log.refuse(missing)
        if self.scan_ends_s is not None:
            # No frame of a scan that was cut off is from later than its end, whatever frames there were.
            self._reach(self.scan_ends_s)
        del self._beam[:-1]  # no frame of this process is from before its log's end

    def now_s(self) -> float:
        """Simulated time [s]: what the frames have reached, or further where time was let pass."""
        return self._base_s + (self.monotonic() - self._opened_s if self.real_time else 0.0)

    def pass_time(self, seconds: float, at_most_s: float = inf) -> float:
        """Let simulated time pass, in real time by waiting for it, and return what is left of it [s]."""
        if not self.real_time:
            with self.lock:
                self._base_s += max(0.0, seconds)
            return 0.0
        waited_s = min(max(0.0, seconds), at_most_s)
        self.sleep(waited_s)
        left_s = max(0.0, seconds - waited_s)
        return left_s if left_s > ROUNDING_S else 0.0

    def note(self, event: str, **facts: object) -> None:
        """Log what happens, and take it in; an event of `ALWAYS` is taken in first, and logged when that is possible.

        Raises
        ------
        DeviceFault
            For any other event, where it cannot be logged; it then did not happen.
        """
        with self.lock:
            entry = entry_of(event, self.now_s(), facts)
            if event in ALWAYS:
                self._take(entry)
                self._log.keep(entry)
            else:
                self._log.append(entry)
                self._take(entry)
            if event in ("scanned", "stop"):
                self._remember_dose()
            self.changed.notify_all()

    def catch_up(self) -> str:
        """Log what could not be logged when it happened; gives why that fails, empty where nothing is left."""
        with self.lock:
            return self._log.pay()

    def claim(
        self, run: Run, times_s: npt.NDArray[np.floating], end_s: float
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Let simulated time reach the end of some frames of a run, and say how it went for each of them.

        Whoever blanks or stops does it before this or after it: no frame is lit that the log has as dark.

        Parameters
        ----------
        run : Run
            Whose frames they are.
        times_s : float array (n,)
            When they begin [s].
        end_s : float
            When the last of them ends [s].

        Returns
        -------
        tuple of bool arrays (n,)
            Whether a frame comes, not being after a stop; whether the beam was on.
        """
        with self.lock:
            self._reach(min(end_s, run.stopped_s))
            return times_s < run.stopped_s, _lit(self._beam, times_s)

    def _remember_dose(self) -> None:
        """Of the exposure that is over; worked out by a thread of its own, since the beam may have to be blanked."""
        run = self.current
        if run is None or run.started_s is None or run.ended or not run.suffers:
            return
        run.ended, stopped_s, beam = True, run.stopped_s, list(self._beam)
        self.doses.ended(run.number, run.scene, run.started_s, lambda s: (s < stopped_s) & _lit(beam, s))
        with suppress(RuntimeError):  # no thread to be had: the next who asks for the dose works it out
            self.doses.settle_soon()

    def begin(self) -> BeamFound | None:
        """Begin a session, as an operator would: valves opened, beam blanked; within one nothing is changed.

        Returns
        -------
        BeamFound or None
            Where the beam is on, or had to be blanked by the instrument itself since the last session began.
        """
        with self.lock:
            found = self._found
            if not self.session_open:
                self.note("open")
            return found

    def end(self) -> None:
        """Stop what runs, blank, and end the session."""
        with self.lock:
            if self.scan_ends_s is not None:
                self.note("stop", device="instrument")
            self.note("blank")
            self.note("close")

    def gate_itself(self) -> None:
        """End the session, beam blanked, where everybody has gone and left the beam on."""
        with self.lock:
            if not self.blanked:
                self.note("blank", by=ITSELF)
                self.end()

    def _reach(self, simulated_s: float) -> None:
        """Simulated time never goes back."""
        self._base_s += max(0.0, simulated_s - self.now_s())

    def _take(self, entry: Entry) -> None:
        event, at_s = entry["event"], float(entry["simulated_s"])
        self._reach(at_s)
        if event in ("blank", "unblank", "valves"):
            # All that can fail comes first: an entry is taken in whole or not at all.
            token, found = require_token(int(entry.get("token", 0))), self._beam_found(entry)
            owner = require_token(int(entry.get("owner_token", 0)))
            self.blanked, self._found = event != "unblank", found
            self._beam.append((at_s, event == "unblank"))
            self.newest_token = max(self.newest_token, token)
            self.newest_owner_token = max(self.newest_owner_token, owner)
        if event == "valves":
            self.valves_closed = True
        elif event == "owner":
            self.newest_owner_token = max(self.newest_owner_token, require_token(int(entry["owner_token"])))
        elif event == "open":
            self.session_open, self.valves_closed = True, False
            if self.blanked:
                self._found = None
        elif event == "close":
            self.session_open = False
        elif event == "stage":
            self._arrive(str(entry["position"]), at_s)
        elif event == "move":
            pose = StagePose.model_validate(entry["pose"])
            self.stage = moved(self.stage, self.truth.stage, self.truth.seed, pose, at_s)
        elif event in ("lenses", "normalise"):
            self.lenses_off = event == "lenses"
        elif event == "expose":
            self.run = max(self.run, int(entry["run"]))
        elif event == "arm":
            self.armed = True
        elif event == "scan":
            self.scan_ends_s = at_s + _finite(entry["duration_s"])
            if self.current:
                self.current.started_s = at_s
        elif event in ("scanned", "stop"):
            self.scan_ends_s, self.armed = None, False
            if self.current and event == "stop":
                self.current.stopped_s = min(self.current.stopped_s, at_s)

    def _arrive(self, position: str, at_s: float) -> None:
        """The stage stays where it is when it is sent to the position it has."""
        if position != self.position:
            area = self.truth.areas.get(position)
            place_um = (0.0, 0.0, 0.0) if area is None else area.place_um
            self.stage = stored(self.stage, self.truth.stage, self.truth.seed, place_um, at_s)
        self.position = position

    def _beam_found(self, entry: Entry) -> BeamFound | None:
        """What there is to tell of the beam after an entry that switches it."""
        known, wall = self._found, str(entry.get("wall", ""))
        if entry["event"] == "unblank":
            # Another lease does not make an open beam younger.
            return known if known and not known.until else BeamFound(str(entry.get("area", "")), wall)
        if entry.get("by") == ITSELF:
            return replace(known, until=wall) if known else None
        return known if known and known.until else None


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{value} is not a figure")
    return float(value)


def _lit(beam: list[tuple[float, bool]], times_s: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Whether the beam was on at times, by its switches in order; off before the first of them."""
    switched_s = np.array([-inf] + [at_s for at_s, _on in beam])
    on = np.array([False] + [on for _at_s, on in beam])
    lit: npt.NDArray[np.bool_] = on[np.searchsorted(switched_s, times_s, side="right") - 1]
    return lit
