"""Brings Prefect's picture in line with the record, which alone knows how runs ended, and takes up what was lost."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from db import launches
from db.clock import utc_now
from db.engine import Engine, reader, writer
from db.lease import owners
from db.resume import hours_left
from devices.lease import is_owned
from flows.left import close_instruments
from flows.notify import tell_people
from flows.recorded import recorded_database
from flows.serving.deployments import FLOWS
from flows.shown import launch_state, lost_state, run_state
from storage.processes import lives
from storage.settings import Settings, instrument_folders

MOST_ATTEMPTS = 3
"""A night that was begun and lost as often is not taken up again: a person looks first."""
LOOKED_BACK = timedelta(days=7)
NAMELESS_FOR = timedelta(hours=2)
"""How long a night that died before it had a name is still wanted."""
OURS = (*FLOWS, "target")


@dataclass
class Reconciled:
    """What was put right."""

    lines: list[str] = field(default_factory=list)
    taken_up: list[str] = field(default_factory=list)
    """Flow runs of nights that go on."""
    away: str = ""
    """Why Prefect was not asked."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"put_right": self.lines, "taken_up": self.taken_up, "away": self.away}


def reconcile(settings: Settings, *, take_up_lost: bool) -> Reconciled:
    """Close what dead processes left, correct Prefect's states, and schedule again the nights that were lost.

    Doing it twice changes nothing more. What another host runs is left to that host.
    """
    done = Reconciled()
    settings.home.mkdir(parents=True, exist_ok=True)  # a worker's service asks before anything was run
    with recorded_database(settings) as engine:
        for one in close_instruments(settings, engine, None, free_only=True):
            done.lines += [f"{one.instrument}: {line}" for line in one.lines]
            if one.trouble:
                done.lines.append(f"{one.instrument}: left alone: {one.trouble}")
        with writer(engine) as session:
            lost = launches.close_lost(session)
        done.lines += [f"{one.flow} {one.name or one.flow_run_id} was lost: {one.reason}" for one in lost]
        if os.environ.get("PREFECT_API_URL"):
            _with_prefect(settings, engine, done, take_up_lost=take_up_lost)
        else:
            done.away = "no server is named (PREFECT_API_URL)"
    if lost:
        _tell(settings, lost, done)
    return done


def _with_prefect(settings: Settings, engine: Engine, done: Reconciled, *, take_up_lost: bool) -> None:
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        with get_client(sync_client=True) as client:
            flow_runs = list(_of_ours(client))
            for flow_run, state in _wrong(settings, engine, flow_runs):
                client.set_flow_run_state(flow_run.id, state, force=True)
                done.lines.append(
                    f"flow run {flow_run.name} is shown as {state.name}, not as {flow_run.state.name}: {state.message}"
                )
                flow_run.state = state
            for flow_run, launch in list(_to_take_up(client, engine, flow_runs)) if take_up_lost else ():
                from prefect.states import Scheduled

                with writer(engine) as session:
                    launches.to_begin_again(session, launch=launch)
                client.set_flow_run_state(flow_run.id, Scheduled(name="Taken up again"), force=True)
                done.taken_up.append(str(flow_run.id))
                done.lines.append(f"flow run {flow_run.name} goes on")
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        done.away = f"Prefect's server was not asked to the end: {type(error).__name__}"


def _of_ours(client: Any) -> Iterator[Any]:
    """Flow runs of the last days that Prefect takes for going on, crashed or failed."""
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    # A flow that could not tell its end, because the server was away, tells that it failed when the server is back.
    kinds = [
        StateType.RUNNING,
        StateType.PENDING,
        StateType.CANCELLING,
        StateType.PAUSED,
        StateType.CRASHED,
        StateType.FAILED,
    ]
    wanted = filters.FlowRunFilter(
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=kinds)),
        start_time=filters.FlowRunFilterStartTime(after_=utc_now() - LOOKED_BACK),
    )
    ours = filters.FlowFilter(name=filters.FlowFilterName(any_=list(OURS)))
    offset = 0
    while page := client.read_flow_runs(flow_filter=ours, flow_run_filter=wanted, limit=200, offset=offset):
        yield from page
        offset += len(page)


def _wrong(settings: Settings, engine: Engine, flow_runs: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Flow runs that ended otherwise than Prefect has it, and how."""
    ids = [str(one.id) for one in flow_runs]
    with reader(engine) as session:
        launched = launches.of_flow_runs(session, ids)
        runs = launches.runs_of_flow_runs(session, ids)
        owned = any(not one.expired and lives(one.process) is not False for one in owners(session))
    # Nobody holds an instrument, on this host or another that writes into this record.
    idle = not owned and not any(is_owned(folder) for folder in instrument_folders(settings))
    for flow_run in flow_runs:
        name = str(flow_run.id)
        final = flow_run.state.is_final()
        if flow_run.state.is_pending():
            # It is on its way, or was just taken up again.
            continue
        if launch := launched.get(name):
            if launch.state not in launches.BROKEN_OFF and lives(launch.process) is not False:
                # It tells its end itself, or is another host's to tell.
                continue
            state = launch_state(launch.state, launch.reason)
        elif not idle or flow_run.state.is_paused():
            # Between two attempts at a target its last run has ended, and its flow has not.
            continue
        elif name in runs:
            run, how, why = runs[name]
            state = run_state(how, f"{run}: {why}".rstrip(": "))
        elif final or not any(tag.startswith("kind:") for tag in flow_run.tags):
            # Somebody else's of the same name, or one that has not told yet what it is.
            continue
        else:
            # A night that a command ran, a target or a calibration.
            state = lost_state(launches.LOST)
        if state is not None and not (final and (state.type == flow_run.state.type or state.is_crashed())):
            yield flow_run, state


def _to_take_up(client: Any, engine: Engine, flow_runs: list[Any]) -> Iterator[tuple[Any, int]]:
    """Flow runs of nights that were lost and have time left, with their launches.

    One that a person cancelled or stopped is none of them; being cancelled it looks crashed for some seconds.
    """
    crashed = {str(one.id): one for one in flow_runs if one.state.is_crashed() and one.deployment_id}
    with reader(engine) as session:
        for name, one in launches.of_flow_runs(session, list(crashed)).items():
            # An end that somebody asked of the process is no sign that it cannot be run.
            few = one.state == "terminated" or one.attempt < MOST_ATTEMPTS
            if one.flow != "night" or one.state not in launches.BROKEN_OFF or not few:
                continue
            now = utc_now()
            fresh = now - one.began < NAMELESS_FOR if one.name is None else hours_left(session, one.name, now) > 0
            states = client.read_flow_run_states(crashed[name].id)
            if fresh and not any(state.type.name in ("CANCELLING", "CANCELLED") for state in states):
                yield crashed[name], one.id


def _tell(settings: Settings, lost: tuple[launches.Launched, ...], done: Reconciled) -> None:
    names = ", ".join(f"{one.flow} {one.name or ''}".strip() for one in lost)
    again = f"{len(done.taken_up)} of them go on by themselves"
    if trouble := tell_people(settings, "lost", f"nightbeam: {names} was lost", "\n".join((*done.lines, again))):
        done.lines.append(f"no message: {trouble}")
