"""Scans of an approach: surveys over the target, and scans of the focus area beside it, each booked where it falls."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from db.engine import reader
from db.operations import RegisterArea
from db.questions.files import RecordedFile, files_of_run, has_run
from db.recorder import AWAY
from devices.passes import counts_dtype, maps_of
from devices.protocols import ColumnSetting, ScanRequest
from stem4d.approach import SURVEY_ELECTRONS, Approach, FocusArea
from stem4d.dose import electrons
from stem4d.errors import BadInput, BrokenOff
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.quality.grade import result
from stem4d.verdict import QualityResult, Verdict
from storage.read import open_frames
from tasks.calibrated import Calibrated, accumulator_spec
from tasks.calibrations.bench import MOST_POSITIONS, Bench, Place, Scanned
from tasks.calibrations.standing import standings, usable
from tasks.check import record_quality
from tasks.expose import scan_request
from tasks.lab import Lab, lab
from tasks.record import focus_key

PLACED_BY = "survey"
"""Name of the surveys that put a field in place, before their numbers."""


@dataclass(frozen=True)
class Way:
    """One run's approach: what it works with."""

    opened: Lab
    run: str
    plan: Plan
    calibrated: Calibrated

    @property
    def approach(self) -> Approach:
        """What the plan says of it."""
        if self.plan.approach is None:
            raise BadInput(field="approach", value=None, limit="has to be stated for a target that is approached")
        return self.plan.approach

    @property
    def column(self) -> ColumnSetting:
        """As it is set now."""
        return self.calibrated.column

    def with_column(self, **changes: object) -> "Way":
        """The way on with other settings of the column."""
        column = ColumnSetting.model_validate({**self.column.model_dump(), **changes})
        return replace(self, calibrated=self.calibrated.model_copy(update={"column": column}))

    @property
    def bench(self) -> Bench:
        """With what calibrations are known."""
        known = usable(self.opened, standings(self.opened, self.plan))
        return Bench(self.opened, self.run, self.plan, known)

    def _ask(self) -> None:
        """Before each scan: wait in a pause, and raise `BrokenOff` where the target is not to go on."""
        if asked := self.opened.between():
            raise BrokenOff(f"{asked}, before it was exposed")

    def over_target(self, name: str, request: ScanRequest) -> Scanned:
        """A survey of the target, booked on its area."""
        self._ask()
        bench = self.bench
        return bench.scan(self._unused(name), bench.this_area, request, self.calibrated, purpose="survey")

    def beside(self, name: str, request: ScanRequest, defocus_nm: float) -> Scanned:
        """A scan of the focus area at a defocus, booked on that area."""
        self._ask()
        area = self.focus_area
        shift = tuple(now + off for now, off in zip(self.column.beam_shift_nm, area.offset_nm, strict=True))
        optics = self.plan.optics.model_copy(update={"defocus_nm": defocus_nm})
        there = self.with_column(beam_shift_nm=shift)
        plan = self.plan.model_copy(update={"optics": optics})
        place = Place(self.plan.sample.area, self._focus_area_id(area))
        return self.bench.scan(self._unused(name), place, request, there.calibrated, plan, "focus")

    @property
    def focus_area(self) -> FocusArea:
        """Where focusing may expose."""
        if self.approach.focus_area is None:
            raise BadInput(field="approach.focus_area", value=None, limit="has to be stated for focusing")
        return self.approach.focus_area

    def _focus_area_id(self, area: FocusArea) -> int:
        return self.opened.recorder.record(RegisterArea(area=focus_key(self.plan.sample.name, area)))

    def _unused(self, name: str) -> str:
        folder, number = self.opened.data_folder(self.run), 1
        while (folder / f"{name}-{number}.h5").exists():
            number += 1
        return f"{name}-{number}"

    def request(self, shape: tuple[int, int], step_nm: float, electrons_per_pattern: float) -> ScanRequest:
        """A raster at the plan's rotation that counts so many electrons a pattern, as far as the scan can dwell."""
        facts = self.opened.file.facts
        detector = facts.detector(self.plan.detector.name)
        frame_us = 1e6 / detector.frame_rate_hz(max(detector.bit_depths), self.plan.detector.shape) if detector else 0.0
        wanted_us = electrons_per_pattern / electrons(self.plan.optics.probe_current_pa, 1.0)
        dwell_us = max(wanted_us, facts.dwell_time_us.lowest, frame_us)
        return scan_request(self.plan).model_copy(
            update={"shape": shape, "step_nm": step_nm, "dwell_time_us": dwell_us}
        )

    def own_request(self) -> ScanRequest:
        """A survey of the plan's own positions, or the middle of them."""
        rows, columns = (min(positions, MOST_POSITIONS) for positions in self.plan.scan.shape)
        return self.request((rows, columns), self.plan.scan.step_nm, SURVEY_ELECTRONS)

    def survey_request(self) -> ScanRequest:
        """A survey of the thumbnail's raster; without one of the plan's own positions."""
        if self.approach.thumbnail is None:
            return self.own_request()
        thumbnail, step_nm = self.thumbnail()
        return self.request(thumbnail.scan_shape, step_nm, SURVEY_ELECTRONS)

    def thumbnail(self) -> tuple[RunMaps, float]:
        """The stored survey, with its step [nm].

        Raises
        ------
        BadInput
            Where it cannot be read, was taken with another detector, or does not say its step.
        """
        path = thumbnail_path(self.opened, self.approach.thumbnail or "")
        with open_frames(path) as frames:
            step, shape = frames.metadata.get("scan_step_nm"), self.plan.detector.shape
            if frames.detector_shape != shape:
                limit = f"must be of the plan's detector, {shape[0]} x {shape[1]}"
                raise BadInput(
                    field=f"approach.thumbnail {path.name}", value=frames.detector_shape, limit=limit, unit="px"
                )
            if not isinstance(step, int | float) or step <= 0:
                raise BadInput(field=f"approach.thumbnail {path.name}", value=step, limit="must state its scan_step_nm")
            spec = accumulator_spec(self.plan, self.calibrated, self.opened.settings.accumulator_threads, True)
            return maps_of(
                frames, replace(spec, dtype=counts_dtype(frames), full_scale=frames.full_scale or spec.full_scale)
            ), float(step)

    def record(self, metric: str, verdict: Verdict, message: str, **figures: object) -> QualityResult:
        """Keep a figure with its limit, and tell it."""
        unit = str(figures.pop("unit", ""))
        one = result(f"approach.{metric}", None, verdict, message, unit=unit, **figures)  # type: ignore[arg-type]
        record_quality(self.opened, self.run, "online", (one,))
        self.opened.tell("approach", one.message, self.run)
        return one


def thumbnail_path(opened: Lab, name: str) -> Path:
    """The file of a thumbnail: a run's first one by the run's name, or a path, from the data folder where relative."""
    files: tuple[RecordedFile, ...] = ()
    # While the database is away a name can only be that of a file.
    with suppress(*AWAY), reader(opened.engine) as session:
        files = files_of_run(session, name=name) if has_run(session, name=name) else ()
    order: Sequence[str] = ("survey", "acquisition")
    found = [one for purpose in order for one in files if one.purpose == purpose and one.places]
    return Path(found[0].places[0][1]) if found else opened.settings.data_folder / name


def way_of(instrument: str, run: str, calibrated_json: str) -> Way:
    """What a stage of the approach begins with."""
    opened = lab(instrument)
    return Way(opened, run, opened.runs[run].plan, Calibrated.model_validate_json(calibrated_json))
