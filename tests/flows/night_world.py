"""The demo's night with small scans: what the tests of run and night share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from flows.night import NightResult, run_night
from flows.queue import Queued, queue
from stem4d.night import Night
from stem4d.plan import Plan
from storage.documents import load_model
from storage.settings import Settings
from tasks.lab import Lab, open_lab
from tests.devices.server_world import entries

PLANS = Path(__file__).parents[2] / "plans"
INSTRUMENT = PLANS / "instruments" / "demo.toml"
NAME = "demo-stem"


@contextmanager
def small_lab(home: Path) -> Iterator[Lab]:
    """The demo's instrument on a home of its own; acquisition in this process, for speed."""
    with open_lab(Settings(home=home, worker="inline", prefect=False, disk_reserve_gb=0), INSTRUMENT) as opened:
        yield opened


def small(name: str, side: int = 24, *changes: str) -> Plan:
    """A plan of the demo with fewer positions over its own field."""
    plan = load_model(PLANS / "demo" / name, Plan)
    step = plan.scan.step_nm * plan.scan.shape[0] / side
    return load_model(PLANS / "demo" / name, Plan, [f"scan.shape=[{side}, {side}]", f"scan.step_nm={step}", *changes])


def small_targets() -> tuple[Night, tuple[Queued, ...]]:
    """The demo's night with small scans, where a coarser step does not change what the target shows."""
    night, queued = queue(PLANS / "demo_night.yaml")
    sides = {"overview": 32, "ptychography": 32, "saturating": 24, "drifting": 40}
    return night, tuple(
        Queued(
            one.target,
            one.plan if one.target.name == "refused" else small(Path(one.target.plan).name, sides[one.target.name]),
        )
        for one in queued
    )


class NightOnDisk(NamedTuple):
    """A night that was run, and where it left everything."""

    home: Path
    result: NightResult


def run_small_night(home: Path) -> NightResult:
    """The whole night in one process, without Prefect."""
    night, queued = small_targets()
    with small_lab(home) as opened:
        return run_night(opened, night, queued, with_prefect=False)


def column_log(home: Path) -> list[dict[str, Any]]:
    """What the simulated column's own log says: the witness of what the beam did."""
    return entries(home, NAME)
