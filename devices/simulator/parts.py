"""The parts of the simulated instrument: column, stage, scan generator, detector, beam gate, valves."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

from devices.dose_lease import require_owner, require_valid
from devices.limits import one_of, slow_enough, within
from devices.protocols import ColumnSetting, ExposureRequest, Reading, ScanRequest
from devices.simulator.settings import VACUUM
from devices.simulator.source import SimulatedSource
from devices.simulator.stage import StageMotion
from devices.simulator.state import ROUNDING_S, Run, State
from stem4d.approach import POSE_UNITS, StagePose
from stem4d.detector import DetectorFacts
from stem4d.dose import DoseLease
from stem4d.errors import DeviceFault, LimitViolation
from stem4d.instrument import InstrumentFacts
from stem4d.model import Range

SHIFT_MRAD = Range(lowest=-60, highest=60)
"""What the diffraction shift coils can do, per axis."""
WAIT_S = 0.25
"""Longest wait in one go [s], after which a stop by somebody else is noticed, and a client hears that all is well."""


class SimulatedColumn:
    """The optics. Resolves every value exactly as asked."""

    def __init__(self, state: State) -> None:
        self._state = state

    def prepare(self, setting: ColumnSetting) -> ColumnSetting:
        """Check every value against the instrument's facts, then set all of them."""
        facts, optics = self._state.facts, setting.optics
        one_of("column", "beam_energy_kev", optics.beam_energy_kev, facts.beam_energies_kev, "keV")
        angles = tuple(aperture.convergence_semi_angle_mrad for aperture in facts.apertures)
        one_of("column", "convergence_semi_angle_mrad", optics.convergence_semi_angle_mrad, angles, "mrad")
        one_of("column", "camera_length_mm", optics.camera_length_mm, facts.camera_lengths_mm, "mm")
        within("column", "defocus_nm", optics.defocus_nm + setting.focus_correction_nm, facts.defocus_nm, "nm")
        within("column", "probe_current_pa", optics.probe_current_pa, facts.probe_current_pa, "pA")
        for value in setting.diffraction_shift_mrad:
            within("column", "diffraction_shift_mrad", value, SHIFT_MRAD, "mrad")
        _coils("beam_shift_nm", setting.beam_shift_nm, facts.beam_shift_nm)
        _coils("stigmator_nm", setting.stigmator_nm, facts.stigmator_nm)
        if self._state.column is not None and lenses_change(facts, self._state.column, setting):
            self._state.note("lenses")
        self._state.note("column", setting=setting.model_dump(mode="json"))
        self._state.column = setting
        return setting

    def snapshot(self) -> tuple[Reading, ...]:
        """What was commanded, setting by setting, from the first `prepare` on; and what the gauges read."""
        setting, now = self._state.column, datetime.now(UTC)
        supply = self._state.truth.at(self._state.now_s()).supply
        gauges = (("vacuum_pascal", supply.vacuum_pascal, "Pa"), ("emission_ua", supply.emission_ua, "uA"))
        measured = tuple(
            Reading(name, value, unit, now, "measured")
            for name, value, unit in (*gauges, ("cryo_fill_s", supply.cryo_fill_s, "s"))
        )
        if setting is None:
            return measured
        told = setting.optics
        (yy, yx), (xy, xx) = setting.descan_mrad_per_nm
        values = (
            ("beam_energy_kev", told.beam_energy_kev, "keV"),
            ("convergence_semi_angle_mrad", told.convergence_semi_angle_mrad, "mrad"),
            ("defocus_nm", told.defocus_nm, "nm"),
            ("spherical_aberration_mm", told.spherical_aberration_mm, "mm"),
            ("probe_current_pa", told.probe_current_pa, "pA"),
            ("camera_length_mm", told.camera_length_mm, "mm"),
            ("diffraction_shift_y_mrad", setting.diffraction_shift_mrad[0], "mrad"),
            ("diffraction_shift_x_mrad", setting.diffraction_shift_mrad[1], "mrad"),
            ("descan_yy_mrad_per_nm", yy, "mrad/nm"),
            ("descan_yx_mrad_per_nm", yx, "mrad/nm"),
            ("descan_xy_mrad_per_nm", xy, "mrad/nm"),
            ("descan_xx_mrad_per_nm", xx, "mrad/nm"),
            ("beam_shift_y_nm", setting.beam_shift_nm[0], "nm"),
            ("beam_shift_x_nm", setting.beam_shift_nm[1], "nm"),
            ("focus_correction_nm", setting.focus_correction_nm, "nm"),
            ("stigmator_along_nm", setting.stigmator_nm[0], "nm"),
            ("stigmator_across_nm", setting.stigmator_nm[1], "nm"),
        )
        return (*(Reading(name, value, unit, now, "commanded") for name, value, unit in values), *measured)

    def normalise(self) -> None:
        """Take the hysteresis out of the lenses."""
        self._state.note("normalise")


def _coils(setting: str, values: tuple[float, float], allowed: Range | None) -> None:
    """Coils that the instrument file does not state can do nothing."""
    for value in values:
        within("column", setting, value, allowed or Range(lowest=0, highest=0), "nm")


def lenses_change(facts: InstrumentFacts, before: ColumnSetting, after: ColumnSetting) -> bool:
    """Whether aperture, camera length or spot change from one setting to another."""

    def lenses(setting: ColumnSetting) -> tuple[object, ...]:
        told, spot = setting.optics, facts.spot(setting.optics.probe_current_pa)
        return told.convergence_semi_angle_mrad, told.camera_length_mm, told.beam_energy_kev, spot and spot.name

    return lenses(before) != lenses(after)


class SimulatedStage:
    """The stage: the areas of the settings, and ``vacuum``."""

    def __init__(self, state: State) -> None:
        self._state = state

    def go_to(self, position: str) -> str:
        """Move to an area or to ``vacuum``."""
        known = (VACUUM, *self._state.truth.areas)
        if position not in known:
            raise LimitViolation(device="stage", setting="position", asked=position, limit="one of " + ", ".join(known))
        self._state.note("stage", position=position)
        return self._state.position

    def position(self) -> str:
        """Where the stage is."""
        return self._state.position

    def move_to(self, pose: StagePose) -> StagePose:
        """Go below the pose along x and y by the file's backlash, then up to it."""
        stage = self._state.facts.stage
        if self._state.scan_ends_s is not None:
            raise DeviceFault("stage: move_to was called while a raster runs")
        for axis, unit in POSE_UNITS.items():
            allowed = stage.range_of(axis) if stage else None
            lowest = stage.lowest_target(axis) if stage else 0.0
            highest = allowed.highest if allowed else 0.0
            within("stage", axis, getattr(pose, axis), Range(lowest=lowest, highest=highest), unit)
        if stage is not None and stage.backlash_um > 0:
            below = {"x_um": pose.x_um - stage.backlash_um, "y_um": pose.y_um - stage.backlash_um}
            self._move(pose.model_copy(update=below))
        self._move(pose)
        return self._state.stage.pose

    def _move(self, pose: StagePose) -> None:
        self._state.note("move", pose=pose.model_dump(mode="json"))

    def pose(self) -> StagePose:
        """Where the stage stands, by its own reading."""
        return self._state.stage.pose


def _shift(request: ScanRequest) -> Iterator[tuple[float, float]]:
    """Offset [nm] and rate [nm/min] along each axis."""
    return zip(request.offset_nm, request.follow_nm_per_min, strict=True)


class SimulatedScan:
    """The scan engine. In accelerated runs `wait` returns at once, with the clock at the scan's end."""

    def __init__(self, state: State) -> None:
        self._state = state

    def prepare(self, request: ScanRequest) -> ScanRequest:
        """Load a raster."""
        self._not_running("prepare")
        facts = self._state.facts
        within("scan", "dwell_time_us", request.dwell_time_us, facts.dwell_time_us, "us")
        # What the beam shift adds has to be reached by the same coils.
        moved_nm = [abs(at) + abs(by) * request.duration_s / 60 for at, by in _shift(request)]
        field_nm = max(request.shape) * request.step_nm + 2 * max(moved_nm)
        within("scan", "field_nm", field_nm, Range(lowest=0, highest=facts.max_field_nm), "nm")
        self._state.note("raster", request=request.model_dump(mode="json"))
        self._state.scan = request
        return request

    def start(self) -> None:
        """Start the prepared raster."""
        self._not_running("start")
        if self._state.scan is None or not self._state.armed:
            missing = "no raster is prepared" if self._state.scan is None else "the detector is not armed"
            raise DeviceFault(f"scan: start was called but {missing}")
        self._state.note("scan", run=self._state.run, duration_s=self._state.scan.duration_s)

    def wait(self) -> None:
        """Return when the raster has ended; accelerated, this moves the clock to its end.

        A caller that may have to stop early watches the frames first and waits afterwards.
        """
        while self.wait_a_while() > 0:
            pass

    def wait_a_while(self) -> float:
        """A part of `wait`; gives the simulated time that is left [s], 0 when the raster has ended."""
        state = self._state
        with state.lock:
            if state.scan_ends_s is None:
                raise DeviceFault("scan: wait was called but no raster runs; none was started, or it was stopped")
            left_s = state.scan_ends_s - state.now_s()
            if not state.real_time:
                state.pass_time(left_s)
                left_s = 0.0
                if not state.blanked:
                    # Simulated time stands still until the owner blanks: the column has gated the beam itself.
                    state.note("blank", by="column")
            if left_s <= ROUNDING_S:
                state.note("scanned")
                return 0.0
        state.pass_time(left_s, at_most_s=WAIT_S)
        return left_s

    def ensure_stopped(self) -> None:
        """Stop scanning; frames of positions not yet reached will not come."""
        if self._state.scan_ends_s is not None:
            self._state.note("stop", device="scan")

    def _not_running(self, what: str) -> None:
        if self._state.scan_ends_s is not None:
            raise DeviceFault(f"scan: {what} was called while a raster runs")


class SimulatedDetector:
    """The detectors of the instrument, of which the last one prepared is the one in use."""

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def facts(self) -> DetectorFacts:
        """What the detector in use is; the first of the file before any is prepared."""
        return self._state.detector

    def prepare(self, request: ExposureRequest) -> ExposureRequest:
        """Configure a detector."""
        if self._state.armed:
            raise DeviceFault("detector: prepare was called while it is armed")
        known = {facts.name: facts for facts in self._state.facts.all_detectors}
        if request.detector not in known:
            limit = "one of " + ", ".join(known)
            raise LimitViolation(device="detector", setting="detector", asked=request.detector, limit=limit)
        facts = known[request.detector]
        if request.shape != facts.shape:
            limit = f"{facts.shape[0]} x {facts.shape[1]}"
            raise LimitViolation(device=facts.name, setting="shape", asked=request.shape, limit=limit, unit="px")
        one_of(facts.name, "bit_depth", request.bit_depth, facts.bit_depths, "bit")
        slow_enough(facts, request, facts.max_frame_rate_hz)
        self._state.note("detector", request=request.model_dump(mode="json"))
        self._state.detector, self._state.exposure, self._state.sourced = facts, request, False
        return request

    def source(self) -> SimulatedSource:
        """How to receive the prepared exposure's frames; a new run with noise of its own each time.

        Raises
        ------
        BadInput
            Where the simulation cannot hold the probe or the pattern (see `stem4d.simulate.patterns.prepare`).
        """
        # Imported here: the physics behind it takes a second, in which a server could answer already.
        from devices.simulator.scene import Scene, check

        state = self._state
        with state.lock:
            given = self._given()
        # Without the lock: whatever this takes, the beam can be blanked meanwhile.
        scene = Scene(state.truth, *given)
        check(scene)
        with state.lock:
            if self._given() != given:
                raise DeviceFault("detector: something was prepared anew while the source was made ready")
            run = given[5]
            state.note("expose", run=run, position=state.position)
            state.sourced, state.current = True, Run(run, scene)
            return SimulatedSource(state, state.current)

    def _given(
        self,
    ) -> tuple[DetectorFacts, str, ColumnSetting, ScanRequest, ExposureRequest, int, StageMotion, bool]:
        """What a scene is composed of, besides the truth; the sixth is the number of the run."""
        state = self._state
        if state.exposure is None or state.scan is None or state.column is None:
            raise DeviceFault("detector: source was called before column, scan and detector were all prepared")
        frames = state.scan.shape[0] * state.scan.shape[1]
        if state.exposure.frames != frames:
            raise DeviceFault(f"detector: prepared for {state.exposure.frames} frames, the raster has {frames}")
        if state.exposure.exposure_time_us > state.scan.dwell_time_us:
            raise DeviceFault("detector: the exposure is longer than the raster's dwell")
        run = state.run + 1
        return (
            state.detector, state.position, state.column, state.scan, state.exposure, run, state.stage,
            state.lenses_off,
        )  # fmt: skip

    def source_of(self, run: int) -> SimulatedSource:
        """The source that was given out last, if that is the run; raises `DeviceFault` where it is not."""
        current = self._state.current
        if current is None or current.number != run:
            raise DeviceFault(f"detector: the frames of run {run} are gone; another exposure has been prepared since")
        return SimulatedSource(self._state, current)

    def exposing(self) -> SimulatedSource | None:
        """The source of the exposure whose raster runs; None where none does."""
        state = self._state
        return SimulatedSource(state, state.current) if state.current and state.scan_ends_s is not None else None

    def arm(self) -> None:
        """Be ready to count."""
        if not self._state.sourced:
            raise DeviceFault("detector: arm was called before a source of this exposure was taken")
        self._state.note("arm", run=self._state.run)
        self._state.sourced = False

    def ensure_stopped(self) -> None:
        """Disarm; frames of positions not yet reached will not come."""
        if self._state.armed or self._state.sourced:
            self._state.note("stop", device="detector")
            self._state.sourced = False


class SimulatedGate:
    """The beam blanker. Leases run on the real clock, whatever the speed of the simulation."""

    def __init__(self, state: State) -> None:
        self._state = state

    def blank(self) -> None:
        """Take the beam off the specimen."""
        self._state.note("blank")

    def unblank(self, lease: DoseLease) -> None:
        """Let the beam through, unless the lease is expired, its token is old, or the valves are closed."""
        state = self._state
        require_valid(lease, state.newest_token, state.newest_owner_token, state.monotonic())
        if state.valves_closed:
            raise DeviceFault("the column valves are closed: close this session and open a new one")
        state.note("unblank", **asdict(lease))

    def is_blanked(self) -> bool:
        """Whether the beam is off the specimen."""
        return self._state.blanked

    def newest_token(self) -> int:
        """Highest token that the beam was let through for, by whatever session."""
        return self._state.newest_token

    def see_owner(self, owner_token: int) -> int:
        """Refuse the dose leases of owners before this one."""
        require_owner(owner_token, 0)
        if owner_token > self._state.newest_owner_token:
            self._state.note("owner", owner_token=owner_token)
        return self._state.newest_owner_token


class SimulatedValves:
    """The column valves; a new session opens them."""

    def __init__(self, state: State) -> None:
        self._state = state

    def close(self) -> None:
        """Close them, which takes the beam away too."""
        self._state.note("valves", closed=True)
