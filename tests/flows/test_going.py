"""The loop of a night: who is next, who no longer fits, spares, orders of a person, and going on after a stop."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from flows.control import Control
from flows.night import run_night
from flows.resume import left_of
from flows.run import Outcome
from stem4d.night import TargetState
from storage import orders
from tasks.lab import Lab
from tests.flows.going_world import Ends, Played, a_night, done, states, story
from tests.flows.night_world import small_lab

Play = Callable[..., Played]
OTHER_LENGTH = ("optics.camera_length_mm=188.6",)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with small_lab(tmp_path_factory.mktemp("going")) as opened:
        yield opened


@pytest.fixture
def play(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr("flows.night.write_night", lambda *_: None)

    def played(ends: Ends = done) -> Played:
        one = Played(lab, ends)
        monkeypatch.setattr("flows.night.run_target", one)
        return one

    return played


def folder(lab: Lab) -> Path:
    return lab.settings.instruments_folder / lab.file.name


def test_targets_of_one_setting_come_together_and_priorities_first(lab: Lab, play: Play) -> None:
    night, queued = a_night({}, {"changes": OTHER_LENGTH}, {}, {"priority": 2, "changes": OTHER_LENGTH})
    played = play()
    run_night(lab, night, queued, with_prefect=False)
    assert played.ran == ["t3", "t1", "t0", "t2"]
    night, queued = a_night({}, {"changes": OTHER_LENGTH}, {}, order="as_written")
    played = play()
    run_night(lab, night, queued, with_prefect=False)
    assert played.ran == ["t0", "t1", "t2"]


def test_what_no_longer_fits_is_skipped_with_the_figures_lowest_priority_first(lab: Lab, play: Play) -> None:
    """Each takes four times what was predicted: 120 s and a little beam."""

    def slow(name: str, opened: Lab) -> Outcome:
        opened.instrument.pause(480)
        return done(name, opened)

    night, queued = a_night({"priority": 1}, {}, {"priority": 3}, {"priority": 2}, max_hours=0.3)
    played = play(slow)
    run_night(lab, night, queued, with_prefect=False)
    assert played.ran == ["t2", "t3"]
    ended = states(lab)
    assert ended["t0"][0] == ended["t1"][0] == "skipped"
    for name in ("t0", "t1"):
        assert "as measured so far), and 2 min are left before the night ends" in ended[name][1]
    events = [one["message"] for one in story(lab)["events"] if one["kind"] == "time"]
    assert events[0].startswith("not expected to fit: t1:") or events[0].startswith("not expected to fit: t0:")
    times = {one["name"]: (one["predicted_seconds"], one["actual_seconds"]) for one in story(lab)["targets"]}
    assert times["t2"] == (pytest.approx(120, rel=0.01), pytest.approx(480, rel=0.01))  # the beam is 13 ms
    assert times["t0"] == (None, None)


def test_a_deadline_of_its_own_is_told_with_its_time_and_is_final(lab: Lab, play: Play) -> None:
    due = datetime.now(UTC) + timedelta(seconds=60)
    night, queued = a_night({"deadline": due.isoformat()}, {"deadline_h": 0.01}, {})
    played = play()
    run_night(lab, night, queued, with_prefect=False)
    assert played.ran == ["t2"]
    ended = states(lab)
    assert f"before its deadline ({due:%Y-%m-%d %H:%M} UTC)" in ended["t0"][1]
    assert "before its deadline" in ended["t1"][1]
    assert left_of(lab, night, queued) is None


def test_a_spare_runs_only_where_what_it_stands_for_was_tried_in_vain(lab: Lab, play: Play) -> None:
    def fails_first(name: str, opened: Lab) -> Outcome:
        return Outcome(TargetState.MARKED, "it drifts", ()) if name == "t0" else done(name, opened)

    night, queued = a_night({"spare_targets": ["t2", "t3"]}, {"spare_targets": ["t3"]}, {}, {})
    played = play(fails_first)
    run_night(lab, night, queued, with_prefect=False)
    assert sorted(played.ran) == ["t0", "t1", "t2"]
    assert states(lab)["t3"] == ("skipped", "a spare that was not needed")
    assert [one["message"] for one in story(lab)["events"] if one["kind"] == "spare"] == ["t2 takes the place of t0"]


def test_stop_and_skip_are_obeyed_answered_and_recorded_and_the_same_night_goes_on(lab: Lab, play: Play) -> None:
    asked: list[orders.Order] = []

    def orders_come(name: str, opened: Lab) -> Outcome:
        if name == "t0":
            asked.append(orders.ask(folder(opened), "skip", target="t1", by="ada"))
            asked.append(orders.ask(folder(opened), "skip", target="t9"))
        if name == "t2":
            asked.append(orders.ask(folder(opened), "stop", by="ada"))
            # Read together with the stop, and final all the same.
            orders.ask(folder(opened), "skip", target="t4")
        return done(name, opened)

    night, queued = a_night(*[{}] * 5)
    played = play(orders_come)
    first = run_night(lab, night, queued, with_prefect=False)
    assert played.ran == ["t0", "t2"]
    answers = [orders.answer_to(folder(lab), one) for one in asked]
    assert [one.ok for one in answers if one] == [True, False, True]
    assert "no target t9" in answers[1].words if answers[1] else False
    ended = states(lab)
    assert ended["t1"] == ("skipped", "skipped by a person")
    assert ended["t3"] == ("skipped", "stopped by a person")
    assert ended["t4"] == ("skipped", "skipped by a person")
    told = story(lab)
    assert (told["state"], told["exit_reason"]) == ("stopped", "2 done, 3 skipped; stopped by a person")
    messages = [one["message"] for one in told["events"] if one["kind"] == "order"]
    assert messages[0] == "skip t1 (asked by ada): will be skipped"
    assert messages[2].startswith("stop (asked by ada): ")

    left = left_of(lab, night, queued)
    assert left is not None
    again = play()
    second = run_night(lab, night, queued, with_prefect=False, left=left)
    assert second.name == first.name
    assert again.ran == ["t3"]
    assert {name: state for name, (state, _reason) in states(lab).items()} == {
        "t0": "done",
        "t1": "skipped",
        "t2": "done",
        "t3": "done",
        "t4": "skipped",
    }
    assert story(lab)["state"] == "done"
    assert left_of(lab, night, queued) is None
    assert len(second.outcomes) == 5


def test_other_plans_make_another_night(lab: Lab, play: Play) -> None:
    night, queued = a_night({}, {})
    play(lambda _name, _opened: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run_night(lab, night, queued, with_prefect=False)
    assert left_of(lab, night, queued) is not None
    _other, changed = a_night({}, {"changes": OTHER_LENGTH})
    assert left_of(lab, night, changed) is None


def test_a_paused_night_waits_with_the_beam_blanked_until_it_is_told_to_go_on(lab: Lab, play: Play) -> None:
    waits: list[bool] = []

    def sleep(_seconds: float) -> None:
        waits.append(bool(lab.instrument.gate.is_blanked()))
        status = orders.read_status(folder(lab))
        assert status is not None
        assert status["state"] == "paused"
        if len(waits) == 3:
            orders.ask(folder(lab), "resume")

    def pauses(name: str, opened: Lab) -> Outcome:
        if name == "t0":
            orders.ask(folder(opened), "pause")
        return done(name, opened)

    night, queued = a_night({}, {})
    played = play(pauses)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.going.Control", partial(Control, sleep=sleep))
        run_night(lab, night, queued, with_prefect=False)
    assert waits == [True] * 3
    assert played.ran == ["t0", "t1"]


def test_an_order_of_before_is_not_obeyed(lab: Lab, play: Play) -> None:
    old = orders.ask(folder(lab), "stop")
    night, queued = a_night({}, {})
    played = play()
    run_night(lab, night, queued, with_prefect=False)
    assert played.ran == ["t0", "t1"]
    answer = orders.answer_to(folder(lab), old)
    assert answer is not None
    assert (answer.ok, answer.words) == (False, "it was asked before this night began")


def test_the_status_says_how_far_the_night_is(lab: Lab, play: Play) -> None:
    seen: list[dict[str, object]] = []

    def look(name: str, opened: Lab) -> Outcome:
        opened.on_stage("calibrate")
        facts = orders.read_status(folder(opened))
        assert facts is not None
        seen.append(facts)
        return done(name, opened)

    night, queued = a_night({}, {}, title="Flakes")
    play(look)
    result = run_night(lab, night, queued, with_prefect=False)
    assert [one["target"]["number"] for one in seen] == [1, 2]  # type: ignore[index]
    assert [one["ended"] for one in seen] == [{}, {"done": 1}]
    assert {(one["night"], one["title"], one["targets"], one["stage"], one["state"]) for one in seen} == {
        (result.name, "Flakes", 2, "calibrate", "running")
    }
    assert datetime.fromisoformat(str(seen[0]["predicted_end"])) > datetime.fromisoformat(str(seen[0]["written"]))
    after = orders.read_status(folder(lab))
    assert after is not None
    assert after["state"] == "done"


def test_what_a_fault_of_the_machines_ends_is_tried_once_more_and_no_third_time(lab: Lab, play: Play) -> None:
    stalls = {"t0": 1, "t1": 2}

    def stalling(name: str, opened: Lab) -> Outcome:
        if stalls.get(name, 0):
            stalls[name] -= 1
            return Outcome(TargetState.FAILED, "no frame came for 30 s", (), fault=True)
        return done(name, opened)

    night, queued = a_night({}, {}, {"expect": "done"}, order="as_written")
    played = play(stalling)
    result = run_night(lab, night, queued, with_prefect=False)
    assert played.ran == ["t0", "t0", "t1", "t1", "t2"]
    assert states(lab) == {"t0": ("done", ""), "t1": ("failed", "no frame came for 30 s"), "t2": ("done", "")}
    # The second is a child of the first, and nothing of the field had been exposed.
    first, second = result.outcomes[0][1].runs
    assert played.earlier["t0"] == (first,)
    told = [one["message"] for one in story(lab)["events"] if one["kind"] == "target_state"]
    assert "target t0: running to pending: to be tried once more: no frame came for 30 s" in told
    assert second != first


def test_a_fault_that_stays_ends_the_night_and_the_rest_waits_for_the_same_command(lab: Lab, play: Play) -> None:
    def dead(name: str, _opened: Lab) -> Outcome:
        state = TargetState.DONE if name == "t1" else TargetState.FAILED
        return Outcome(state, "no frame came for 30 s", (), fault=state is TargetState.FAILED)

    night, queued = a_night(*[{}] * 7, order="as_written")
    played = play(dead)
    run_night(lab, night, queued, with_prefect=False)
    assert played.ran == ["t0"] * 2 + ["t1"] + ["t2"] * 2 + ["t3"] * 2 + ["t4"] * 2
    cause = "3 targets in a row met a fault of the machines: no frame came for 30 s"
    assert states(lab)["t5"] == ("skipped", cause)
    assert (story(lab)["state"], story(lab)["exit_reason"]) == ("stopped", f"1 done, 2 skipped, 4 failed; {cause}")
    left = left_of(lab, night, queued)
    assert left is not None
    assert [one.name for one in left.targets if one.open] == ["t5", "t6"]


def test_a_fault_that_a_person_does_not_want_tried_again_is_not(lab: Lab, play: Play) -> None:
    def stopped(_name: str, opened: Lab) -> Outcome:
        orders.ask(folder(opened), "stop")
        opened.break_off()
        return Outcome(TargetState.FAILED, "no frame came for 30 s", (), fault=True)

    night, queued = a_night({}, {})
    played = play(stopped)
    run_night(lab, night, queued, with_prefect=False)
    assert played.ran == ["t0"]


@pytest.mark.parametrize("due", [{"deadline_h": 0.1}, {}], ids=["deadline", "night"])
def test_after_a_pause_over_its_deadline_or_the_nights_end_no_pass_begins(
    lab: Lab, play: Play, due: dict[str, float]
) -> None:
    def late(_name: str, opened: Lab) -> Outcome:
        assert opened.between() == ""
        opened.instrument.pause(1000)
        why = opened.between()
        return Outcome(TargetState.SKIPPED, why, (), broken_off=True)

    night, queued = a_night(due, {}, max_hours=0.2, order="as_written")
    played = play(late)
    run_night(lab, night, queued, with_prefect=False)
    assert played.ran == ["t0"]
    left = left_of(lab, night, queued)
    assert left is not None
    ended = states(lab)
    if due:
        assert ended["t0"][1].startswith("its deadline (20")
        assert [one.open for one in left.targets] == [False, True]
    else:
        assert ended["t0"] == ("skipped", "the night's 0.2 h are over")
        assert [one.open for one in left.targets] == [True, True]


def test_a_night_goes_on_and_ends_while_the_database_is_away(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base, aside = lab.settings.home / "nightbeam.db", tmp_path / "aside.db"
    ran: list[str] = []

    def run(*_arguments: object) -> Outcome:
        ran.append(str(len(ran)))
        if len(ran) == 2:
            base.rename(aside)
        if len(ran) == 3:
            orders.ask(folder(lab), "skip", target="t4")
            return Outcome(TargetState.FAILED, "no frame came for 30 s", (), fault=True)
        return Outcome(TargetState.DONE, "", ())

    monkeypatch.setattr("flows.night.run_target", run)
    night, queued = a_night(*[{}] * 5, order="as_written")
    result = run_night(lab, night, queued, with_prefect=False)
    assert len(ran) == 4
    assert result.report is None  # it is owed
    aside.rename(base)
    lab.settle()
    assert not lab.recorder.waiting
    ended = states(lab)
    assert ended["t2"][1].startswith("no frame came for 30 s; what is left of it could not be found out: ")
    assert {name: state for name, (state, _reason) in ended.items()} == {
        "t0": "done",
        "t1": "done",
        "t2": "failed",
        "t3": "done",
        "t4": "skipped",
    }
