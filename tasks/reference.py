"""Reference scans of a run's own area: few electrons, booked on its budget like every exposure."""

from pathlib import Path
from typing import NamedTuple

from devices.protocols import ScanRequest
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.quality.remedies.settle import reference_dwell_us
from tasks.calibrated import Calibrated
from tasks.expose import scan_request
from tasks.lab import Lab

Offset = tuple[float, float]


class Looked(NamedTuple):
    """One reference scan."""

    started_s: float
    """When it began on the instrument's clock [s]."""
    maps: RunMaps
    path: Path


class Reference:
    """Takes them one after the other, each with a file of its own, named after what they are for."""

    def __init__(self, opened: Lab, run: str, plan: Plan, calibrated: Calibrated, purpose: str) -> None:
        self._opened, self._run, self._plan, self._calibrated = opened, run, plan, calibrated
        self._purpose = purpose
        self._request = reference_request(opened, plan)
        self._taken = 0

    @property
    def step_nm(self) -> float:
        """Between their positions [nm]."""
        return self._request.step_nm

    def pause(self, seconds: float) -> None:
        """Let the instrument's time pass."""
        self._opened.instrument.pause(seconds)

    def scan(self, offset_nm: Offset = (0.0, 0.0), passes_before_it: int = 0) -> Looked:
        """One more.

        Parameters
        ----------
        offset_nm : tuple of float
            Beam shift of its field (y, x).
        passes_before_it : int
            Passes of the plan that the area has received already and that need no dose any more.

        Raises
        ------
        DoseRefused
            Where the area could not bear the rest of its plan after it; nothing is exposed then.
        """
        self._taken += 1
        left = self._plan.exposure.passes - passes_before_it
        rest = self._plan.model_copy(update={"exposure": self._plan.exposure.model_copy(update={"passes": left})})
        # Imported here: few plans have such scans, and the others are not kept waiting for it.
        from tasks.calibrations.bench import Bench

        bench = Bench(self._opened, self._run, rest, {})
        started_s = self._opened.instrument.now_s()
        request = self._request.model_copy(update={"offset_nm": offset_nm})
        scanned = bench.scan(f"{self._purpose}-{self._taken}", bench.this_area, request, self._calibrated)
        return Looked(started_s, scanned.maps(), scanned.path)


def reference_request(opened: Lab, plan: Plan) -> ScanRequest:
    """The plan's own raster with a dwell of few electrons, or what the deepest counter needs."""
    facts = opened.file.facts
    detector = facts.detector(plan.detector.name)
    # Recorded with the deepest counter, as every calibration's scan is.
    frame_us = 1e6 / detector.frame_rate_hz(max(detector.bit_depths), plan.detector.shape) if detector else 0.0
    shortest = max(facts.dwell_time_us.lowest, frame_us)
    return scan_request(plan).model_copy(update={"dwell_time_us": reference_dwell_us(plan, shortest)})
