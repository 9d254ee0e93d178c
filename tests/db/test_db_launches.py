"""What asked for a flow is taken up once, however often and by however many it is asked; on both databases."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine

from db import launches, record
from db.engine import reader, writer
from storage.processes import ProcessMark

HERE, THERE = ProcessMark("here", 1, "boot:1"), ProcessMark("there", 2, "boot:2")


def begin(engine: Engine, flow_run: str = "f1", key: str = "k", there: bool | None = True, **more: Any) -> Any:
    with writer(engine) as session:
        return launches.begin(
            session,
            source="file",
            key=key,
            flow=more.pop("flow", "reanalyse"),
            flow_run_id=flow_run,
            process=HERE,
            lives=lambda _mark: there,
            **more,
        )


def test_the_same_is_taken_up_once_and_another_by_itself(engine: Engine) -> None:
    first, mine = begin(engine)
    again, not_mine = begin(engine, "f2")
    _other, mine_too = begin(engine, "f3", key="other")
    # One event may start several: each of them once.
    assert [begin(engine, f"d{n}", deployment=d)[1] for n, d in enumerate(("a", "b", "a"))] == [True, True, False]
    assert begin(engine, "f5", flow="health")[1]
    assert (mine, not_mine, mine_too) == (True, False, True)
    assert (again.id, again.flow_run_id, again.attempt) == (first.id, "f1", 1)
    with writer(engine) as session:
        launches.came_of(session, launch=first.id, name="n1", instrument="stem")
        launches.end(session, launch=first.id, state="done")
    ended, not_mine = begin(engine, "f4", there=False)
    # Ended is ended, also where its process is gone since.
    assert (not_mine, ended.state, ended.name) == (False, "done", "n1")
    assert "reanalyse n1 was started by the same file" in ended.words


@pytest.mark.parametrize("closed_before", [False, True])
def test_what_a_dead_process_had_is_taken_up_again(engine: Engine, closed_before: bool) -> None:
    first, _ = begin(engine)
    if closed_before:
        with writer(engine) as session:
            (lost,) = launches.close_lost(session, lives=lambda _mark: False)
            assert (lost.id, lost.state, lost.reason) == (first.id, "lost", launches.LOST)
            assert launches.close_lost(session, lives=lambda _mark: False) == ()
    second, mine = begin(engine, "f2", there=False)
    assert (mine, second.id, second.attempt, second.flow_run_id, second.state) == (True, first.id, 2, "f2", "running")
    with reader(engine) as session:
        assert launches.of_flow_runs(session, ["f1", "f2", "f3"]) == {"f2": second}


def test_what_another_host_runs_is_left_to_it(engine: Engine) -> None:
    begin(engine)
    with writer(engine) as session:
        assert launches.close_lost(session, lives=lambda _mark: None) == ()
    assert begin(engine, "f2", there=None)[1] is False


@pytest.mark.parametrize(
    ("night", "reason", "launch"),
    [
        ("done", "3 done", "done"),
        ("stopped", "1 done; stopped by a person, at once", "stopped"),
        ("stopped", "Terminated", "lost"),
        ("crashed", "", "lost"),
    ],
)
def test_one_that_could_not_tell_its_end_ended_as_its_night_did(
    engine: Engine, night: Any, reason: str, launch: str
) -> None:
    one, _ = begin(engine)
    with writer(engine) as session:
        number = record.start_night(session, name="n20261127-200000-0001", canonical_json="{}", instrument="stem")
        launches.came_of(session, launch=one.id, name="n20261127-200000-0001", instrument="stem")
        record.finish_night(session, night_id=number, state=night, exit_reason=reason)
        lost = launches.close_lost(session, lives=lambda _mark: False)
    assert [each.id for each in lost] == [one.id] * (launch == "lost")
    with reader(engine) as session:
        assert launches.of_flow_runs(session, ["f1"])["f1"].state == launch


def test_of_many_who_ask_at_once_one_has_it(engine: Engine) -> None:
    together = Barrier(8)

    def ask(number: int) -> bool:
        together.wait()
        return bool(begin(engine, f"f{number}")[1])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8))) == 1
