"""A run in real time of which one process is killed, and what is then true of beam, processes and rows.

The witness of the beam is the simulated column's own log, by the host's clock.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import psutil
from sqlalchemy import inspect, text

from db.engine import Engine, open_engine, reader
from db.lease import owners
from devices.lease import is_owned
from flows.calibrate import calibrate_kinds
from flows.left import close_instruments
from stem4d.plan import Plan
from storage.crash import VARIABLE
from storage.documents import load_model
from storage.settings import Settings
from tasks.lab import open_lab
from tests.devices.server_world import folder_of
from tests.flows.dose_world import AREA, REMEMBERS, truth
from tests.flows.night_world import INSTRUMENT, NAME, PLANS, column_log

Victim = Literal["flow", "worker", "watchdog"]

WITHIN = timedelta(seconds=5)
KINDS = ("pixel_mask", "centre", "descan", "current")
"""Measured once, so that a run consists of one pass over the specimen."""
SLOW = ("scan.shape=[32, 32]", "scan.step_nm=0.08", "scan.flyback_us=60000", "scan.flyback_blanked=true")
"""Two seconds in real time, most of them between the rows."""

POINTS: dict[Victim, tuple[str, ...]] = {
    "flow": (
        "lab.owned", "lab.leased", "lab.opened", "lab.tidied", "before open run", "after open run",
        "before prepare instrument", "before calibrate", "after calibrate", "expose.prepared", "expose.booked",
        "expose.armed", "expose.lit", "expose.scanning", "expose.progress", "expose.ended", "expose.blanked",
        "expose.received", "expose.parked", "expose.settled", "pass.registered", "before check quality",
        "before analyse", "after close run", "lab.parking", "lab.closing",
    ),
    "worker": ("worker.start", "worker.listening", "worker.progress", "worker.ended", "worker.done"),
    "watchdog": ("watchdog.start", "watchdog.open", "watchdog.ready", "watchdog.beat", "watchdog.look"),
}  # fmt: skip
"""Where a process can be told to die, by whose way they are on."""


def make_template(home: Path) -> None:
    """A home whose calibrations are measured, in accelerated time; files of plan and instruments lie beside it."""
    plan = home.parent / "slow.json"
    plan.write_text(load_model(PLANS / "demo" / "1_overview.yaml", Plan, SLOW).model_dump_json())
    quick = f"{INSTRUMENT.read_text()}\n{REMEMBERS}\n"
    real = quick.replace('speed = "accelerated"', 'speed = "real"')
    assert real != quick
    (home.parent / "quick.toml").write_text(quick)
    (home.parent / "real.toml").write_text(real)
    with open_lab(_settings(home), home.parent / "quick.toml") as opened:
        assert calibrate_kinds(opened, load_model(plan, Plan), KINDS).complete


def _settings(home: Path) -> Settings:
    return Settings(home=home, worker="inline", prefect=False, disk_reserve_gb=0)


@dataclass
class Trial:
    """One run that was begun, and what died when."""

    home: Path
    files: Path
    """Where the files of plan and instruments are."""
    run: "subprocess.Popen[str]"
    processes: dict[Victim, psutil.Process] = field(default_factory=dict)
    died: dict[Victim, datetime] = field(default_factory=dict)
    replaced: datetime | None = None
    """When another watchdog was first seen: one that dies before a run is opened is followed by another."""

    @property
    def exit_code(self) -> int | None:
        return self.run.poll()

    def look(self) -> None:
        """See who is there, and who is not any more."""
        with suppress(psutil.Error):
            for child in self.processes["flow"].children():
                line = " ".join(child.cmdline())
                if "devices.watchdog" in line:
                    if child != self.processes.setdefault("watchdog", child):
                        self.replaced = self.replaced or datetime.now(UTC)
                elif "spawn_main" in line:
                    self.processes["worker"] = child
        for name, process in self.processes.items():
            if name not in self.died and _gone(process):
                self.died[name] = datetime.now(UTC)

    def follow(self, within_s: float) -> None:
        """Look until the run has ended by itself or by what killed it."""
        deadline = time.monotonic() + within_s
        while self.run.poll() is None:
            assert time.monotonic() < deadline, "the run goes on for ever"
            self.look()
            time.sleep(0.01)
        self.died.setdefault("flow", datetime.now(UTC))

    def kill(self, wanted: Victim) -> Victim:
        """Kill a process, or the flow where that one is not there; gives which it was."""
        self.look()
        victim: Victim = wanted if wanted in self.processes and wanted not in self.died else "flow"
        with suppress(psutil.NoSuchProcess):
            self.processes[victim].kill()
        self.died.setdefault(victim, datetime.now(UTC))
        return victim


def begin(template: Path, home: Path, crash_at: str = "", *, prefect: bool = False) -> Trial:
    """Start a run in a copy of the template."""
    shutil.copytree(template, home)
    command = [sys.executable, "-m", "flows.cli", "run", str(template.parent / "slow.json")]
    options = ["-i", str(template.parent / "real.toml"), "--yes", *([] if prefect else ["--no-prefect"])]
    own = {"NIGHTBEAM_HOME": str(home), "NIGHTBEAM_DISK_RESERVE_GB": "0", **({VARIABLE: crash_at} if crash_at else {})}
    with (home / "told").open("w") as told:
        run = subprocess.Popen(
            [*command, *options], env={**os.environ, **own}, stdout=told, stderr=subprocess.STDOUT, text=True
        )
    return Trial(home, template.parent, run, {"flow": psutil.Process(run.pid)})


def look_for(trial: Trial, seconds: float) -> None:
    """Look for a while, or until the run has ended."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s and trial.exit_code is None:
        trial.look()
        time.sleep(0.01)


def wait_for_beam(trial: Trial, within_s: float) -> None:
    """Look until the beam is on; the template's log has the calibrations'."""
    seen, deadline = len(column_log(trial.home)), time.monotonic() + within_s
    while not any(one["event"] == "scan" for one in column_log(trial.home)[seen:]):
        assert time.monotonic() < deadline, "the specimen was never exposed"
        assert trial.exit_code is None, (trial.home / "told").read_text()
        trial.look()
        time.sleep(0.02)


def check(trial: Trial, victim: Victim) -> float:
    """Hold what a death left to what is promised; gives how long the beam stayed on after it [s]."""
    home, told = trial.home, (trial.home / "told").read_text()[-2000:]
    nobody_is_left(trial, told)
    on_s = beam_after(home, trial.died[victim], trial.replaced if victim == "watchdog" else None)
    assert not is_owned(folder_of(home, NAME))
    real = truth(home)
    settings = _settings(home)
    engine = open_engine(settings.database_url.get_secret_value())
    try:
        running = _all(engine, "SELECT name FROM run WHERE state = 'running'")
        (first,) = close_instruments(settings, engine, None)
        assert first.trouble == "", told
        once, files = _rows(engine), _files(settings)
        assert all(any(name in line for line in first.lines) for (name,) in running), (running, first.lines)
        assert _all(engine, "SELECT name FROM run WHERE state = 'running'") == []
        (second,) = close_instruments(settings, engine, None)
        assert (second.lines, second.trouble) == ((), "")
        assert (_rows(engine), _files(settings)) == (once, files)
        _all_dose_is_known(engine, home, real.electrons)
        with open_lab(settings, trial.files / "quick.toml") as opened:
            assert opened.left_open == ()
            assert opened.instrument.gate.is_blanked()
        with reader(engine) as session:
            assert owners(session) == ()
    finally:
        engine.dispose()
    return on_s


def _all_dose_is_known(engine: Engine, home: Path, electrons: float) -> None:
    """Each exposure that the column let through has its entry, and together they are not below what is true."""
    entries = _all(
        engine,
        "SELECT i.token, i.closed, d.electrons, a.name, i.fluence_e_per_a2, d.delivered_e_per_a2"
        " FROM exposure_intent i JOIN area a ON a.id = i.area_id"
        " LEFT JOIN dose_entry d ON d.intent_id = i.id",
    )
    lit = {one["exposure"] for one in column_log(home) if one["event"] == "unblank"}
    assert lit <= {token for token, closed, *_more in entries if closed is not None}
    booked = [amount for _token, _closed, amount, area, *_more in entries if area == AREA]
    # One that is charged as it was booked has no number of electrons, and all of its fluence.
    unknown = [(booked_, charged) for *_first, amount, _area, booked_, charged in entries if amount is None]
    assert all(charged is not None and charged >= booked_ for booked_, charged in unknown), entries
    if not unknown:
        # Electrons are products of a current and times in float64, summed over some hundred exposures: 1e-5 is ample.
        assert sum(booked) >= electrons * (1 - 1e-5), (booked, electrons)


def beam_after(home: Path, died: datetime, replaced: datetime | None = None) -> float:
    """How long the beam was on after a death; nobody lets it through again, and the detector is stopped in time.

    Where another watchdog has taken the place of one that died, a run may begin under it.
    """
    until = replaced or datetime.max.replace(tzinfo=UTC)
    on: datetime | None = None
    busy: datetime | None = None
    longest_s = 0.0
    for entry in column_log(home):
        at, event = datetime.fromisoformat(entry["wall"]), entry["event"]
        if event == "unblank":
            assert at < died + timedelta(seconds=2) or at > until, (
                "the beam was let through though a guard of it had died"
            )
            on = on or at
        elif event in ("blank", "valves") and on:
            # Which a real column would not do.
            assert entry.get("by") != "instrument", "nobody blanked but the simulated column itself, left alone"
            longest_s = max(longest_s, (at - died).total_seconds() if on < until else 0.0)
            on = None
        elif event == "arm":
            busy = at
        elif event in ("stop", "scanned") and busy:
            assert at < died + WITHIN or busy > until, "the detector went on counting"
            busy = None
    assert on is None, "the beam is on"
    assert busy is None, "the detector is not idle"
    assert longest_s < WITHIN.total_seconds()
    return longest_s


def nobody_is_left(trial: Trial, told: str) -> None:
    """No process of the run is there 5 s after its end."""
    deadline = trial.died["flow"] + WITHIN
    while left := list(_of(trial.home)):
        assert datetime.now(UTC) < deadline, (left, told)
        time.sleep(0.05)


def _of(home: Path) -> Iterator[str]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("NIGHTBEAM_HOME") == str(home) and not _gone(process):
                yield f"{process.pid} {' '.join(process.cmdline())[:120]}"


def _gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _all(engine: Engine, question: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(question))]


def _files(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.data_folder.rglob("*"))


def _rows(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """All that is remembered but who owned the instrument, which every look at it adds to."""
    tables = sorted(set(inspect(engine).get_table_names()) - {"alembic_version", "lease"})
    return {one: _all(engine, f"SELECT * FROM {one} ORDER BY 1") for one in tables}
