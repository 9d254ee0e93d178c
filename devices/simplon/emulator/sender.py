"""The thread that sends series: start, images at their rate, end, with the faults that are set."""

import math
import time
import traceback
from contextlib import closing
from dataclasses import replace
from threading import Thread

from devices.simplon.emulator.faults import FaultBook, FrameFault, SeriesFault
from devices.simplon.emulator.frames import FrameSupply, SeriesFrames
from devices.simplon.emulator.outlet import Outlet
from devices.simplon.emulator.series import Series
from devices.simplon.emulator.state import DetectorState
from devices.simplon.emulator.truth import FrameTruth, SeriesTruth, Truth
from devices.simplon.emulator.wire import WIRES, Parts, Wire
from devices.simplon.messages import PackedFrame
from stem4d.errors import NightbeamError

STRAY_ID = 999_999


class Sender(Thread):
    """Plays the series that the state arms, one after another."""

    def __init__(
        self,
        state: DetectorState,
        rings: FrameSupply,
        faults: FaultBook,
        truth: Truth,
        outlet: Outlet,
        rate_hz: float | None = None,
    ) -> None:
        super().__init__(name="simplon-emulator-sender", daemon=True)
        self.state, self.rings, self.faults, self.truth, self.outlet = state, rings, faults, truth, outlet
        self._rate_hz = rate_hz

    def period_s(self, series: Series) -> float:
        """Time between two images [s]; 0 is as fast as they go."""
        if self._rate_hz is None:
            return float(series.config["frame_time"])
        return 0.0 if math.isinf(self._rate_hz) else 1 / self._rate_hz

    def run(self) -> None:
        """Until the state is closed."""
        try:
            while (series := self.state.jobs.get()) is not None:
                try:
                    Playing(self, series).play()
                except Exception as error:  # noqa: BLE001 - whoever waits for the series has to hear that it failed
                    # What is no bug is told in its own words.
                    traceback.print_exception(error, limit=0 if isinstance(error, NightbeamError) else None)
                    self.state.fail(f"emulator: {type(error).__name__}: {error}")
        finally:
            self.outlet.close()


class Playing:
    """One series on its way."""

    def __init__(self, sender: Sender, series: Series) -> None:
        self._sender, self._series = sender, series
        self._state, self._faults = sender.state, sender.faults.of_series()
        self._format = str(series.stream["format"])
        self._wire: Wire = WIRES[self._format]
        self._speaks = series.stream["mode"] == "enabled" and "silent" not in self._faults
        self._truth: SeriesTruth = sender.truth.begin(series)
        self._held: list[tuple[int, int, Parts]] = []
        self._late = self._faults.get("late_start")

    def play(self) -> None:
        """All of it; what stops it is still followed by the end message."""
        try:
            with closing(self._sender.rings.of(self._series.config)) as ring:
                self._strays(ring, 0)
                if self._late is None:
                    self._start()
                if self._images(ring):
                    self._finish()
        finally:
            self._note(finished=True)

    def _images(self, ring: SeriesFrames) -> bool:
        """The frames; False where the detector has failed."""
        series, period_s = self._series, self._sender.period_s(self._series)
        due_s, behind_s, number = 0.0, 0.0, 0
        too_many = self._faults["overrun"].count if "overrun" in self._faults else 0
        while self._state.wait_released(series, number) or self._runs_over(number, too_many):
            # Frames follow each other at the rate from their trigger on; what is late is made up for, by one at most.
            if period_s:
                now_s = time.monotonic()
                due_s = max(due_s, now_s - behind_s)
                if self._state.wait_stopped(series, max(0.0, due_s - now_s)):
                    break
                due_s += period_s
            if "fail" in self._faults and number == self._faults["fail"].frame:
                self._state.fail("emulator: fault fail")
                return False
            if number:
                self._strays(ring, number)
            if not self._image(ring, number):
                break
            if number < series.images:
                self._state.exposed_one(series)
            if self._late is not None and number >= self._late.frame:
                self._start()
            number += 1
            behind_s = period_s if series.released > number else 0.0
        return True

    def _runs_over(self, number: int, too_many: int) -> bool:
        return not self._series.stopped and self._series.images <= number < self._series.images + too_many

    def _finish(self) -> None:
        if self._late is not None:
            self._start()
        self._let_go(None)
        if "stuck_acquire" in self._faults:
            self._state.wait_stopped(self._series, None)
        if "no_end" not in self._faults and self._send(self._wire.end(self._series), last=True):
            self._note(ends=1)

    def _start(self) -> None:
        self._late = None
        if self._send(self._wire.start(self._series)):
            self._note(starts=1)

    def _image(self, ring: SeriesFrames, number: int) -> bool:
        """One frame with what befalls it; False where the series was stopped meanwhile."""
        hits = self._sender.faults.of_frame(number)
        if "stall" in hits and self._state.wait_stopped(self._series, hits["stall"].seconds):
            return False
        packed = ring.frame(number, wraps="wrap" in hits)
        record = FrameTruth(packed.total, damage=tuple(sorted(hits)))
        self._sender.truth.frame(self._truth, number, record)
        if "drop" in hits:
            self._let_go(number)
            return True
        frame = replace(packed.frame, payload=damaged(packed.frame.payload, hits)) if hits else packed.frame
        message = self._message(number, frame)
        for _ in range(2 if "duplicate" in hits else 1):
            if "reorder" in hits:
                self._held.append((number + hits["reorder"].by, number, message))
            else:
                self._send_frame(number, record, message)
        self._let_go(number)
        return True

    def _message(self, number: int, frame: PackedFrame, of: Series | None = None) -> Parts:
        start_s = number * float(self._series.config["frame_time"])
        return self._wire.image(of or self._series, number, frame, start_s)

    def _let_go(self, number: int | None) -> None:
        """Send the frames held back that so many later ones have overtaken; all of them for None."""
        if not self._held:
            return
        ready = [each for each in self._held if number is None or each[0] <= number]
        self._held = [each for each in self._held if each not in ready]
        for _, late, message in ready:
            self._send_frame(late, self._truth.frames[late], message)

    def _send_frame(self, number: int, record: FrameTruth, message: Parts) -> None:
        if self._send(message):
            self._sender.truth.sent(self._truth, number, record)
        elif self._speaks:
            self._sender.truth.no_room(record)

    def _strays(self, ring: SeriesFrames, before: int) -> None:
        """Frames of a series that nobody has armed."""
        fault: SeriesFault | None = self._faults.get("stray_series")
        if fault is None or fault.frame != before:
            return
        other = replace(self._series, series_id=STRAY_ID, unique_id="0" * 26)
        for number in range(fault.count):
            if self._send(self._message(number, ring.stray(number).frame, other)):
                self._note(strays=1)

    def _send(self, parts: Parts, *, last: bool = False) -> bool:
        if not self._speaks:
            return False
        if self._sender.outlet.send(self._format, parts, self._state, self._series, last=last):
            return True
        self._state.count_dropped()
        self._note(dropped=1)
        return False

    def _note(self, *, finished: bool = False, **more: int) -> None:
        def change() -> None:
            self._truth.finished = self._truth.finished or finished
            for name, by in more.items():
                setattr(self._truth, name, getattr(self._truth, name) + by)

        self._sender.truth.note(change)


def damaged(payload: bytes, hits: dict[str, FrameFault]) -> bytes:
    """A frame's bytes with a bit flipped or their end cut off."""
    if "corrupt" in hits:
        bits = len(payload) * 8
        bit = bits // 2 if hits["corrupt"].bit is None else hits["corrupt"].bit % bits
        at = bit // 8
        payload = payload[:at] + bytes([payload[at] ^ (1 << bit % 8)]) + payload[at + 1 :]
    if "truncate" in hits:
        keep = hits["truncate"].keep_bytes
        payload = payload[: len(payload) // 2 if keep is None else keep]
    return payload
