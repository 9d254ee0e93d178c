"""A real PostgreSQL server that is killed, or whose reply to a commit is lost: what was recorded is there once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from commit_proxy import proxy_to
from recorder_world import AREA, night_of, operations_of, renumbered, rows
from sqlalchemy import make_url

from db.engine import open_engine, writer
from db.errors import DatabaseAway
from db.migrations import upgrade
from db.operations import AddEvent
from db.record import add_event
from db.recorder import Recorder
from storage.journal import Journal
from tests.postgres import OWN, Server, new_database

pytestmark = pytest.mark.skipif(not OWN, reason="said once, by test_db_postgres.py")
RUN = "r20261122-204139-0001"


@pytest.fixture
def url(own_postgres: Server) -> Iterator[str]:
    """Of a database on a server that may be killed."""
    with new_database(own_postgres.url) as url:
        upgrade(url)
        yield url


@pytest.fixture
def calm(own_postgres: Server, tmp_path: Path) -> Iterator[dict[str, list[dict[str, object]]]]:
    """All rows of a run that nothing disturbed."""
    with new_database(own_postgres.url) as url, Journal(tmp_path / "calm") as outbox:
        upgrade(url)
        engine = open_engine(url)
        night, target = night_of(engine)
        recorder = Recorder(engine, outbox, lambda _kind, _message: None)
        for one in operations_of(RUN, target, night):
            recorder.record(one)
        yield rows(engine)
        engine.dispose()


@pytest.mark.parametrize(
    "killed_before", [5, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 11, 19))]
)
def test_a_run_goes_on_while_the_server_is_dead_and_lands_when_it_lives_again(
    killed_before: int,
    url: str,
    own_postgres: Server,
    calm: dict[str, list[dict[str, object]]],
    tmp_path: Path,
) -> None:
    engine, told = open_engine(url), list[str]()
    night, target = night_of(engine)
    with Journal(tmp_path / "outbox") as outbox:
        recorder = Recorder(engine, outbox, lambda kind, _message: told.append(kind))
        recorder.learn([AREA])
        try:
            for number, one in enumerate(operations_of(RUN, target, night)):
                if number == killed_before:
                    own_postgres.kill()
                recorder.record(one)
            assert recorder.settle() is None
            with pytest.raises(DatabaseAway):
                open_engine(url)
        finally:
            own_postgres.start()
        landed = recorder.settle()
        assert landed is not None
        assert not landed.refused
        assert outbox.waiting == 0
    assert told == ["database away", "database back"]
    assert renumbered(rows(engine)) == renumbered(calm)
    engine.dispose()


@pytest.mark.parametrize("lost", [11, *(pytest.param(number, marks=pytest.mark.slow) for number in range(22))])
def test_a_commit_whose_reply_is_lost_makes_no_second_row(
    lost: int, url: str, own_postgres: Server, calm: dict[str, list[dict[str, object]]], tmp_path: Path
) -> None:
    with proxy_to(own_postgres.port) as proxy, Journal(tmp_path / "outbox") as outbox:
        through = make_url(url).set(port=proxy.port).render_as_string(hide_password=False)
        engine = open_engine(through)
        night, target = night_of(engine)
        recorder = Recorder(engine, outbox, lambda _kind, _message: None)
        recorder.learn([AREA])
        for number, one in enumerate(operations_of(RUN, target, night)):
            if number == lost:
                proxy.arm()
            recorder.record(one)
            if number == lost:
                assert proxy.cut.is_set()
                assert outbox.waiting == 1
        assert recorder.settle() is not None
        assert renumbered(rows(engine)) == renumbered(calm)
        engine.dispose()


def test_the_proxy_cuts_after_the_commit_and_not_before(url: str, own_postgres: Server) -> None:
    with proxy_to(own_postgres.port) as proxy:
        through = open_engine(make_url(url).set(port=proxy.port).render_as_string(hide_password=False))
        proxy.arm()
        with pytest.raises(DatabaseAway), writer(through) as session:
            add_event(session, kind="told", message="once")
        assert [row["message"] for row in rows(through)["event"]] == ["once"]
        through.dispose()


def test_a_server_that_is_killed_in_a_replay_goes_on_where_it_was(
    url: str, own_postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.recorder.BATCH", 5)
    engine = open_engine(url)
    with Journal(tmp_path / "outbox") as outbox:
        recorder = Recorder(engine, outbox, lambda _kind, _message: None)
        own_postgres.kill()
        for number in range(20):
            recorder.record(AddEvent(event="told", message=str(number)))
        own_postgres.start()
        take_off = outbox.take_off

        def killed_then(last: object) -> None:
            take_off(last)  # type: ignore[arg-type]
            if outbox.waiting == 10:
                own_postgres.kill()

        monkeypatch.setattr(outbox, "take_off", killed_then)
        assert recorder.settle() is None
        own_postgres.start()
        assert recorder.settle() is not None
    messages = [row["message"] for row in rows(engine)["event"] if row["kind"] == "told"]
    assert messages == [str(number) for number in range(20)]
    engine.dispose()
