"""What a measurement works with: the plan, what is known already, and scans over vacuum, a reference or the area."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from db.calibrations import CalibrationRecord, evidence_of
from db.engine import reader, writer
from db.record import register_area, register_sample
from devices.acquire import Progress
from devices.passes import maps_of
from devices.protocols import ScanRequest
from stem4d.accumulate import AccumulatorSpec
from stem4d.dose import BUDGET_TOLERANCE, electrons
from stem4d.errors import DoseRefused
from stem4d.instrument import ReferenceArea
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.predict import predict
from storage.read import open_frames
from tasks.calibrated import Calibrated, accumulator_spec
from tasks.calibrations.standing import together
from tasks.expose import Pass, expose_once
from tasks.files import file_metadata
from tasks.lab import Lab
from tasks.record import NO_BUDGET_E_PER_A2, VACUUM, fluence_left_e_per_a2, register_scan, vacuum_area


@dataclass(frozen=True)
class Place:
    """A stage position, and the area that its dose is booked on."""

    position: str
    area_id: int


@dataclass(frozen=True)
class Scanned:
    """A scan that was recorded for a calibration."""

    path: Path
    dataset_id: int
    plan: Plan
    """As it was exposed."""
    accumulator: AccumulatorSpec

    def maps(self, accumulator: AccumulatorSpec | None = None) -> RunMaps:
        """The file through the accumulator, with other pixels or detectors than it was recorded with where given."""
        with open_frames(self.path) as frames:
            return maps_of(frames, accumulator or self.accumulator)

    def frames(self, most: int | None = None) -> npt.NDArray[np.unsignedinteger]:
        """The first frames (n, det_y, det_x), all of them without ``most``: for scans that fit in memory."""
        kept: list[npt.NDArray[np.generic]] = []
        have = 0
        with open_frames(self.path) as frames:
            for _first, batch in frames.batches():
                kept.append(np.array(batch))
                have += len(batch)
                if most is not None and have >= most:
                    break
        return np.concatenate(kept)[:most]  # type: ignore[return-value]


@dataclass(frozen=True)
class Bench:
    """One measurement's surroundings."""

    opened: Lab
    run: str
    plan: Plan
    known: Mapping[str, CalibrationRecord]
    """By kind: valid ones, and those measured just now."""

    @cached_property
    def geometry(self) -> Calibrated:
        """What is known comes to this."""
        return together(self.plan, self.known)

    def evidence(self, *records: CalibrationRecord) -> tuple[int, ...]:
        """Ids of the datasets that calibrations were made from, once each."""
        with reader(self.opened.engine) as session:
            found = [one for each in records for one in evidence_of(session, calibration_id=each.id)]
        return tuple(dict.fromkeys(found))

    @property
    def vacuum(self) -> Place:
        """The position without a specimen."""
        return Place(VACUUM, vacuum_area(self.opened, self.plan))

    @property
    def this_area(self) -> Place:
        """The area of the plan: what is exposed here comes out of its budget."""
        return Place(self.plan.sample.area, self.opened.runs[self.run].area_id)

    def reference(self, *kinds: str) -> tuple[ReferenceArea, Place] | None:
        """The first reference area of these kinds that the instrument file names, with its place."""
        for kind in kinds:
            for area in self.opened.file.facts.reference_areas:
                if area.kind == kind:
                    return area, Place(area.name, self._reference_area(area))
        return None

    def _reference_area(self, area: ReferenceArea) -> int:
        with writer(self.opened.engine) as session:
            sample_id = register_sample(session, name=f"reference-{area.crystal}")
            return register_area(
                session, sample_id=sample_id, name=area.name, fluence_budget_e_per_a2=NO_BUDGET_E_PER_A2
            )

    def request(
        self,
        shape: tuple[int, int],
        *,
        electrons_per_pattern: float = 0.0,
        field_nm: float | None = None,
        dwell_time_us: float | None = None,
    ) -> ScanRequest:
        """A square raster over the plan's field (its longer side), dwelling as the plan does or longer."""
        needed_us = electrons_per_pattern / electrons(self.plan.optics.probe_current_pa, 1.0)
        return ScanRequest(
            shape=shape,
            step_nm=(field_nm or max(self.plan.scan.field_nm)) / max(shape),
            rotation_deg=self.plan.scan.rotation_deg,
            dwell_time_us=max(dwell_time_us or self.plan.exposure.dwell_time_us, needed_us),
            flyback_us=self.plan.scan.flyback_us,
            flyback_blanked=self.plan.scan.flyback_blanked,
        )

    def scan(
        self, name: str, place: Place, scan: ScanRequest, geometry: Calibrated | None = None, plan: Plan | None = None
    ) -> Scanned:
        """Expose one scan under a committed intent, and register its file as a calibration of the run.

        Parameters
        ----------
        name : str
            Of the file; unique in the run.
        geometry : Calibrated, optional
            What the column is set to and the frames are accumulated with; as known where absent.
        plan : Plan, optional
            With other optics than the plan's, where a kind needs them.

        Raises
        ------
        DoseRefused
            Where the place cannot afford it, or the plan's area would have too little left for the plan itself; nothing
            is exposed then.
        """
        geometry = geometry or self.geometry
        there = exposed_plan(self.opened, plan or self.plan, scan)
        if place == self.this_area:
            self._leave_enough(there, geometry.current_ratio)
        column = geometry.column.model_copy(update={"optics": there.optics})
        one = Pass(
            plan=there,
            column=column,
            scan=scan,
            accumulator=accumulator_spec(there, geometry, self.opened.settings.accumulator_threads, True),
            area=place.position,
            area_id=place.area_id,
            purpose="calibration",
            current_ratio=geometry.current_ratio,
            path=self.opened.data_folder(self.run) / f"{name}.h5",
            metadata=file_metadata(there, self.run, "calibration"),
        )

        def on_progress(progress: Progress) -> None:
            self.opened.on_progress(name, progress)

        done = expose_once(self.opened, self.run, one, on_progress)
        dataset = register_scan(self.opened, self.run, scan.shape, there.detector.shape, done.result)
        return Scanned(done.result.receipt.path, dataset, there, one.accumulator)

    def _leave_enough(self, there: Plan, current_ratio: float) -> None:
        """A calibration must not eat the dose that its plan is there to spend."""
        ratio = max(1.0, current_ratio)
        takes = predict(there).local_fluence_e_per_a2 * ratio
        needs = predict(self.plan).total_fluence_e_per_a2 * ratio
        left = fluence_left_e_per_a2(self.opened, self.run)
        if takes + needs > left * (1 + BUDGET_TOLERANCE):
            raise DoseRefused(
                f"it would take {takes:.3g} e/Å² of area {self.plan.sample.area}, which has {left:.3g} left, and the "
                f"plan itself needs {needs:.3g}: measure it on another area, or for fewer positions"
            )


def exposed_plan(opened: Lab, plan: Plan, scan: ScanRequest) -> Plan:
    """A plan as a calibration exposes it: another raster, its dwell, the deepest counter the detector has."""
    deepest = plan.detector.model_copy(update={"bit_depth": _deepest(opened, plan)})
    dwelling = plan.exposure.model_copy(update={"dwell_time_us": scan.dwell_time_us, "exposure_time_us": None})
    raster = plan.scan.model_copy(update={"shape": scan.shape, "step_nm": scan.step_nm})
    return plan.model_copy(update={"detector": deepest, "exposure": dwelling, "scan": raster})


def _deepest(opened: Lab, plan: Plan) -> int:
    """A clipped disk would be a clipped calibration."""
    known = [facts for facts in opened.file.facts.all_detectors if facts.name == plan.detector.name]
    return max(known[0].bit_depths) if known else plan.detector.bit_depth
