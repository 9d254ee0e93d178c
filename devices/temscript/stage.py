"""The stage over temscript's server: positions and poses, moved with the beam blanked and read back axis by axis."""

import time
from collections.abc import Callable
from math import degrees, radians

from devices.limits import within
from devices.temscript.log import BeamLog
from devices.temscript.rest import Temscript
from devices.temscript.settings import TemscriptSettings
from stem4d.approach import POSE_UNITS, StagePose
from stem4d.errors import DeviceFault, LimitViolation, NotConfirmed
from stem4d.instrument import StageFacts
from stem4d.model import Range

AXES = {"x_um": "x", "y_um": "y", "z_um": "z", "alpha_deg": "a", "beta_deg": "b"}
"""The server's names; it has metres and radians."""
STILL = {"um": 1e-4, "deg": 1e-5}
"""Nearer than this an axis is not moved: no stage goes by so little."""
ROUNDING = 1e-9
"""Fraction of a limit that may be lost between its unit and ours."""
LOOK_S = 0.05
READY = "READY"


class TemscriptStage:
    """The stage. Where it was sent by name stands in the log, which later processes find too."""

    def __init__(
        self,
        server: Temscript,
        facts: StageFacts | None,
        settings: TemscriptSettings,
        log: BeamLog,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._server, self._facts, self._settings, self._log, self._sleep = server, facts, settings, log, sleep
        self._backlash_um = facts.backlash_um if facts else 0.0
        self._tolerance = {"um": settings.stage_tolerance_um, "deg": settings.stage_tolerance_deg}

    def go_to(self, position: str) -> str:
        """Move to a position of the settings, unless the stage was sent there and stands where it was sent.

        Raises
        ------
        LimitViolation
            For a name that is none of them, or an axis that does not go so far; the stage has not moved then.
        NotConfirmed
            Where it reads another place afterwards.
        DeviceFault
            The beam is on, the stage does not come to rest in time, or from the server.
        """
        known = self._settings.positions
        if position not in known:
            limit = "one of " + ", ".join(known) if known else "the settings name no positions"
            raise LimitViolation(device="stage", setting="position", asked=position, limit=limit)
        if self.position() != position:
            self._check(known[position])
            self._move(known[position])
            self._log.keep("stage", position=position)
        return position

    def position(self) -> str:
        """Where the stage was sent by name; empty where it was not, or stands elsewhere by now."""
        standing = self._log.standing()
        sent = standing.pose or self._settings.positions.get(standing.position)
        return standing.position if sent is not None and not self._off(sent, self.pose()) else ""

    def move_to(self, pose: StagePose) -> StagePose:
        """Go below a pose along x and y by the file's backlash, then up to it; gives what the stage reads.

        Raises
        ------
        LimitViolation, NotConfirmed, DeviceFault
            As for `go_to`.
        """
        if self._facts is None:
            limit = "the instrument file states no stage (facts.stage)"
            raise LimitViolation(device="stage", setting="pose", asked=pose.model_dump(), limit=limit)
        self._check(pose)
        here = self.position()
        reached = self._move(pose)
        # Around the named position, if it stood there; else nobody knows the name of where it is.
        self._log.keep("stage", position=here)
        self._log.keep("move", pose=pose.model_dump(mode="json"))
        return reached

    def pose(self) -> StagePose:
        """Where the stage stands, by its own reading."""
        there = self._server.axes("stage_position")
        if not {"x", "y", "z", "a"} <= there.keys() or any(len(values) != 1 for values in there.values()):
            raise DeviceFault(f"stage: its position has the axes {', '.join(there)}; x, y, z and a are needed")
        read = {axis: _ours(unit, there.get(AXES[axis], (0.0,))[0]) for axis, unit in POSE_UNITS.items()}
        try:
            return StagePose(**read)
        except ValueError:
            raise DeviceFault(f"stage: it reads {read}, where no stage can be") from None

    def _check(self, pose: StagePose) -> None:
        """Hold every axis against the file and against what the microscope itself states."""
        theirs = self._server.axes("stage_limits")
        for axis, unit in POSE_UNITS.items():
            asked = getattr(pose, axis)
            if self._facts is not None:
                allowed = self._facts.range_of(axis)
                lowest, highest = self._facts.lowest_target(axis), allowed.highest if allowed else 0.0
                within("stage", axis, asked, Range(lowest=lowest, highest=highest), unit)
            limits = theirs.get(AXES[axis], (0.0, 0.0))
            if len(limits) != 2:
                raise DeviceFault(f"stage: its limits of {AXES[axis]} are {limits}, and should be two numbers")
            lowest, highest = (_ours(unit, limit) for limit in limits)
            room = ROUNDING * max(abs(lowest), abs(highest))
            # It goes below the pose first, and would stop short there without a word.
            below = self._backlash_um if axis in ("x_um", "y_um") else 0.0
            within("stage", axis, asked, Range(lowest=lowest + below - room, highest=highest + room), unit)

    def _move(self, pose: StagePose) -> StagePose:
        if not self._server.truth("beam_blanked"):
            # Besides the specimen: while the stage moves the server answers nobody, also not who wants to blank.
            raise DeviceFault("stage: it moves with the beam blanked alone; blank it first")
        back_um = self._backlash_um
        if back_um > 0:
            self._send(pose.model_copy(update={"x_um": pose.x_um - back_um, "y_um": pose.y_um - back_um}))
        self._send(pose)
        reached = self.pose()
        for axis, unit in self._off(pose, reached):
            asked, read = getattr(pose, axis), getattr(reached, axis)
            raise NotConfirmed(device="stage", setting=axis, asked=asked, read=read, unit=unit)
        return reached

    def _send(self, pose: StagePose) -> None:
        here = self.pose()
        there = {
            AXES[axis]: _theirs(unit, getattr(pose, axis))
            for axis, unit in POSE_UNITS.items()
            if abs(getattr(pose, axis) - getattr(here, axis)) > STILL[unit]
        }
        if there:
            timeout_s = self._settings.stage_timeout_s
            self._server.write("stage_position", there, timeout_s, method=self._settings.stage_method)
            self._rest(timeout_s)

    def _rest(self, within_s: float) -> None:
        """Wait until the stage says that it is ready."""
        ends_s = self._log.monotonic() + within_s
        while (status := self._server.text("stage_status")) != READY:
            if self._log.monotonic() > ends_s:
                raise DeviceFault(f"stage: it is {status} and not {READY} {within_s:g} s after it was sent")
            self._sleep(LOOK_S)

    def _off(self, asked: StagePose, read: StagePose) -> list[tuple[str, str]]:
        """Axes, with their units, that read otherwise by more than their tolerance."""
        return [
            (axis, unit)
            for axis, unit in POSE_UNITS.items()
            if abs(getattr(asked, axis) - getattr(read, axis)) > self._tolerance[unit]
        ]


def _ours(unit: str, value: float) -> float:
    return value * 1e6 if unit == "um" else degrees(value)


def _theirs(unit: str, value: float) -> float:
    return value * 1e-6 if unit == "um" else radians(value)
