"""Moves the field of each pass with the specimen, as reference scans tell where it is and how fast it goes."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from devices.protocols import ScanRequest
from stem4d.errors import DoseRefused
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.predict import predict
from stem4d.quality.drift_seen import shift_between
from stem4d.quality.remedies.track import baseline_s_of
from tasks.calibrated import Calibrated
from tasks.expose import scan_request
from tasks.lab import Lab
from tasks.reference import Reference

LOOKED_BACK = 3
"""Latest places of the specimen that the rate is fitted to: a drift that settles is followed."""
Vector = npt.NDArray[np.float64]


@dataclass
class Followed:
    """One run's specimen, followed from pass to pass."""

    opened: Lab
    run: str
    plan: Plan
    calibrated: Calibrated
    _places: list[tuple[float, Vector]] = field(default_factory=list)
    """When [s] and where (y, x) [nm] the specimen was, relative to the first reference scan."""
    _first: RunMaps | None = None

    def __post_init__(self) -> None:
        self._reference = Reference(self.opened, self.run, self.plan, self.calibrated, "tracking")

    def next_scan(self, index: int) -> ScanRequest:
        """The raster of a pass, where the specimen will be when it begins, moving on as the specimen does.

        Raises
        ------
        DoseRefused
            Before the first pass, where the area cannot bear the reference scans beside its plan.
        """
        request = scan_request(self.plan)
        if index == 0:
            self._look(0)
            self._reference.pause(baseline_s_of(predict(self.plan).pass_time_s))
        try:
            self._look(index)
        except DoseRefused as error:
            if index == 0:
                raise
            self.opened.tell("tracking", f"no further reference scan: {error}", self.run)
        place, rate = self._course(self.opened.instrument.now_s())
        words = f"pass {index + 1} is moved by ({place[0]:+.3g}, {place[1]:+.3g}) nm (y, x) and goes on with"
        self.opened.tell("tracking", f"{words} ({rate[0]:+.3g}, {rate[1]:+.3g}) nm/min", self.run)
        moved = {"offset_nm": _pair(place), "follow_nm_per_min": _pair(rate)}
        return request.model_copy(update=moved)

    def _look(self, passes_before_it: int) -> None:
        """One reference scan where the specimen is expected, and its place by it."""
        expected, _rate = self._course(self.opened.instrument.now_s())
        at_s, maps, _path = self._reference.scan(_pair(expected), passes_before_it)
        if self._first is None:
            self._first = maps
            self._places.append((at_s, expected))
            return
        shift = shift_between(self._first, maps)
        if not shift.ok:
            self.opened.tell("tracking", f"a reference scan could not be registered: {shift.reason}", self.run)
            return
        self._places.append((at_s, expected + self._reference.step_nm * np.array(shift.shift_px)))

    def _course(self, at_s: float) -> tuple[Vector, Vector]:
        """Place [nm] at a moment and rate [nm/min], by a straight line through the latest places."""
        known = self._places[-LOOKED_BACK:]
        if not known:
            return np.zeros(2), np.zeros(2)
        if len(known) == 1:
            return known[0][1], np.zeros(2)
        minutes = np.array([when - at_s for when, _place in known]) / 60
        design = np.stack([np.ones_like(minutes), minutes], axis=1)
        fitted, *_rest = np.linalg.lstsq(design, np.array([place for _when, place in known]), rcond=None)
        return fitted[0], fitted[1]


def _pair(vector: Vector) -> tuple[float, float]:
    return float(vector[0]), float(vector[1])
