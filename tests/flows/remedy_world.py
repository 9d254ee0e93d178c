"""The demo's instrument with another truth, and what the database has of a target that was mended on it."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from db.engine import reader
from db.questions.show import show_run
from flows.queue import Queued
from flows.run import Outcome, run_plan
from stem4d.night import Night, Target
from stem4d.plan import Plan
from storage.settings import Settings
from tasks.lab import Lab, open_lab
from tests.flows.night_world import INSTRUMENT, small

SETTLES_AT_S = 40.0
SETTLING = f"""
[[settings.schedule]]
at_s = {SETTLES_AT_S}
knob = "areas.edge-3.drift_nm_per_min"
value = [0.3, -0.2]
"""


@contextmanager
def faulty_lab(home: Path, *truths: str, drop: str = "") -> Iterator[Lab]:
    """The instrument on a home of its own, with tables added to its hidden truth; ``drop`` is taken out of it first."""
    text = INSTRUMENT.read_text()
    assert drop in text
    path = home / "instrument.toml"
    path.write_text("\n".join([text.replace(drop, ""), *truths]))
    tomllib.loads(path.read_text())
    with open_lab(Settings(home=home, worker="inline", prefect=False, disk_reserve_gb=0), path) as opened:
        yield opened


class Mended(NamedTuple):
    """How a target ended, with what is known of each of its attempts."""

    outcome: Outcome
    runs: list[dict[str, Any]]

    def delivered(self) -> dict[str, float]:
        """What each area received by all exposures of these runs [e/Å²], vacuum left out."""
        given: dict[str, float] = {}
        for run in self.runs:
            for one in run["exposures"]:
                if one["area"] != "vacuum":
                    given[one["area"]] = given.get(one["area"], 0.0) + one["delivered_e_per_a2"]
        return given

    def actions(self) -> list[str]:
        """What was done about it."""
        return [remedy["action"] for run in self.runs for remedy in run["remedies"]]

    def verdicts(self, metric: str) -> list[set[str]]:
        """The final verdicts of a metric, attempt by attempt."""
        return [
            {one["verdict"] for one in run["quality"] if one["metric"] == metric and one["stage"] == "final"}
            for run in self.runs
        ]


def told(opened: Lab, outcome: Outcome) -> Mended:
    """Everything about a target's attempts."""
    with reader(opened.engine) as session:
        return Mended(outcome, [show_run(session, name=name) for name in outcome.runs])


def mended(opened: Lab, plan: Plan) -> Mended:
    """Run a plan to its end."""
    return told(opened, run_plan(opened, plan, with_prefect=False))


def saturating(specimen: str, *changes: str) -> Plan:
    """A beam three times as bright as it says, into a counter of 8 bits."""
    return small("3_saturating.yaml", 16, f"sample.name={specimen}", *changes)


def drifting(specimen: str, *changes: str) -> Plan:
    """Two passes over an area that drifts by 15 nm/min, where 5 are allowed."""
    return small("5_drifting.yaml", 40, f"sample.name={specimen}", *changes)


def night_of(*plans: tuple[str, Plan]) -> tuple[Night, tuple[Queued, ...]]:
    """A night of these plans, by the names of their targets."""
    targets = tuple(Target(name=name, plan=f"{name}.yaml") for name, _plan in plans)
    night = Night(format_version=1, name="faults", instrument="instrument.toml", targets=targets)
    return night, tuple(Queued(one, plan) for one, (_name, plan) in zip(targets, plans, strict=True))


class NoPage:
    """Stands where the stage of the report stands: pages are drawn and looked at elsewhere."""

    @staticmethod
    def fn(*_arguments: object) -> None:
        """Write none."""


def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of runs cost more than the runs do."""
    monkeypatch.setattr("flows.run.report_run", NoPage)
    monkeypatch.setattr("flows.night.write_night", NoPage.fn)
