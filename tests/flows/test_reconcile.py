"""Prefect's picture is put right from the record: what ended is shown so, what was lost is, and what runs is left."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from db import launches, record
from db.engine import Engine, open_engine, writer
from flows.api import PrefectApi
from flows.reconcile import reconcile
from storage.processes import ProcessMark, this_process
from storage.settings import Settings
from tasks.outbox import open_database

pytestmark = pytest.mark.timeout(300)
GONE = ProcessMark(this_process().host, 4194300, this_process().began)
"""No process has that number."""
THERE = ProcessMark("other-host", 4711, "boot.1:5")
NIGHT = '{"max_hours":14.0,"name":"a"}'


@pytest.fixture
def settings(prefect_api: PrefectApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # Flow runs of other tests of this server are none of this record's.
    monkeypatch.setattr("flows.reconcile.OURS", ("reconciled",))
    return Settings(home=tmp_path)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    open_database(settings).dispose()
    engine = open_engine(settings.database_url.get_secret_value())
    yield engine
    engine.dispose()


@pytest.fixture
def client(prefect_api: PrefectApi) -> Iterator[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client
        # Other tests of this server ask which deployments there are.
        for one in client.read_deployments():
            if one.name.startswith("d-"):
                client.delete_deployment(one.id)


def flow_run(client: Any, *, deployed: bool = True) -> str:
    """A flow run that Prefect takes for running, of a deployment where it is one."""
    from prefect import flow
    from prefect.states import Running

    ours = flow(name="reconciled")(lambda: None)
    if deployed:
        flow_id = client.create_flow(ours)
        made = client.create_flow_run_from_deployment(client.create_deployment(flow_id, f"d-{uuid4().hex[:8]}"))
    else:
        made = client.create_flow_run(ours, tags=["kind:target"])
    client.set_flow_run_state(made.id, Running(), force=True)
    return str(made.id)


def launched(engine: Engine, flow_run_id: str, process: ProcessMark, state: Any = None, flow: str = "night") -> int:
    with writer(engine) as session:
        one, _ = launches.begin(
            session, source="person", key=flow_run_id, flow=flow, flow_run_id=flow_run_id, process=process
        )
        if state:
            launches.end(session, launch=one.id, state=state, reason="n1: 3 done")
    return one.id


def found(client: Any, flow_run_id: str) -> tuple[str, str]:
    state = client.read_flow_run(flow_run_id).state
    return state.name, state.message or ""


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ("done", "Completed"),
        ("warned", "Completed with warnings"),
        ("refused", "Refused"),
        ("failed", "Failed"),
        ("stopped", "Stopped"),
    ],
)
def test_what_ended_while_the_server_was_away_is_shown_as_it_ended(
    settings: Settings, engine: Engine, client: Any, state: str, name: str
) -> None:
    one = flow_run(client)
    launched(engine, one, GONE, state)
    assert len(reconcile(settings, take_up_lost=True).lines) == 1
    assert found(client, one) == (name, "n1: 3 done")
    again = reconcile(settings, take_up_lost=True)
    assert (again.lines, again.taken_up) == ([], [])


@pytest.mark.parametrize("taken_for", ["Crashed", "Failed"])
def test_what_prefect_took_for_a_bad_end_is_corrected(
    settings: Settings, engine: Engine, client: Any, taken_for: str
) -> None:
    from prefect import states

    one = flow_run(client)
    launched(engine, one, GONE, "done")
    client.set_flow_run_state(one, getattr(states, taken_for)(message="the server was away"), force=True)
    reconcile(settings, take_up_lost=True)
    assert found(client, one)[0] == "Completed"


def test_what_runs_here_or_elsewhere_is_left(settings: Settings, engine: Engine, client: Any) -> None:
    here, there = flow_run(client), flow_run(client)
    launched(engine, here, this_process())
    launched(engine, there, THERE)
    assert reconcile(settings, take_up_lost=True).lines == []
    assert {found(client, one)[0] for one in (here, there)} == {"Running"}


def test_what_is_on_its_way_paused_or_somebody_elses_is_left(settings: Settings, engine: Engine, client: Any) -> None:
    from prefect import flow
    from prefect.states import Paused, Pending, Running

    begins, waits = flow_run(client), flow_run(client, deployed=False)
    launched(engine, begins, GONE)
    client.set_flow_run_state(begins, Pending(), force=True)
    client.set_flow_run_state(waits, Paused(timeout_seconds=600), force=True)
    other = client.create_flow_run(flow(name="reconciled")(lambda: None)).id
    client.set_flow_run_state(other, Running(), force=True)
    reconcile(settings, take_up_lost=True)
    assert [found(client, str(one))[0] for one in (begins, waits, other)] == ["Pending", "Paused", "Running"]


def test_one_that_never_begins_again_is_not_taken_up_for_ever(settings: Settings, engine: Engine, client: Any) -> None:
    from prefect.states import Running

    one, times = flow_run(client), 0
    launched(engine, one, GONE)
    while reconcile(settings, take_up_lost=True).taken_up:
        times += 1
        client.set_flow_run_state(one, Running(), force=True)
        assert times < 9
    assert times == 3  # begun once, and scheduled in vain until it counts as three


def test_a_night_that_was_lost_goes_on_three_times_at_most(settings: Settings, engine: Engine, client: Any) -> None:
    one = flow_run(client)
    number = launched(engine, one, GONE)
    with writer(engine) as session:
        night = record.start_night(session, name="n20261127-200000-0001", canonical_json=NIGHT, instrument="stem")
        record.add_target(session, night_id=night, position=0, name="t")
        launches.came_of(session, launch=number, name="n20261127-200000-0001", instrument="stem")
    for attempt in (1, 2):
        done = reconcile(settings, take_up_lost=True)
        assert done.taken_up == [one], attempt
        assert found(client, one)[0] == "Taken up again"
        from prefect.states import Running

        client.set_flow_run_state(one, Running(), force=True)
        launched(engine, one, GONE)
    last = reconcile(settings, take_up_lost=True)
    assert (last.taken_up, found(client, one)[0]) == ([], "Crashed")


@pytest.mark.parametrize(
    "why", ["cancelled", "cancelling", "stopped", "nothing left", "not wanted", "no night", "no time"]
)
def test_what_is_not_to_go_on_does_not(settings: Settings, engine: Engine, client: Any, why: str) -> None:
    from prefect.states import Cancelled, Cancelling, Crashed

    one = flow_run(client)
    number = launched(engine, one, GONE, flow="run" if why == "no night" else "night")
    with writer(engine) as session:
        document = NIGHT.replace("14.0", "0.0") if why == "no time" else NIGHT
        night = record.start_night(session, name="n20261127-200000-0001", canonical_json=document, instrument="stem")
        if why != "nothing left":
            record.add_target(session, night_id=night, position=0, name="t")
        launches.came_of(session, launch=number, name="n20261127-200000-0001", instrument="stem")
        if why == "stopped":
            record.finish_night(session, night_id=night, state="stopped", exit_reason="stopped by a person, at once")
    if why == "cancelled":
        client.set_flow_run_state(one, Cancelled(), force=True)
    if why == "cancelling":
        # Prefect's engine says Crashed until its runner says Cancelled.
        client.set_flow_run_state(one, Cancelling(), force=True)
        client.set_flow_run_state(one, Crashed(), force=True)
    done = reconcile(settings, take_up_lost=why != "not wanted")
    assert done.taken_up == []
    assert found(client, one)[0] == {"cancelled": "Cancelled", "stopped": "Stopped"}.get(why, "Crashed")


def test_a_deployment_that_the_file_has_no_more_is_paused(client: Any, tmp_path: Path) -> None:
    from prefect import flow
    from prefect.client.schemas.actions import WorkPoolCreate

    from flows.serving.deployments import Deployments, pause_others

    for pool in ("d-ours", "d-theirs"):
        client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    ours, theirs = (
        client.create_flow(flow(name="night")(lambda: None)),
        client.create_flow(flow(name="x")(lambda: None)),
    )
    for flow_id, name, pool in (
        (ours, "d-kept", "d-ours"),
        (ours, "d-removed", "d-ours"),
        (ours, "d-elsewhere", "d-theirs"),
        (theirs, "d-foreign", "d-ours"),
    ):
        client.create_deployment(flow_id, name, work_pool_name=pool)
    found = Deployments(tmp_path / "prefect.yaml", ("night/d-kept",), ("d-ours",))
    assert pause_others(client, found) == ("night/d-removed",)
    assert pause_others(client, found) == ()


def test_a_flow_of_a_target_ends_as_its_run_did(settings: Settings, engine: Engine, client: Any) -> None:
    ended, gone = flow_run(client, deployed=False), flow_run(client, deployed=False)
    with writer(engine) as session:
        sample = record.register_sample(session, name="s")
        area = record.register_area(session, sample_id=sample, name="a", fluence_budget_e_per_a2=1.0)
        plan = record.register_plan(session, name="p", canonical_json="{}")
        run = record.start_run(
            session, name="r20261127-200000-0001", plan_id=plan, area_id=area, instrument="stem", flow_run_id=ended
        )
        record.finish_run(session, run_id=run, state="marked", exit_reason="it drifts")
    reconcile(settings, take_up_lost=True)
    assert found(client, ended) == ("Completed", "r20261127-200000-0001: it drifts")
    assert found(client, gone)[0] == "Crashed"


def test_without_a_server_the_record_is_closed_all_the_same(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(engine, "f1", GONE)
    monkeypatch.delenv("PREFECT_API_URL")
    done = reconcile(settings, take_up_lost=True)
    assert "PREFECT_API_URL" in done.away
    assert done.lines == [f"night f1 was lost: {launches.LOST}"]
