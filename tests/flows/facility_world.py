"""A facility on loopback: PostgreSQL, Prefect's server with a password, a PC for each of two instruments."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil

from flows.serving.deployments import PREFECT
from storage.processes import ProcessMark, lives
from tests.flows.night_world import INSTRUMENT, PLANS

PASSWORD = "nightbeam:a-long-password-of-a-test"
AREAS = ("lamella-1", "flake-1", "grain-2")


def until(what: Callable[[], Any], within_s: float, why: str) -> Any:
    """Wait for what other processes do; gives what came."""
    give_up = time.monotonic() + within_s
    while not (came := what()):
        assert time.monotonic() < give_up, why
        time.sleep(0.1)
    return came


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Facility:
    """Processes of a facility by name, each with a log; what is left of them is ended by ``close``."""

    def __init__(self, folder: Path, postgres: str) -> None:
        self.folder, self.port = folder, free_port()
        self.database = postgres.rpartition("/")[0] + "/nightbeam"
        self.prefect_database = (
            postgres.rpartition("/")[0].replace("postgresql://", "postgresql+asyncpg://") + "/prefect"
        )
        self.url = f"http://127.0.0.1:{self.port}/api"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def home(self, instrument: str) -> Path:
        """NIGHTBEAM_HOME of an instrument's PC."""
        return self.folder / f"pc-{instrument}"

    def environment(self, instrument: str | None = None) -> dict[str, str]:
        """What docs/facility.md puts into the environment of an instrument's PC."""
        own = {
            "PREFECT_API_URL": self.url,
            "PREFECT_API_AUTH_STRING": PASSWORD,
            "PREFECT_HOME": str(self.folder / f"prefect-{instrument or 'client'}"),
            "NIGHTBEAM_DATABASE_URL": self.database,
            "NIGHTBEAM_PREFECT_API": "named",
            "NIGHTBEAM_PLANS": str(self.folder / "plans"),
            "NIGHTBEAM_DISK_RESERVE_GB": "0",
            "NIGHTBEAM_HOME": str(self.home(instrument or "one")),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_CLIENT_MAX_RETRIES": "4",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "NIGHTBEAM_"))}
        return kept | own

    def command(self, *arguments: str, instrument: str | None = None) -> str:
        """What a command of nightbeam says."""
        return self._said([sys.executable, "-m", "flows.cli", *arguments], self.environment(instrument))

    def prefect(self, *arguments: str) -> str:
        """What a command of Prefect says."""
        return self._said([*PREFECT, *arguments], self.environment())

    def _said(self, command: Sequence[str], environment: Mapping[str, str]) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode in (0, 3), f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def begin(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a process that stays."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a process as a crash does, or by another signal."""
        process = self._running.pop(name)
        process.send_signal(number)
        process.wait()

    def begin_server(self) -> None:
        """Prefect's server, and wait until it answers."""
        own = {
            "PREFECT_HOME": str(self.folder / "prefect-server"),
            "PREFECT_SERVER_API_AUTH_STRING": PASSWORD,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.prefect_database,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{self.port}",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_UI_ENABLED": "false",
        }
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        self.begin("server", [*PREFECT, "server", "start", *where], self.environment() | own)
        until(self.answers, 120, "Prefect's server does not answer")

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """What Prefect's API answers to a POST."""
        headers = {"Content-Type": "application/json"}
        headers["Authorization"] = f"Basic {base64.b64encode(PASSWORD.encode()).decode()}"
        with urlopen(Request(f"{self.url}/{path}", json.dumps(body).encode(), headers), timeout=20) as answer:
            return json.load(answer)

    def answers(self) -> bool:
        """Whether Prefect's server is there."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return bool(urlopen(f"{self.url}/health", timeout=5).status == 200)
        return False

    def begin_worker(self, instrument: str) -> None:
        """The worker of an instrument's PC, as its service does: put right what is left, then poll."""
        self.command("reconcile", "--resume", instrument=instrument)
        start = ("worker", "start", "--pool", f"instrument-{instrument}", "--type", "process", "--limit", "1")
        self.begin(f"worker-{instrument}", [*PREFECT, *start], self.environment(instrument))

    def close(self) -> None:
        """End what is left, children included."""
        for process in self._running.values():
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        child.terminate()
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def write_plans(folder: Path, targets: int) -> None:
    """Instruments ``one`` and ``two`` with a night each, whose specimens bear everything."""
    folder.mkdir()
    plan = (PLANS / "demo" / "1_overview.yaml").read_text()
    plan = plan.replace("shape: [64, 64]", "shape: [32, 32]").replace("step_nm: 0.04", "step_nm: 0.08")
    plan += "quality: {stop_early: false, remedies: []}\n"
    for instrument in ("one", "two"):
        (folder / f"{instrument}.toml").write_text(INSTRUMENT.read_text().replace("demo-stem", instrument))
        listed = []
        for number in range(targets):
            own = plan.replace("name: demo-crystal", f"name: {instrument}-{number}")
            (folder / f"{instrument}-{number}.yaml").write_text(own)
            # What was killed with the beam on its field goes on beside it.
            spare = {"spare_areas": ["hole-1"]}
            listed.append({"name": f"t{number}", "plan": f"{instrument}-{number}.yaml", **spare})
        night = {"format_version": 1, "name": instrument, "instrument": f"{instrument}.toml", "targets": listed}
        if instrument == "two":
            night["approval"] = {"before": ["night"], "wait_min": 5.0}
        (folder / f"night-{instrument}.json").write_text(json.dumps(night))


def end_flow(mark: ProcessMark) -> None:
    """Kill a flow's process, and see that it is gone."""
    os.kill(mark.pid, signal.SIGKILL)
    until(lambda: not lives(mark), 10, "the flow lives on")
