"""What `nightbeam status` says of a night that died, and of a status that is not whole."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from devices.lease import owned
from flows.cli.app import app
from flows.running import Running, in_one_line, running, standing
from stem4d.errors import BadInput
from storage.orders import write_status
from storage.settings import Settings

WHOLE: dict[str, Any] = {
    "night": "n20261127-200000-1a2b",
    "instrument": "stem",
    "state": "running",
    "stopping": "",
    "targets": 5,
    "ended": {"done": 2},
    "target": {"name": "t2", "number": 3, "sample": "film", "area": "a1"},
    "stage": "expose",
    "scan": {"name": "pass 1/1", "frames_done": 50, "frames_total": 100, "frames_per_s": 10.0, "losses": ""},
    "quality": [],
    "predicted_end": "2026-11-28T05:30:00+00:00",
    "predicted_left": "1 h",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path))
    (tmp_path / "instruments" / "stem").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("state", ["running", "paused", "waiting"])
def test_a_night_whose_process_died_is_said_to_have(state: str, home: Path) -> None:
    folder = home / "instruments" / "stem"
    write_status(folder, {**WHOLE, "state": state, "pid": os.getpid()})
    # Held by a command that began after it, too, it is a dead one's; a process holds a lock for itself alone.
    told = CliRunner().invoke(app, ["status"])
    assert told.exit_code == 2
    assert "night n20261127-200000-1a2b on stem died without an end: its process is gone" in told.stderr
    assert "`nightbeam recover`" in told.stderr
    assert "`nightbeam night FILE` goes on" in told.stderr
    with owned("stem", folder):
        assert running(Settings(home=home), None).status["state"] == state
        write_status(folder, {**WHOLE, "state": state, "pid": 1})
        with pytest.raises(BadInput, match="died without an end"):
            running(Settings(home=home), None)


@pytest.mark.parametrize("state", ["done", "stopped", "failed", "single run", None, []])
def test_a_night_that_has_ended_did_not_die(state: object, home: Path) -> None:
    write_status(home / "instruments" / "stem", {**WHOLE, "state": state, "pid": 1})
    told = CliRunner().invoke(app, ["status"])
    assert (told.exit_code, told.stdout) == (0, "no night runs here; `nightbeam show latest` tells of the last one\n")
    assert json.loads(CliRunner().invoke(app, ["status", "-i", "stem", "--json"]).stdout)["state"] == "none runs"
    assert CliRunner().invoke(app, ["status", "-i", "other"]).exit_code == 2
    # There is nothing to be ordered.
    assert CliRunner().invoke(app, ["stop"]).exit_code == 2


def test_a_whole_status_in_one_line() -> None:
    assert in_one_line(WHOLE) == (
        "n20261127-200000-1a2b on stem running; target 3 of 5 (t2); expose pass 1/1, 50% at 10 frames/s;"
        " so far 2 done; predicted end 2026-11-28 05:30 UTC (1 h left)"
    )


@pytest.mark.parametrize("wrong", ["a text", 3, [1], {"x": 1}, None, "\n"])
def test_a_status_that_is_not_whole_is_told_as_far_as_it_goes(wrong: object, home: Path) -> None:
    settings, folder = Settings(home=home), home / "instruments" / "stem"
    for name in WHOLE:
        lacking = {key: value for key, value in WHOLE.items() if key != name}
        for facts in (lacking, {**lacking, name: wrong}, {**lacking, name: wrong, "run": wrong, "dose": wrong}):
            assert "\n" not in in_one_line(standing(settings, Running("stem", folder, facts)))


def test_quality_so_far_is_no_traceback_where_the_database_is_away(home: Path) -> None:
    """The file has a list of figures, the database their worst."""
    judged = [{"metric": "drift", "verdict": "fail", "analysis": None, "message": ""}]
    facts = standing(Settings(home=home), Running("stem", home, {**WHOLE, "run": "r1", "quality": judged}))
    assert "dose and quality are not known" in in_one_line(facts)


def test_instruments_that_are_a_file_are_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path))
    (tmp_path / "instruments").write_text("")
    for arguments in (["recover"], ["recover", "--json"], ["status"], ["stop"]):
        told = CliRunner().invoke(app, arguments)
        assert (told.exit_code, "is a file where a folder has to be" in told.output) == (2, True), told.output
    assert json.loads(CliRunner().invoke(app, ["recover", "--json"]).stdout)["remedy"].startswith("Move it away")
