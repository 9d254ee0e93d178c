"""Merlin's driver on an emulated detector: written, read back, refused, armed, stopped, and what it is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devices.merlin.configure import Trigger
from devices.merlin.driver import MerlinDetector
from devices.protocols import Detector
from stem4d.detector import DetectorFacts, full_scale
from stem4d.errors import DeviceFault, LimitViolation, NotConfirmed
from tasks.column import confirm
from tests.devices.merlin_emulator import MerlinEmulator
from tests.devices.merlin_world import FACTS, FRAMES, REQUEST, asked, detector_of, exposed
from tests.devices.simplon_world import Clock


@pytest.fixture
def emulator() -> Iterator[MerlinEmulator]:
    """An emulated detector."""
    with MerlinEmulator() as running:
        yield running


@pytest.fixture
def driver(emulator: MerlinEmulator) -> Iterator[Callable[..., MerlinDetector]]:
    """Drivers of it, whose pauses take no time; closed at the end."""
    made: list[MerlinDetector] = []

    def one(facts: DetectorFacts = FACTS, **changes: Any) -> MerlinDetector:
        clock = Clock()
        made.append(detector_of(emulator, facts, **{"monotonic": clock, "sleep": clock.sleep, **changes}))
        made[-1].control.sleep = made[-1].control.monotonic = lambda *_args: 0.0
        return made[-1]

    yield one
    for each in made:
        each.control.close()


def facts_of(**changes: Any) -> DetectorFacts:
    """The usual detector with changes."""
    return FACTS.model_copy(update=changes)


@pytest.mark.parametrize("depth", [1, 6, 12, 24])
def test_what_is_asked_is_written_and_read_back(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector], depth: int
) -> None:
    detector: Detector = driver()
    confirm("detector", asked(bit_depth=depth), detector.prepare(asked(bit_depth=depth)))
    there = emulator.values
    assert there["COUNTERDEPTH"] == str(depth)
    assert there["CONTINUOUSRW"] == ("0" if depth == 24 else "1")
    assert (there["ACQUISITIONTIME"], there["ACQUISITIONPERIOD"]) == ("0.500000", "0.500000")
    assert (there["NUMFRAMESTOACQUIRE"], there["TRIGGERSTART"], there["FILEFORMAT"]) == (str(FRAMES), "5", "0")
    source = detector.source()
    assert source.dtype == {1: "uint8", 6: "uint8", 12: "uint16", 24: "uint32"}[depth]
    assert full_scale(depth) == {1: 1, 6: 63, 12: 4095, 24: 16777215}[depth]


def test_what_is_there_already_is_not_written_again(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector]
) -> None:
    driver().prepare(REQUEST)
    first = len([each for each in emulator.asked if each.startswith("SET")])
    driver().prepare(REQUEST)
    assert len([each for each in emulator.asked if each.startswith("SET")]) == first > 0


@pytest.mark.parametrize(
    ("trigger", "start", "each"), [("software", "5", "40"), ("position", "1", "1"), ("scan", "1", "40")]
)
def test_the_trigger_is_set(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector], trigger: Trigger, start: str, each: str
) -> None:
    driver(trigger_by=trigger).prepare(REQUEST)
    assert (emulator.values["TRIGGERSTART"], emulator.values["NUMFRAMESPERTRIGGER"]) == (start, each)


def test_dead_time_parts_the_frames_and_ends_continuous_reading(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector]
) -> None:
    detector = driver(facts_of(dead_time_us=1640.0), gap_timeout_s=1.0, first_frame_timeout_s=2.0)
    detector.prepare(REQUEST)
    assert (emulator.values["ACQUISITIONPERIOD"], emulator.values["CONTINUOUSRW"]) == ("2.140000", "0")
    source = detector.source()
    assert (source.gap_timeout_s, source.first_frame_timeout_s) == pytest.approx((1.00214, 2.00214))


def test_names_that_older_software_has_not_are_left_out(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector]
) -> None:
    for name in ("RUNHEADLESS", "CONTINUOUSRW", "ENABLECOUNTER1", "COLOURMODE", "IMAGEX", "IMAGEY"):
        del emulator.values[name]
    confirm("detector", REQUEST, driver().prepare(REQUEST))
    del emulator.values["COUNTERDEPTH"]
    with pytest.raises(DeviceFault, match=r"GET,COUNTERDEPTH .*no such name"):
        driver().prepare(REQUEST)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("COUNTERDEPTH", "6", "asked for COUNTERDEPTH = 12, it reads back 6"),
        ("ACQUISITIONTIME", "0.6", "asked for ACQUISITIONTIME = 0.5 ms, it reads back 0.6 ms"),
        ("ACQUISITIONPERIOD", "1.64", "asked for ACQUISITIONPERIOD = 0.5 ms, it reads back 1.64 ms"),
        ("NUMFRAMESTOACQUIRE", "41", "asked for NUMFRAMESTOACQUIRE = 40, it reads back 41"),
        ("COLOURMODE", "1", "asked for COLOURMODE = 0, it reads back 1"),
        ("TRIGGERSTART", "0", "asked for TRIGGERSTART = 5, it reads back 0"),
    ],
)
def test_what_reads_back_otherwise_is_not_confirmed(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector], name: str, value: str, message: str
) -> None:
    emulator.forced[name] = value
    detector = driver()
    with pytest.raises(NotConfirmed, match=message):
        detector.prepare(REQUEST)
    with pytest.raises(DeviceFault, match="before the exposure was prepared"):
        detector.source()


def test_times_that_the_detector_rounds_are_given_as_they_are(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector]
) -> None:
    emulator.forced["ACQUISITIONTIME"] = "0.500100"
    assert driver().prepare(REQUEST).exposure_time_us == pytest.approx(500.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detector": "quadro"}, "detector = 'quadro' is outside its limits .one of merlin"),
        ({"bit_depth": 8}, "bit_depth = 8 is outside its limits .one of 1, 6, 12, 24"),
        ({"shape": (16, 32)}, r"shape = \(16, 32\) is outside its limits .one of \(16, 64\)"),
    ],
)
def test_what_the_detector_of_the_file_cannot_do_is_refused_before_it_is_asked(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(LimitViolation, match=message):
        driver().prepare(asked(**changes))
    assert emulator.asked == []


def test_what_the_detector_refuses_is_a_limit(emulator: MerlinEmulator, driver: Callable[..., MerlinDetector]) -> None:
    emulator.script["SET,ACQUISITIONTIME"] = [3]
    with pytest.raises(LimitViolation, match=r"ACQUISITIONTIME = 0\.5 is outside its limits"):
        driver().prepare(REQUEST)


@pytest.mark.parametrize(
    ("name", "value", "facts", "error", "message"),
    [
        ("IMAGEX", "512", {}, DeviceFault, r"says IMAGEX = 512; the instrument file's merlin has 16 x 64 pixels"),
        ("IMAGEY", "all", {}, DeviceFault, "says IMAGEY = 'all', which it cannot be"),
        ("THRESHOLD0", "20.0", {"threshold_kev": 40.0}, NotConfirmed, "THRESHOLD0 = 40.0 keV, it reads back 20.0 keV"),
        ("DETECTORSTATUS", "nan", {}, DeviceFault, "says DETECTORSTATUS = 'nan'"),
    ],
)
def test_another_detector_than_the_files_is_refused(
    emulator: MerlinEmulator,
    driver: Callable[..., MerlinDetector],
    name: str,
    value: str,
    facts: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    emulator.values[name] = value
    with pytest.raises(error, match=message):
        driver(facts_of(**facts)).prepare(REQUEST)


def test_a_threshold_as_the_file_has_it_is_taken(driver: Callable[..., MerlinDetector]) -> None:
    confirm("detector", REQUEST, driver(facts_of(threshold_kev=40.0)).prepare(REQUEST))


def test_what_an_earlier_process_left_started_is_stopped_first(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector]
) -> None:
    emulator.values["DETECTORSTATUS"] = "1"
    confirm("detector", REQUEST, driver().prepare(REQUEST))
    assert next(each for each in emulator.asked if not each.startswith("GET")) == "CMD,STOPACQUISITION"
    assert emulator.values["DETECTORSTATUS"] == "0"


def test_calls_out_of_order_are_faults(driver: Callable[..., MerlinDetector]) -> None:
    detector = driver()
    with pytest.raises(DeviceFault, match="source was called before"):
        detector.source()
    with pytest.raises(DeviceFault, match="arm was called before"):
        detector.arm()
    with pytest.raises(DeviceFault, match="trigger was called but it is not armed"):
        detector.trigger()
    detector.prepare(REQUEST)
    with detector.source().open():
        detector.arm()
        with pytest.raises(DeviceFault, match="prepare was called while it is armed"):
            detector.prepare(REQUEST)
        with pytest.raises(DeviceFault, match="arm was called before a source of this exposure"):
            detector.arm()


@pytest.mark.parametrize(("how", "works"), [("done", True), ("gone", False)])
def test_an_arm_whose_answer_is_lost_is_looked_for_and_not_given_again(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector], how: str, works: bool
) -> None:
    detector = driver()
    detector.prepare(REQUEST)
    emulator.script["CMD,STARTACQUISITION"] = [how]
    with detector.source().open():
        if works:
            detector.arm()
        else:
            with pytest.raises(DeviceFault, match=r"was started, its answer was lost .* still has status 0, idle"):
                detector.arm()
    assert emulator.asked.count("CMD,STARTACQUISITION") == 1
    detector.ensure_stopped()
    assert emulator.values["DETECTORSTATUS"] == "0"


def test_a_trigger_whose_answer_is_lost_is_not_given_again_and_its_frames_come(emulator: MerlinEmulator) -> None:
    emulator.script["CMD,SOFTTRIGGER"] = ["done"]
    assert exposed(emulator, detector_of(emulator)).numbers == list(range(FRAMES))
    assert emulator.asked.count("CMD,SOFTTRIGGER") == 1


def test_a_trigger_that_is_refused_is_a_fault(emulator: MerlinEmulator, driver: Callable[..., MerlinDetector]) -> None:
    detector = driver()
    detector.prepare(REQUEST)
    emulator.script["CMD,SOFTTRIGGER"] = [2]
    with detector.source().open():
        detector.arm()
        with pytest.raises(DeviceFault, match=r"CMD,SOFTTRIGGER .* was refused with code 2"):
            detector.trigger()


def test_stopping_works_at_any_time_and_twice(emulator: MerlinEmulator, driver: Callable[..., MerlinDetector]) -> None:
    detector = driver()
    detector.ensure_stopped()
    detector.prepare(REQUEST)
    with detector.source().open():
        detector.arm()
        detector.ensure_stopped()
        detector.ensure_stopped()
    assert [each for each in emulator.asked if each.startswith("CMD")] == [
        "CMD,STARTACQUISITION",
        "CMD,STOPACQUISITION",
    ]
    assert detector.prepare(REQUEST) == REQUEST


def test_what_a_stop_does_not_end_is_aborted(emulator: MerlinEmulator, driver: Callable[..., MerlinDetector]) -> None:
    detector = driver()
    emulator.values["DETECTORSTATUS"] = "1"
    emulator.script["CMD,STOPACQUISITION"] = [2]
    detector.ensure_stopped()
    assert emulator.asked[-2:] == ["CMD,ABORT", "GET,DETECTORSTATUS"]


def test_a_detector_that_does_not_stop_or_is_gone_is_said(
    emulator: MerlinEmulator, driver: Callable[..., MerlinDetector]
) -> None:
    detector = driver()
    emulator.forced["DETECTORSTATUS"] = "1"
    with pytest.raises(DeviceFault, match=r"cannot be said to have stopped: its status is 1\. Stop it in Merlin"):
        detector.ensure_stopped()
    assert [each for each in emulator.asked if each.startswith("CMD")] == ["CMD,STOPACQUISITION", "CMD,ABORT"]
    emulator.script = {name: ["gone"] * 99 for name in ("GET,DETECTORSTATUS", "CMD,STOPACQUISITION", "CMD,ABORT")}
    with pytest.raises(DeviceFault, match=r"its status is None \(GET,DETECTORSTATUS at .*closed the connection"):
        detector.ensure_stopped()


def test_provenance_is_what_the_detector_says_and_what_its_last_acquisition_said(
    emulator: MerlinEmulator, tmp_path: Path
) -> None:
    kept = tmp_path / "merlin_header.txt"
    detector = detector_of(emulator, header_file=kept)
    before = {each.name: each for each in detector.snapshot()}
    assert not [name for name in before if name.startswith("header")]
    exposed(emulator, detector)
    there = {each.name: each for each in detector.snapshot()}
    detector.control.close()
    assert (there["softwareversion"].value, there["softwareversion"].source) == ("1.6.1", "measured")
    assert (there["counterdepth"].value, there["threshold0"].value, there["threshold0"].unit) == (12.0, 40.0, "keV")
    assert (there["fillmode"].value, there["hvbias"].unit) == (0.0, "V")
    assert "flatfieldfile" not in there
    assert (there["header_chip_id"].value, there["header_chip_id"].source) == ("W559_G11, - , - , -", "cached")
    assert there["header_gap_fill_mode"].value == "None"
    kept.write_bytes(b"overwritten by somebody")
    assert not [each for each in detector.snapshot() if each.name.startswith("header")]
    detector.control.close()
