"""Deployed flows on a real server: what asks is taken up once, and Prefect is shown what the record says."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import h5py
import pytest
from sqlalchemy import select

from db.engine import open_engine, reader
from db.models import Launch, Night, Run
from devices import interrupts
from flows.api import PrefectApi
from stem4d.model import canonical_json
from tests.flows.inspect_world import counts
from tests.flows.night_world import INSTRUMENT, NAME, column_log, small

pytestmark = pytest.mark.timeout(300)  # the session's server comes up within the first of them


@pytest.fixture
def home(prefect_api: PrefectApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home for what runs in this process, which hears signals as before afterwards."""
    for name, value in {"HOME": str(tmp_path), "WORKER": "inline", "DISK_RESERVE_GB": "0"}.items():
        monkeypatch.setenv(f"NIGHTBEAM_{name}", value)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(interrupts, "_arrivals", interrupts._Arrivals())
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def launches(home: Path) -> list[Launch]:
    engine = open_engine(f"sqlite:///{home / 'nightbeam.db'}")
    with reader(engine) as session:
        found = list(session.scalars(select(Launch).order_by(Launch.id)))
        session.expunge_all()
    engine.dispose()
    return found


def rows(home: Path, table: Any) -> int:
    engine = open_engine(f"sqlite:///{home / 'nightbeam.db'}")
    with reader(engine) as session:
        found = len(session.scalars(select(table)).all())
    engine.dispose()
    return found


def shown(flow_run_id: str) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(flow_run_id))


def test_a_plan_that_was_filled_in_runs_once_however_often_it_is_asked(home: Path) -> None:
    from flows.deployed.run import run

    plan = json.loads(canonical_json(small("1_overview.yaml", 16, "title=filled in")))
    asked = {"plan": plan, "instrument_file": str(INSTRUMENT), "source": "webhook", "key": "k1"}
    first = run(**asked, return_state=True)
    exposed = len([one for one in column_log(home) if one["event"] == "unblank"])
    again = run(**asked, return_state=True)
    (launch,) = launches(home)
    assert first.is_completed(), first.message
    assert exposed
    assert (launch.state, launch.source, launch.key, launch.instrument) == ("warned", "webhook", "k1", NAME)
    flow_run = shown(launch.flow_run_id)
    assert flow_run.name == f"filled in: {plan['sample']['name']}, area {plan['sample']['area']}"
    assert flow_run.state.name == "Completed with warnings"
    assert f"instrument:{NAME}" in flow_run.tags
    assert str(launch.name) in flow_run.state.message
    assert again.is_completed()
    assert again.name == "Done before"
    assert (rows(home, Run), len([one for one in column_log(home) if one["event"] == "unblank"])) == (1, exposed)


@pytest.mark.slow
def test_a_night_is_one_flow_run_with_one_for_each_target(home: Path) -> None:
    from flows.deployed.night import night

    plan = small("1_overview.yaml", 16)
    (home / "p.json").write_text(canonical_json(plan))
    (home / "tiny.yaml").write_text(
        f"{{format_version: 1, name: tiny, instrument: '{INSTRUMENT.name}', targets: [{{name: one, plan: p.json}}]}}"
    )
    (home / INSTRUMENT.name).write_text(INSTRUMENT.read_text())
    state = night(str(home / "tiny.yaml"), return_state=True)
    (launch,) = launches(home)
    assert (state.name, launch.state, launch.flow, rows(home, Night)) == ("Completed", "done", "night", 1)
    assert str(launch.name).startswith("n")
    assert launch.key == launch.flow_run_id
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        flow_runs = {one.flow_id: one for one in client.read_flow_runs() if one.created >= shown(launch.key).created}
    specimen = f"specimen:{plan.sample.name}"
    assert sorted(one.name.partition(",")[0] for one in flow_runs.values()) == [
        f"one: {plan.sample.name}",
        "tiny",
    ]
    assert {frozenset(one.tags) for one in flow_runs.values()} == {
        frozenset({f"kind:{kind}", f"instrument:{NAME}", specimen}) for kind in ("night", "target")
    }


def test_what_cannot_be_run_is_refused_with_its_reason(home: Path) -> None:
    from flows.deployed.night import night
    from flows.deployed.run import run

    (home / "wrong.yaml").write_text("{format_version: 1, name: wrong, instrument: i.toml, targets: []}")
    state = night(str(home / "wrong.yaml"), return_state=True)
    assert (state.is_failed(), state.name) == (True, "Refused")
    assert "wrong.yaml: targets" in str(state.message)
    neither = run(return_state=True)
    assert "either a plan file or a plan" in str(neither.message)
    assert [one.state for one in launches(home)] == ["refused", "refused"]


def test_nothing_begins_in_a_window_of_maintenance(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.deployed.run import run

    always = {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from_time": "00:00", "to_time": "00:00"}
    monkeypatch.setenv("NIGHTBEAM_MAINTENANCE", json.dumps([{**always, "reason": "new gun", "instrument": NAME}]))
    plan = json.loads(canonical_json(small("1_overview.yaml", 16)))
    state = run(plan=plan, instrument_file=str(INSTRUMENT), return_state=True)
    assert state.name == "Refused"
    assert "new gun until" in str(state.message)
    assert rows(home, Run) == 0


def test_a_file_is_judged(home: Path) -> None:
    from flows.deployed.reanalyse import reanalyse

    path = home / "scan.h5"
    with h5py.File(path, "w") as file:
        file["data"] = counts()
    state = reanalyse(str(path), source="file", key="scan", return_state=True)
    assert state.is_completed(), state.message
    assert "scan.h5: " in str(state.message)
    for wrong in ({"file": str(home / "nothing.h5")}, {"run": "nothing"}, {}, {"file": str(path), "run": "r1"}):
        assert reanalyse(**wrong, return_state=True).name == "Refused"


def test_a_file_is_analysed_once(home: Path) -> None:
    from flows.deployed.reanalyse import reanalyse

    path, known = home / "scan.h5", home / "known.yaml"
    with h5py.File(path, "w") as file:
        file["data"] = counts()
    known.write_text(
        "{format_version: 1, beam_energy_kev: 200, convergence_semi_angle_mrad: 12, mrad_per_pixel: 1.0, "
        "scan_step_nm: 0.5, centre_px: [2.5, 3.0]}"
    )
    what = {"file": str(path), "method": "com", "options": ["phase=false"], "calibration": str(known)}
    state = reanalyse(**what, return_state=True)
    assert state.is_completed(), state.message
    assert "com " in str(state.message)
    (made,) = (home / "results").rglob("com-*.h5")
    written = made.stat().st_mtime_ns
    reanalyse(**what, return_state=True)
    assert [one.stat().st_mtime_ns for one in (home / "results").rglob("*.h5")] == [written]
    for wrong in ({"method": "magic"}, {"options": ["phase=maybe"]}, {"method": ""}):
        assert reanalyse(**{**what, **wrong}, return_state=True).name == "Refused"


def test_health_tells_what_is_not_well(home: Path) -> None:
    from flows.deployed.health import health

    state = health(str(home / "nothing.yaml"), return_state=True)
    assert state.is_failed()
    assert "night nothing.yaml: " in str(state.message)
    # The server of the tests asks for its password, and is the one that is looked at.
    assert "Prefect's door" not in str(state.message)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_database_that_is_away_is_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch, comes_back: bool) -> None:
    from db.errors import DatabaseAway
    from flows.deployed import taken_up
    from flows.deployed.tidy import tidy

    clock, told, real = [0.0], list[str](), taken_up.open_database

    def away(settings: Any) -> Any:
        if comes_back and clock[0] > 100:
            return real(settings)
        raise DatabaseAway("the server is away")

    def tell(_settings: object, what: str, *_words: str) -> str:
        told.append(what)
        return ""

    monkeypatch.setattr(taken_up, "open_database", away)
    monkeypatch.setattr(taken_up, "tell_people", tell)
    monkeypatch.setattr(taken_up, "monotonic", lambda: clock[0])
    monkeypatch.setattr(taken_up, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    state = tidy(return_state=True)
    assert (state.is_completed(), told) == ((True, []) if comes_back else (False, ["not_started"]))


def test_tidy_puts_right_what_it_finds(home: Path) -> None:
    from flows.deployed.tidy import tidy

    state = tidy(return_state=True)
    assert state.is_completed(), state.message
    (launch,) = launches(home)
    assert (launch.flow, launch.state) == ("tidy", "done")


@pytest.mark.parametrize("name", ["night", "run", "calibrate", "reanalyse", "health", "tidy"])
def test_every_parameter_is_described_where_prefect_shows_it(name: str) -> None:
    from importlib import import_module

    from prefect.utilities.callables import parameter_schema

    schema = parameter_schema(getattr(import_module(f"flows.deployed.{name}"), name).fn)
    undescribed = [field for field, facts in schema.properties.items() if not facts.get("description")]
    assert undescribed == []
    if name == "run":
        # Limits and units of the plan's own model.
        assert schema.definitions["Exposure"]["properties"]["dwell_time_us"]["maximum"] == 1e7
    if name == "night":
        assert schema.properties["wait_min"]["maximum"] == 1440
