"""What a body has done is never done again, whenever Prefect is lost; what is its own fault stays its own."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flows import by_prefect
from flows.by_prefect import as_calls, as_tasks, seen_by_prefect
from stem4d.model import canonical_json
from tasks.lab import Lab
from tests.flows.night_world import INSTRUMENT, small

Body = Callable[[], Any]


class Gone(Exception):
    """Stands for whatever Prefect's client raises."""


def lost_before(_body: Body) -> Any:
    raise Gone


def lost_after(body: Body) -> Any:
    body()
    raise Gone


def answering(body: Body) -> Any:
    return body()


class Run:
    """A flow with an engine of its own, and what its body was called with."""

    def __init__(self, engine: Callable[[Body], Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.warned: list[str] = []
        self.calls: list[object] = []
        self.opened = cast(Lab, SimpleNamespace(warn=lambda _kind, words: self.warned.append(words)))
        monkeypatch.setattr(by_prefect, "flow", lambda **_options: lambda body: lambda return_state: engine(body))

    def body(self, call: object) -> str:
        self.calls.append(call)
        return "done"

    def __call__(self, body: Callable[[Any], str]) -> tuple[str, str]:
        return seen_by_prefect(self.opened, "target", "a {title}", body, lambda _: None)


@pytest.mark.parametrize(
    ("engine", "how", "lost"),
    [(answering, as_tasks, False), (lost_before, as_calls, True), (lost_after, as_tasks, True)],
)
def test_the_body_runs_once(
    engine: Callable[[Body], Any], how: object, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(engine, monkeypatch)
    came, why = run(run.body)
    assert (came, run.calls) == ("done", [how])
    assert bool(why) == lost
    assert len(run.warned) == lost


def test_an_error_of_the_body_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_call: object) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Run(answering, monkeypatch)(fails)


@pytest.mark.slow
def test_a_server_that_is_gone_before_keeps_no_run_from_its_data(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(canonical_json(small("1_overview.yaml", 16)))
    own = {"NIGHTBEAM_HOME": str(tmp_path / "home"), "NIGHTBEAM_PREFECT_API": "named"}
    away = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "NIGHTBEAM_DISK_RESERVE_GB": "0"}
    command = ["run", str(tmp_path / "plan.json"), "-i", str(INSTRUMENT), "--yes", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *command],
        env={**os.environ, **own, **away},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert (tmp_path / "home" / "data" / run / "pass1.h5").is_file()
    with sqlite3.connect(tmp_path / "home" / "nightbeam.db") as connection:
        told = connection.execute("SELECT message FROM event WHERE kind = 'prefect'").fetchall()
    connection.close()
    assert told == [("everything goes on without Prefect: the server does not answer",)]
