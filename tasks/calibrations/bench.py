"""What a measurement works with: the plan, what is known already, and scans over vacuum, a reference or the area."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from db.calibrations import CalibrationRecord
from db.operations import AreaKey, RegisterArea
from db.vocabulary import VACUUM, Purpose
from devices.acquire import AcquisitionResult, Progress
from devices.passes import maps_of
from devices.protocols import ScanRequest
from stem4d.accumulate_spec import AccumulatorSpec
from stem4d.calibrate.dark import DarkFit, fit_dark
from stem4d.calibrate.scale_fit import circle_matrix, ellipse_vector
from stem4d.detector import DetectorFacts
from stem4d.dose import BUDGET_TOLERANCE
from stem4d.errors import BadInput, DoseRefused
from stem4d.instrument import ReferenceArea
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.predict import predict
from storage.read import open_frames
from tasks.calibrated import Calibrated, accumulator_spec
from tasks.calibrations.exposed import dwell_time_us, exposed_plan
from tasks.calibrations.standing import together
from tasks.expose import Pass, expose_once, record_unlit
from tasks.files import file_metadata
from tasks.lab import Lab
from tasks.memory import evidence_ids, evidence_paths
from tasks.record import NO_BUDGET_E_PER_A2, fluence_left_e_per_a2, register_scan, tell_losses, vacuum_area

MOST_POSITIONS = 48
"""Along an axis of a scan of the plan's area: enough waves of a specimen for half a degree, in frames that fit in
memory."""


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

    @property
    def exposure_s(self) -> float:
        """Time in which a frame counts [s]."""
        return min(self.plan.exposure.live_time_us, self.plan.exposure.dwell_time_us) * 1e-6

    def maps(self, accumulator: AccumulatorSpec | None = None) -> RunMaps:
        """The file through the accumulator, with other pixels or detectors than it was recorded with where given."""
        with open_frames(self.path) as frames:
            return maps_of(frames, accumulator or self.accumulator)

    def frames(self, most: int | None = None) -> npt.NDArray[np.unsignedinteger]:
        """The first frames (n, det_y, det_x), all of them without ``most``: for scans that fit in memory."""
        return all_frames(self.path, most)


def all_frames(path: Path, most: int | None = None) -> npt.NDArray[np.unsignedinteger]:
    """The first frames of a file (n, det_y, det_x), or all of them."""
    kept: list[npt.NDArray[np.generic]] = []
    have = 0
    with open_frames(path) as frames:
        for _first, batch in frames.batches():
            kept.append(np.array(batch))
            have += len(batch)
            if most is not None and have >= most:
                break
    return np.concatenate(kept)[:most]


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

    @property
    def detector_facts(self) -> DetectorFacts | None:
        """What the instrument file says of the plan's detector."""
        return self.opened.file.facts.detector(self.plan.detector.name)

    @property
    def integrates(self) -> bool:
        """Whether the plan's detector counts on a dark level; one that the file does not name is taken not to."""
        return self.opened.file.facts.integrates(self.plan.detector.name)

    @property
    def counts_per_electron(self) -> float:
        """As measured; 1 for a counting detector where it was not.

        Raises
        ------
        BadInput
            For an integrating detector where it was not: its counts are then no number of electrons.
        """
        known = self.known.get("counts_per_electron")
        if known is None and self.integrates:
            raise BadInput(
                field="counts_per_electron",
                value=None,
                limit=f"must be measured first: {self.plan.detector.name} integrates",
            )
        return float(known.value["counts_per_electron"]) if known else 1.0

    @cached_property
    def dark(self) -> DarkFit | None:
        """Offset and noise of an integrating detector's pixels, from the dark frames of the calibration in force."""
        known = self.known.get("dark_flat")
        if known is None:
            return None
        return fit_dark(all_frames(Path(evidence_paths(self.opened, known)[0])))

    @property
    def offset_counts(self) -> npt.NDArray[np.float64]:
        """Dark level of each pixel (det_y, det_x); 0 for a counting detector."""
        return np.zeros(self.plan.detector.shape) if self.dark is None else self.dark.offset_counts

    def without_dark(self, frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Frames less the dark level; those of a counting detector as they are."""
        return np.array(frames) if self.dark is None else np.array(frames) - self.dark.offset_counts

    @property
    def bad_pixels(self) -> npt.NDArray[np.bool_]:
        """What the mask of the plan's detector has, and pixels that its dark frames show (det_y, det_x)."""
        mask = self.geometry.bad_pixel_mask(self.plan.detector.shape)
        return mask if self.dark is None else mask | self.dark.bad

    @property
    def step_ratio(self) -> tuple[float, float]:
        """True over asked step along (y, x), as the scan calibration has it; 1 where there is none."""
        known = self.known.get("scan_step")
        if known is None:
            return 1.0, 1.0
        y, x, nominal = (float(known.value[name]) for name in ("step_y_nm", "step_x_nm", "nominal_step_nm"))
        return y / nominal, x / nominal

    def true_step_nm(self, asked_nm: float) -> float:
        """A step as the scan calibration has it, the mean of both axes."""
        y, x = self.step_ratio
        return asked_nm * float((y * x) ** 0.5)

    @property
    def semi_angle_mrad(self) -> float:
        """Of convergence, as measured; as the plan has it where it was not [mrad]."""
        known = self.known.get("convergence_semi_angle")
        nominal = self.plan.optics.convergence_semi_angle_mrad
        return float(known.value["convergence_semi_angle_mrad"]) if known else nominal

    @property
    def projection_mrad_per_px(self) -> npt.NDArray[np.float64]:
        """Angle per pixel as a matrix (2, 2) on (y, x): with the ellipse where it was measured [mrad]."""
        known = self.known.get("ellipticity")
        round_: npt.NDArray[np.float64] = self.geometry.mrad_per_pixel * np.eye(2)
        if known is None:
            return round_
        vector = ellipse_vector(known.value["ellipticity"], known.value["ellipse_angle_deg"])
        return round_ @ circle_matrix(vector)

    def evidence(self, *records: CalibrationRecord) -> tuple[int, ...]:
        """Ids of the datasets that calibrations were made from, once each."""
        found = [one for each in records for one in evidence_ids(self.opened, each)]
        return tuple(dict.fromkeys(found))

    @property
    def vacuum(self) -> Place:
        """The position without a specimen, the plan's own where it names one."""
        named = self.plan.approach.vacuum_area if self.plan.approach else None
        return Place(named or VACUUM, vacuum_area(self.opened, self.plan))

    @property
    def this_area(self) -> Place:
        """The area of the plan: what is exposed here comes out of its budget."""
        return Place(self.plan.sample.area, self.opened.runs[self.run].area_id)

    def references(self, *kinds: str) -> tuple[tuple[ReferenceArea, Place], ...]:
        """Reference areas that the instrument file names: all of the first of these kinds, of one crystal."""
        areas = self.opened.file.facts.reference_areas
        first = next((area for kind in kinds for area in areas if area.kind == kind), None)
        if first is None:
            return ()
        alike = [area for area in areas if (area.kind, area.crystal) == (first.kind, first.crystal)]
        return tuple((area, Place(area.name, self._reference_area(area))) for area in alike)

    def _reference_area(self, area: ReferenceArea) -> int:
        key = AreaKey(sample=f"reference-{area.crystal}", name=area.name, fluence_budget_e_per_a2=NO_BUDGET_E_PER_A2)
        return self.opened.recorder.record(RegisterArea(area=key, specimen=False))

    def request(
        self,
        shape: tuple[int, int],
        *,
        electrons_per_pattern: float = 0.0,
        field_nm: float | None = None,
    ) -> ScanRequest:
        """A square raster over the plan's field (its longer side), dwelling as the plan does or longer."""
        return ScanRequest(
            shape=shape,
            step_nm=(field_nm or max(self.plan.scan.field_nm)) / max(shape),
            rotation_deg=self.plan.scan.rotation_deg,
            dwell_time_us=dwell_time_us(self.plan, electrons_per_pattern),
            flyback_us=self.plan.scan.flyback_us,
            flyback_blanked=self.plan.scan.flyback_blanked,
        )

    def request_here(self, electrons_per_pattern: float) -> ScanRequest:
        """A raster over the plan's area at its own step, all of it or as much as a calibration needs."""
        shape = tuple(min(positions, MOST_POSITIONS) for positions in self.plan.scan.shape)
        request = self.request((shape[0], shape[1]), electrons_per_pattern=electrons_per_pattern)
        return request.model_copy(update={"step_nm": self.plan.scan.step_nm})

    def scan(
        self,
        name: str,
        place: Place,
        scan: ScanRequest,
        geometry: Calibrated | None = None,
        plan: Plan | None = None,
        purpose: Purpose = "calibration",
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
        purpose : {"calibration", "survey", "focus"}
            What the dose is booked as.

        Raises
        ------
        DoseRefused
            Where the place cannot afford it, or the plan's area would have too little left for the plan itself; nothing
            is exposed then.
        """
        one = self._pass(name, place, scan, geometry or self.geometry, plan or self.plan, purpose)
        if place == self.this_area:
            self._leave_enough(one.plan, one.current_ratio)
        done = expose_once(self.opened, self.run, one, self._progress(name))
        return self._registered(one, done.result, purpose)

    def scan_unlit(self, name: str, scan: ScanRequest) -> Scanned:
        """Record frames with the beam blanked throughout; nothing is booked, as nothing is exposed."""
        one = self._pass(name, self.vacuum, scan, self.geometry, self.plan)
        return self._registered(one, record_unlit(self.opened, self.run, one, self._progress(name)))

    def _pass(
        self,
        name: str,
        place: Place,
        scan: ScanRequest,
        geometry: Calibrated,
        plan: Plan,
        purpose: Purpose = "calibration",
    ) -> Pass:
        there = exposed_plan(self.opened.file.facts, plan, scan)
        return Pass(
            plan=there,
            column=geometry.column.model_copy(update={"optics": there.optics}),
            scan=scan,
            accumulator=accumulator_spec(there, geometry, self.opened.settings.accumulator_threads, True),
            position=place.position,
            area_id=place.area_id,
            purpose=purpose,
            current_ratio=geometry.current_ratio,
            path=self.opened.data_folder(self.run) / f"{name}.h5",
            metadata=file_metadata(there, self.run, purpose),
        )

    def _progress(self, name: str) -> Callable[[Progress], None]:
        def on_progress(progress: Progress) -> None:
            self.opened.on_progress(name, progress)

        return on_progress

    def _registered(self, one: Pass, result: AcquisitionResult, purpose: Purpose = "calibration") -> Scanned:
        dataset = register_scan(self.opened, self.run, one.scan.shape, one.plan.detector.shape, result, purpose)
        tell_losses(self.opened, self.run, one.path.stem, result)
        return Scanned(result.receipt.path, dataset, one.plan, one.accumulator)

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
