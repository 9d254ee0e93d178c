"""From an exposure to what a SIMPLON detector is told, in an order that it bears, and back from what it resolved."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from devices.protocols import ExposureRequest
from devices.simplon.rest import Simplon, if_known
from devices.strict_json import is_number
from stem4d.detector import DetectorFacts, container_bytes
from stem4d.errors import DeviceFault, LimitViolation, NotConfirmed

Trigger = Literal["software", "position", "scan"]
"""A command starts all frames; an electric pulse starts each; one pulse starts all."""

ARM_TIMEOUT_S = 120.0
INITIALIZE_TIMEOUT_S = 240.0
ANSWER_MARGIN_S = 5.0
"""Beyond the exposure's own time."""
ARRAYS = ("flatfield", "pixel_mask")
"""Keys that are not read again: nothing here hangs on them, and they are as large as frames."""
TIME_TOLERANCE = 1e-3
"""Relative; a detector rounds times to its clock."""


@dataclass(frozen=True)
class Write:
    """One value to write; one that is not needed is left out where the detector has no such key."""

    key: str
    value: Any
    module: str = "detector"
    needed: bool = True


@dataclass(frozen=True)
class Configured:
    """What the detector resolved."""

    request: ExposureRequest
    frame_time_s: float
    token: str
    """Comes back in the start message of this exposure's series, and of no other."""

    @property
    def dtype(self) -> str:
        """Of the frames that will come."""
        return f"uint{8 * container_bytes(self.request.bit_depth)}"

    @property
    def duration_s(self) -> float:
        """Time that the frames take when nothing pauses between them [s]."""
        return self.request.frames * self.frame_time_s

    @property
    def trigger_timeout_s(self) -> float:
        """How long the answer to a trigger may take: some firmware gives it when the exposure ends [s]."""
        return self.duration_s + ANSWER_MARGIN_S


def configure(
    rest: Simplon, facts: DetectorFacts, request: ExposureRequest, trigger: Trigger, token: str
) -> Configured:
    """Write everything for an exposure, and read back what came of it.

    Raises
    ------
    LimitViolation
        A value outside the limits of facts or detector.
    NotConfirmed
        The frame time that was resolved is not the one asked for.
    DeviceFault
        The detector is another one than the file says, or fails.
    """
    known = rest.known()
    if "roi_mode" in known:
        # With a region of interest some firmware gives the region's size as that of the detector.
        rest.put("roi_mode", "disabled")
    check_array(rest, facts)
    readout_s = _number(rest, "detector_readout_time") if "detector_readout_time" in known else 0.0
    frame_time_s = request.exposure_time_us * 1e-6 + max(facts.dead_time_us * 1e-6, readout_s)
    wanted: dict[tuple[str, str], Any] = {}
    changed: set[tuple[str, str]] = set()
    for write in writes(facts, request, trigger, token, frame_time_s):
        if write.needed or write.key in known:
            wanted[write.module, write.key] = write.value
            keys = rest.put(write.key, write.value, write.module)
            changed.update((write.module, key) for key in (write.key, *keys))
    _confirm(rest, wanted, changed)
    return Configured(_resolved(rest, facts, request), _frame_time(rest, frame_time_s), token)


def writes(
    facts: DetectorFacts, request: ExposureRequest, trigger: Trigger, token: str, frame_time_s: float
) -> list[Write]:
    """Everything that is written, in order.

    A region of interest resets other values, so it comes first. A trigger mode may refuse the numbers that another one
    had, so both are 1 when it changes. Writing the count time may move the frame time.
    """
    images, triggers = (1, request.frames) if trigger == "position" else (request.frames, 1)
    return [
        Write("roi_mode", _roi(facts, request), needed=request.shape != facts.shape),
        Write("roi_bit_depth", 8 if request.bit_depth <= 8 else 16, needed=False),
        Write("ntrigger", 1),
        Write("nimages", 1),
        Write("trigger_mode", "ints" if trigger == "software" else "exts"),
        Write("nimages", images),
        Write("ntrigger", triggers),
        Write("auto_summation", request.bit_depth > 16, needed=False),
        Write("compression", "bslz4"),
        Write("count_time", request.exposure_time_us * 1e-6),
        Write("frame_time", frame_time_s),
        Write("format", "cbor", "stream"),
        Write("header_detail", "all", "stream"),
        Write("header_appendix", token, "stream"),
        Write("mode", "enabled", "stream"),
    ]


def check_array(rest: Simplon, facts: DetectorFacts) -> None:
    """Refuse a detector whose array is not the one of the instrument file; raises `DeviceFault`."""
    there = _size(rest)
    if there != facts.shape:
        raise DeviceFault(
            f"the detector at {rest.host} has {there[0]} x {there[1]} pixels (y, x); "
            f"the instrument file's {facts.name} has {facts.shape[0]} x {facts.shape[1]}"
        )


def _size(rest: Simplon) -> tuple[int, int]:
    return int(_number(rest, "y_pixels_in_detector")), int(_number(rest, "x_pixels_in_detector"))


def _roi(facts: DetectorFacts, request: ExposureRequest) -> str:
    rows, columns = facts.shape
    if request.shape == facts.shape:
        return "disabled"
    if request.shape == (rows // 2, columns // 2):
        return "merge2x2"
    limit = f"{rows} x {columns}, or {rows // 2} x {columns // 2} merged"
    raise LimitViolation(device=facts.name, setting="shape", asked=request.shape, limit=limit, unit="px")


def _confirm(rest: Simplon, wanted: Mapping[tuple[str, str], Any], changed: set[tuple[str, str]]) -> None:
    """Read again whatever has changed, and compare; times are compared by those who know how far they may be off."""
    for module, key in sorted(changed):
        if key.rpartition("/")[2] in ARRAYS:
            continue
        # Some firmware reports keys by names that it does not answer to.
        if (there := if_known(rest.get, key, module)) is None:
            continue
        asked = wanted.get((module, key), there.value)
        if asked != there.value and not isinstance(asked, float):
            raise NotConfirmed(device="detector", setting=key, asked=asked, read=there.value)


def _resolved(rest: Simplon, facts: DetectorFacts, request: ExposureRequest) -> ExposureRequest:
    size = _size(rest)
    frames = int(_number(rest, "nimages") * _number(rest, "ntrigger"))
    depth = int(_number(rest, "bit_depth_image"))
    if depth not in (8, 16, 32):
        raise DeviceFault(f"the detector at {rest.host} says bit_depth_image = {depth}; 8, 16 or 32 is understood")
    count_time_s = _number(rest, "count_time")
    # Other firmware says the whole detector's size whatever is read out: the start message is then the first to tell.
    shape = request.shape if size == facts.shape else size
    changes = {"shape": shape, "frames": frames, "bit_depth": depth, "exposure_time_us": count_time_s * 1e6}
    return ExposureRequest.model_validate(request.model_dump() | changes)


def _frame_time(rest: Simplon, asked_s: float) -> float:
    there_s = _number(rest, "frame_time")
    if not math.isclose(there_s, asked_s, rel_tol=TIME_TOLERANCE):
        raise NotConfirmed(device="detector", setting="frame_time", asked=asked_s, read=there_s, unit="s")
    return there_s


def _number(rest: Simplon, key: str) -> float:
    value = rest.get(key).value
    if not is_number(value) or not value >= 0:
        raise DeviceFault(f"the detector at {rest.host} says {key} = {value!r}, which is no number that it can be")
    return value
