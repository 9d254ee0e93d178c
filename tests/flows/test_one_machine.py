"""`nightbeam serve --deployments`: a night by its schedule is ended safely with it, and goes on with the next one."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.devices.server_world import entries
from tests.flows.facility_world import until, write_plans
from tests.flows.serving import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CONFIG = {
    "name": "one",
    "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $NIGHTBEAM_PLANS }}"}}],
    "deployments": [
        {
            "name": "nightly",
            "entrypoint": "flows.deployed.night.night",
            "parameters": {"night_file": "night-one.json", "source": "schedule"},
            "schedules": [{"cron": "* * * * *", "timezone": "Europe/Vienna"}],
            "concurrency_limit": 1,
            "work_pool": {"name": "instrument-one"},
        }
    ],
}


@contextmanager
def serving(home: Path, plans: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command until the end of the block, and the address of its pages; whatever it started is gone afterwards."""
    ports = ("--port", "0", "--prefect-port", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve", "--deployments", str(plans / "prefect.yaml"), *ports],
        env=environment(home, NIGHTBEAM_DISK_RESERVE_GB="0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("http://"), process.poll()
        children = psutil.Process(process.pid).children(recursive=True)
        yield process, said.split()[0]
        children += psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 143
        _gone, alive = psutil.wait_procs(children, timeout=10)
        assert [one.name() for one in alive] == []
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def launches(home: Path) -> list[dict[str, Any]]:
    with sqlite3.connect(home / "nightbeam.db") as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute("SELECT * FROM launch ORDER BY id")]
    connection.close()
    return found


def lit(home: Path) -> bool:
    """Whether the beam is on a specimen now."""
    beam = [one for one in entries(home, "one") if one["event"] in ("blank", "unblank")]
    return bool(beam) and beam[-1]["event"] == "unblank" and beam[-1].get("area") != "vacuum"


def test_a_scheduled_night_is_ended_safely_and_goes_on(tmp_path: Path) -> None:
    home, plans = tmp_path / "home", tmp_path / "plans"
    write_plans(plans, 3)
    (plans / "prefect.yaml").write_text(yaml.safe_dump(CONFIG))
    with serving(home, plans) as (_process, url):
        assert httpx.get(url, timeout=30).status_code == 200
        note = home / "prefect" / "api.json"
        assert note.stat().st_mode & 0o777 == 0o600
        until(lambda: launches(home), 150, "no night by the clock")
        until(lambda: lit(home), 150, "no beam")
    (first,) = launches(home)
    assert (first["state"], first["attempt"]) == ("terminated", 1)
    assert not lit(home)
    # The night that was ended goes on, and no other begins meanwhile.
    CONFIG["deployments"][0]["schedules"] = []  # type: ignore[index]
    (plans / "prefect.yaml").write_text(yaml.safe_dump(CONFIG))
    with serving(home, plans):
        until(lambda: launches(home)[0]["state"] in ("done", "warned"), 300, "it did not go on")
    (again,) = [one for one in launches(home) if one["state"] != "terminated"][:1]
    assert (again["name"], again["attempt"]) == (first["name"], 2)
    with sqlite3.connect(home / "nightbeam.db") as connection:
        states = connection.execute(
            "SELECT target.state FROM target JOIN night ON night.id = night_id WHERE night.name = ?", (first["name"],)
        )
        assert {state for (state,) in states} == {"done"}
    connection.close()
    assert json.loads((home / "prefect" / "password.json").read_text())["password"]
