"""What Prefect costs beside the stages: from a command or a trigger to the first exposure, per run, per night."""

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from benchmarks.harness import ROOT, Figure
from devices.registry import open_instrument
from devices.safety import SafeLevel, make_safe
from devices.simulator.wire import read_address
from flows.api import client_of, noted_api, start
from stem4d.instrument import InstrumentFile
from stem4d.model import canonical_json
from stem4d.plan import Plan
from storage.documents import load_model
from storage.settings import Settings

TIMES = 3
INSTRUMENT = ROOT / "plans" / "instruments" / "demo.toml"
PLAN = ROOT / "plans" / "demo" / "1_overview.yaml"
CLOCK = "the clock: a person waits for it"
TARGETS = 6
OF_A_NIGHT = 60


def run() -> Iterator[Figure]:
    """Every figure on homes that are made for it."""
    with _home() as home:
        yield _figure(
            "first start ever to first exposure", "<= 20", [_to_exposure(home)], "home, database and schema new"
        )
        with _simulator_running(home):
            warm = [_to_exposure(home) for _ in range(TIMES)]
            yield _figure("command to first exposure, embedded", "<= 8", warm, "warm home, calibrations fresh")
            plain = [_to_exposure(home, "--no-prefect") for _ in range(TIMES)]
            yield _figure("command to first exposure, no Prefect", "", plain, "the same without Prefect")
            with start(home, lasting=True) as server:
                server.ready()
                served = [_to_exposure(home) for _ in range(TIMES)]
            yield _figure("command to first exposure, a server runs", "<= 4", served, "that of `nightbeam serve`")
    with _home() as home:
        yield from _beside_the_stages(home)
    with _home() as home:
        yield _figure("trigger to running", "", list(_triggered(home)), "flow run asked for to taken up, 2 s poll")


def _figure(name: str, goal: str, taken_s: list[float], detail: str) -> Figure:
    rounds = ", ".join(f"{one:.1f}" for one in taken_s)
    load = f"load {os.getloadavg()[0]:.1f}"
    return Figure(f"orchestration: {name}", statistics.median(taken_s), "s", goal, CLOCK, f"{detail}; {rounds}; {load}")


@contextmanager
def _home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nightbeam-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _simulator_running(home: Path) -> Iterator[None]:
    """The simulated instrument's server stays up: a microscope is not started with each command.

    This process is a client of it, and its server ends by itself once the last client has gone.
    """
    file = load_model(INSTRUMENT, InstrumentFile)
    folder = home / "instruments" / file.name
    instrument = open_instrument(file, home)
    before = read_address(folder)
    try:
        yield
        assert before == read_address(folder), "a warm run did not find the server that ran"
    finally:
        make_safe(instrument, SafeLevel.PARK, "the bench ends")
        instrument.close()
        give_up = time.monotonic() + 30
        while read_address(folder) is not None:
            assert time.monotonic() < give_up, "the simulated instrument's server does not end"
            time.sleep(0.1)


def _to_exposure(home: Path, *more: str) -> float:
    """Seconds from a command to the first beam it lets through, by the column's own log."""
    log = home / "instruments" / "demo-stem" / "column.jsonl"
    before = log.stat().st_size if log.exists() else 0
    begun = time.time()
    command = ["run", str(_fresh(home)), "-i", str(INSTRUMENT), "--yes", *more]
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *command],
        env={**os.environ, "NIGHTBEAM_HOME": str(home), "NIGHTBEAM_DISK_RESERVE_GB": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    with log.open() as file:
        file.seek(before)
        lit = next(one for one in map(json.loads, file) if one["event"] == "unblank")
    return datetime.fromisoformat(lit["wall"]).timestamp() - begun


def _fresh(home: Path) -> Path:
    """The demo's plan on a specimen that was never exposed: each has its whole budget."""
    path = home / "plan.json"
    name = f"s{time.time_ns()}"
    path.write_text(canonical_json(load_model(PLAN, Plan, [f"sample.name={name}"])))
    return path


def _beside_the_stages(home: Path) -> Iterator[Figure]:
    """The same runs and nights with Prefect and by plain calls, in turn, in one process."""
    settings = Settings(home=home, disk_reserve_gb=0)
    with start(home) as server, client_of(server):
        from flows.night import run_night
        from flows.run import run_plan
        from tasks.lab import open_lab
        from tests.flows.going_world import a_night
        from tests.flows.night_world import small

        server.ready()
        database = home / "prefect" / "prefect.db"
        with open_lab(settings, INSTRUMENT) as opened:
            run_plan(opened, small("1_overview.yaml", 16), with_prefect=True)
            costs = [
                _taken(lambda: run_plan(opened, small("1_overview.yaml", 16), with_prefect=True))
                - _taken(lambda: run_plan(opened, small("1_overview.yaml", 16), with_prefect=False))
                for _ in range(TIMES)
            ]
            yield _figure("a run beside its stages", "", costs, "ten stages as tasks less the same by plain calls")
            before = _rows(database)
            size = database.stat().st_size
            with_it = _taken(lambda: run_night(opened, *a_night(*[{}] * TARGETS), with_prefect=True))
            time.sleep(5)  # the server's recorder writes in batches
            grown = _rows(database)
            without = _taken(lambda: run_night(opened, *a_night(*[{}] * TARGETS), with_prefect=False))
            between = [(with_it - without) / TARGETS]
            yield _figure("between two targets beside their stages", "<= 2", between, f"a night of {TARGETS} targets")
            bytes_each = (database.stat().st_size - size) / TARGETS
            yield Figure(
                f"orchestration: Prefect's database, a night of {OF_A_NIGHT} targets",
                bytes_each * OF_A_NIGHT / 1e6,
                "MB",
                "",
                "its file on the disk",
                f"{bytes_each / 1e3:.0f} kB a target; rows a target: {(grown - before) / TARGETS:.0f}",
            )
            small_rows = _grows(database, lambda: run_plan(opened, small("1_overview.yaml", 16), with_prefect=True))
            large_rows = _grows(database, lambda: run_plan(opened, small("1_overview.yaml", 64), with_prefect=True))
            detail = f"{small_rows} rows for 256 frames, {large_rows} for 4096"
            more = float(large_rows - small_rows)
            yield Figure("orchestration: rows for 16 times the frames", more, "", "<= 20", "the shorter run", detail)


def _taken(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def _grows(database: Path, act: Callable[[], object]) -> int:
    before = _rows(database)
    act()
    time.sleep(5)  # the server's recorder writes in batches
    return _rows(database) - before


def _rows(database: Path) -> int:
    """Rows of everything that a run leaves in Prefect's database."""
    tables = ("flow_run", "task_run", "flow_run_state", "task_run_state", "log", "artifact", "events")
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
    try:
        return sum(int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) for table in tables)
    finally:
        connection.close()


def _triggered(home: Path) -> Iterator[float]:
    """Seconds from asking for a flow run to its being taken up, with `nightbeam serve` and its worker."""
    ports = ("--port", "0", "--prefect-port", "0")
    serving = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "serve", "--deployments", str(ROOT / "prefect.yaml"), *ports],
        env={**os.environ, "NIGHTBEAM_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert serving.stdout is not None
        assert serving.stdout.readline().startswith("http://")
        api = noted_api(home)
        assert api is not None
        with client_of(api):
            from prefect.deployments import run_deployment

            for number in range(TIMES + 1):
                begun = time.time()
                asked = run_deployment("tidy/tidy", parameters={"source": "person", "key": f"b{number}"}, timeout=0)
                taken_up = _began(home / "nightbeam.db", str(asked.id)) - begun
                if number:  # the worker has seen its first one
                    yield taken_up
    finally:
        serving.terminate()
        serving.wait()


def _began(database: Path, flow_run_id: str) -> float:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
        found = connection.execute("SELECT began FROM launch WHERE flow_run_id = ?", (flow_run_id,)).fetchone()
        connection.close()
        if found:
            return datetime.fromisoformat(f"{found[0]}+00:00").timestamp()
        time.sleep(0.05)
    raise TimeoutError(flow_run_id)
