"""Exposures: the only place that lets the beam through, under an intent that was committed before."""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from db.operations import CloseIntent, OpenIntent
from devices.acquire import AcquisitionJob, AcquisitionResult, Progress, acquire
from devices.guard import Unwatched, WatchedGate
from devices.protocols import ColumnSetting, ExposureRequest, Instrument, ScanRequest
from devices.safety import SafeLevel, blank_first, exposed, make_safe
from devices.worker import acquire_in_child
from stem4d.accumulate_spec import AccumulatorSpec
from stem4d.dose import BUDGET_TOLERANCE, DoseLease, electrons
from stem4d.errors import BrokenOff, DeviceFault, DoseRefused, InstrumentTaken, LimitViolation, NightbeamError
from stem4d.plan import Plan
from stem4d.predict import predict
from stem4d.rules.limits import CREST
from storage.crash import crash_point
from storage.spec import FileSpec
from tasks.column import confirm, set_and_confirm
from tasks.lab import Lab

LEASE_MARGIN_S = 90.0
"""Beyond 1.5 times the scan's own time, from when the detector is armed: after 60 s without a word from the acquisition
the run gives up by itself. Progress extends it, as simulated frames may come slower than they are scanned."""


@dataclass(frozen=True)
class Pass:
    """One pass over an area: everything that fixes it."""

    plan: Plan
    column: ColumnSetting
    scan: ScanRequest
    accumulator: AccumulatorSpec
    position: str
    """Where the stage stands."""
    area_id: int
    """The area that the dose is booked on: under the beam there, or beside it by the beam shift."""
    purpose: Literal["acquisition", "calibration", "survey", "focus"]
    current_ratio: float
    """True over commanded current, as far as it is known: dose is booked with it, and never with less than 1."""
    path: Path
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Exposed:
    """What came of a pass."""

    result: AcquisitionResult
    started_s: float
    """The instrument's clock when the scan started [s]."""
    ended_s: float


OVERLONG, OVERLONG_S = 1.5, 2.0
"""A beam that is on for so many times its scan and so many seconds more is told of: frames were late, or it hung."""


def scan_request(plan: Plan) -> ScanRequest:
    """The raster of one pass of a plan."""
    return ScanRequest(
        shape=plan.scan.shape,
        step_nm=plan.scan.step_nm,
        rotation_deg=plan.scan.rotation_deg,
        dwell_time_us=plan.exposure.dwell_time_us,
        flyback_us=plan.scan.flyback_us,
        flyback_blanked=plan.scan.flyback_blanked,
    )


def expose_once(opened: Lab, run: str, one: Pass, on_progress: Callable[[Progress], str | None]) -> Exposed:
    """Prepare everything, commit the intent, expose, and leave the beam blanked whatever happens.

    Raises
    ------
    DoseRefused
        Before anything is exposed, when the area cannot afford it.
    LimitViolation
        Before anything is exposed, when the beam would harm the detector.
    InstrumentTaken
        When somebody else has the instrument, or the gate refuses the lease; nothing was exposed, and nothing is
        booked.
    BrokenOff
        Where a person stopped the night, before this or, if it is for a calibration, in the middle of it.
    Unwatched
        Where no watchdog could make the instrument safe; also when the one that was there dies meanwhile.
    """
    if asked := opened.break_off():
        raise BrokenOff(asked)
    opened.ownership.check()
    opened.watched_anew()
    opened.guard.check()
    _require_harmless(opened, one)
    instrument = opened.instrument
    job = _prepared(opened, one)
    crash_point("expose.prepared")
    name = f"{run}/{one.path.stem}"
    fluence = predict(one.plan).local_fluence_e_per_a2 * max(1.0, one.current_ratio)
    area = opened.recorder.area(one.area_id)
    intent_id = opened.recorder.record(
        OpenIntent(
            run=run,
            area=area,
            purpose=one.purpose,
            token=name,
            fluence_e_per_a2=fluence,
            budget_tolerance=BUDGET_TOLERANCE,
            owner_token=opened.ownership.token,
        )
    )
    crash_point("expose.booked")
    gate, receive = WatchedGate(instrument.gate, opened.guard), _receiver(opened)
    never_lit, asked = True, ""
    lit_s: list[float] = []
    try:
        started_s = instrument.now_s()
        with ExitStack() as beam:

            def on_listening() -> None:
                nonlocal never_lit
                instrument.detector.arm()
                crash_point("expose.armed")
                lease = DoseLease(
                    area=area.name,
                    fluence_e_per_a2=fluence,
                    # A column remembers tokens that a new or restored database does not know.
                    token=max(intent_id, gate.newest_token() + 1),
                    expires_monotonic_s=time.monotonic() + 1.5 * one.scan.duration_s + LEASE_MARGIN_S,
                    owner_token=opened.ownership.token,
                    exposure=name,
                )
                never_lit = False
                lit_s.append(instrument.now_s())
                beam.callback(_note_time, lit_s, instrument)
                try:
                    beam.enter_context(exposed(gate, lease))
                except DoseRefused as error:
                    never_lit = True
                    raise InstrumentTaken(f"{instrument.name}: {error}") from error
                crash_point("expose.lit")
                instrument.scan.start()
                lit_s.append(instrument.now_s())
                crash_point("expose.scanning")

            def until_ended(progress: Progress) -> str | None:
                nonlocal asked
                crash_point("expose.ended" if progress.ended else "expose.progress")
                if progress.ended:
                    beam.close()
                    crash_point("expose.blanked")
                opened.guard.goes_on(LEASE_MARGIN_S)
                asked = asked or ("" if progress.ended else opened.break_off())
                reason = opened.guard.lost or asked or on_progress(progress)
                if reason:
                    beam.close()
                return reason

            result = receive(job, on_listening, until_ended)
            crash_point("expose.received")
            if result.stopped:
                instrument.scan.ensure_stopped()
            else:
                instrument.scan.wait()
    except BaseException as error:
        if never_lit:
            _release(opened, run, name, error)
        elif len(lit_s) == 3:
            _charge_broken(opened, run, one, fluence, name, lit_s, error)
        # Where nobody knows when the beam was off, all stays booked until the column's log tells it.
        if opened.guard.lost and isinstance(error, NightbeamError) and not isinstance(error, Unwatched):
            raise Unwatched(f"{instrument.name}: {opened.guard.lost}") from error
        raise
    finally:
        report = make_safe(instrument, SafeLevel.PARK, f"end of {one.purpose} in {run}")
        if not report.safe:
            opened.warn("safety", f"making the instrument safe did not work fully: {report.words}", run=run)
    crash_point("expose.parked")
    _tell_overlong(opened, run, one, lit_s)
    _settle_dose(opened, one, fluence, name, result, lit_s)
    crash_point("expose.settled")
    if not report.safe:
        raise DeviceFault(f"the instrument could not be parked after the exposure: {report.words}")
    if opened.guard.lost:
        raise Unwatched(f"{instrument.name}: {opened.guard.lost}")
    if asked and one.purpose != "acquisition":
        # A part of a scan is no calibration.
        raise BrokenOff(asked)
    return Exposed(result, started_s, instrument.now_s())


def _tell_overlong(opened: Lab, run: str, one: Pass, times_s: list[float]) -> None:
    """Say where the beam was on for much longer than its scan: what the parked probe then met has more dose."""
    if len(times_s) < 3:
        return
    on_s, scan_s = times_s[2] - times_s[0], one.scan.duration_s
    if on_s > OVERLONG * scan_s + OVERLONG_S:
        words = f"the beam was on for {on_s:.3g} s, and the scan of {one.path.stem} takes {scan_s:.3g} s"
        opened.warn("beam overlong", f"{words}: the probe was parked for the rest, which is charged", run=run)


def _require_harmless(opened: Lab, one: Pass) -> None:
    """Raise `LimitViolation` where the disk, at the current that was measured, is too bright for the detector.

    The same figure as the plan rule ``damage_rate``; whatever was or was not checked before, no beam goes past this.
    """
    facts = opened.file.facts.detector(one.plan.detector.name)
    if facts is None or facts.damage_count_rate_per_px_hz is None:
        return
    rate_hz = predict(one.plan).rate_per_disk_pixel_hz * CREST.value * max(1.0, one.current_ratio)
    if rate_hz > facts.damage_count_rate_per_px_hz:
        raise LimitViolation(
            device=one.plan.detector.name,
            setting="electron rate at the disk's crest",
            asked=rate_hz,
            limit=f"at most {facts.damage_count_rate_per_px_hz:.3g} /s, its damage limit: less current, or a larger "
            "camera length",
            unit="/s",
        )


def _note_time(times_s: list[float], instrument: Instrument) -> None:
    """When the beam was off again; an instrument that does not say it has blanked all the same."""
    with suppress(NightbeamError):
        if instrument.gate.is_blanked() is not False:
            times_s.append(instrument.now_s())


def _release(opened: Lab, run: str, name: str, error: BaseException) -> None:
    """Give back what was booked for an exposure whose beam was never let through."""
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    try:
        never = f"the beam was never let through: {reason}"
        opened.recorder.record(CloseIntent(token=name, delivered_e_per_a2=0.0, electrons=0.0, reason=never))
    except NightbeamError as trouble:
        opened.warn("dose", f"an exposure that never began stays booked on its area in full: {trouble}", run=run)


def _charge_broken(
    opened: Lab, run: str, one: Pass, booked_e_per_a2: float, name: str, times_s: list[float], error: BaseException
) -> None:
    """Charge an exposure that an error ended: its first rows may have all, and its beam is known to be off."""
    try:
        reason = f"broken off: {type(error).__name__}: {error}".rstrip(": ")
        _settle_dose(opened, one, booked_e_per_a2, name, None, times_s, reason)
    except NightbeamError as trouble:
        opened.warn("dose", f"an exposure that was broken off stays booked on its area in full: {trouble}", run=run)


def record_unlit(opened: Lab, run: str, one: Pass, on_progress: Callable[[Progress], str | None]) -> AcquisitionResult:
    """Record frames with the beam blanked from beginning to end: what the detector counts of itself.

    Raises
    ------
    DeviceFault
        Where the beam is not blanked, or the instrument cannot be parked afterwards.
    """
    opened.ownership.check()
    instrument = opened.instrument
    instrument.gate.blank()
    if instrument.gate.is_blanked() is False:
        raise DeviceFault("the beam is not blanked: dark frames would be lit")
    job = _prepared(opened, one)

    def on_listening() -> None:
        instrument.detector.arm()
        instrument.scan.start()

    receive = _receiver(opened)
    try:
        result = receive(job, on_listening, on_progress)
        instrument.scan.wait()
    finally:
        report = make_safe(instrument, SafeLevel.PARK, f"end of dark frames in {run}")
        if not report.safe:
            opened.warn("safety", f"making the instrument safe did not work fully: {report.words}", run=run)
    if not report.safe:
        raise DeviceFault(f"the instrument could not be parked after the dark frames: {report.words}")
    return result


def _receiver(opened: Lab) -> Callable[..., AcquisitionResult]:
    """What receives the frames: a process of its own, which the next owner ends should it outlive this one."""
    if opened.settings.worker != "child":
        return acquire
    return partial(
        acquire_in_child,
        on_failing=partial(blank_first, opened.instrument.gate),
        on_started=opened.remember_worker,
        worker=opened.standby.take(),
    )


def _prepared(opened: Lab, one: Pass) -> AcquisitionJob:
    """Stage, column, scan generator and detector as the pass wants them, confirmed; gives what receives the frames."""
    instrument = opened.instrument
    instrument.stage.go_to(one.position)
    set_and_confirm(instrument, one.column)
    confirm("scan generator", one.scan, instrument.scan.prepare(one.scan))
    wanted = _exposure(one)
    confirm("detector", wanted, instrument.detector.prepare(wanted))
    return AcquisitionJob(
        source=instrument.detector.source(),
        file=_file_spec(one, int(opened.settings.disk_reserve_gb * 1e9)),
        accumulator=one.accumulator,
    )


def _exposure(one: Pass) -> ExposureRequest:
    """What the detector is asked for."""
    return ExposureRequest(
        detector=one.plan.detector.name,
        shape=one.plan.detector.shape,
        bit_depth=one.plan.detector.bit_depth,
        exposure_time_us=min(one.plan.exposure.live_time_us, one.scan.dwell_time_us),
        frames=one.scan.shape[0] * one.scan.shape[1],
    )


def _settle_dose(
    opened: Lab,
    one: Pass,
    booked_e_per_a2: float,
    name: str,
    result: AcquisitionResult | None,
    times_s: list[float],
    reason: str = "",
) -> None:
    """Close the intent: never less than booked, more where the detector counted more than the current promised.

    Without a result, of an exposure that an error ended, nothing is known to have been counted.

    A pass that was broken off has given its first rows all that was booked, so the fluence where it is highest is the
    same. Its electrons are those of the current over the time from before the beam was let through until blanking was
    acknowledged, by the instrument's clock, parked and flying back included: ``times_s`` are both, and between them
    when the scan was seen to have started.

    The sums of an integrating detector are no electrons, but gain times electrons on a dark level: they say nothing
    here, and the dose is that of the current as it was measured.
    """
    planned = predict(one.plan)
    integrates = opened.file.facts.integrates(one.plan.detector.name)
    counted = 0.0 if integrates or result is None else float(result.total_counts)
    frames = 1 if result is None else max(result.frames_received, 1)
    times_planned = counted / frames / planned.electrons_per_pattern
    time_us = _longest_on_us(one.scan, times_s)
    carried = electrons(one.plan.optics.probe_current_pa, time_us) * max(1.0, one.current_ratio)
    opened.recorder.record(
        CloseIntent(
            token=name,
            delivered_e_per_a2=max(booked_e_per_a2, planned.local_fluence_e_per_a2 * times_planned),
            electrons=max(counted, carried),
            reason=reason,
        )
    )


def _longest_on_us(scan: ScanRequest, times_s: list[float]) -> float:
    """For how long the beam can have been on at most [µs], parked before the scan and after it included."""
    # A position that was begun is charged whole, and so is a way back.
    begun_us = scan.dwell_time_us + (0.0 if scan.flyback_blanked else scan.flyback_us)
    # An instrument that did not say when it blanked.
    before_s, started_s, dark_s = times_s if len(times_s) == 3 else (0.0, 0.0, scan.duration_s)
    within_us = (dark_s - before_s) * 1e6
    if not scan.flyback_blanked:
        return within_us + begun_us
    # Blanked on its ways back alone. When the scan began nobody saw: early for its rows, late for the parked beam.
    line_us = scan.shape[1] * scan.dwell_time_us
    rows, rest_us = divmod(min(within_us, scan.duration_s * 1e6), line_us + scan.flyback_us)
    parked_us = (started_s - before_s) * 1e6 + max(0.0, within_us - scan.duration_s * 1e6)
    return rows * line_us + min(rest_us, line_us) + parked_us + begun_us


def _file_spec(one: Pass, reserve_bytes: int) -> FileSpec:
    return FileSpec(
        path=one.path,
        scan_shape=one.scan.shape,
        detector_shape=one.plan.detector.shape,
        dtype=one.accumulator.pixel_dtype.name,
        scan_step_nm=one.scan.step_nm,
        mrad_per_pixel=one.plan.mrad_per_pixel,
        full_scale=one.plan.detector.full_scale,
        metadata=one.metadata,
        virtual_detectors=tuple(detector.name for detector in one.accumulator.detectors),
        title=one.plan.title,
        reserve_bytes=reserve_bytes,
    )
