"""Nights whose targets end at once, on one open lab: what the loop does is what counts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from db.engine import reader, writer
from db.questions.night import night_story
from db.record import finish_run
from devices.acquire import Progress
from flows.night import NightResult, run_night
from flows.queue import Queued
from flows.run import Outcome
from stem4d.night import Night, TargetState
from stem4d.plan import Plan
from storage import orders
from storage.documents import validate
from tasks.lab import Lab
from tasks.record import open_run
from tests.flows.night_world import small

Ends = Callable[[str, Lab], Outcome]


def a_night(*targets: dict[str, Any], **more: Any) -> tuple[Night, tuple[Queued, ...]]:
    """A night of its own content; each target has a specimen of its own unless it names one by ``sample``."""
    listed = [{"name": f"t{i}", "plan": "p.yaml", **one} for i, one in enumerate(targets)]
    plans = [one.pop("changes", ()) for one in listed]
    document = {"format_version": 1, "name": f"n-{uuid4().hex[:8]}", "instrument": "i.toml", "targets": listed, **more}
    night = validate(document, Night, "night")
    return night, tuple(
        Queued(one, plan_of(night.name, one.name, changes)) for one, changes in zip(night.targets, plans, strict=True)
    )


def plan_of(night: str, target: str, changes: tuple[str, ...] = ()) -> Plan:
    return small("1_overview.yaml", 16, f"sample.name={night}-{target}", *changes)


def done(name: str, _opened: Lab) -> Outcome:
    return Outcome(TargetState.DONE, "", ())


class Played:
    """Stands for running a target: says which ran, and how each ends."""

    def __init__(self, opened: Lab, ends: Ends = done) -> None:
        self.opened, self.ends = opened, ends
        self.ran: list[str] = []
        self.plans: dict[str, Plan] = {}
        self.earlier: dict[str, tuple[str, ...]] = {}

    def __call__(
        self, _call: Any, instrument: str, plan_json: str, target_id: int, earlier: tuple[str, ...] = ()
    ) -> Outcome:
        name = self.opened_name(target_id)
        self.ran.append(name)
        self.plans[name], self.earlier[name] = Plan.model_validate_json(plan_json), earlier
        run = open_run.fn(instrument, plan_json, target_id, list(earlier))
        state = "failed"
        try:
            outcome = self.ends(name, self.opened)
            state = "done" if outcome.state is TargetState.DONE else "stopped"
        finally:
            with writer(self.opened.engine) as session:
                finish_run(session, run_id=self.opened.runs[run].id, state=state)
        return replace(outcome, runs=(*earlier, run))

    def opened_name(self, target_id: int) -> str:
        with reader(self.opened.engine) as session:
            story = night_story(session)
        return next(one["name"] for one in story["targets"] if one["id"] == target_id)


def states(opened: Lab, name: str | None = None) -> dict[str, tuple[str, str]]:
    """State and reason of each target of a night, the latest without a name."""
    with reader(opened.engine) as session:
        return {one["name"]: (one["state"], one["reason"] or "") for one in night_story(session, name=name)["targets"]}


def story(opened: Lab) -> dict[str, Any]:
    with reader(opened.engine) as session:
        return night_story(session)


def stopped_in(opened: Lab, night: Night, queued: tuple[Queued, ...], what: str, kind: orders.Kind) -> NightResult:
    """Run a night that is given an order while frames of a scan come."""
    asked: list[orders.Order] = []

    def on_progress(name: str, state: Progress) -> None:
        if what in name and not asked and not state.ended:
            asked.append(orders.ask(opened.settings.instruments_folder / opened.file.name, kind))

    opened.on_progress = on_progress
    result = run_night(opened, night, queued, with_prefect=False)
    assert asked
    opened.on_progress = lambda *_: None
    return result
