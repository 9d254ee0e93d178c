"""The night waits, beam blanked, until conditions have been good for the settle time; or ends with what was wrong."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from devices.protocols import Reading
from devices.simulator.instrument import open_here
from flows.conditions import LOOK_S, MOST_LIT_S, Waiting, answers, wanted, wrong
from flows.night import run_night
from flows.resume import left_of
from stem4d.errors import DeviceFault
from stem4d.instrument import InstrumentFile
from stem4d.night import Conditions
from storage.documents import load_model
from tasks.lab import Lab
from tests.flows.going_world import Played, a_night, states, story
from tests.flows.night_world import INSTRUMENT, small_lab

Values = dict[str, float]


class Bench:
    """A lab whose gauges follow a function of the instrument's time."""

    def __init__(self, folder: Path, gauges: Callable[[float], Values], reserve_gb: float = 0.0) -> None:
        self.now_s, self.blanked, self.told, self.shown = 0.0, 0, cast(list[str], []), cast(list[str], [])
        self.gauges = gauges
        self.dark, self.answers_at_s, self.shut = False, 0.0, 0
        self.settings = SimpleNamespace(data_folder=folder, disk_reserve_gb=reserve_gb, notify=())
        self.file = SimpleNamespace(name="bench")
        self.instrument = SimpleNamespace(
            column=SimpleNamespace(snapshot=self.snapshot),
            detector=SimpleNamespace(),
            gate=SimpleNamespace(blank=self.blank, is_blanked=lambda: self.dark),
            valves=SimpleNamespace(close=self.close),
            scan=SimpleNamespace(ensure_stopped=lambda: None),
            pause=self.pause,
        )

    @property
    def lab(self) -> Lab:
        return cast(Lab, self)

    def snapshot(self) -> tuple[Reading, ...]:
        now = datetime.now(UTC)
        return tuple(Reading(name, value, "", now, "measured") for name, value in self.gauges(self.now_s).items())

    def blank(self) -> None:
        self.blanked += 1
        if self.now_s < self.answers_at_s:
            raise DeviceFault("the column does not answer")
        self.dark = True

    def close(self) -> None:
        self.shut += 1
        raise DeviceFault("the valves do not answer")

    def show(self, _kind: str, message: str) -> None:
        self.told.append(message)

    def pause(self, seconds: float) -> None:
        self.now_s += seconds

    def tell(self, _kind: str, message: str, *_more: Any, **_figures: Any) -> None:
        self.told.append(message)

    def wait(self, conditions: Conditions, ask: Callable[[], str] = lambda: "") -> str:
        return Waiting(self.lab, conditions, ask, self.shown.append).until_good()


def until(end_s: float, bad: Values, good: Values) -> Callable[[float], Values]:
    return lambda now_s: bad if now_s < end_s else good


BAD, GOOD = {"vacuum_pascal": 1e-2}, {"vacuum_pascal": 1e-6}
LIMIT = Conditions(vacuum_pascal=1e-4)


def test_nothing_waits_where_all_is_good_or_cannot_be_told(tmp_path: Path) -> None:
    assert Bench(tmp_path, lambda _: GOOD).wait(LIMIT) == ""
    bench = Bench(tmp_path, lambda _: {})
    assert bench.wait(Conditions(vacuum_pascal=1e-9, emission_ua=100.0, cryo_fill=True)) == ""
    assert (bench.blanked, bench.told, bench.shown) == (0, [], [])


def test_it_waits_blanked_until_it_has_been_good_for_the_settle_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path, until(100, BAD, GOOD))
    assert bench.wait(LIMIT) == ""
    assert bench.blanked == 1
    # The first good look is at 100 s: it is as good as since the look before.
    assert bench.now_s == 100 + 60 - LOOK_S
    assert bench.told[0] == "the vacuum is 0.01 Pa, and 0.0001 Pa is the limit; the night waits, beam blanked"
    assert bench.told[1] == "all is good again since 1 min, after 2.58 min of waiting"
    assert bench.shown[-1] == ""


def test_nothing_is_good_while_the_beam_may_be_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, until(20, BAD, GOOD))
    bench.answers_at_s = 40.0
    assert bench.wait(LIMIT) == ""
    # Bad for 20 s and lit for 40; the look that saw it dark is the first good one.
    assert bench.dark
    assert bench.now_s == 40.0 + LIMIT.settle_s - LOOK_S
    assert "THE BEAM MAY STILL BE ON" in bench.told[0]
    assert bench.told[1] == "the beam is blanked, after 40 s"
    assert bench.shut == bench.blanked - 1


def test_a_beam_that_cannot_be_blanked_ends_the_night(tmp_path: Path) -> None:
    bench = Bench(tmp_path, until(20, BAD, GOOD))
    bench.answers_at_s = 1e9
    ended = bench.wait(LIMIT)
    assert "THE BEAM MAY STILL BE ON" in ended
    assert bench.now_s == MOST_LIT_S


def test_what_gets_bad_again_within_the_settle_time_is_waited_for_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda now_s: BAD if now_s < 50 or 80 <= now_s < 90 else GOOD)
    assert bench.wait(LIMIT) == ""
    assert bench.now_s == 90 + 60 - LOOK_S


def test_it_is_given_up_with_the_cause_at_the_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda _: BAD)
    why = bench.wait(Conditions(vacuum_pascal=1e-4, wait_at_most_min=10.0))
    assert why == "waited 10 min in vain: the vacuum is 0.01 Pa, and 0.0001 Pa is the limit"
    assert bench.now_s == 600


def test_a_gauge_that_does_not_answer_is_not_good_also_where_nobody_asked_for_answers(tmp_path: Path) -> None:
    def silent(now_s: float) -> Values:
        if now_s < 50:
            raise DeviceFault("no reply")
        return GOOD

    bench = Bench(tmp_path, silent)
    assert bench.wait(Conditions(vacuum_pascal=1e-4, network=False)) == ""
    assert bench.told[0] == "bench does not answer: no reply; the night waits, beam blanked"


def test_a_person_ends_the_wait(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda _: BAD)
    assert bench.wait(LIMIT, lambda: "stopped by a person" if bench.now_s >= 20 else "") == "stopped by a person"
    assert bench.now_s == 20


@pytest.mark.parametrize(
    ("conditions", "gauges", "words"),
    [
        (Conditions(vacuum_pascal=1e-4), {"vacuum_pascal": 1.01e-4}, "the vacuum is 0.000101 Pa"),
        (Conditions(vacuum_pascal=1e-4), {"vacuum_pascal": 1e-4}, ""),
        (Conditions(emission_ua=5.0), {"emission_ua": 4.9}, "the emission is 4.9 µA, and 5 µA is the least"),
        (Conditions(emission_ua=5.0), {"emission_ua": 5.0}, ""),
        (Conditions(cryo_fill=True), {"cryo_fill_s": 300.0}, "a cryo fill goes on for 5 min"),
        (Conditions(cryo_fill=True), {"cryo_fill_s": 0.0}, ""),
        (Conditions(), {"vacuum_pascal": 1e5, "emission_ua": 0.0, "cryo_fill_s": 9.0}, ""),
    ],
)
def test_each_condition_at_its_limit(tmp_path: Path, conditions: Conditions, gauges: Values, words: str) -> None:
    said = wrong(Bench(tmp_path, lambda _: gauges).lab, wanted(conditions))
    assert said.startswith(words)
    assert bool(said) == bool(words)


def test_a_disk_at_its_reserve_and_a_line_that_is_dead_are_told(tmp_path: Path) -> None:
    full = Bench(tmp_path, lambda _: {}, reserve_gb=1e6)
    assert "1e+06 GB are its reserve: make room" in wrong(full.lab, wanted(Conditions()))
    next_too = wrong(Bench(tmp_path, lambda _: {}).lab, wanted(Conditions(), next_bytes=10**15))
    assert "0 GB are its reserve and 1e+06 GB what comes next: make room" in next_too
    dead = Bench(tmp_path, lambda _: {})

    def snapshot() -> tuple[Reading, ...]:
        raise DeviceFault("no answer")

    dead.instrument.column.snapshot = snapshot
    assert answers(dead.lab) == "bench does not answer: no answer"


def test_a_scheduled_trip_of_the_vacuum_is_read_by_the_column(tmp_path: Path) -> None:
    file = load_model(INSTRUMENT, InstrumentFile)
    trip = {"at_s": 100.0, "until_s": 400.0, "knob": "supply.vacuum_pascal", "value": 1e-2}
    tripping = file.model_copy(update={"settings": {**file.settings, "schedule": [trip]}})
    instrument = open_here(tripping, tmp_path)
    read = []
    for _ in range(3):
        read.append(next(one.value for one in instrument.column.snapshot() if one.name == "vacuum_pascal"))
        instrument.pause(200)
    instrument.close()
    assert read == [2e-6, 1e-2, 2e-6]


def test_a_night_ends_with_the_true_cause_and_goes_on_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.night.write_night", lambda *_: None)
    with small_lab(tmp_path) as opened:
        # The simulator's gauge stands at 2e-6 Pa for good.
        night, queued = a_night({}, {}, conditions={"vacuum_pascal": 1e-6, "wait_at_most_min": 5.0})
        played = Played(opened)
        monkeypatch.setattr("flows.night.run_target", played)
        run_night(opened, night, queued, with_prefect=False)
        assert played.ran == []
        cause = "waited 5 min in vain: the vacuum is 2e-06 Pa, and 1e-06 Pa is the limit"
        assert states(opened) == {"t0": ("skipped", cause), "t1": ("skipped", cause)}
        told = story(opened)
        left = left_of(opened, night, queued)
    assert left is not None
    assert [one.open for one in left.targets] == [True, True]
    assert (told["state"], told["exit_reason"]) == ("stopped", f"2 skipped; {cause}")
