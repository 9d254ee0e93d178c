"""The recorder: whatever answers are lost and whenever the database is away, its rows are those of an easy session."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from db_world import World
from hypothesis import given, settings
from hypothesis import strategies as st
from recorder_world import AREA, Flaky, night_of, operations_of, rows
from sqlalchemy import Engine, select

from db import recorder as recording
from db.engine import open_engine, reader, writer
from db.errors import DatabaseAway
from db.models import InstrumentSession
from db.operations import (
    KINDS,
    AddEvent,
    AreaKey,
    CloseIntent,
    FinishRun,
    OpenIntent,
    Operation,
    RegisterArea,
    as_text,
    from_text,
)
from db.questions.show import show_run
from db.recorder import Recorder, replay
from stem4d.errors import BadInput, DoseRefused
from storage.journal import Journal

STEPS = ("apply", "lose reply", "away", "replay", "replay twice")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Journal]:
    """An empty one."""
    with Journal(tmp_path / "outbox" / "records.journal") as journal:
        yield journal


@pytest.fixture
def told() -> list[str]:
    """What the recorder says."""
    return []


@pytest.fixture
def recorder(engine: Engine, outbox: Journal, told: list[str]) -> Recorder:
    """A session's."""
    return Recorder(engine, outbox, lambda kind, message: told.append(f"{kind}: {message}"))


def test_every_kind_of_operation_comes_back_from_its_line_as_it_went() -> None:
    operations = operations_of("r20261122-204139-0001", None, None)
    assert {type(one) for one in operations} == set(KINDS)
    for one in operations:
        assert from_text(as_text(one)) == one
        assert "\n" not in as_text(one)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**63, {"deep": [float("nan")]}])
def test_what_no_database_takes_is_refused_before_it_is_kept(value: Any, recorder: Recorder, outbox: Journal) -> None:
    with pytest.raises(BadInput):
        AddEvent(event="figures", message="", data={"value": value})
    with pytest.raises(BadInput):
        CloseIntent(token="t", delivered_e_per_a2=float("nan"))
    assert outbox.waiting == 0


def test_texts_are_kept_as_the_database_keeps_them() -> None:
    one = AddEvent(event="told", message="a\0b \udc80", data={"n\0": ["\udcff"]})
    assert from_text(as_text(one)) == one
    assert "\0" not in one.message


@pytest.mark.parametrize("courses", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_any_course_of_events_gives_the_rows_of_an_undisturbed_one(
    courses: int, new_database: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=courses)
    @given(steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=30))
    def each(steps: list[str]) -> None:
        go_through(steps, new_database, tmp_path_factory)

    each()


def go_through(steps: list[str], new_database: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("course")
    with new_database() as undisturbed, new_database() as disturbed:
        night, target = night_of(undisturbed)
        assert night_of(disturbed) == (night, target)
        operations = operations_of("r20261122-204139-0001", target, night)
        with Journal(folder / "calm", 4096) as calm, Journal(folder / "rough", 4096) as rough:
            easy = Recorder(undisturbed, calm, lambda _kind, _message: None)
            for one in operations:
                easy.record(one)
            assert calm.waiting == 0
            with Flaky(disturbed) as flaky:
                hard = Recorder(disturbed, rough, lambda _kind, _message: None)
                hard.learn([AREA])
                left = list(operations)
                for step in steps:
                    if step.startswith("replay"):
                        for _ in range(2 if step.endswith("twice") else 1):
                            hard.settle()
                    elif left:
                        flaky.mood = step
                        hard.record(left.pop(0))
                        flaky.mood = "apply"
                for one in left:
                    hard.record(one)
                hard.settle()
        assert rows(disturbed) == rows(undisturbed)


def test_a_run_tells_its_session_its_drivers_and_where_its_area_lies(
    recorder: Recorder, engine: Engine, world: World
) -> None:
    for run in ("r20261122-204139-0010", "r20261122-204139-0011"):
        area, opened, *_rest = operations_of(run, None, None)
        recorder.record(area)
        recorder.record(opened)
    with reader(engine) as session:
        told = [show_run(session, name=f"r20261122-204139-{number}") for number in ("0010", "0011", "0001")]
        assert session.scalars(select(InstrumentSession.owner_token)).all() == [3]
    owner = {"owner_token": 3, "owner": "ada (nightbeam night)", "host": "here", "began": "2026-11-22T22:00:00+00:00"}
    assert [one["session"] for one in told] == [owner, owner, None]
    assert told[0]["environment"]["drivers"] == {"simulator": "nightbeam 0.3.0"}
    assert told[0]["area"]["pose"] == {"x_um": 12.5, "alpha_deg": 0.0}
    assert told[0]["area"]["thumbnail"] == "r20261121-201500-0003"


def test_a_run_of_another_instrument_with_the_same_name_is_not_written_into(
    recorder: Recorder, engine: Engine, world: World
) -> None:
    area, opened, *_rest = operations_of("r20261122-204139-0010", None, None)
    recorder.record(area)
    first = recorder.record(opened)
    other = opened.model_copy(update={"key": "other", "instrument": "microscope-2"})
    with pytest.raises(BadInput, match="a run of simulator has this name"):
        recorder.record(other)
    # The same again, whose answer was lost with its key, is the same run.
    assert recorder.record(opened.model_copy(update={"key": "again"})) == first


def test_an_operation_that_comes_twice_is_applied_once(recorder: Recorder, engine: Engine, world: World) -> None:
    one = AddEvent(event="told", message="once")
    first = recorder.record(one)
    assert recorder.record(one) == first
    assert [row["message"] for row in rows(engine)["event"]].count("once") == 1


def test_a_lost_reply_of_an_intent_makes_no_second_booking(recorder: Recorder, engine: Engine, world: World) -> None:
    recorder.record(RegisterArea(area=AREA))
    intent = OpenIntent(
        run="r20261122-204139-0001", area=AREA, purpose="acquisition", token="t1", fluence_e_per_a2=40.0
    )
    with Flaky(engine) as flaky:
        flaky.mood = "lose reply"
        assert recorder.record(intent) < 0
        flaky.mood = "apply"
        assert len(rows(engine)["exposure_intent"]) == 1
        # Booked once here, too: two of 40 fit into a budget of 100.
        recorder.record(intent.model_copy(update={"token": "t2", "key": "another"}))
        landed = recorder.settle()
    assert landed is not None
    assert not landed.refused
    assert [row["token"] for row in rows(engine)["exposure_intent"]] == ["t1", "t2"]


def test_while_the_database_is_away_no_more_is_booked_than_was_known_to_be_left(
    recorder: Recorder, engine: Engine, world: World, told: list[str]
) -> None:
    recorder.record(RegisterArea(area=AREA))
    run = "r20261122-204139-0001"

    def intent(token: str, fluence: float, area: AreaKey = AREA) -> OpenIntent:
        return OpenIntent(run=run, area=area, purpose="acquisition", token=token, fluence_e_per_a2=fluence)

    recorder.record(intent("t1", 30.0))
    with Flaky(engine) as flaky:
        flaky.mood = "away"
        recorder.record(intent("t2", 50.0))
        assert [line.partition(":")[0] for line in told] == ["database away"]
        with pytest.raises(DoseRefused, match=r"needs 20\.001 e/Å².*budget of 100 e/Å² 20 e/Å² are surely left"):
            recorder.record(intent("t3", 20.001))
        # What was never let through is not given back before the database has heard of it.
        recorder.record(CloseIntent(token="t2", delivered_e_per_a2=0.0, electrons=0.0, reason="never lit"))
        assert recorder.left_e_per_a2(AREA) == pytest.approx(20.0)
        # More than was booked counts at once.
        recorder.record(intent("t4", 5.0))
        recorder.record(CloseIntent(token="t4", delivered_e_per_a2=12.0))
        assert recorder.left_e_per_a2(AREA) == pytest.approx(8.0)
        elsewhere = AreaKey(sample="gold-on-carbon", name="never-heard-of", fluence_budget_e_per_a2=1e9)
        with pytest.raises(DoseRefused, match="not known while the database is away"):
            recorder.record(intent("t5", 1.0, elsewhere))
        with pytest.raises(DatabaseAway, match="not known while the database is away"):
            recorder.record(RegisterArea(area=elsewhere))
        other = AREA.model_copy(update={"fluence_budget_e_per_a2": 500.0})
        with pytest.raises(BadInput, match="registered with 100 e/Å²"):
            recorder.record(RegisterArea(area=other))
        flaky.mood = "apply"
        recorder.settle()
    assert recorder.left_e_per_a2(AREA) == pytest.approx(100.0 - 30.0 - 12.0)
    assert len(told) == 2


def test_what_was_exposed_is_booked_though_somebody_else_has_spent_the_budget(
    recorder: Recorder, engine: Engine, world: World
) -> None:
    recorder.record(RegisterArea(area=AREA))
    run = "r20261122-204139-0001"
    with Flaky(engine) as flaky:
        flaky.mood = "away"
        recorder.record(OpenIntent(run=run, area=AREA, purpose="acquisition", token="ours", fluence_e_per_a2=60.0))
        flaky.mood = "apply"
        with Journal(Path(str(recorder._outbox.path)).with_name("other"), 4096) as other:
            elsewhere = Recorder(engine, other, lambda _kind, _message: None)
            elsewhere.record(
                OpenIntent(run=run, area=AREA, purpose="acquisition", token="theirs", fluence_e_per_a2=90.0)
            )
        landed = recorder.settle()
    assert landed is not None
    assert not landed.refused
    assert recorder.left_e_per_a2(AREA) == pytest.approx(-50.0)


def test_one_that_the_database_refuses_is_set_aside_and_holds_up_none(
    recorder: Recorder, engine: Engine, world: World, outbox: Journal
) -> None:
    with Flaky(engine) as flaky:
        flaky.mood = "away"
        recorder.record(AddEvent(event="told", message="before"))
        recorder.record(AddEvent(event="told", message="of a run that nobody knows", run="r-nowhere"))
        outbox.append('{"kind":"from a later version"}')
        recorder.record(AddEvent(event="told", message="after"))
        flaky.mood = "apply"
        landed = recorder.settle()
    assert landed is not None
    assert len(landed.operations) == 2
    assert len(landed.refused) == 2
    assert outbox.waiting == 0
    kept = outbox.path.with_suffix(".refused").read_text()
    assert "r-nowhere" in kept
    assert "from a later version" in kept
    assert [row["message"] for row in rows(engine)["event"]][-2:] == ["before", "after"]


def test_the_order_of_events_is_that_of_what_happened(recorder: Recorder, engine: Engine, world: World) -> None:
    with Flaky(engine) as flaky:
        for number in range(20):
            flaky.mood = ("apply", "away", "lose reply")[number % 3]
            recorder.record(AddEvent(event="told", message=str(number)))
            flaky.mood = "apply"
            if number % 7 == 6:
                recorder.settle()
        recorder.settle()
    messages = [row["message"] for row in rows(engine)["event"] if row["kind"] == "told"]
    assert messages == [str(number) for number in range(20)]


def test_times_are_those_of_what_happened_and_not_of_the_replay(
    recorder: Recorder, engine: Engine, world: World
) -> None:
    at = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    with Flaky(engine) as flaky:
        flaky.mood = "away"
        recorder.record(FinishRun(run="r20261122-204139-0001", state="done", at=at, took_s=5.0))
        flaky.mood = "apply"
        recorder.settle()
    with reader(engine) as session:
        shown = show_run(session, name="r20261122-204139-0001")
    assert shown["ended"] == at.isoformat()
    assert [one["kind"] for one in shown["events"]][-2:] == ["run_ended", "took"]


def hold_the_lock(path: str, held: Any, let_go: Any) -> None:
    """In a process of its own: a writer that does not end."""
    engine = open_engine(f"sqlite:///{path}")
    with writer(engine) as session:
        session.connection()
        held.set()
        let_go.wait(60)


@contextmanager
def locked(path: str) -> Iterator[None]:
    context = multiprocessing.get_context("fork")
    held, let_go = context.Event(), context.Event()
    process = context.Process(target=hold_the_lock, args=(path, held, let_go))
    process.start()
    try:
        assert held.wait(60)
        yield
    finally:
        let_go.set()
        process.join()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_another_writer_is_waited_for_five_seconds_and_then_the_outbox_takes_it(
    recorder: Recorder, engine: Engine, world: World, outbox: Journal, told: list[str]
) -> None:
    with locked(str(engine.url.database)):
        begun = time.monotonic()
        recorder.record(AddEvent(event="told", message="first"))
        waited = time.monotonic() - begun
        # SQLite sleeps in steps of up to 0.1 s; the rest is the machine's.
        assert 4.5 < waited < 8.0
        begun = time.monotonic()
        recorder.record(AddEvent(event="told", message="second"))
        assert time.monotonic() - begun < 2.0, "what waits is not tried again with every record"
        assert recorder.settle() is None
    assert outbox.waiting == 2
    assert len(told) == 1
    assert "locked" in told[0]
    assert recorder.settle() is not None
    assert [row["message"] for row in rows(engine)["event"]][-2:] == ["first", "second"]


@pytest.mark.slow
def test_ten_thousand_records_land_once_and_in_their_order(
    recorder: Recorder, engine: Engine, world: World, outbox: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    run = "r20261122-204139-0001"
    recorder.record(RegisterArea(area=AREA))
    one_of_each: list[Operation] = [
        one for one in operations_of(run, world.target, world.night) if one.kind in ("quality", "analysis", "remedy")
    ]
    for number in range(10_000):
        when = at + timedelta(seconds=number)
        one: Operation
        if number % 10 == 0:
            one = one_of_each[number // 10 % len(one_of_each)].model_copy(update={"key": f"k{number}", "at": when})
        elif number % 10 == 1:
            fluence = 0.001
            one = OpenIntent(
                run=run, area=AREA, purpose="survey", token=f"t{number}", fluence_e_per_a2=fluence, at=when
            )
        elif number % 10 == 2:
            one = CloseIntent(token=f"t{number - 1}", delivered_e_per_a2=0.001, at=when)
        else:
            one = AddEvent(event="told", message=f"line {number}", run=run, at=when)
        outbox.append(as_text(one))
    begun_s = time.monotonic()
    landed = replay(engine, outbox)
    with capsys.disabled():
        print(f"\n10,000 records landed in {time.monotonic() - begun_s:.1f} s ({engine.dialect.name})")
    assert (len(landed.operations), landed.refused) == (10_000, ())
    told = [row["message"] for row in rows(engine)["event"] if row["kind"] == "told"]
    assert told == [f"line {number}" for number in range(10_000) if number % 10 > 2]
    assert replay(engine, outbox).operations == ()


def test_a_replay_that_breaks_off_goes_on_where_it_was(
    recorder: Recorder, engine: Engine, world: World, outbox: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "BATCH", 3)
    with Flaky(engine) as flaky:
        flaky.mood = "away"
        for number in range(10):
            recorder.record(AddEvent(event="told", message=str(number)))
        for mood in ("lose reply", "after 2 lose reply", "after 1 away"):
            flaky.mood = mood
            assert recorder.settle() is None
        flaky.mood = "apply"
        assert recorder.settle() is not None
    messages = [row["message"] for row in rows(engine)["event"] if row["kind"] == "told"]
    assert messages == [str(number) for number in range(10)]
