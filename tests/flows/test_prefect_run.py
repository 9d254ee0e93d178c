"""A run through Prefect: the same stages, seen by a real server as named tasks of a flow with its figures and story."""

import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from markdown_it import MarkdownIt
from matplotlib.image import imread

from db.engine import reader
from db.questions.show import show_run
from flows.api import PrefectApi
from stem4d.night import TargetState
from storage.settings import Settings
from tasks.lab import Told, open_lab
from tests.flows.night_world import INSTRUMENT, small
from tests.flows.prefect_world import artifacts_of, flow_run_named, log_of
from tests.flows.test_prefect_versions import asked, awaited

STAGES = [
    "open run",
    "validate plan",
    "prepare instrument",
    "calibrate",
    "validate plan",
    "expose",
    "check quality",
    "analyse",
    "close run",
    "report",
]
WEB = "https://stem.example.org:8765"
TITLE = "a *run* of [Prefect](javascript:alert(1)) <b>|</b>"


class Seen(NamedTuple):
    """A run, what the record says of it, and what Prefect has."""

    name: str
    facts: dict[str, Any]
    told: list[Told]
    flow_run: Any
    tasks: list[Any]
    artifacts: dict[str, Any]
    log: list[Any]


@pytest.fixture(scope="module")
def seen(prefect_api: PrefectApi, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    from prefect.client.orchestration import get_client

    from flows.run import run_plan

    plan = small("1_overview.yaml", 16, f"title={TITLE}")
    settings = Settings(
        home=tmp_path_factory.mktemp("seen"), worker="inline", prefect=False, disk_reserve_gb=0, web_url=WEB
    )
    told: list[Told] = []
    with open_lab(settings, INSTRUMENT) as opened, pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.artifacts.LONGEST_S", 60.0)  # a busy machine is no server that has gone
        opened.on_told = told.append
        outcome = run_plan(opened, plan, with_prefect=True)
        assert opened.on_told == told.append
        with reader(opened.engine) as session:
            facts = show_run(session, name=outcome.runs[-1])
    assert outcome.state is TargetState.DONE
    flow_run = flow_run_named(f"{TITLE}: {plan.sample.name}, area {plan.sample.area}")
    with get_client(sync_client=True) as client:
        tasks = sorted(client.read_task_runs(), key=lambda task: task.start_time)
    own = [task for task in tasks if task.flow_run_id == flow_run.id]
    return Seen(outcome.runs[-1], facts, told, flow_run, own, artifacts_of(flow_run.id), log_of(flow_run.id))


@pytest.mark.timeout(300)
def test_a_run_is_a_flow_of_named_stages(seen: Seen) -> None:
    assert seen.flow_run.state.is_completed()
    assert [task.name.rsplit("-", 1)[0] for task in seen.tasks] == STAGES


def test_its_tags_are_kind_instrument_and_specimen_and_none_of_its_tasks(seen: Seen) -> None:
    specimen = seen.facts["sample"]
    assert set(seen.flow_run.tags) == {"kind:run", "instrument:demo-stem", f"specimen:{specimen}"}
    assert {tag for task in seen.tasks for tag in task.tags} == set()


def test_every_figure_of_quality_stands_in_its_table(seen: Seen) -> None:
    rows = seen.artifacts[f"quality-{seen.name}"].data
    final = [one for one in seen.facts["quality"] if one["stage"] == "final"]
    assert len(rows) == len(final) > 10
    # By analysis, too: some figures are judged for each.
    by_name = {(row["Quantity"], row["For analysis"].replace("\\", "")): row for row in rows}
    for one in final:
        row = by_name[re.sub(r"[._]", " ", one["metric"]), one["analysis"] or "all"]
        assert row["Verdict"] == one["verdict"].replace("_", " ").replace("warn", "warning")
        if one["value"] is None:
            assert row["Figure"] == "not measured"
        else:
            # As printed: four digits, or to the second digit of the error.
            assert number_of(row["Figure"]) == pytest.approx(one["value"], rel=0.02, abs=2 * (one["uncertainty"] or 0))


def number_of(said: str) -> float:
    """The number that a figure begins with, in any of the forms of the report."""
    plain = re.sub(r"[\u202f\u00a0]", " ", said.replace("\\", "")).replace("−", "-").lstrip("(")
    found = re.match(r"-?[0-9]{1,3}(?: [0-9]{3})*(?:\.[0-9]+)?|-?[0-9.]+", plain)
    assert found, said
    power = re.search(r"× 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", plain)
    exponent = int(power[1].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))) if power else 0
    return float(found[0].replace(" ", "")) * 10.0**exponent


def test_its_page_shows_picture_dose_and_the_way_to_more_and_no_mark_of_a_person(seen: Seen) -> None:
    text = seen.artifacts[f"run-{seen.name}"].data
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert TITLE in html.replace("&lt;", "<").replace("&gt;", ">")
    assert re.findall('href="([^"]*)"', html) == [f"{WEB}/runs/{seen.name}"]
    assert not re.search("<(b|em|script)>", html)
    (picture,) = re.findall('src="data:image/png;base64,([^"]*)"', html)
    assert len(picture) <= 60_000
    assert imread(BytesIO(b64decode(picture)), format="png").shape[:2] == (192, 192)
    (account,) = [one for one in seen.facts["accounts"] if one["name"] == seen.facts["area"]["name"]]
    (row,) = re.findall(rf"<td>{re.escape(account['name'])}</td>\s*<td>([^<]*)</td>", html)
    assert number_of(row) == pytest.approx(account["delivered_e_per_a2"], rel=0.006)
    assert f"{seen.name}.html" in html
    for one in seen.facts["analyses"]:
        assert f"<li><strong>{one['method']}</strong>: data " in html
        assert f"; {one['verdict'].replace('_', ' ')}: {one['reason'][:40]}" in html


def test_its_log_is_the_story_and_nothing_else(seen: Seen) -> None:
    assert [line.message for line in seen.log] == [f"{one.kind}: {one.message}" for one in seen.told]
    assert {line.level for line in seen.log if line.message.startswith("run ")} == {20}
    assert seen.told[-1].kind == "run ended"


def test_its_end_is_an_event_with_its_files_and_verdicts(seen: Seen, prefect_api: PrefectApi) -> None:
    wanted = {"filter": {"resource": {"id": [f"nightbeam.run.{seen.name}"]}}}
    (told,) = awaited(lambda: asked(prefect_api, "/events/filter", wanted)["events"], within_s=20)
    assert told["event"] == "nightbeam.run.ended"
    assert [Path(path).name for path in told["payload"]["files"]] == ["pass1.h5"]
    assert set(told["payload"]["verdicts"]) == {"com", "virtual bright_field", "virtual dark_field"}
    assert f"prefect.flow-run.{seen.flow_run.id}" in {one["prefect.resource.id"] for one in told["related"]}
