"""Looks at what a night without people needs: Prefect's server where one is named, the watchdog, messages."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

from db.clock import utc_now
from flows.api import noted_api
from flows.examine.line import Line
from flows.examine.prefect_http import Asked, NoAnswer
from stem4d.errors import BadInput
from stem4d.maintenance import next_maintenance, under_maintenance
from storage.settings import Settings, instrument_folders

WATCHDOG_S = 20.0
"""A start that takes longer is near the limit at which nothing is exposed."""


def prefect_server(settings: Settings) -> Iterator[Line]:
    """The server that is named, or that runs on this home: whether it answers, whom, and whether schedules will run."""
    url, auth = os.environ.get("PREFECT_API_URL", "").rstrip("/"), os.environ.get("PREFECT_API_AUTH_STRING", "")
    if not url and (there := noted_api(settings.home)) and there.lasting:
        url, auth = there.url, there.auth
    if not url:
        found = "none is named (PREFECT_API_URL), and no `nightbeam serve` has one here: commands start their own"
        yield Line("Prefect's server", True, found)
        return
    asked = Asked(url, auth)
    try:
        asked.get("/ready")
        version = asked.get("/admin/version")
    except NoAnswer as error:
        fix = "Start it (`prefect server start`), or see PREFECT_API_URL and PREFECT_API_AUTH_STRING"
        yield Line("Prefect's server", False, str(error), fix)
        return
    yield Line("Prefect's server", True, f"{asked.shown} answers, version {version}, its database is ready")
    closed = not Asked(url, "").admits("/admin/version")
    told = "asks for a password" if closed else "answers whoever asks, and any web page can start runs"
    yield Line("Prefect's door", closed, told, "Start it with PREFECT_SERVER_API_AUTH_STRING=user:password")
    try:
        yield from _workers(asked)
        yield from _schedules(asked)
    except NoAnswer as error:
        yield Line("Prefect's work", False, str(error), "Look at the server's log")


def _workers(asked: Asked) -> Iterator[Line]:
    for pool in asked.post("/work_pools/filter", {}):
        if pool["type"] != "prefect-agent":
            ready = pool["status"] == "READY"
            found = "a worker polls it" if ready else f"no worker polls it ({pool['status']})"
            yield Line(f"work pool {pool['name']}", ready, found, f"`prefect worker start --pool {pool['name']}`")


def _schedules(asked: Asked) -> Iterator[Line]:
    deployments = asked.post("/deployments/filter", {"limit": 200})
    active = [one["name"] for one in deployments if not one["paused"] and any(s["active"] for s in one["schedules"])]
    if not active:
        yield Line("schedules", True, "none is active: nothing starts by itself")
        return
    wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    waiting = asked.post("/flow_runs/count", wanted)
    fix = "The scheduler does not run: look at the server's log (SQLAlchemy 2.1 breaks it in Prefect 3.8)"
    yield Line("schedules", waiting > 0, f"{len(active)} active, {waiting} runs wait for their time", fix)


def watchdog(settings: Settings) -> Iterator[Line]:
    """Whether a second process can be started that would blank the beam."""
    begun = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-P", "-c", "import devices.watchdog"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    took_s = time.perf_counter() - begun
    found = f"starts in {took_s:.1f} s" if ended.returncode == 0 else ended.stderr.strip().rpartition("\n")[2]
    fix = "Without one nothing is exposed; reinstall, or take load off the machine"
    yield Line("watchdog", ended.returncode == 0 and took_s < WATCHDOG_S, found, fix)


def messages(settings: Settings) -> Iterator[Line]:
    """Whether somebody would hear of a night, by addresses that are usable as they are written; nothing is sent."""
    if not settings.notify:
        yield Line("messages", True, "nobody is told of a night's end (setting notify)")
        return
    import apprise

    bad = [n for n, one in enumerate(settings.notify, 1) if not apprise.Apprise().add(one.get_secret_value())]
    found = f"{len(settings.notify)} address(es)" if not bad else f"address {', '.join(map(str, bad))} is not known"
    yield Line("messages", not bad, found, "Write it as Apprise does: https://github.com/caronc/apprise/wiki")


def maintenance(settings: Settings) -> Iterator[Line]:
    """Which instruments are not to be used, now and next."""
    now = utc_now()
    try:
        folders = instrument_folders(settings) if settings.maintenance else []
    except BadInput as error:
        yield Line("instruments", False, str(error), "See the message")
        return
    known = sorted(folder.name for folder in folders)
    for name in sorted({one.instrument for one in settings.maintenance if one.instrument} - set(known)):
        told = f"keeps nobody out: instruments here are {', '.join(known) or 'none'}"
        yield Line(f"maintenance of {name}", False, told, "Write its name as `nightbeam status` does")
    for folder in folders:
        if found := under_maintenance(settings.maintenance, folder.name, now):
            text = f"{found[0].reason} until {found[1]:%Y-%m-%d %H:%M %Z}"
        elif coming := next_maintenance(settings.maintenance, folder.name, now):
            text = f"next {coming[0].reason} at {coming[1]:%Y-%m-%d %H:%M %Z}"
        else:
            continue
        yield Line(f"maintenance of {folder.name}", True, text)
