"""Opening, reading and writing: settings that make commits durable, one writer at a time, refusals without secrets."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from db_world import World
from sqlalchemy import Engine, event, func, select, text
from sqlalchemy.exc import SQLAlchemyError

import db.connect
from db import record
from db.connect import connect, redacted
from db.engine import open_engine, reader, writer
from db.errors import DatabaseAway
from db.models import Area, Event, Sample
from stem4d.errors import BadInput, NightbeamError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("session_of", [reader, writer])
def test_every_connection_is_set_up_for_durable_commits(engine: Engine, session_of: object) -> None:
    wanted = {
        "sqlite": {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000},
        "postgresql": {"synchronous_commit": "on", "timezone": "UTC", "lock_timeout": "5s"},
    }[engine.dialect.name]
    ask = "PRAGMA" if engine.dialect.name == "sqlite" else "SHOW"
    # Two at once: the second one is a new connection, not the pooled first one.
    with session_of(engine) as first, reader(engine) as second:
        for session in (first, second):
            assert {name: session.scalar(text(f"{ask} {name}")) for name in wanted} == wanted


def test_a_reader_cannot_write_and_a_writer_can_after_it(engine: Engine) -> None:
    with pytest.raises((SQLAlchemyError, DatabaseAway), match=r"read-?only"), reader(engine) as session:
        record.register_sample(session, name="s")
    with writer(engine) as session:
        record.register_sample(session, name="s")


def test_a_reader_sees_one_moment_while_others_write(engine: Engine) -> None:
    count = select(func.count()).select_from(Sample)
    with reader(engine) as session:
        assert session.scalar(count) == 0
        with writer(engine) as other:
            record.register_sample(other, name="s")
        assert session.scalar(count) == 0
    with reader(engine) as session:
        assert session.scalar(count) == 1


def test_a_writer_that_raises_leaves_nothing(engine: Engine) -> None:
    def failing() -> None:
        with writer(engine) as session:
            record.register_sample(session, name="s")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    with reader(engine) as session:
        assert session.scalar(select(func.count()).select_from(Sample)) == 0


def test_reading_before_writing_waits_its_turn_and_never_fails(world: World) -> None:
    outcome = []

    def other() -> None:
        with writer(world.engine) as session:
            outcome.append(record.add_event(session, kind="other", message=""))

    thread = threading.Thread(target=other)
    with writer(world.engine) as session:
        session.scalar(select(func.count()).select_from(Event))
        thread.start()
        # Time for the other to write in between: with a deferred BEGIN it does on SQLite, and the next line fails.
        thread.join(timeout=0.2)
        mine = record.add_event(session, kind="mine", message="")
    thread.join()
    with reader(world.engine) as session:
        found = session.scalars(select(Event.sequence).where(Event.kind.in_(["mine", "other"]))).all()
    assert sorted(found) == sorted([mine, *outcome])


def test_a_locked_database_is_a_clear_error_after_the_timeout(
    url: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db.connect, "BUSY_TIMEOUT_MS", 50)
    impatient = open_engine(url)
    locked = select(Area).filter_by(id=world.area).with_for_update()
    with writer(world.engine) as session:
        session.execute(locked)
        with pytest.raises(DatabaseAway, match=r"lock"), writer(impatient) as other:
            other.execute(locked)
    impatient.dispose()


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_committed(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'full.db'}")
    with writer(engine) as session:
        record.add_event(session, kind="kept", message="")
    engine.dispose()
    pages = "PRAGMA max_page_count = 1"  # SQLite takes the present size for anything smaller
    event.listen(engine, "connect", lambda connection, _: connection.execute(pages))
    with pytest.raises(DatabaseAway, match="full"), writer(engine) as session:
        record.add_event(session, kind="lost", message="x" * 100_000)
    with writer(engine) as session:
        record.add_event(session, kind="small", message="")
    with reader(engine) as session:
        assert session.scalars(select(Event.kind).order_by(Event.sequence)).all() == ["kept", "small"]
    engine.dispose()


def test_eight_first_openings_at_once_make_one_schema(tmp_path: Path) -> None:
    url, barrier, errors = f"sqlite:///{tmp_path / 'new.db'}", threading.Barrier(8), []

    def first() -> None:
        barrier.wait()
        try:
            open_engine(url).dispose()
        except Exception as error:  # noqa: BLE001 any of them is the failure looked for
            errors.append(error)

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


WRITE_UNTIL_KILLED = """
import sys
from db import record
from db.engine import open_engine, writer
engine = open_engine(sys.argv[1])
for number in range(100_000):
    with writer(engine) as session:
        record.register_sample(session, name=f"sample-{number}")
        record.add_event(session, kind="sample", message=str(number))
    print(number, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 37])
def test_what_was_acknowledged_survives_kill_9(url: str, acknowledged: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITE_UNTIL_KILLED, url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(acknowledged):
        assert child.stdout.readline()
    child.kill()
    last = max([acknowledged - 1, *map(int, child.stdout.read().split())])
    child.stdout.close()
    assert child.wait() == -9
    engine = open_engine(url)
    with reader(engine) as session:
        samples = session.scalars(select(Sample.name).order_by(Sample.id)).all()
        events = session.scalars(select(Event.message).order_by(Event.sequence)).all()
    engine.dispose()
    # At most one more: committed, and killed before it was said.
    assert len(samples) in (last + 1, last + 2)
    assert samples == [f"sample-{number}" for number in events]


CANARY = "canary-5ecret"


@pytest.mark.parametrize(
    "bad",
    [
        f"postgresql://me:{CANARY}@127.0.0.1:1/db",
        f"postgresql://127.0.0.1:1/db?user=me&password={CANARY}",
        f"postgresql://me:{CANARY}@127.0.0.1:1/db?sslpassword={CANARY}",
        f"postgresql://me:{CANARY}@127.0.0.1:port/db",
        f"mysql://me:{CANARY}@127.0.0.1/db",
        f"nonsense://me:{CANARY}@127.0.0.1/db",
        f"postgresql+asyncpg://me:{CANARY}@127.0.0.1/db",
        f"sqlite:///nowhere/nightbeam.db?password={CANARY}",
        f"me:{CANARY}@127.0.0.1/db",
        f"postgresql://me:{CANARY}",
        f"postgresql://me:half@{CANARY}@127.0.0.1/db",
        "",
    ],
)
def test_no_refusal_shows_a_password(bad: str) -> None:
    with pytest.raises(NightbeamError) as refused:
        open_engine(bad)
    shown = [str(refused.value), repr(refused.value), redacted(bad)]
    chain: BaseException | None = refused.value
    while chain is not None and not chain.__suppress_context__:
        chain = chain.__cause__ or chain.__context__
        shown.append(repr(chain))
    assert not [text for text in shown if CANARY in text]


def test_an_engine_does_not_show_its_password(url: str) -> None:
    assert "***" in redacted(f"postgresql://me:{CANARY}@host/db")
    if url.startswith("postgresql"):
        engine = connect(f"{url}?password={CANARY}")
        assert CANARY not in repr(engine)
        assert CANARY not in str(engine.url)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("a.db", b"not a database, though long enough to look at" * 100, "not an SQLite database")],
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        open_engine(f"sqlite:///{path}")
    assert path.read_bytes() == content


@pytest.mark.parametrize("bad", ["sqlite://", "sqlite:///:memory:", "sqlite:////no/such/folder/a.db"])
def test_sqlite_needs_a_file_in_a_folder_that_exists(bad: str) -> None:
    with pytest.raises(BadInput, match=r"plain SQLite file|does not exist"):
        open_engine(bad)


@pytest.mark.parametrize("first_bytes", [100, 4096])
def test_a_damaged_database_is_a_clear_error(tmp_path: Path, first_bytes: int) -> None:
    file = tmp_path / "damaged.db"
    open_engine(f"sqlite:///{file}").dispose()
    content = file.read_bytes()
    file.write_bytes(content[:first_bytes] + b"\xff" * (len(content) - first_bytes))
    with pytest.raises(BadInput, match=r"damaged.db'; the file is damaged. Move it away"):
        open_engine(f"sqlite:///{file}")


def test_a_question_mark_does_not_put_the_database_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "ho?me").mkdir()
    with pytest.raises(BadInput, match="question mark"):
        open_engine(f"sqlite:///{tmp_path}/ho?me/nightbeam.db")
    assert not (tmp_path / "ho").exists()


def test_a_folder_in_the_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatabaseAway, match=r"unable to open database file. See that the file and its folder"):
        open_engine(f"sqlite:///{tmp_path}")


def test_opening_a_database_of_our_schema_loads_no_alembic(url: str) -> None:
    code = (
        "import sys; from db.engine import open_engine as o; o(sys.argv[1]).dispose(); print('alembic' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code, url], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
