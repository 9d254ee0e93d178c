"""From an exposure to what a Merlin is told, and back from what it says it is set to."""

import math
from dataclasses import dataclass
from typing import Literal

from devices.limits import slow_enough
from devices.merlin.control import Merlin
from devices.merlin.headers import COUNTER_DEPTHS
from devices.protocols import ExposureRequest
from stem4d.detector import DetectorFacts, container_bytes
from stem4d.errors import DeviceFault, LimitViolation, NotConfirmed, shown

Trigger = Literal["software", "position", "scan"]
"""A command starts all frames; an electric pulse starts each; one pulse starts all."""

TIME_TOLERANCE = 1e-3
"""Relative; a detector rounds times to its clock."""
THRESHOLD_TOLERANCE = 1e-2
"""Relative; thresholds are steps of a converter."""
RISING_EDGE, SOFTWARE, INTERNAL = 1, 5, 0
BINARY, RAW = 0, 2


@dataclass(frozen=True)
class Write:
    """One value to write; one that is not needed is left out where the detector's software has none of that name."""

    name: str
    value: float
    needed: bool = True


@dataclass(frozen=True)
class Configured:
    """What the detector resolved."""

    request: ExposureRequest
    frame_time_s: float
    frames_per_trigger: int

    @property
    def dtype(self) -> str:
        """Of the frames that will come."""
        return f"uint{8 * container_bytes(self.request.bit_depth)}"


def configure(
    control: Merlin, facts: DetectorFacts, request: ExposureRequest, trigger: Trigger, packed: bool
) -> Configured:
    """Write everything for an exposure, and read it back.

    Raises
    ------
    LimitViolation
        A value that facts or detector do not allow; the detector's own settings may be written in part.
    NotConfirmed
        The detector is set to something else than was written.
    DeviceFault
        The detector is another one than the file says, or fails.
    """
    check_request(facts, request)
    check_detector(control, facts)
    wanted = [each for each in writes(facts, request, trigger, packed) if _put(control, each)]
    there = {each.name: number(control, each.name) for each in wanted}
    for each in wanted:
        _confirm(each.name, each.value, there[each.name])
    resolved = {
        "frames": int(there["NUMFRAMESTOACQUIRE"]),
        "bit_depth": int(there["COUNTERDEPTH"]),
        "exposure_time_us": there["ACQUISITIONTIME"] * 1e3,
    }
    return Configured(
        ExposureRequest.model_validate(request.model_dump() | resolved),
        there["ACQUISITIONPERIOD"] * 1e-3,
        int(there["NUMFRAMESPERTRIGGER"]),
    )


def writes(facts: DetectorFacts, request: ExposureRequest, trigger: Trigger, packed: bool) -> list[Write]:
    """Everything that is written, in order.

    A detector without dead time reads one counter while it counts in the other; 24 bits take both.
    """
    exposure_ms, dead_ms = request.exposure_time_us * 1e-3, facts.dead_time_us * 1e-3
    return [
        Write("COLOURMODE", 0, needed=False),
        Write("ENABLECOUNTER1", 0, needed=False),
        Write("COUNTERDEPTH", request.bit_depth),
        Write("CONTINUOUSRW", int(not dead_ms and request.bit_depth != max(COUNTER_DEPTHS)), needed=False),
        Write("FILEFORMAT", RAW if packed else BINARY),
        Write("RUNHEADLESS", 1, needed=False),
        Write("ACQUISITIONTIME", exposure_ms),
        Write("ACQUISITIONPERIOD", exposure_ms + dead_ms),
        Write("NUMFRAMESTOACQUIRE", request.frames),
        Write("NUMFRAMESPERTRIGGER", 1 if trigger == "position" else request.frames),
        Write("TRIGGERSTART", SOFTWARE if trigger == "software" else RISING_EDGE),
        Write("TRIGGERSTOP", INTERNAL),
    ]


def check_request(facts: DetectorFacts, request: ExposureRequest) -> None:
    """Refuse what the detector of the file cannot do; raises `LimitViolation`."""
    depths = tuple(depth for depth in COUNTER_DEPTHS if depth in facts.bit_depths)
    for setting, asked, allowed in (
        ("detector", request.detector, (facts.name,)),
        ("bit_depth", request.bit_depth, depths),
        ("shape", request.shape, (facts.shape,)),
    ):
        if asked not in allowed:
            limit = "one of " + ", ".join(str(each) for each in allowed)
            raise LimitViolation(device=facts.name, setting=setting, asked=asked, limit=limit)
    slow_enough(facts, request, facts.frame_rate_hz(request.bit_depth))


def check_detector(control: Merlin, facts: DetectorFacts) -> None:
    """Refuse a detector that is not the one of the file.

    Raises
    ------
    DeviceFault
        Its array is another one.
    NotConfirmed
        Its threshold is not the one that the file states.
    """
    for name, asked in zip(("IMAGEY", "IMAGEX"), facts.shape, strict=True):
        text = control.known(name)
        # Where the software does not say, the first frame does.
        if text is not None and _number(control, name, text) != asked:
            raise DeviceFault(
                f"the detector at {control.host} says {name} = {text}; the instrument file's {facts.name} has "
                f"{facts.shape[0]} x {facts.shape[1]} pixels (y, x)"
            )
    if facts.threshold_kev is not None:
        threshold_kev = number(control, "THRESHOLD0")
        if not math.isclose(threshold_kev, facts.threshold_kev, rel_tol=THRESHOLD_TOLERANCE):
            raise NotConfirmed(
                device=facts.name, setting="THRESHOLD0", asked=facts.threshold_kev, read=threshold_kev, unit="keV"
            )


def number(control: Merlin, name: str) -> float:
    """A value that has to be a number that is not negative; raises `DeviceFault`."""
    return _number(control, name, control.get(name))


def _number(control: Merlin, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DeviceFault(f"the detector at {control.host} says {name} = {shown(text)}, which it cannot be")
    return value


def _put(control: Merlin, write: Write) -> bool:
    """Write a value unless it is there already: a change of the exposure takes its time. False where there is none."""
    text = control.get(write.name) if write.needed else control.known(write.name)
    if text is None:
        return False
    if _number(control, write.name, text) != write.value:
        control.set(write.name, write.value)
    return True


def _confirm(name: str, asked: float, there: float) -> None:
    unit = "ms" if name.startswith("ACQUISITION") else ""
    if not math.isclose(asked, there, rel_tol=TIME_TOLERANCE if unit else 0.0):
        raise NotConfirmed(device="detector", setting=name, asked=asked, read=there, unit=unit)
