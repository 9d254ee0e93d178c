"""The walk of docs/facility.md on loopback: nights on two instruments that start, die and go on by themselves."""

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import pytest
import yaml
from sqlalchemy import select, text

from db.engine import Engine, open_engine, reader
from db.models import Launch, Lease, Night, Target
from storage.processes import ProcessMark, lives
from tests.devices.server_world import entries
from tests.flows.facility_world import Facility, end_flow, until, write_plans
from tests.flows.inspect_world import counts
from tests.postgres import INSTALLED, Server, administer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TARGETS = 4
OFF_WITHIN_S = 5.0
"""After kill -9, by the column's own log."""


def deployments(plans: Path) -> Path:
    """One works by the clock, the other when its sample is loaded; files are judged elsewhere."""
    loaded = {
        "type": "event",
        "expect": ["nightbeam.sample.loaded"],
        "match": {"prefect.resource.id": "nightbeam.instrument.two"},
        "parameters": {"night_file": "night-two.json", "source": "event", "key": "{{ event.id | string }}"},
    }
    night = "flows.deployed.night.night"
    listed: list[dict[str, Any]] = [
        {
            "name": "nightly-one",
            "entrypoint": night,
            "parameters": {"night_file": "night-one.json", "source": "schedule"},
            "schedules": [{"cron": "* * * * *", "timezone": "Europe/Vienna"}],
            "concurrency_limit": 1,
            "work_pool": {"name": "instrument-one"},
        },
        {
            "name": "loaded-two",
            "entrypoint": night,
            "parameters": {"night_file": "night-two.json"},
            "triggers": [loaded],
            "work_pool": {"name": "instrument-two"},
        },
        {
            "name": "files",
            "entrypoint": "flows.deployed.reanalyse.reanalyse",
            "work_pool": {"name": "instrument-analysis"},
        },
    ]
    pull = [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $NIGHTBEAM_PLANS }}"}}]
    path = plans / "prefect.yaml"
    path.write_text(yaml.safe_dump({"name": "facility", "pull": pull, "deployments": listed}))
    return path


@pytest.fixture
def facility(tmp_path: Path) -> Iterator[Facility]:
    if INSTALLED is None:
        pytest.skip("Debian's PostgreSQL, for its extension pg_trgm: apt-get install postgresql")
    server = Server(programs=INSTALLED.parent, max_connections="100")
    for name in ("prefect", "nightbeam"):
        administer(server.url, f"CREATE DATABASE {name}")
    one = Facility(tmp_path, server.url)
    yield one
    one.close()
    server.remove()


class Record:
    """What PostgreSQL has of it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def launches(self, **wanted: str) -> list[Launch]:
        with reader(self._engine) as session:
            found = list(session.scalars(select(Launch).filter_by(**wanted).order_by(Launch.id)))
            session.expunge_all()
        return found

    def all_of(self, table: Any) -> list[Any]:
        with reader(self._engine) as session:
            found = list(session.scalars(select(table)))
            session.expunge_all()
        return found

    def asked(self, statement: str) -> list[Any]:
        with reader(self._engine) as session:
            return [tuple(row) for row in session.execute(text(statement))]


def test_two_instruments_through_a_night_with_everything_that_can_die(facility: Facility, tmp_path: Path) -> None:
    began = time.monotonic()
    plans = tmp_path / "plans"
    write_plans(plans, TARGETS)
    facility.begin_server()
    facility.command("db", "upgrade")
    for pool in ("one", "two", "analysis"):
        facility.prefect("work-pool", "create", f"instrument-{pool}", "--type", "process")
    facility.prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(deployments(plans)))
    engine = open_engine(facility.database)
    record = Record(engine)
    try:
        for pool in ("one", "two", "analysis"):
            facility.begin_worker(pool)

        # The clock starts a night on one, and a sample that was loaded one on two.
        facility.command("emit", "sample.loaded", "--instrument", "two")
        (one,) = until(lambda: record.launches(flow="night", source="schedule"), 120, "no night by the clock")
        facility.prefect("--no-prompt", "deployment", "schedule", "pause", "--all")
        until(lambda: record.launches(flow="night", source="event"), 60, "no night by the event")
        # The night on two asks a person, who lets it begin.
        until(lambda: allow(facility), 120, "nobody is asked")
        until(lambda: lit(facility, "one") and lit(facility, "two"), 240, "not both at work")
        assert {launch.state for launch in record.launches(flow="night")} == {"running"}

        # A file that comes is judged, once.
        watched = tmp_path / "incoming"
        watched.mkdir()
        watch(facility, watched)
        with h5py.File(tmp_path / "scan.h5", "w") as file:
            file["data"] = counts()
        (tmp_path / "scan.h5").rename(watched / "scan.h5")

        # The worker of one and its flow are killed in the middle: the beam is off, and the next start goes on.
        (one,) = record.launches(flow="night", source="schedule")
        until(lambda: not dark(facility, "one"), 240, "no beam to kill")
        killed = time.time()
        end_flow(mark_of(one))
        facility.kill("worker-one")
        until(lambda: dark(facility, "one"), OFF_WITHIN_S + 5, "the beam stays on")
        assert last(facility, "one", "blank") - killed < OFF_WITHIN_S
        facility.begin_worker("one")

        # The server is killed as well, while both run.
        until(lambda: record.launches(flow="night", source="schedule")[0].attempt == 2, 90, "one does not go on")
        until(lambda: record.launches(flow="reanalyse"), 60, "the file was not judged")
        facility.kill("server")
        until(lambda: not any(one.state == "running" for one in record.launches(flow="night")), 300, "not both ended")

        # All is complete and registered without it, and put right when it is back.
        assert {night.state for night in record.all_of(Night)} == {"done"}
        assert {target.state for target in record.all_of(Target)} == {"done"}
        assert len(record.all_of(Target)) == 2 * TARGETS
        facility.begin_server()
        # They try for half a minute to tell their end.
        until(lambda: not any(lives(mark_of(one)) for one in record.launches()), 90, "a flow does not end")
        for instrument in ("one", "two"):
            facility.command("reconcile", instrument=instrument)
        states = flow_runs(facility)
        shown = {(one.flow, one.state, one.reason or "", *states[one.flow_run_id]) for one in record.launches()}
        assert {name for *_record, name, _message in shown} <= {"Completed", "Completed with warnings"}, shown

        (said,) = record.asked("SELECT message FROM event WHERE kind = 'approval'")
        assert "allowed by Anna" in said[0]

        # Nothing twice: one pass of each target whole, no exposure open, and no two owners at one time.
        passes = (
            "SELECT run.target_id, count(*) FROM dataset JOIN run ON run.id = dataset.run_id "
            "WHERE dataset.purpose = 'acquisition' AND dataset.complete GROUP BY run.target_id"
        )
        assert sorted(number for _target, number in record.asked(passes)) == [1] * (2 * TARGETS)
        assert record.asked("SELECT count(*) FROM exposure_intent WHERE closed IS NULL") == [(0,)]
        owned = sorted(record.all_of(Lease), key=lambda lease: (lease.instrument, lease.token))
        for earlier, later in pairwise(owned):
            assert earlier.instrument != later.instrument or earlier.released <= later.taken
        assert len(record.launches(flow="reanalyse")) == 1
        assert time.monotonic() - began < 480  # the walk is to take less than eight minutes
    finally:
        engine.dispose()


def mark_of(launch: Launch) -> ProcessMark:
    return ProcessMark(launch.host, launch.pid, launch.process_began)


def watch(facility: Facility, folder: Path) -> None:
    """A folder is watched by a process of its own; what is there before its first look is new as well."""
    one = {"folder": str(folder), "pattern": "*.h5", "deployment": "reanalyse/files", "settle_s": 1.0, "existing": True}
    own = {"NIGHTBEAM_WATCH": json.dumps([{**one, "parameters": {"file": "{path}"}}])}
    facility.begin("watch", [sys.executable, "-m", "flows.cli", "watch"], facility.environment("analysis") | own)


def lit(facility: Facility, instrument: str) -> bool:
    """Whether the beam was let through on a specimen."""
    log = entries(facility.home(instrument), instrument)
    return any(one["event"] == "unblank" and one["area"] != "vacuum" for one in log)


def last(facility: Facility, instrument: str, event: str) -> float:
    """When something was last done, by the column's own log."""
    found = [one["wall"] for one in entries(facility.home(instrument), instrument) if one["event"] == event]
    return datetime.fromisoformat(found[-1]).timestamp() if found else 0.0


def dark(facility: Facility, instrument: str) -> bool:
    """Whether the beam is off."""
    return last(facility, instrument, "blank") >= last(facility, instrument, "unblank")


def flow_runs(facility: Facility) -> dict[str, tuple[str, str]]:
    """Names and messages of the states of all flow runs."""
    listed = facility.ask("flow_runs/filter", {})
    return {one["id"]: (one["state"]["name"], str(one["state"]["message"])) for one in listed}


def allow(facility: Facility) -> bool:
    """Let the night that asks a person begin; False where none asks yet."""
    paused = facility.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}})
    if not paused:
        return False
    answer = {"run_input": {"approve": True, "who": "Anna"}}
    return bool(facility.ask(f"flow_runs/{paused[0]['id']}/resume", answer)["status"] == "ACCEPT")
