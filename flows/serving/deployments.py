"""A file of deployments, prefect.yaml: which pools it wants, what is wrong with it, and how Prefect is given it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stem4d.errors import BadInput
from storage.parse import read_document

FLOWS = ("night", "run", "calibrate", "reanalyse", "health", "tidy")
WITHIN_S = 120.0


@dataclass(frozen=True)
class Deployments:
    """A file that was read."""

    path: Path
    names: tuple[str, ...]
    """As ``flow/name``."""
    pools: tuple[str, ...]


def read_deployments(path: Path) -> Deployments:
    """Read which deployments and pools a file names.

    Raises
    ------
    BadInput
        For a file that is none, an entrypoint that is no flow of ours, a cron without its time zone, or a night whose
        file is not there.
    """
    listed = _document(path).get("deployments")
    if not isinstance(listed, list) or not listed:
        raise _wrong(path, "deployments", listed, "has to be a list with one deployment or more")
    names, pools = [], []
    for number, one in enumerate(listed):
        place = f"deployments[{number}]"
        if not isinstance(one, dict):
            raise _wrong(path, place, one, "has to be a mapping of names to values")
        name, pool = _text(path, place, one, "name"), one.get("work_pool")
        entrypoint = _text(path, place, one, "entrypoint")
        flow = entrypoint.replace(":", ".").rpartition(".")[2]
        if flow not in FLOWS or not entrypoint.endswith(
            (f"flows.deployed.{flow}.{flow}", f"deployed/{flow}.py:{flow}")
        ):
            limit = f"is no flow of nightbeam; there are {', '.join(f'flows.deployed.{f}.{f}' for f in FLOWS)}"
            raise _wrong(path, f"{place}.entrypoint", entrypoint, limit)
        if f"{flow}/{name}" in names:
            raise _wrong(path, f"{place}.name", name, f"stands twice for the flow {flow}", "Rename one")
        names.append(f"{flow}/{name}")
        if not isinstance(pool, dict) or not pool.get("name"):
            raise _wrong(path, f"{place}.work_pool.name", pool, "is required: the instrument's pool, or analysis")
        pools.append(str(pool["name"]))
        _check_schedules(path, place, one)
        _night_is_there(path, place, one.get("parameters") or {})
    return Deployments(path, tuple(names), tuple(dict.fromkeys(pools)))


def _document(path: Path) -> dict[str, Any]:
    found = read_document(path)
    if not isinstance(found, dict):
        raise _wrong(path, "file", found, "has to be a mapping with deployments")
    return found


def _check_schedules(path: Path, place: str, one: dict[str, Any]) -> None:
    if "schedule" in one:
        raise _wrong(path, f"{place}.schedule", one["schedule"], "is no word of this file any more", "Write schedules")
    schedules = one.get("schedules") or []
    if not isinstance(schedules, list):
        raise _wrong(path, f"{place}.schedules", schedules, "has to be a list")
    for number, schedule in enumerate(schedules):
        field = f"{place}.schedules[{number}]"
        if not isinstance(schedule, dict):
            raise _wrong(path, field, schedule, "has to be a mapping of names to values")
        if ("cron" in schedule or "rrule" in schedule) and not schedule.get("timezone"):
            limit = "is required beside cron or rrule: eight in the evening of which place?"
            raise _wrong(path, f"{field}.timezone", "nothing", limit, "as in timezone: Europe/Vienna")


def _night_is_there(path: Path, place: str, parameters: object) -> None:
    if not isinstance(parameters, dict):
        raise _wrong(path, f"{place}.parameters", parameters, "has to be a mapping of names to values")
    if "{{" not in str(parameters.get("key", "{{")):
        limit = "is one for all time: it would run once and never again"
        raise _wrong(
            path, f"{place}.parameters.key", parameters["key"], limit, "Leave it out; a trigger has its event's"
        )
    for name in ("night_file", "plan_file"):
        given = parameters.get(name)
        if given and "{{" not in str(given) and not (path.parent / str(given)).is_file():
            limit = f"is not there, seen from {path.parent}"
            raise _wrong(path, f"{place}.parameters.{name}", given, limit, "Paths are those of this file's folder")


def _text(path: Path, place: str, one: dict[str, Any], name: str) -> str:
    found = one.get(name)
    if not isinstance(found, str) or not found:
        raise _wrong(path, f"{place}.{name}", found, "is required")
    return found


def _wrong(path: Path, field: str, value: object, limit: str, remedy: str = "") -> BadInput:
    return BadInput(field=f"{path.name}: {field}", value=value, limit=limit, remedy=remedy)


def deploy(found: Deployments) -> tuple[str, ...]:
    """Give Prefect's server the pools and deployments of a file, as ``prefect deploy --all`` does.

    Others in those pools are paused, and given: a night that was taken out of the file is not to begin any more.

    Raises
    ------
    BadInput
        What Prefect found wrong, in its words.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        for pool in found.pools:
            try:
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
            except ObjectAlreadyExists:
                continue
    done = subprocess.run(  # noqa: S603 - our own interpreter and arguments
        [*PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", str(found.path.resolve())],
        cwd=found.path.resolve().parent,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        words = " ".join((done.stdout + done.stderr).split())[-500:]
        raise BadInput(field="--deployments", value=str(found.path), limit=f"Prefect does not take it: {words}")
    with get_client(sync_client=True) as client:
        return pause_others(client, found)


def pause_others(client: Any, found: Deployments) -> tuple[str, ...]:
    """Pause deployments of our flows in a file's pools that it does not name; gives those that were not paused."""
    flows = {flow.id: flow.name for flow in client.read_flows()}
    others = []
    for one in client.read_deployments():
        name = f"{flows.get(one.flow_id)}/{one.name}"
        ours = flows.get(one.flow_id) in FLOWS and one.work_pool_name in found.pools
        if ours and name not in found.names and not one.paused:
            client.pause_deployment(one.id)
            others.append(name)
    return tuple(others)


PREFECT = [sys.executable, "-P", "-m", "prefect"]
