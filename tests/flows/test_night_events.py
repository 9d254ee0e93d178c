"""What is scheduled beside a night's targets takes its time, once for each time it was due, and spoils calibrations."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.calibrations import SPOILED
from db.engine import reader
from db.questions.night import night_story
from flows.events import Events
from flows.night import run_night
from stem4d.night import Event
from tasks.calibrations.standing import standings
from tasks.lab import Lab
from tests.flows.going_world import Played, a_night, done
from tests.flows.night_world import small_lab

FLASH = Event(name="gun-flash", at_h=1.0, every_h=2.0, takes_min=10.0)


class Bench:
    """A lab with a clock and a beam, and nothing else."""

    def __init__(self) -> None:
        self.now_s, self.blanked, self.told, self.shown = 0.0, 0, cast(list[str], []), cast(list[str], [])
        self.instrument = SimpleNamespace(gate=SimpleNamespace(blank=self.blank), pause=self.pause)

    def blank(self) -> None:
        self.blanked += 1

    def pause(self, seconds: float) -> None:
        self.now_s += seconds

    def tell(self, kind: str, message: str, *_more: Any, **_figures: Any) -> None:
        self.told.append(f"{kind}: {message}")

    def events(self, *events: Event, ask: Callable[[], str] = lambda: "") -> Events:
        return Events(cast(Lab, self), events, lambda: self.now_s / 3600, ask, self.shown.append)


def test_an_event_takes_its_time_with_the_beam_blanked_when_it_is_due() -> None:
    bench = Bench()
    events = bench.events(FLASH)
    events.take_place()
    assert (bench.now_s, bench.blanked, bench.told) == (0, 0, [])
    bench.now_s = 3600
    events.take_place()
    assert (bench.now_s, bench.blanked) == (3600 + 600, 1)
    assert bench.told == ["event: gun-flash: the night waits 10 min"]
    assert bench.shown == ["gun-flash", ""]
    events.take_place()
    assert bench.now_s == 3600 + 600


def test_what_was_due_twice_takes_place_once() -> None:
    bench = Bench()
    events = bench.events(FLASH)
    bench.now_s = 3.5 * 3600
    events.take_place()
    events.take_place()
    assert bench.now_s == 3.5 * 3600 + 600


def test_a_person_ends_the_wait() -> None:
    bench = Bench()
    bench.now_s = 3600
    bench.events(FLASH, ask=lambda: "stopped" if bench.now_s >= 3620 else "").take_place()
    assert bench.now_s == 3620


@given(at=st.floats(0, 10), every=st.floats(0.1, 10), hours=st.floats(0, 100))
def test_an_event_is_due_at_its_hours(at: float, every: float, hours: float) -> None:
    times = Event(name="e", at_h=at, every_h=every).times(hours)
    # A part in 1e9 is more than rounding makes of the division.
    assert times == 0 or at + (times - 1) * every <= hours + 1e-9 * (1 + hours)
    assert at + times * every >= hours - 1e-9 * (1 + hours)
    assert Event(name="e", at_h=at).times(hours) == (hours >= at)


@pytest.mark.slow
def test_calibrations_that_an_event_spoils_are_measured_again_in_later_sessions_too(tmp_path: Path) -> None:
    event = {"name": "gun-flash", "at_h": 0.0, "spoils": ["current"]}
    with small_lab(tmp_path) as opened:
        night, queued = a_night({}, {})
        run_night(opened, night, queued, with_prefect=False)
        before = standings(opened, queued[0].plan, ("current", "centre"))
        assert {one.state for one in before.values()} == {"valid"}
        later, queued = a_night({}, events=[event])
        seen: dict[str, str] = {}

        def ends(name: str, lab: Lab) -> Any:
            seen.update(
                {kind: one.state for kind, one in standings(lab, queued[0].plan, ("current", "centre")).items()}
            )
            return done(name, lab)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("flows.night.run_target", Played(opened, ends))
            run_night(opened, later, queued, with_prefect=False)
        with reader(opened.engine) as session:
            told = [one["kind"] for one in night_story(session)["events"]]
        assert told.count(SPOILED) == 1
        assert seen == {"current": "expired", "centre": "valid"}
    with small_lab(tmp_path) as opened:
        after = standings(opened, queued[0].plan, ("current",))["current"]
    assert after.state == "expired"
    assert "gun-flash at" in after.why
