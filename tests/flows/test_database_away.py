"""The database goes away in a run, at several moments: the run goes on, and all of it lands once."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from db import connect
from db.engine import open_engine, reader
from db.errors import DatabaseAway
from db.migrations import upgrade
from db.operations import FinishRun, OpenIntent, Operation
from db.recorder import Recorder
from flows.run import run_plan
from stem4d.night import TargetState
from storage.settings import Settings
from tasks.lab import Lab, Told, open_lab
from tasks.outbox import waiting
from tests.faults.disk_world import small_disk
from tests.flows.night_world import INSTRUMENT, NAME, column_log, small, small_lab
from tests.postgres import OWN, Server, new_database

HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


class Away:
    """A database that can be made to go away and come back."""

    def __init__(self, home: Path, how: str) -> None:
        self._path, self._how = home / "nightbeam.db", how
        self._aside = home / "elsewhere.db"
        self._holder: subprocess.Popen[str] | None = None
        self.gone = False

    def go(self) -> None:
        """Only once."""
        if self.gone:
            return
        self.gone = True
        if self._how == "renamed":
            self._path.rename(self._aside)
            return
        self._holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(self._path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline() == "held\n"

    def come_back(self) -> None:
        """As it was."""
        if self._how == "renamed":
            self._aside.rename(self._path)
        elif self._holder is not None:
            self._holder.communicate()
            self._holder = None


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is not waited for as long as in earnest: how long that is, is a test of the database's."""
    monkeypatch.setattr(connect, "BUSY_TIMEOUT_MS", 50)


Contents = dict[str, list[tuple[object, ...]]]


def contents(url: str) -> Contents:
    """What the database holds of a run, without names, numbers and times that are another's in every run."""
    questions = {
        "run": "SELECT state, exit_reason, verdict, attempt, actual_bytes, ended IS NULL FROM run ORDER BY id",
        "intent": "SELECT purpose, fluence_e_per_a2, closed IS NULL, substr(token, 22) FROM exposure_intent "
        "ORDER BY id",
        "dose": "SELECT intended_e_per_a2, delivered_e_per_a2, reason FROM dose_entry ORDER BY id",
        "dataset": "SELECT pass_index, purpose, frames, complete FROM dataset ORDER BY id",
        "quality": "SELECT stage, metric, analysis, verdict FROM quality_result ORDER BY id",
        "calibration": "SELECT kind, verdict, superseded_by IS NULL FROM calibration ORDER BY id",
        "used": "SELECT role FROM run_calibration ORDER BY id",
        "evidence": "SELECT c.kind, d.pass_index FROM calibration_evidence e JOIN calibration c ON "
        "c.id = e.calibration_id JOIN dataset d ON d.id = e.dataset_id ORDER BY 1, 2",
        "analysis": "SELECT method, verdict FROM analysis_result ORDER BY id",
        "snapshot": "SELECT phase, count(*) FROM device_snapshot s JOIN reading r ON r.snapshot_id = s.id "
        "GROUP BY 1 ORDER BY 1",
        "area": "SELECT name, fluence_budget_e_per_a2 FROM area ORDER BY id",
        "event": "SELECT kind FROM event WHERE kind != 'database back' ORDER BY sequence",
    }
    engine = open_engine(url)
    with reader(engine) as session:
        found = {name: [tuple(row) for row in session.execute(text(asked))] for name, asked in questions.items()}
    engine.dispose()
    return found


def url_of(home: Path) -> str:
    return f"sqlite:///{home / 'nightbeam.db'}"


def run_once(home: Path, prepare: Callable[[Lab], None] = lambda _opened: None) -> tuple[TargetState, list[Told]]:
    told: list[Told] = []
    with small_lab(home) as opened:
        opened.on_told = told.append
        prepare(opened)
        outcome = run_plan(opened, small("1_overview.yaml", 16), with_prefect=False)
    return outcome.state, told


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[TargetState, Contents]:
    """The same run with a database that is always there."""
    home = tmp_path_factory.mktemp("undisturbed")
    state, _told = run_once(home)
    return state, contents(url_of(home))


def when_recorded(
    monkeypatch: pytest.MonkeyPatch, is_it: Callable[[Operation], bool], then: Callable[[], None]
) -> None:
    """Have something happen just before an operation is recorded."""
    record = Recorder.record

    def watched(self: Recorder, one: Operation) -> int:
        if is_it(one):
            then()
        return record(self, one)

    monkeypatch.setattr(Recorder, "record", watched)


def arranged(moment: str, away: "Away | Killed | Full", monkeypatch: pytest.MonkeyPatch) -> Callable[[Lab], None]:
    """Make the database go away at a moment of the run; gives what is to be done to the open lab."""

    def on_told(opened: Lab) -> None:
        before = opened.on_told

        def told(one: Told) -> None:
            before(one)
            if one.kind == "run started":
                away.go()

        opened.on_told = told

    def on_progress(opened: Lab) -> None:
        opened.on_progress = lambda what, _progress: away.go() if " pass " in what else None

    if moment == "the run is open":
        return on_told
    if moment == "during the exposure":
        return on_progress
    if moment == "before the intent":
        when_recorded(monkeypatch, lambda one: isinstance(one, OpenIntent) and one.purpose == "acquisition", away.go)
    else:
        when_recorded(monkeypatch, lambda one: isinstance(one, FinishRun), away.go)
    return lambda _opened: None


MOMENTS = ("the run is open", "before the intent", "during the exposure", "at the end")


@contextmanager
def away_at(home: Path, how: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Away, list[Told]]]:
    """A run whose database goes away; it is still away when the session has ended."""
    away = Away(home, how)
    state, told = run_once(home, arranged(moment, away, monkeypatch))
    assert away.gone
    monkeypatch.undo()
    try:
        assert state in (TargetState.DONE, TargetState.MARKED)
        yield away, told
    finally:
        if how == "locked":
            away.come_back()


@pytest.mark.parametrize(
    ("how", "moment"),
    [
        ("renamed", "the run is open"),
        *(
            pytest.param(how, moment, marks=pytest.mark.slow)
            for how in ("renamed", "locked")
            for moment in MOMENTS
            if (how, moment) != ("renamed", "the run is open")
        ),
    ],
)
@pytest.mark.usefixtures("hurried")
def test_all_of_a_run_lands_once_when_the_database_is_back(
    how: str,
    moment: str,
    undisturbed: tuple[TargetState, Contents],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with away_at(tmp_path, how, moment, monkeypatch) as (away, told):
        assert [one.kind for one in told].count("database away") == 1
        assert waiting(tmp_path / "instruments" / NAME) > 0
        away.come_back()
        capsys.readouterr()
        with small_lab(tmp_path) as again:
            # Nothing was left open by anybody: the run had ended, and the database had not heard of it.
            assert again.left_open == ()
        assert "have landed" in capsys.readouterr().err
    assert waiting(tmp_path / "instruments" / NAME) == 0
    assert contents(url_of(tmp_path)) == undisturbed[1]
    with small_lab(tmp_path):
        pass
    assert contents(url_of(tmp_path)) == undisturbed[1]
    assert lit_as_booked(tmp_path)


def lit_as_booked(home: Path) -> bool:
    """Each time the beam was let through has an intent, by the column's own log."""
    lit = [one["area"] for one in column_log(home) if one["event"] == "unblank"]
    with sqlite3.connect(home / "nightbeam.db") as connection:
        question = "SELECT a.name FROM exposure_intent i JOIN area a ON a.id = i.area_id ORDER BY i.id"
        booked = [name for (name,) in connection.execute(question)]
    connection.close()
    return lit == booked


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_a_database_that_comes_back_in_the_run_has_it_all_at_its_end(
    undisturbed: tuple[TargetState, Contents],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = Away(tmp_path, "renamed")
    when_recorded(monkeypatch, lambda one: isinstance(one, OpenIntent) and one.purpose == "acquisition", away.go)
    when_recorded(monkeypatch, lambda one: isinstance(one, FinishRun), away.come_back)
    _state, told = run_once(tmp_path)
    kinds = [one.kind for one in told if one.kind.startswith("database")]
    assert kinds == ["database away", "database back"]
    assert contents(url_of(tmp_path)) == undisturbed[1]
    (page,) = (tmp_path / "reports").glob("r*.html")
    assert page.stat().st_size > 0


def test_without_the_database_nothing_is_begun(tmp_path: Path) -> None:
    with small_lab(tmp_path):
        pass
    seen = len(column_log(tmp_path))
    os.rename(tmp_path / "nightbeam.db", tmp_path / "elsewhere.db")
    (tmp_path / "nightbeam.db").mkdir()
    with pytest.raises(DatabaseAway, match="unable to open"), small_lab(tmp_path):
        pytest.fail("a session began")
    assert column_log(tmp_path)[seen:] == []


def lands_once(
    url: str, home: Path, moment: str, away: "Killed | Full", undisturbed: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose database, which is not in its home, goes away and comes back after the session."""
    settings = Settings(home=home, worker="inline", prefect=False, disk_reserve_gb=0, database_url=SecretStr(url))
    told: list[Told] = []
    try:
        with open_lab(settings, INSTRUMENT) as opened:
            opened.on_told = told.append
            arranged(moment, away, monkeypatch)(opened)
            outcome = run_plan(opened, small("1_overview.yaml", 16), with_prefect=False)
        assert away.gone
        assert outcome.state in (TargetState.DONE, TargetState.MARKED)
        assert [one.kind for one in told].count("database away") == 1
        assert waiting(home / "instruments" / NAME) > 0
        with pytest.raises(DatabaseAway), open_lab(settings, INSTRUMENT):
            pytest.fail("a session began")
    finally:
        away.come_back()
    monkeypatch.undo()
    with open_lab(settings, INSTRUMENT) as again:
        assert again.left_open == ()
    assert contents(url) == undisturbed


@pytest.mark.slow
@pytest.mark.skipif(not OWN, reason="said once, by test_db_postgres.py")
@pytest.mark.parametrize("moment", MOMENTS)
def test_all_of_a_run_lands_once_when_a_postgresql_server_was_killed_in_it(
    moment: str,
    undisturbed: tuple[TargetState, Contents],
    own_postgres: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with new_database(own_postgres.url) as url:
        upgrade(url)
        lands_once(url, tmp_path, moment, Killed(own_postgres), undisturbed[1], monkeypatch)


@pytest.mark.slow
def test_all_of_a_run_lands_once_when_the_disk_of_the_database_was_full(
    undisturbed: tuple[TargetState, Contents], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 4) as disk:
        url = f"sqlite:///{disk / 'nightbeam.db'}"
        lands_once(url, tmp_path / "home", "the run is open", Full(disk), undisturbed[1], monkeypatch)


class Killed:
    """A server that is killed once."""

    def __init__(self, server: Server) -> None:
        self._server, self.gone = server, False

    def go(self) -> None:
        """Only once."""
        if not self.gone:
            self.gone = True
            self._server.kill()

    def come_back(self) -> None:
        """It lives again."""
        self._server.start()


class Full:
    """A disk that is filled once."""

    def __init__(self, disk: Path) -> None:
        self._filler, self.gone = disk / "filler", False

    def go(self) -> None:
        """Only once."""
        if not self.gone:
            self.gone = True
            with self._filler.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(b"x" * 4096):
                    pass

    def come_back(self) -> None:
        """There is room again."""
        self._filler.unlink()
