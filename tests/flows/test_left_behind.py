"""What a session that died leaves behind, and a database that does not know the column: said, and no dead end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import event, select

from db.engine import open_engine, reader, writer
from db.models import Event
from db.questions.show import show_run
from db.record import register_area, register_plan, register_sample, start_run
from devices.registry import open_instrument
from devices.simulator.remote import RemoteGate, RemoteInstrument
from flows.examine.record import left_open
from flows.run import run_plan
from stem4d.dose import DoseLease
from stem4d.errors import DeviceFault, DoseRefused, InstrumentTaken
from stem4d.instrument import InstrumentFile
from stem4d.model import canonical_json
from stem4d.night import TargetState
from storage.documents import load_model
from storage.settings import Settings
from tasks.calibrations.bench import Bench
from tasks.calibrations.measure import GROUPS, _group
from tasks.calibrations.measured import Measured
from tasks.lab import Told
from tests.devices.server_world import blanked, ended, folder_of, gave_up_its_lock
from tests.flows.night_world import INSTRUMENT, NAME, PLANS, column_log, small, small_lab

PLAN = PLANS / "demo" / "1_overview.yaml"


def leave_the_beam_on(home: Path) -> None:
    """All that a kill -9 leaves of a session: a closed connection, and a run that the database has as running."""
    settings = Settings(home=home)
    home.mkdir(parents=True, exist_ok=True)
    engine = open_engine(settings.database_url.get_secret_value())
    with writer(engine) as session:
        sample = register_sample(session, name="left")
        area = register_area(session, sample_id=sample, name="lamella-1", fluence_budget_e_per_a2=1.0)
        plan = small("1_overview.yaml", 16)
        plan_id = register_plan(session, name=plan.name, canonical_json=canonical_json(plan))
        start_run(session, name="left-run", plan_id=plan_id, area_id=area, instrument=NAME)
    engine.dispose()
    left = open_instrument(load_model(INSTRUMENT, InstrumentFile), home)
    assert isinstance(left, RemoteInstrument)
    left.gate.unblank(DoseLease("lamella-1", 1.0, 700, time.monotonic() + 60))
    left._line.close()
    # One who comes before the server has seen this one go would own a beam that is on.
    assert blanked(home, NAME)


def test_the_next_session_says_that_the_beam_was_on_where_and_since_when(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_the_beam_on(tmp_path)
    warned = {line.what: f"{line.ok} {line.found}" for line in left_open(Settings(home=tmp_path))}
    assert "process that died" in warned["run left-run"]
    with small_lab(tmp_path) as opened:
        told = capsys.readouterr()
        # On standard error whatever the mode, so that JSON and lists stay what they are.
        assert told.out == ""
        assert "left-run was left open by a process that died" in told.err
        assert "the beam was left on at lamella-1 since 20" in told.err
        assert "until the instrument blanked it by itself" in told.err
        with reader(opened.engine) as session:
            (message,) = session.scalars(select(Event.message).filter_by(kind="safety")).all()
        assert message == opened.beam_found
    assert list(left_open(Settings(home=tmp_path))) == []


def test_doctor_and_the_next_session_name_a_beam_that_is_still_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server is killed with its client: nobody was left to blank."""
    left = open_instrument(load_model(INSTRUMENT, InstrumentFile), tmp_path)
    left.gate.unblank(DoseLease("flake-1", 1.0, 7, time.monotonic() + 60))
    folder = folder_of(tmp_path, NAME)
    pid = json.loads((folder / "server.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    assert ended(pid)
    assert gave_up_its_lock(folder)
    with pytest.raises(DeviceFault):
        left.close()
    (beam,) = left_open(Settings(home=tmp_path))
    assert (beam.what, beam.ok) == (f"beam of {NAME}", False)
    assert "left ON, at flake-1 since 20" in beam.found
    with small_lab(tmp_path):
        assert "the beam was left on at flake-1 since 20" in capsys.readouterr().err
    assert list(left_open(Settings(home=tmp_path))) == []


@pytest.mark.slow
def test_a_run_with_json_keeps_its_standard_output_clean(tmp_path: Path) -> None:
    leave_the_beam_on(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", str(PLAN), "-i", str(INSTRUMENT), "--json", "--no-prefect", "--yes"],
        env={**os.environ, "NIGHTBEAM_HOME": str(tmp_path), "NIGHTBEAM_DISK_RESERVE_GB": "0"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    json.loads(done.stdout)
    assert "left-run was left open" in done.stderr
    assert "beam was left on at lamella-1" in done.stderr


@pytest.mark.slow
def test_an_old_instrument_with_a_new_database_goes_on_exposing(tmp_path: Path) -> None:
    leave_the_beam_on(tmp_path)
    (tmp_path / "nightbeam.db").unlink()
    with small_lab(tmp_path) as opened:
        outcome = run_plan(opened, small("1_overview.yaml", 24), with_prefect=False)
    assert outcome.state in (TargetState.DONE, TargetState.MARKED), outcome.reason
    tokens = [one["token"] for one in column_log(tmp_path) if one["event"] == "unblank"]
    assert tokens[0] == 700
    assert tokens == sorted(set(tokens))


def test_an_exposure_that_the_gate_refuses_fails_and_books_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = RemoteGate.newest_token
    # Another owner exposes between the moment the token is taken and the moment it is shown.
    monkeypatch.setattr(RemoteGate, "newest_token", lambda gate: _taken_meanwhile(gate, newest))
    with small_lab(tmp_path) as opened:
        outcome = run_plan(opened, small("1_overview.yaml", 16), with_prefect=False)
        with reader(opened.engine) as session:
            shown = show_run(session, name=outcome.runs[0])
    assert outcome.state is TargetState.FAILED
    assert "another owner has taken the instrument" in outcome.reason
    assert shown["state"] == "failed"
    (entry,) = shown["exposures"]
    assert entry["delivered_e_per_a2"] == 0
    assert "never let through" in entry["reason"]


def _taken_meanwhile(gate: RemoteGate, newest: Callable[[RemoteGate], int]) -> int:
    token = newest(gate)
    gate.unblank(DoseLease("vacuum", 1.0, token + 1000, time.monotonic() + 60, owner_token=gate.see_owner(0)))
    gate.blank()
    return token


def test_a_takeover_is_no_verdict_on_a_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: Exception) -> None:
        def measure(_bench: Bench) -> tuple[Measured, ...]:
            raise error

        monkeypatch.setitem(GROUPS, "dark_flat", measure)

    bench = cast(Bench, SimpleNamespace(known={}, integrates=False))
    raising(DoseRefused("the area has no budget left"))
    (refused,) = _group(bench, "dark_flat")
    assert (refused.kind, refused.verdict) == ("dark_flat", "not_measurable")
    raising(InstrumentTaken("another owner has taken the instrument"))
    with pytest.raises(InstrumentTaken):
        _group(bench, "dark_flat")


def test_a_server_that_is_killed_gives_words_and_the_warning(tmp_path: Path) -> None:
    told: list[str] = []

    def run_and_kill() -> None:
        with small_lab(tmp_path) as opened:
            opened.on_told = lambda one: told.append(f"{one.kind}: {one.message}")
            opened.on_progress = lambda _what, _progress: _kill_the_server(tmp_path)
            outcome = run_plan(opened, small("1_overview.yaml", 64), with_prefect=False)
            assert outcome.state is TargetState.FAILED
            # The first error stands first.
            assert "has ended" in outcome.reason.partition("THE BEAM MAY STILL BE ON")[0]

    with pytest.raises(DeviceFault, match="THE BEAM MAY STILL BE ON") as caught:
        run_and_kill()
    lines = [line for line in told if line.startswith("safety")]
    assert lines
    for line in (*lines, str(caught.value)):
        assert "blank the beam: the simulated instrument" in line
        assert "SafeStep(" not in line


def _kill_the_server(home: Path) -> None:
    pid = json.loads((folder_of(home, NAME) / "server.json").read_text())["pid"]
    # Progress is told more than once, and the second time it is dead already.
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_a_run_that_a_full_database_cannot_close_ends_with_its_own_error_and_is_closed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own limit of pages stands for the disk's."""

    def fill_and_fail(*_arguments: object) -> None:
        opened.engine.dispose()
        event.listen(opened.engine, "connect", lambda connection, _record: _no_more_pages(connection))
        # Longer than what is free in the pages that there are.
        raise DeviceFault("the first error " + "x" * 200_000)

    class Stage:
        fn = staticmethod(fill_and_fail)

    told: list[str] = []
    monkeypatch.setattr("flows.run.prepare", Stage)
    with small_lab(tmp_path) as opened:
        opened.on_told = lambda one: told.append(f"{one.kind}: {one.message}")
        outcome = run_plan(opened, small("1_overview.yaml", 16), with_prefect=False)
    assert outcome.reason.startswith("the first error")
    (line,) = (line for line in told if line.startswith("database away"))
    assert "full" in line
    with small_lab(tmp_path) as again:
        assert again.left_open == ()
        with reader(again.engine) as session:
            shown = show_run(session, name=outcome.runs[0])
    assert (shown["state"], shown["exit_reason"]) == ("failed", outcome.reason)


def _no_more_pages(connection: Any) -> None:
    connection.execute("PRAGMA max_page_count = 1").fetchone()


def test_an_instrument_that_cannot_be_closed_is_told_beside_the_error_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[Told] = []

    def fail() -> None:
        with small_lab(tmp_path) as opened:
            opened.on_told = lines.append
            closed = opened.instrument.close

            def close() -> None:
                closed()
                raise DeviceFault("the line is dead")

            monkeypatch.setattr(opened.instrument, "close", close)
            raise DeviceFault("the valve is shut")

    with pytest.raises(DeviceFault, match="the valve is shut"):
        fail()
    assert [one.message for one in lines] == [f"{NAME} could not be closed: the line is dead"]
