"""kill -9 of a run at moments of a pass: the next start closes it, twice is as once, and no dose is under-counted."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from db.engine import Engine, open_engine, reader
from db.questions.show import show_run
from devices.column_log import beam_on
from flows.left import close_instruments
from storage.settings import Settings
from tasks.lab import open_lab
from tests.devices.server_world import folder_of
from tests.faults.killed_run import MOMENTS
from tests.flows.dose_world import Truth, truth, write_film
from tests.flows.night_world import NAME

ROOT = Path(__file__).parents[2]
NEVER_LIT = {"before the beam is let through"}
NEVER_BOOKED = {"before the booking", "in the booking's transaction"}


def kill_a_run(home: Path, moment: str, passes: int = 2, worker: str = "inline") -> Settings:
    """Start a run that kills itself; gives the settings of the home it leaves."""
    instrument = write_film(home)
    command = [sys.executable, "-m", "tests.faults.killed_run"]
    done = subprocess.run(
        [*command, str(home), str(instrument), moment, str(passes), worker],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    return Settings(home=home, worker="inline", prefect=False, disk_reserve_gb=0)


def rows(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the database but who owned the instrument, which every look at it adds to."""
    with engine.connect() as connection:
        tables = sorted(set(inspect(connection).get_table_names()) - {"lease", "alembic_version"})
        return {
            table: [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY 1"))]
            for table in tables
        }


def closed_twice(settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """Recover, and again, which changes nothing; gives the run and what was said the first time."""
    engine = open_engine(settings.database_url.get_secret_value())
    try:
        (first,) = close_instruments(settings, engine, None)
        assert first.trouble == ""
        once = rows(engine)
        files = sorted(path.name for path in settings.data_folder.rglob("*"))
        (second,) = close_instruments(settings, engine, None)
        assert (second.lines, second.trouble) == ((), "")
        assert rows(engine) == once
        assert sorted(path.name for path in settings.data_folder.rglob("*")) == files
        with reader(engine) as session:
            return show_run(session, name=once["run"][0][1]), list(first.lines)
    finally:
        engine.dispose()


def must_cover(shown: dict[str, Any], real: Truth) -> None:
    """The ledger never says less than the specimen has received."""
    entries = shown["exposures"]
    assert all(one["delivered_e_per_a2"] is not None for one in entries)
    assert sum(one["delivered_e_per_a2"] for one in entries) >= real.highest() * (1 - 1e-5)
    known = [one["electrons"] for one in entries]
    if None not in known:
        assert sum(known) >= real.electrons * (1 - 1e-5)


def check(home: Path, moment: str) -> None:
    settings = kill_a_run(home, moment)
    # The server has lost its only client, and is asked to end, which the beam has to be off for.
    real = truth(home)
    assert beam_on(folder_of(home, NAME)) is None
    shown, said = closed_twice(settings)
    assert shown["state"] == "crashed"
    assert "killed_run" in shown["exit_reason"]
    assert any("left open by a process that died" in line for line in said)
    must_cover(shown, real)
    entries = shown["exposures"]
    if moment in NEVER_BOOKED:
        assert entries == []
    if moment in NEVER_LIT:
        (entry,) = entries
        assert (entry["delivered_e_per_a2"], entry["electrons"]) == (0, 0)
        assert "never let through" in entry["reason"]
    # A next session finds everything closed, owns the instrument, and may expose.
    with open_lab(settings, home / "instrument.toml") as opened:
        assert opened.left_open == ()
        assert opened.instrument.gate.is_blanked()


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_is_killed_anywhere_is_closed_and_charged(tmp_path: Path, moment: str) -> None:
    check(tmp_path, moment)


@pytest.mark.slow
def test_frames_of_a_killed_run_are_saved_by_the_next_start(tmp_path: Path) -> None:
    settings = kill_a_run(tmp_path, "at frame 300", worker="child")
    with open_lab(settings, tmp_path / "instrument.toml") as opened:
        (run,) = opened.left_open
        assert any(
            "flushed frames of pass1.h5.partial saved as pass1.recovered.h5" in line for line in opened.left_words
        )
        with reader(opened.engine) as session:
            shown = show_run(session, name=run)
    assert any(one["frames"] for one in shown["datasets"])
    again, said = closed_twice(settings)
    assert said == []
    assert json.dumps(again, default=str) == json.dumps(shown, default=str)


@pytest.mark.slow
def test_a_run_whose_column_log_is_gone_is_charged_as_booked(tmp_path: Path) -> None:
    settings = kill_a_run(tmp_path, "before the beam is let through")
    truth(tmp_path)
    (folder_of(tmp_path, NAME) / "column.jsonl").unlink()
    shown, _said = closed_twice(settings)
    (entry,) = shown["exposures"]
    assert entry["delivered_e_per_a2"] == entry["intended_e_per_a2"] > 0
    assert "does not tell of the session" in entry["reason"]
