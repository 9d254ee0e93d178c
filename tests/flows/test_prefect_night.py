"""A night as operations see it in Prefect: names, tags, a bar, what came of it; and nothing where Prefect is away."""

import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from typing import Any, NamedTuple

import pytest
from markdown_it import MarkdownIt
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, get_current_settings, temporary_settings

from flows.api import PrefectApi
from flows.artifacts import hand_over, key_of
from flows.by_prefect import Call, seen_by_prefect
from flows.night import run_night
from flows.progress import exposed
from flows.shown import target_state
from stem4d.night import TargetState
from tasks.lab import Lab, Told
from tests.flows.going_world import Played, a_night, done
from tests.flows.night_world import small_lab
from tests.flows.prefect_world import artifacts_of, flow_run_named, log_of
from tests.flows.remedy_world import without_pages

REASON = "descan | of <3 px> " + "and more " * 10 + "in the end"
"""Longer than what a cell shows."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with small_lab(tmp_path_factory.mktemp("night")) as lab:
        yield lab


class Seen(NamedTuple):
    """A night in which one target ended and one was marked, and what Prefect has of it."""

    name: str
    flow_run: Any
    targets: list[Any]
    artifacts: dict[str, Any]
    log: list[str]


@pytest.fixture(scope="module")
def seen(prefect_api: PrefectApi, opened: Lab) -> Seen:
    night, queued = a_night({"title": "MOF, grain 1"}, {"name": "beside"}, title="Grains of | a *MOF*")

    def marked(name: str, lab: Lab) -> Any:
        if name == "beside":
            lab.warn("safety", "the valve | *stuck*")
            return replace(done(name, lab), state=TargetState.MARKED, reason=REASON)
        return done(name, lab)

    with pytest.MonkeyPatch.context() as patch:
        without_pages(patch)
        patch.setattr("flows.artifacts.LONGEST_S", 60.0)  # a busy machine is no server that has gone
        patch.setattr("flows.run.run_target", Played(opened, marked))
        result = run_night(opened, night, queued, with_prefect=True)
    from prefect.client.orchestration import get_client

    flow_run = flow_run_named(f"Grains of | a *MOF*, {opened.opened_at:%Y-%m-%d}")
    with get_client(sync_client=True) as client:
        targets = [run for run in client.read_flow_runs() if night.name in run.name]
    return Seen(
        result.name, flow_run, targets, artifacts_of(flow_run.id), [line.message for line in log_of(flow_run.id)]
    )


def test_a_flow_within_another_leaves_the_heartbeat_to_it(prefect_api: PrefectApi, opened: Lab) -> None:
    beats: list[int | None] = []

    def beat(_call: Call) -> None:
        beats.append(get_current_settings().flows.heartbeat_frequency)

    def outer(call: Call) -> None:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 60}):
            beat(call)
            seen_by_prefect(opened, "target", "inner", beat, lambda _came: None)

    seen_by_prefect(opened, "night", "outer", outer, lambda _came: None)
    assert beats == [60, None]


def test_flow_runs_are_called_and_tagged_as_people_know_them(seen: Seen) -> None:
    names = sorted(run.name for run in seen.targets)
    specimens = sorted(tag for tag in seen.flow_run.tags if tag.startswith("specimen:"))
    assert [name.partition(": ")[0] for name in names] == ["MOF, grain 1", "beside"]
    assert sorted(f"specimen:{name.partition(': ')[2].partition(', area')[0]}" for name in names) == specimens
    assert {"kind:night", "instrument:demo-stem"} < set(seen.flow_run.tags)
    for run in seen.targets:
        assert set(run.tags) == {"kind:target", "instrument:demo-stem", set(run.tags).intersection(specimens).pop()}


def test_states_say_what_came_of_each(seen: Seen) -> None:
    assert sorted((run.state.name, run.state.message) for run in seen.targets) == [
        ("Completed", ""),
        ("Marked", REASON),
    ]
    assert seen.flow_run.state.name == "Completed with warnings"
    assert seen.flow_run.state.message.startswith(f"{seen.name}: 1 done, 1 marked; beside: marked. {REASON[:8]}")


def test_what_gave_no_data_is_red_and_no_error_of_the_night(prefect_api: PrefectApi, opened: Lab) -> None:
    came, lost = seen_by_prefect(
        opened, "target", "red", lambda _: TargetState.REFUSED, lambda it: target_state(it, "too much")
    )
    assert (came, lost) == (TargetState.REFUSED, "")
    state = flow_run_named("red").state
    assert (state.is_failed(), state.name, state.message) == (True, "Refused", "too much")


def test_the_bar_is_full_at_the_end(seen: Seen) -> None:
    bar = seen.artifacts[key_of("progress", seen.name)]
    assert (bar.type, float(bar.data)) == ("progress", 100.0)
    assert bar.description.startswith("2 of 2 targets ended; 1 done; 1 marked")


def test_what_came_of_it_is_a_table_of_targets_with_reasons(seen: Seen) -> None:
    html = unescape(MarkdownIt("commonmark").enable("table").render(seen.artifacts[key_of("night", seen.name)].data))
    assert "<h1>Grains of | a *MOF*</h1>" in html
    cells = [row.split("<td>") for row in html.split("<tr>")[2:]]
    rows = [[cell.partition("</td>")[0] for cell in row[1:]] for row in cells]
    assert sorted(rows) == [["MOF, grain 1", "done", "–"], ["beside", "marked", f"{REASON[:68]} …"]]
    assert f"<li><strong>beside</strong>: {REASON}</li>" in html
    assert "<a " not in html  # no setting web_url


def test_its_log_tells_of_its_targets_too(seen: Seen) -> None:
    kinds = [line.partition(":")[0] for line in seen.log]
    assert kinds.count("run started") == 2
    assert "safety: the valve | *stuck*" in seen.log


class Printer(logging.Handler):
    """Stands where Prefect's console is: at the root of all loggers."""

    def __init__(self) -> None:
        super().__init__()
        self.printed: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.printed.append(record.getMessage())


def test_what_goes_to_the_log_is_printed_by_nobody_but_the_screen(prefect_api: PrefectApi, opened: Lab) -> None:
    printer = Printer()
    logging.getLogger().addHandler(printer)
    try:
        seen_by_prefect(opened, "target", "told", lambda _call: opened.tell("order", "xyzzy"), lambda _: None)
        assert [line.message for line in log_of(flow_run_named("told").id)] == ["order: xyzzy"]
    finally:
        logging.getLogger().removeHandler(printer)
    assert not [line for line in printer.printed if "xyzzy" in line]


def test_what_prefect_does_not_take_is_told_once_and_waited_for_once(
    prefect_api: PrefectApi, opened: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.context import refresh_global_settings_context

    told: list[Told] = []
    opened.on_told = told.append
    monkeypatch.setattr("flows.artifacts.LONGEST_S", 0.3)
    asked: list[int] = []

    def make() -> tuple[ArtifactCreate, ...]:
        asked.append(1)
        return (ArtifactCreate(key="a", type="markdown", data="b"),)

    def body(_call: object) -> str:
        # A server that takes a connection and says nothing.
        with socket.create_server(("127.0.0.1", 0)) as silent, monkeypatch.context() as patch:
            patch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/api")
            refresh_global_settings_context()
            began_s = time.monotonic()
            assert hand_over(opened, make) == hand_over(opened, make) == ()
            assert time.monotonic() - began_s < 3
        refresh_global_settings_context()
        return "whole"

    assert seen_by_prefect(opened, "target", "silent", body, str) == ("whole", "")
    assert [one.kind for one in told] == ["prefect"]
    assert len(asked) == 1
    # Another flow, which Prefect has begun: it is there again.
    (made,), _lost = seen_by_prefect(opened, "target", "back", lambda _call: hand_over(opened, make), str)
    assert made
    assert len(told) == 1


def test_what_cannot_be_made_ends_nothing(opened: Lab) -> None:
    def broken() -> Any:
        raise ZeroDivisionError

    opened.prefect_away = ""
    told: list[Told] = []
    opened.on_told = told.append
    assert hand_over(opened, broken) == ()
    assert [(one.kind, one.warning) for one in told] == [("prefect", True)]


@pytest.mark.parametrize(
    ("name", "done", "share"),
    [("p pass 1/2", 50, 0.25), ("p pass 2/2", 100, 1.0), ("descan vacuum", 50, 0.0), ("", 50, 0.0)],
)
def test_the_running_target_counts_by_its_passes(name: str, done: int, share: float) -> None:
    assert exposed({"scan": {"name": name, "frames_done": done, "frames_total": 100}}) == share
    assert exposed({"scan": None}) == 0.0
