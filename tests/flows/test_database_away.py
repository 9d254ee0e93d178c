"""The database goes away in a run, at several moments: the run goes on, and all of it lands once."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from db import connect
from db.errors import DatabaseAway
from db.operations import FinishRun, OpenIntent, Operation
from db.recorder import Recorder
from flows.run import run_plan
from stem4d.night import TargetState
from tasks.lab import Lab, Told
from tasks.outbox import waiting
from tests.flows.night_world import NAME, column_log, small, small_lab

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


def contents(home: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the database holds of a run, without names, numbers and times that are another's in every run."""
    questions = {
        "run": "SELECT state, exit_reason, verdict, attempt, actual_bytes, ended IS NULL FROM run",
        "intent": "SELECT purpose, fluence_e_per_a2, closed IS NULL, substr(token, 22) FROM exposure_intent",
        "dose": "SELECT intended_e_per_a2, delivered_e_per_a2, reason FROM dose_entry",
        "dataset": "SELECT pass_index, purpose, frames, complete FROM dataset",
        "quality": "SELECT stage, metric, analysis, verdict FROM quality_result",
        "calibration": "SELECT kind, verdict, superseded_by IS NULL FROM calibration",
        "used": "SELECT role FROM run_calibration",
        "evidence": "SELECT c.kind, d.pass_index FROM calibration_evidence e JOIN calibration c ON "
        "c.id = e.calibration_id JOIN dataset d ON d.id = e.dataset_id ORDER BY 1, 2",
        "analysis": "SELECT method, verdict FROM analysis_result",
        "snapshot": "SELECT phase, count(*) FROM device_snapshot s JOIN reading r ON r.snapshot_id = s.id GROUP BY 1",
        "area": "SELECT name, fluence_budget_e_per_a2 FROM area",
        "event": "SELECT kind FROM event WHERE kind != 'database back'",
    }
    with sqlite3.connect(home / "nightbeam.db") as connection:
        found = {name: connection.execute(question).fetchall() for name, question in questions.items()}
    connection.close()
    return found


def run_once(home: Path, prepare: Callable[[Lab], None] = lambda _opened: None) -> tuple[TargetState, list[Told]]:
    told: list[Told] = []
    with small_lab(home) as opened:
        opened.on_told = told.append
        prepare(opened)
        outcome = run_plan(opened, small("1_overview.yaml", 16), with_prefect=False)
    return outcome.state, told


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[TargetState, dict[str, list[tuple[object, ...]]]]:
    """The same run with a database that is always there."""
    home = tmp_path_factory.mktemp("undisturbed")
    state, _told = run_once(home)
    return state, contents(home)


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


def arranged(moment: str, away: Away, monkeypatch: pytest.MonkeyPatch) -> Callable[[Lab], None]:
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
        ("locked", "during the exposure"),
        *(
            pytest.param(how, moment, marks=pytest.mark.slow)
            for how in ("renamed", "locked")
            for moment in MOMENTS
            if (how, moment) not in (("renamed", "the run is open"), ("locked", "during the exposure"))
        ),
    ],
)
@pytest.mark.usefixtures("hurried")
def test_all_of_a_run_lands_once_when_the_database_is_back(
    how: str,
    moment: str,
    undisturbed: tuple[TargetState, dict[str, list[tuple[object, ...]]]],
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
    assert contents(tmp_path) == undisturbed[1]
    with small_lab(tmp_path):
        pass
    assert contents(tmp_path) == undisturbed[1]
    assert lit_as_booked(tmp_path)


def lit_as_booked(home: Path) -> bool:
    """Each time the beam was let through has an intent, by the column's own log."""
    lit = [one["area"] for one in column_log(home) if one["event"] == "unblank"]
    with sqlite3.connect(home / "nightbeam.db") as connection:
        question = "SELECT a.name FROM exposure_intent i JOIN area a ON a.id = i.area_id ORDER BY i.id"
        booked = [name for (name,) in connection.execute(question)]
    connection.close()
    return lit == booked


@pytest.mark.usefixtures("hurried")
def test_a_database_that_comes_back_in_the_run_has_it_all_at_its_end(
    undisturbed: tuple[TargetState, dict[str, list[tuple[object, ...]]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = Away(tmp_path, "renamed")
    when_recorded(monkeypatch, lambda one: isinstance(one, OpenIntent) and one.purpose == "acquisition", away.go)
    when_recorded(monkeypatch, lambda one: isinstance(one, FinishRun), away.come_back)
    _state, told = run_once(tmp_path)
    kinds = [one.kind for one in told if one.kind.startswith("database")]
    assert kinds == ["database away", "database back"]
    assert contents(tmp_path) == undisturbed[1]
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
