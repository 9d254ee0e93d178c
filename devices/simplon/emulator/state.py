"""The emulated detector: its keys' values, its states and commands; no HTTP and no sockets here.

Any number of threads may ask it. The one that sends frames takes armed series from ``jobs`` and says when a frame
has been exposed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Condition
from typing import Any, Literal

from devices.simplon.emulator.hardware import Hardware
from devices.simplon.emulator.keys import STATUS, KeyRefused, listed
from devices.simplon.emulator.rules import images_of
from devices.simplon.emulator.series import Series, unique_id
from devices.simplon.emulator.settings import Settings, UnknownPath

States = Literal["na", "idle", "ready", "acquire", "error"]
Pulses = Literal["free", "asked"]
"""Where electrical pulses come from in external trigger modes: an unseen scan engine that begins as soon as the
detector is armed, or `DetectorState.pulse`."""
ARMED: tuple[States, ...] = ("ready", "acquire")


@dataclass(frozen=True)
class Triggered:
    """A trigger under way: done when so many images of its series are exposed."""

    series: Series
    until: int


class DetectorState:
    """See the file."""

    def __init__(
        self,
        made: Hardware,
        pulses: Pulses = "free",
        stuck: Callable[[], bool] = lambda: False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pulses, self._stuck, self._now = pulses, stuck, now
        self.jobs: SimpleQueue[Series | None] = SimpleQueue()
        self._settings = Settings(made)
        self._lock = Condition()
        self._state: States = "na"
        self._series: Series | None = None
        self._newest: Series | None = None
        self._series_id = 0
        self._errors: list[str] = []
        self.dropped = 0

    # What is asked

    @property
    def state(self) -> States:
        """Of the detector."""
        with self._lock:
            return self._state

    def key_names(self, module: str, task: str) -> list[str]:
        """What ``keys`` answers."""
        return list(listed(self._settings.keys[module] if task == "config" else STATUS[module]))

    def config(self, module: str, name: str) -> dict[str, Any]:
        """What GET answers of a configuration key."""
        with self._lock:
            return self._settings.answer(module, name)

    def values(self, module: str) -> dict[str, Any]:
        """All values of a module's configuration."""
        with self._lock:
            return dict(self._settings.values[module])

    def status(self, module: str, name: str) -> dict[str, Any]:
        """What GET answers of a status key."""
        key = STATUS[module].get(name)
        if key is None:
            raise UnknownPath(name)
        with self._lock:
            told = {"detector/state": self._state, "detector/error": list(self._errors), "stream/dropped": self.dropped}
            value = told.get(f"{module}/{name}", key.value)
            if name == "state" and module in ("stream", "monitor", "filewriter"):
                value = self._state_of(module)
        now = self._now().isoformat()
        answer = key.answer(now if name == "time" else value)
        return answer | {"time": now, "state": "normal", "critical_limits": [None, None], "critical_values": []}

    def _state_of(self, module: str) -> str:
        if self._settings.values[module]["mode"] == "disabled":
            return "disabled"
        return "acquire" if module == "stream" and self._state == "acquire" else "ready"

    # What is written

    def write(self, module: str, values: Mapping[str, Any]) -> list[str]:
        """Write keys in this order, all or none; the answer are the keys that have to be read again."""
        with self._lock:
            # Clients write the stream's keys after arm (LiberTEM-live does); a series keeps those it was armed with.
            if module == "detector" and self._state in ARMED:
                raise KeyRefused(f"{module} is not configurable in state {self._state}: disarm first")
            return self._settings.write(module, values)

    # Commands

    def command(self, module: str, name: str, value: Any = None) -> dict[str, Any] | Triggered:
        """Do a command; KeyRefused in a state that does not allow it."""
        with self._lock:
            match module, name:
                case "detector", "initialize":
                    self._stop("abort", "idle")
                    self._settings.reset("detector")
                    self._series_id, self._errors = 0, []
                case "detector", "arm":
                    return self._arm()
                case "detector", "trigger":
                    return self._trigger(value)
                case "detector", "disarm" | "cancel" | "abort":
                    return self._end(name)
                case "detector", "hv_reset" | "status_update":
                    pass
                case "stream" | "monitor" | "filewriter", "initialize":
                    self._settings.reset(module)
                    if module == "stream":
                        self.dropped = 0
                case "monitor" | "filewriter", "clear":
                    pass
                case "system", "restart":
                    self._stop("abort", "na")
                    for each in self._settings.keys:
                        self._settings.reset(each)
                    self._series_id, self._errors, self.dropped = 0, [], 0
                case _:
                    raise UnknownPath(name)
        return {}

    def _arm(self) -> dict[str, Any]:
        self._require("arm", "idle")
        now = self._now()
        self._series_id += 1
        config, stream = dict(self._settings.values["detector"]), dict(self._settings.values["stream"])
        each, triggers = images_of(config)
        series = Series(self._series_id, unique_id(now), now, config, stream, each, each * triggers)
        self._stop("disarm", "idle")
        self._series, self._newest, self._state = series, series, "ready"
        if config["trigger_mode"].startswith("ext") and self._pulses == "free":
            self._release(series, series.images)
        self.jobs.put(series)
        return {"sequence id": series.series_id}

    def _trigger(self, value: Any) -> Triggered:
        self._require("trigger", "ready")
        assert self._series is not None
        mode = self._series.config["trigger_mode"]
        if mode.startswith("ext"):
            raise KeyRefused(f"trigger: in trigger mode {mode} the detector takes electrical pulses only")
        if value is not None:
            if mode != "inte":
                raise KeyRefused(f"trigger: takes a count time in trigger mode inte only, not in {mode}")
            self._settings.keys["detector"]["count_time"].checked("trigger", value)
        self._release(self._series, self._series.images_per_trigger)
        return Triggered(self._series, self._series.released)

    def _end(self, name: str) -> dict[str, Any]:
        self._require(name, "idle", *ARMED)
        series = self._series
        if name == "cancel" and series is not None and self._state == "acquire" and series.exposed < series.released:
            # The running image is still finished; the series ends with it, see `exposed_one`.
            series.released = series.images = series.exposed + 1
        else:
            self._stop("abort" if name == "abort" else "disarm", "idle")
        return {"sequence id": self._series_id}

    def _require(self, command: str, *states: States) -> None:
        if self._state not in states:
            raise KeyRefused(f"{command} is not possible in state {self._state}, only in {' or '.join(states)}")

    def _stop(self, how: Literal["disarm", "abort"], then: States) -> None:
        # The newest may be over and yet be sending, by the fault overrun.
        if self._newest is not None and not self._newest.stopped:
            self._newest.stopped = how
        self._series, self._state = None, then
        self._lock.notify_all()

    def _release(self, series: Series, images: int) -> None:
        series.released = min(series.released + images, series.images)
        self._state = "acquire"
        self._lock.notify_all()

    def pulse(self, pulses: int = 1) -> None:
        """Electrical trigger pulses; those that no armed detector waits for have no effect."""
        with self._lock:
            series = self._series
            if series is not None and series.config["trigger_mode"].startswith("ext"):
                self._release(series, pulses * series.images_per_trigger)

    # What the sender says and waits for

    def wait_released(self, series: Series, number: int) -> bool:
        """Wait until a frame may be exposed; False where there will be none."""
        if series.released > number and not series.stopped:
            return True
        with self._lock:
            self._lock.wait_for(lambda: series.stopped or series.released > number or number >= series.images)
            return not series.stopped and series.released > number

    def wait_stopped(self, series: Series, seconds: float | None) -> bool:
        """Wait so long at most, for None as long as it takes; whether the series was stopped."""
        with self._lock:
            return bool(self._lock.wait_for(lambda: series.stopped, seconds))

    def wait_exposed(self, triggered: Triggered, seconds: float | None = None) -> None:
        """Wait until a trigger's images are exposed or the series is over; at most so long."""
        series = triggered.series
        with self._lock:
            self._lock.wait_for(
                lambda: series.stopped or series.exposed >= min(triggered.until, series.images), seconds
            )

    def exposed_one(self, series: Series) -> None:
        """A frame is exposed: the state follows."""
        with self._lock:
            series.exposed += 1
            if series is self._series and series.exposed >= series.released and not self._stuck():
                if series.released >= series.images:
                    self._series, self._state = None, "idle"
                else:
                    self._state = "ready"
            # To wake whoever waits for a trigger's last image with every one of them costs more than to send it.
            if series.exposed % series.images_per_trigger == 0 or series.exposed >= series.released:
                self._lock.notify_all()

    def fail(self, why: str) -> None:
        """Go to ``error``; only initialize and restart lead out of it."""
        with self._lock:
            self._stop("abort", "error")
            self._errors.append(why)

    def count_dropped(self) -> None:
        """A message found no room."""
        with self._lock:
            self.dropped += 1

    def close(self) -> None:
        """Let go of whoever waits, and of the sender."""
        with self._lock:
            self._stop("abort", "na")
        self.jobs.put(None)
