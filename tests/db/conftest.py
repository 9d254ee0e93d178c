"""Databases for the tests: SQLite, and PostgreSQL too where its programs are installed or a server is named."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from db_world import Ticking, World
from mended_world import mended_once
from sqlalchemy import Engine, text

from db import record
from db.connect import connect
from db.engine import open_engine, writer
from db.migrations import REVISIONS, upgrade
from db.models import Base
from tests.postgres import GIVEN_URL, POSSIBLE
from tests.postgres import new_database as new_postgres

BACKENDS = ["sqlite", "postgresql"] if POSSIBLE else ["sqlite"]


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> str:
    """URL of the server that the tests of this session use."""
    return GIVEN_URL or str(request.getfixturevalue("own_postgres").url)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with our schema that others are copied from."""
    path = tmp_path_factory.mktemp("template") / "nightbeam.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A PostgreSQL database with our schema, of this session, which tests empty before they use it."""
    with new_postgres(postgres_server) as url:
        upgrade(url)
        yield url


def emptied(url: str) -> str:
    """The same database without rows, at our revision."""
    engine = connect(url)
    with engine.begin() as connection:
        # Past the triggers that refuse deletion; much quicker than TRUNCATE, which makes new files for every index.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("; ".join(f"DELETE FROM {table}" for table in Base.metadata.tables)))
        connection.execute(text("UPDATE alembic_version SET version_num = :newest"), {"newest": REVISIONS[-1]})
    engine.dispose()
    return url


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The kind of database."""
    return str(request.param)


@pytest.fixture
def empty_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a database without tables."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        with new_postgres(request.getfixturevalue("postgres_server")) as url:
            yield url


@pytest.fixture
def url(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> str:
    """URL of a database with our schema and no rows."""
    if backend == "postgresql":
        return emptied(request.getfixturevalue("postgres_url"))
    path = shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "nightbeam.db")
    return f"sqlite:///{path}"


@pytest.fixture
def new_database(backend: str, request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[Engine]]:
    """Makes further open databases with our schema and no rows."""
    template: Path = request.getfixturevalue("sqlite_template")

    @contextmanager
    def sqlite() -> Iterator[Engine]:
        with TemporaryDirectory() as folder:
            engine = open_engine(f"sqlite:///{shutil.copy(template, folder)}")
            yield engine
            engine.dispose()

    @contextmanager
    def postgresql() -> Iterator[Engine]:
        with new_postgres(request.getfixturevalue("postgres_server")) as url:
            upgrade(url)
            engine = open_engine(url)
            yield engine
            engine.dispose()

    return sqlite if backend == "sqlite" else postgresql


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """An open database."""
    engine = open_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def world(engine: Engine, url: str) -> World:
    """A night with one target and its running run on an area with a budget of 100 e/Å²."""
    clock = Ticking()
    with writer(engine) as session:
        sample = record.register_sample(session, name="gold-on-carbon", clock=clock)
        area = record.register_area(session, sample_id=sample, name="a1", fluence_budget_e_per_a2=100.0, clock=clock)
        plan = record.register_plan(session, name="case-a", canonical_json='{"defocus_nm":-12.5}', clock=clock)
        night = record.start_night(
            session, name="n20261122-204139-0001", canonical_json='{"targets":[]}', instrument="simulator", clock=clock
        )
        target = record.add_target(
            session, night_id=night, position=0, name="first", plan_id=plan, expected_state="done"
        )
        run = record.start_run(
            session,
            name="r20261122-204139-0001",
            plan_id=plan,
            area_id=area,
            instrument="simulator",
            target_id=target,
            predicted=record.Cost(seconds=60.0, size_bytes=2**40, fluence_e_per_a2=40.0),
            clock=clock,
        )
    return World(engine, url, clock, sample, area, plan, night, target, run)


@pytest.fixture
def mended(world: World) -> World:
    """The world's run saturated and was stopped; a second attempt went well, with everything recorded."""
    return mended_once(world)
