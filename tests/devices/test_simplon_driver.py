"""The driver against a scripted control unit: what is written in which order, states that are looked at, refusals."""

import httpx
import numpy as np
import pytest

from devices.simplon.configure import writes
from devices.simplon.driver import SimplonDetector
from devices.simplon.stream import SimplonStream
from stem4d.errors import DeviceFault, LimitViolation, NotConfirmed
from tasks.column import confirm
from tests.devices.simplon_world import (
    FACTS,
    REQUEST,
    SHAPE,
    Clock,
    FakeUnit,
    detector_of,
    rest_of,
    status,
    valued,
)


def armed(unit: FakeUnit, clock: Clock | None = None) -> SimplonDetector:
    """A detector that is armed, its calls forgotten."""
    detector = detector_of(unit, clock)
    detector.prepare(REQUEST)
    detector.source()
    detector.arm()
    unit.calls.clear()
    return detector


def test_what_is_prepared_is_written_and_read_back() -> None:
    unit = FakeUnit()
    confirm("detector", REQUEST, detector_of(unit).prepare(REQUEST))
    there = unit.values["detector"]
    assert (there["trigger_mode"], there["nimages"], there["ntrigger"]) == ("ints", 12, 1)
    assert (there["roi_bit_depth"], there["auto_summation"], there["compression"]) == (16, False, "bslz4")
    assert there["count_time"] == pytest.approx(1e-4)
    assert there["frame_time"] == pytest.approx(1.001e-4)
    stream = unit.values["stream"]
    assert (stream["format"], stream["header_detail"], stream["mode"]) == ("cbor", "all", "enabled")
    assert len(stream["header_appendix"]) == 32


def test_the_order_of_writes_is_one_that_a_detector_bears() -> None:
    names = [write.key for write in writes(FACTS, REQUEST, "software", "t", 1e-4)]
    assert names[:2] == ["roi_mode", "roi_bit_depth"]
    assert names.index("trigger_mode") == 4
    assert names[2:4] == ["ntrigger", "nimages"]
    assert names[5:7] == ["nimages", "ntrigger"]
    assert names.index("count_time") + 1 == names.index("frame_time")
    assert names[-1] == "mode"


@pytest.mark.parametrize(("trigger", "numbers"), [("software", (12, 1)), ("scan", (12, 1)), ("position", (1, 12))])
def test_frames_are_images_or_triggers(trigger: str, numbers: tuple[int, int]) -> None:
    unit = FakeUnit()
    assert detector_of(unit, trigger_by=trigger).prepare(REQUEST).frames == 12
    there = unit.values["detector"]
    assert (there["nimages"], there["ntrigger"]) == numbers
    assert there["trigger_mode"] == ("ints" if trigger == "software" else "exts")


def test_keys_that_a_detector_does_not_have_are_left_out() -> None:
    unit = FakeUnit()
    for key in ("roi_mode", "roi_bit_depth", "auto_summation"):
        del unit.values["detector"][key]
    confirm("detector", REQUEST, detector_of(unit).prepare(REQUEST))


def test_a_source_says_what_was_resolved() -> None:
    unit = FakeUnit()
    unit.values["detector"]["bit_depth_image"] = 32
    detector = detector_of(unit, gap_timeout_s=5.0)
    assert detector.prepare(REQUEST).bit_depth == 32
    source = detector.source()
    assert isinstance(source, SimplonStream)
    assert (source.host, source.port, source.frames, source.detector_shape) == ("dcu", 31001, 12, SHAPE)
    assert source.dtype == "uint32"
    assert source.token == unit.values["stream"]["header_appendix"]
    assert source.gap_timeout_s == pytest.approx(5.0001001)
    detector.prepare(REQUEST)
    assert detector.source().token != source.token


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detector": "ela"}, "detector = 'ela' is outside its limits .one of arina"),
        ({"bit_depth": 12}, "bit_depth = 12 is outside its limits .one of 8, 16, 32"),
        ({"shape": (4, 4)}, r"shape = \(4, 4\) px is outside its limits .4 x 6, or 2 x 3 merged"),
        ({"exposure_time_us": 49.0}, "exposure_time_us = 49.0 us is outside its limits .at least 49.9 at 20000 frames"),
        ({"exposure_time_us": 2e9 + 1}, r"detector: count_time = 2000.0\d* s is outside its limits .1e-06 to 1800"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_written(changes: dict[str, object], message: str) -> None:
    unit = FakeUnit()
    with pytest.raises(LimitViolation, match=message):
        detector_of(unit).prepare(REQUEST.model_copy(update=changes))
    assert unit.values["detector"]["count_time"] == 1.0


def test_another_array_than_the_files_is_a_fault_with_both() -> None:
    unit = FakeUnit()
    unit.values["detector"]["x_pixels_in_detector"] = 8
    with pytest.raises(DeviceFault, match=r"has 4 x 8 pixels \(y, x\); the instrument file's arina has 4 x 6"):
        detector_of(unit).prepare(REQUEST)
    assert not [call for call in unit.calls if call.startswith("PUT")]


def test_merged_pixels_are_read_out_and_the_next_exposure_may_be_whole_again() -> None:
    unit = FakeUnit()
    detector = detector_of(unit)
    merged = REQUEST.model_copy(update={"shape": (2, 3)})
    confirm("detector", merged, detector.prepare(merged))
    assert unit.values["detector"]["roi_mode"] == "merge2x2"
    assert detector.source().detector_shape == (2, 3)
    confirm("detector", REQUEST, detector.prepare(REQUEST))
    assert unit.values["detector"]["roi_mode"] == "disabled"


def test_a_value_that_does_not_stay_is_not_confirmed() -> None:
    unit = FakeUnit()
    unit.script["config/compression"] = [valued("lz4"), valued(["compression"]), valued("lz4")]
    with pytest.raises(NotConfirmed, match=r"asked for compression = 'bslz4', it reads back 'lz4'$"):
        detector_of(unit).prepare(REQUEST)


def test_a_frame_time_that_is_not_the_one_asked_for_is_not_confirmed() -> None:
    unit = FakeUnit()
    unit.script["config/frame_time"] = [valued(0.1), valued([]), valued(0.1), valued(0.1)]
    unit.script["config/count_time"] = [valued(1.0), valued([])]
    with pytest.raises(NotConfirmed, match=r"frame_time = 0\.0001001\d* s, it reads back 0\.1 s$"):
        detector_of(unit).prepare(REQUEST)


def test_arming_looks_at_the_state() -> None:
    unit = FakeUnit()
    armed(unit)
    assert unit.state == "ready"


def test_arming_waits_for_a_detector_that_is_still_busy_and_looks_five_times_a_second() -> None:
    unit, clock = FakeUnit(), Clock()
    detector = detector_of(unit, clock)
    detector.prepare(REQUEST)
    detector.source()
    unit.script["status/state"] = [valued("configure")] * 40
    detector.arm()
    assert clock.slept == [0.2] * 40


def test_a_lost_answer_to_arm_is_not_asked_for_again_but_the_state_read() -> None:
    unit = FakeUnit()
    detector = detector_of(unit)
    detector.prepare(REQUEST)
    detector.source()

    def lost(_request: httpx.Request) -> httpx.Response:
        unit.state = "ready"
        raise httpx.ReadTimeout("no answer")

    unit.script["command/arm"] = [lost]
    detector.arm()
    assert unit.calls.count("PUT detector command/arm") == 1


@pytest.mark.parametrize(("state", "waited_s"), [("idle", 5.0), ("error", 0.0), ("configure", 120.0)])
def test_a_detector_that_is_not_armed_is_a_fault(state: str, waited_s: float) -> None:
    unit, clock = FakeUnit(), Clock()
    detector = detector_of(unit, clock)
    detector.prepare(REQUEST)
    detector.source()

    def lost(_request: httpx.Request) -> httpx.Response:
        unit.state = state
        raise httpx.ReadTimeout("no answer")

    unit.script["command/arm"] = [lost]
    with pytest.raises(DeviceFault, match=rf"its answer was lost .*in state {state}, not ready.*recovery"):
        detector.arm()
    assert sum(clock.slept) == pytest.approx(waited_s, abs=0.21)  # one look
    assert unit.calls.count("PUT detector command/arm") == 1


def test_arm_is_refused_without_a_source_and_prepare_while_armed() -> None:
    unit = FakeUnit()
    detector = detector_of(unit)
    with pytest.raises(DeviceFault, match="source was called before"):
        detector.source()
    detector.prepare(REQUEST)
    with pytest.raises(DeviceFault, match="arm was called before a source"):
        detector.arm()
    with pytest.raises(DeviceFault, match="trigger was called but it is not armed"):
        detector.trigger()
    detector.source()
    detector.arm()
    with pytest.raises(DeviceFault, match="prepare was called while it is armed"):
        detector.prepare(REQUEST)


def test_what_an_earlier_process_left_armed_is_stopped_first() -> None:
    unit = FakeUnit()
    unit.state = "ready"
    detector_of(unit).prepare(REQUEST)
    commands = [call for call in unit.calls if "command" in call]
    assert commands == ["PUT detector command/cancel", "PUT detector command/disarm"]


@pytest.mark.parametrize("state", ["na", "error"])
def test_a_detector_that_is_not_initialised_is_a_fault_and_is_left_alone(state: str) -> None:
    unit = FakeUnit()
    unit.state = state
    with pytest.raises(DeviceFault, match=f"state {state}.*recovery"):
        detector_of(unit).prepare(REQUEST)
    assert not [call for call in unit.calls if call.startswith("PUT")]


def test_a_trigger_whose_answer_is_lost_is_believed_if_the_state_says_so() -> None:
    unit = FakeUnit()
    detector = armed(unit)
    unit.script["command/trigger"] = [httpx.ReadTimeout("late"), httpx.ReadTimeout("late")]
    with pytest.raises(DeviceFault, match=r"was triggered, its answer was lost .*in state ready"):
        detector.trigger()
    unit.state = "acquire"
    detector.trigger()
    assert unit.calls.count("PUT detector command/trigger") == 2


def test_stopping_cancels_then_disarms_and_again_does_nothing() -> None:
    unit = FakeUnit()
    detector = armed(unit)
    unit.state = "acquire"
    detector.ensure_stopped()
    commands = [call for call in unit.calls if "command" in call]
    assert commands == ["PUT detector command/cancel", "PUT detector command/disarm"]
    detector.ensure_stopped()
    assert [call for call in unit.calls if "command" in call] == commands
    detector.prepare(REQUEST)


def test_stopping_goes_on_when_cancel_fails_and_says_when_it_did_not_help() -> None:
    unit = FakeUnit()
    detector = armed(unit)
    unit.script["command/cancel"] = [status(500, "no")]
    detector.ensure_stopped()
    assert unit.state == "idle"
    unit.state = "acquire"
    unit.script["command/disarm"] = [status(500, "board 3 does not answer")]
    with pytest.raises(DeviceFault, match=r"was stopped .*board 3 does not answer.*in state acquire"):
        detector.ensure_stopped()


@pytest.mark.parametrize(
    ("restart", "expected"),
    [
        (False, ["detector command/abort", "detector command/initialize", "stream command/initialize"]),
        (
            True,
            [
                "detector command/abort",
                "system command/restart",
                "detector command/initialize",
                "stream command/initialize",
            ],
        ),
    ],
)
def test_recovery_is_a_step_of_its_own(restart: bool, expected: list[str]) -> None:
    unit = FakeUnit()
    unit.state = "error"
    detector = detector_of(unit)
    detector.recover(restart=restart)
    assert [call for call in unit.calls if "command" in call] == [f"PUT {command}" for command in expected]
    detector.prepare(REQUEST)


def test_recovery_whose_last_answer_is_lost_is_not_believed() -> None:
    unit = FakeUnit()
    detector = detector_of(unit)

    def initialised(request: httpx.Request) -> httpx.Response:
        if "/stream/" in request.url.path:
            raise httpx.ReadTimeout("no answer")
        unit.state = "idle"
        return httpx.Response(200)

    unit.script["command/initialize"] = [initialised, initialised]
    with pytest.raises(DeviceFault, match=r"PUT /stream/api/1\.8\.0/command/initialize .*no answer"):
        detector.recover()


def test_provenance_is_what_the_detector_knows_of_itself() -> None:
    unit = FakeUnit()
    there = detector_of(unit).provenance()
    values = {reading.name: (reading.value, reading.unit, reading.source) for reading in there.readings}
    assert values["description"] == ("Arina", "", "measured")
    assert values["count_time"] == (1.0, "s", "measured")
    assert values["threshold_1_energy"] == (40000.0, "", "measured")
    assert values["auto_summation"][0] is True
    assert "saturation_value" not in values
    assert there.pixel_mask is not None
    assert there.pixel_mask.shape == SHAPE
    expected = np.zeros(SHAPE, np.uint32)
    expected[0, 1] = 1
    np.testing.assert_array_equal(there.pixel_mask, expected)
    del unit.values["detector"]["pixel_mask"]
    assert detector_of(unit).provenance().pixel_mask is None


def test_reading_provenance_writes_nothing() -> None:
    unit = FakeUnit()
    detector_of(unit).provenance()
    assert {call.split()[0] for call in unit.calls} == {"GET"}
    assert rest_of(unit).get("description").writable is False
