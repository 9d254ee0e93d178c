"""The ladder: every step is attempted whatever became of the others, and signals wait until it has ended."""

import os
import signal
from collections.abc import Callable, Iterator
from itertools import chain, combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from devices import interrupts
from devices.protocols import Instrument
from devices.safety import BLANK, SHUT, SafeLevel, make_safe
from devices.safety_log import FILE, record, told, untold
from stem4d.errors import DeviceFault

STEPS = ("blank", "is_blanked", "valves", "scan", "detector")
SUBSETS = tuple(chain.from_iterable(combinations(STEPS, many) for many in range(len(STEPS) + 1)))


def instrument(failing: tuple[str, ...], done: list[str]) -> Instrument:
    """Parts that note what is asked of them, and fail where they are told to."""

    def step(name: str) -> Callable[[], bool]:
        def act() -> bool:
            done.append(name)
            if name in failing:
                raise DeviceFault(f"{name} failed")
            return True

        return act

    parts = SimpleNamespace(
        gate=SimpleNamespace(blank=step("blank"), is_blanked=step("is_blanked")),
        valves=SimpleNamespace(close=step("valves")),
        scan=SimpleNamespace(ensure_stopped=step("scan")),
        detector=SimpleNamespace(ensure_stopped=step("detector")),
    )
    return cast(Instrument, parts)


@pytest.mark.parametrize("failing", SUBSETS)
def test_every_subset_of_failing_steps_leaves_the_others_attempted(failing: tuple[str, ...]) -> None:
    done: list[str] = []
    report = make_safe(instrument(failing, done), SafeLevel.PARK, "test")
    unblanked = bool({"blank", "is_blanked"} & set(failing))
    wanted = ["blank", *(["is_blanked"] if "blank" not in failing else []), *(["valves"] if unblanked else [])]
    assert done == [*wanted, "scan", "detector"]
    tried = set(failing) & set(done)
    assert len([step for step in report.steps if step.error]) == len(tried)
    assert all(f"{name} failed" in report.words for name in tried)
    assert report.safe is (not tried)
    assert report.beam_off is not (unblanked and "valves" in failing)
    assert report.words.startswith("THE BEAM MAY STILL BE ON") is not report.beam_off


def test_valves_are_closed_where_the_blanker_does_not_work_and_else_only_to_shelter() -> None:
    class Stuck:
        def blank(self) -> None: ...

        def is_blanked(self) -> bool:
            return False

    done: list[str] = []
    stuck = instrument((), done)
    cast(Any, stuck).gate = Stuck()
    report = make_safe(stuck, SafeLevel.HOLD, "test")
    assert [step.name for step in report.steps] == [BLANK, SHUT, "stop the scan"]
    assert "still reports the beam on" in report.words
    assert report.beam_off
    for level in SafeLevel:
        done.clear()
        assert make_safe(instrument((), done), level, "test").safe
        assert ("valves" in done) is (level is SafeLevel.SHELTER)
        assert ("detector" in done) is (level >= SafeLevel.PARK)


def test_reports_are_told_once_and_survive_a_torn_line(tmp_path: Path) -> None:
    report = make_safe(instrument(("detector",), []), SafeLevel.PARK, "its owner died")
    assert untold(tmp_path) == ()
    assert record(tmp_path, "watchdog", report) == ""
    with (tmp_path / FILE).open("a") as file:
        file.write('{"event": "made s')
    assert record(tmp_path, "watchdog", report) == ""
    assert record(tmp_path, "owner", report) == ""
    words = untold(tmp_path)
    assert len(words) == 2
    assert "because its owner died: the beam was off" in words[0]
    assert "disarm the detector: detector failed" in words[0]
    assert told(tmp_path) == ""
    assert untold(tmp_path) == ()
    assert "could not be written" in record(tmp_path / FILE, "watchdog", report)


class Twice(BaseException):
    """What SIGTERM is made to raise here."""


@pytest.fixture
def heard() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interrupts.listen(interrupted=KeyboardInterrupt, terminated=Twice)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("heard")
def test_a_signal_waits_until_the_instrument_is_safe_and_a_second_one_is_acted_on_at_once() -> None:
    done: list[str] = []
    stubborn = instrument((), done)
    blank = stubborn.gate.blank

    def blank_slowly() -> None:
        for number in (signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        blank()

    cast(Any, stubborn.gate).blank = blank_slowly
    with interrupts.at_once(lambda: done.append("at once")), pytest.raises(Twice):
        make_safe(stubborn, SafeLevel.PARK, "test")
    assert done == ["at once", "blank", "is_blanked", "scan", "detector"]


@pytest.mark.usefixtures("heard")
def test_signals_are_heard_where_somebody_else_took_them() -> None:
    def prefect(*_: object) -> None:
        raise AssertionError("not heard")

    signal.signal(signal.SIGTERM, prefect)
    with pytest.raises(Twice), interrupts.listening():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is prefect
