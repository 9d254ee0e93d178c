"""Merlin's control connection over real sockets: answers by length, error codes, time-outs, lost answers."""

import socket
from typing import Any

import pytest

from devices.merlin.control import Merlin, NoAnswer, Refused
from stem4d.errors import DeviceFault, LimitViolation
from tests.devices.merlin_emulator import MerlinEmulator, prefixed
from tests.devices.simplon_world import Clock


def control_of(emulator: MerlinEmulator, **changes: Any) -> Merlin:
    """A connection whose pauses take no time."""
    clock = Clock()
    settings = {"sleep": clock.sleep, "jitter": lambda: 0.5, "monotonic": clock, **changes}
    return Merlin("127.0.0.1", emulator.control_port, **settings)


def test_values_are_read_and_written() -> None:
    with MerlinEmulator() as emulator:
        control = control_of(emulator)
        assert control.get("COUNTERDEPTH") == "12"
        control.set("COUNTERDEPTH", 6)
        control.set("ACQUISITIONTIME", 0.1234567)
        assert (control.get("COUNTERDEPTH"), control.get("ACQUISITIONTIME")) == ("6", "0.123457")
        assert control.get("DACFILE") == "c:\\cfg\\W1,A.dacs"
        assert control.known("NOSUCHNAME") is None
        control.close()
        assert control.get("COUNTERDEPTH") == "6"
        control.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [(2, "code 2: it knows no such name"), (3, "code 3: the value is out of range"), (9, "code 9: an error")],
)
def test_a_code_is_an_error_that_names_question_and_meaning(code: int, words: str) -> None:
    with MerlinEmulator() as emulator:
        control = control_of(emulator)
        emulator.script["CMD,STARTACQUISITION"] = [code]
        with pytest.raises(Refused, match=f"CMD,STARTACQUISITION at 127.0.0.1:.* was refused with {words}"):
            control.command("STARTACQUISITION")
        control.close()


def test_a_value_out_of_range_is_a_limit() -> None:
    with MerlinEmulator() as emulator:
        control = control_of(emulator)
        with pytest.raises(LimitViolation, match="COUNTERDEPTH = 8 is outside its limits"):
            control.set("COUNTERDEPTH", 8)
        with pytest.raises(Refused, match="no such name"):
            control.set("NOSUCHNAME", 8)
        assert control.get("COUNTERDEPTH") == "12"
        control.close()


def test_a_busy_detector_is_asked_again_for_a_while() -> None:
    clock = Clock()
    with MerlinEmulator() as emulator:
        control = control_of(emulator, sleep=clock.sleep, monotonic=clock)
        emulator.script["SET,COUNTERDEPTH"] = [1, 1]
        control.set("COUNTERDEPTH", 6)
        assert emulator.asked.count("SET,COUNTERDEPTH,6") == 3
        emulator.script["CMD,STOPACQUISITION"] = [1] * 100
        with pytest.raises(Refused, match="code 1: it is busy"):
            control.command("STOPACQUISITION")
        assert sum(clock.slept) == pytest.approx(2 * 0.2 + 3.0, abs=0.3)
        control.close()


@pytest.mark.parametrize(
    "how", ["gone", "silent", prefixed(b"GET,OTHER,5,0"), b"MPX,0000000099,short", b"HTTP/1.1 400 Bad"]
)
def test_a_read_whose_answer_is_lost_is_asked_again(how: str | bytes) -> None:
    with MerlinEmulator() as emulator:
        control = Merlin("127.0.0.1", emulator.control_port, answer_timeout_s=0.2, sleep=lambda _: None)
        emulator.script["GET,COUNTERDEPTH"] = [how, how]
        assert control.get("COUNTERDEPTH") == "12"
        assert emulator.asked == ["GET,COUNTERDEPTH"] * 3
        control.close()


@pytest.mark.parametrize(
    "how", ["gone", "done", "silent", prefixed(b"GET,COUNTERDEPTH,6,0"), prefixed(b"SET,COUNTERDEPTH,x")]
)
def test_a_write_or_command_whose_answer_is_lost_is_not_given_again(how: str | bytes) -> None:
    with MerlinEmulator() as emulator:
        control = Merlin("127.0.0.1", emulator.control_port, answer_timeout_s=0.2, sleep=lambda _: None)
        emulator.script["SET,COUNTERDEPTH"] = [how]
        with pytest.raises(NoAnswer, match="SET,COUNTERDEPTH,6 at"):
            control.set("COUNTERDEPTH", 6)
        assert emulator.asked == ["SET,COUNTERDEPTH,6"]
        # What comes of the old connection later is not taken for the answer to this.
        assert control.get("COUNTERDEPTH") == ("6" if how in ("done", "silent") else "12")
        control.close()


def test_a_detector_that_drips_is_not_waited_for() -> None:
    clock = Clock()

    def ticking() -> float:
        clock.now_s += 2.5
        return clock.now_s

    with MerlinEmulator() as emulator:
        control = Merlin("127.0.0.1", emulator.control_port, sleep=lambda _: None, monotonic=ticking)
        emulator.script["CMD,ABORT"] = [b"MPX,0000"]
        # The third look, when the first bytes are there, is 5 s after the question.
        with pytest.raises(NoAnswer, match=r"8 of 15 bytes came.*5 s were allowed"):
            control.command("ABORT")
        control.close()


def test_nobody_there_is_said_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    control = Merlin("127.0.0.1", port, sleep=lambda _: None)
    with pytest.raises(DeviceFault, match=f"GET,DETECTORSTATUS at 127.0.0.1:{port}: no answer .ConnectionRefused"):
        control.get("DETECTORSTATUS")
