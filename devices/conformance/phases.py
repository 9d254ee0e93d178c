"""Checks of scan engine and detector: phases in order, what is resolved, what is refused, stopping at any time."""

from collections.abc import Iterator
from datetime import UTC, datetime

from devices.conformance.column import need_whole
from devices.conformance.subject import Subject, applies, changes, need, need_close
from devices.protocols import DetectorWitness, ExposureRequest, Instrument, ScanRequest
from stem4d.errors import LimitViolation, NightbeamError

FASTER = 0.5
"""Fraction of the shortest exposure that no detector can do."""


def stopping_does_no_harm(subject: Subject, instrument: Instrument) -> None:
    """``ensure_stopped`` of scan and detector works at any time, and again."""
    for name, part in (("scan", instrument.scan), ("detector", instrument.detector)):
        for _ in range(3):
            try:
                part.ensure_stopped()
            except Exception as error:  # noqa: BLE001 - whatever it raises, that it raises is what fails
                need(False, f"{name}.ensure_stopped raised {type(error).__name__}: {error}, although nothing runs")


def scan_resolves_what_was_asked(subject: Subject, instrument: Instrument) -> None:
    """A raster is resolved as it was asked for, twice alike."""
    scan = _scan(subject)
    for _ in range(2):
        need_close("scan", scan, instrument.scan.prepare(scan))


def scan_refuses_what_is_out_of_range(subject: Subject, instrument: Instrument) -> None:
    """A dwell or a field beyond the instrument file's is a `LimitViolation`."""
    scan, facts = _scan(subject), subject.file.facts
    for name, value in (
        ("dwell_time_us", facts.dwell_time_us.highest * 1.01),
        ("dwell_time_us", facts.dwell_time_us.lowest / 1.01),
        ("step_nm", 1.01 * facts.max_field_nm / max(scan.shape)),
    ):
        try:
            got = instrument.scan.prepare(scan.model_copy(update={name: value}))
        except LimitViolation:
            continue
        need(False, f"{name} = {value} is out of range and was not refused; the scan took {getattr(got, name)}")


def detector_goes_through_its_phases(subject: Subject, instrument: Instrument) -> None:
    """Prepared as asked, a source taken, armed, stopped at each point and prepared again."""
    exposure = _exposure(subject)
    for stop_after in ("prepare", "source", "arm", "arm"):
        _before_it(subject, instrument)
        need_close("detector", exposure, instrument.detector.prepare(exposure))
        if stop_after != "prepare":
            source = instrument.detector.source()
            need(source.frames == exposure.frames, f"the source promises {source.frames} of {exposure.frames} frames")
        if stop_after == "arm":
            instrument.detector.arm()
        for _ in range(2):
            instrument.detector.ensure_stopped()


def detector_is_not_armed_out_of_turn(subject: Subject, instrument: Instrument) -> None:
    """Arming without a prepared exposure is an error in words, and nothing that counts."""
    _exposure(subject)
    instrument.detector.ensure_stopped()
    try:
        instrument.detector.arm()
    except NightbeamError:
        return
    finally:
        instrument.detector.ensure_stopped()
    need(False, "the detector was armed although it had been stopped and no source was taken since")


def detector_refuses_what_it_cannot_do(subject: Subject, instrument: Instrument) -> None:
    """Another shape, depth, detector or too short an exposure is a `LimitViolation`, and what was set stays."""
    exposure = _exposure(subject)
    detector = instrument.detector
    _before_it(subject, instrument)
    detector.prepare(exposure)
    before = detector.snapshot() if isinstance(detector, DetectorWitness) else ()
    for name, beyond in _beyond(subject, exposure):
        try:
            got = detector.prepare(beyond)
        except LimitViolation:
            continue
        finally:
            detector.ensure_stopped()
        need(False, f"{name} = {getattr(beyond, name)} was not refused; the detector took {getattr(got, name)}")
    if isinstance(detector, DetectorWitness):
        changed = changes(before, detector.snapshot())
        need(not changed, f"refusing changed the detector: {'; '.join(changed)}")


def detector_snapshot_is_whole(subject: Subject, instrument: Instrument) -> None:
    """As that of the column, for a detector that can tell its settings."""
    detector = instrument.detector
    if not isinstance(detector, DetectorWitness):
        applies(False, "the detector does not tell its settings")
    assert isinstance(detector, DetectorWitness)
    began = datetime.now(UTC)
    readings = detector.snapshot()
    ended = datetime.now(UTC)
    for reading in readings:
        need_whole(reading, began, ended)


def the_clock_runs_on(subject: Subject, instrument: Instrument) -> None:
    """Its time does not run back, and a pause lets at least its length pass."""
    began_s = instrument.now_s()
    instrument.pause(0.01)
    passed_s = instrument.now_s() - began_s
    need(passed_s >= 0.01 - 1e-6, f"a pause of 0.01 s took {passed_s:.3g} s by the instrument's clock")


def _before_it(subject: Subject, instrument: Instrument) -> None:
    """What an exposure needs first, as far as it was stated."""
    if subject.positions:
        instrument.stage.go_to(subject.positions[0])
    if subject.settings:
        instrument.column.prepare(subject.settings[0])
    if subject.scan:
        instrument.scan.prepare(subject.scan)


def _beyond(subject: Subject, exposure: ExposureRequest) -> Iterator[tuple[str, ExposureRequest]]:
    facts = subject.file.facts.detector(exposure.detector)
    assert facts is not None, "the exposure's detector stands in the instrument file"
    shortest_us = 1e6 / facts.frame_rate_hz(exposure.bit_depth) - facts.dead_time_us
    for name, value in (
        ("detector", "no-such-detector"),
        ("shape", (facts.shape[0] + 1, facts.shape[1])),
        ("bit_depth", max(facts.bit_depths) + 1),
        ("exposure_time_us", FASTER * shortest_us),
    ):
        yield name, exposure.model_copy(update={name: value})


def _scan(subject: Subject) -> ScanRequest:
    applies(subject.scan is not None, "no scan was stated")
    assert subject.scan is not None
    return subject.scan


def _exposure(subject: Subject) -> ExposureRequest:
    applies(subject.exposure is not None, "no exposure was stated")
    assert subject.exposure is not None
    return subject.exposure
