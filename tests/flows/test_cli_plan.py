"""The commands about plans as a person and a script see them: check, show, suggest."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli.app import app
from stem4d.plan import Plan
from storage.documents import load_model
from tests.flows.night_world import INSTRUMENT, PLANS

GOALS = PLANS / "goals"


def nightbeam(home: Path, *arguments: object) -> Result:
    told = CliRunner().invoke(app, [str(each) for each in arguments], env={"NIGHTBEAM_HOME": str(home)})
    assert "Traceback" not in told.output
    return told


def test_findings_come_before_figures_and_carry_units(tmp_path: Path) -> None:
    told = nightbeam(tmp_path, "plan", "check", PLANS / "case_b.yaml", "--set", "optics.defocus_nm=20")
    assert told.exit_code == 2
    order = [
        "cannot work: fluence budget",
        "mind: fluence class",
        "not checked:",
        "2 hard finding(s)",
        "probe diameter",
    ]
    places = [told.output.index(part) for part in order]
    assert places == sorted(places)
    assert "probe diameter                                 6.21 Å" in told.output
    assert "Set optics.defocus_nm to" in told.output


def test_the_disk_is_looked_at_where_the_instrument_is_known(tmp_path: Path) -> None:
    plan = PLANS / "demo" / "1_overview.yaml"
    alone = json.loads(nightbeam(tmp_path, "plan", "check", plan, "--json").output)
    there = json.loads(nightbeam(tmp_path / "new", "plan", "check", plan, "-i", INSTRUMENT, "--json").output)
    rules = [{each["rule"] for each in told["findings"]} for told in (alone, there)]
    assert ["disk_space" in found for found in rules] == [False, True]
    assert not (tmp_path / "new").exists()
    assert there["prediction"]["compressed_bytes"] < there["prediction"]["raw_bytes"]


def test_the_reserve_of_the_settings_counts(tmp_path: Path) -> None:
    plan = PLANS / "demo" / "1_overview.yaml"
    asked = [str(each) for each in ("plan", "check", plan, "-i", INSTRUMENT, "--json")]

    def disk(reserve_gb: str) -> dict[str, str]:
        env = {"NIGHTBEAM_HOME": str(tmp_path), "NIGHTBEAM_DISK_RESERVE_GB": reserve_gb}
        listed = json.loads(CliRunner().invoke(app, asked, env=env).output)["findings"]
        (one,) = (each for each in listed if each["rule"] == "disk_space")
        return dict(one)

    assert disk("0")["verdict"] == "pass"
    # No disk of a test has a petabyte.
    refused = disk("1e6")
    assert refused["verdict"] == "fail"
    assert "disk_reserve_gb keeps 1e+06 GB" in refused["message"]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_plan_is_drawn(kind: str, tmp_path: Path) -> None:
    picture = tmp_path / f"plan.{kind}"
    told = nightbeam(tmp_path, "plan", "show", PLANS / "case_a.yaml", "--picture", picture)
    assert told.exit_code == 0
    start = picture.read_bytes()[:64]
    assert start.startswith(b"\x89PNG") if kind == "png" else b"<?xml" in start
    first = picture.read_bytes()
    nightbeam(tmp_path, "plan", "show", PLANS / "case_a.yaml", "--picture", picture)
    assert kind == "svg" or picture.read_bytes() == first


def test_a_suggested_plan_can_be_written_checked_and_is_never_replaced(tmp_path: Path) -> None:
    plan, picture = tmp_path / "plan.yaml", tmp_path / "trade.png"
    arguments = ["plan", "suggest", GOALS / "com.yaml", "--to", plan, "--picture", picture]
    told = nightbeam(tmp_path, *arguments)
    assert told.exit_code in (0, 3)
    assert "demo.toml" in told.output
    assert "what finer and coarser targets cost" in told.output
    assert picture.stat().st_size > 10_000
    assert plan.read_text().startswith("# Proposed by nightbeam plan suggest for the goal com on demo.toml.")
    proposed = json.loads(nightbeam(tmp_path, "plan", "suggest", GOALS / "com.yaml", "--json").output)
    assert load_model(plan, Plan) == Plan.model_validate_json(json.dumps(proposed["plan"]))
    assert nightbeam(tmp_path, "plan", "check", plan, "-i", INSTRUMENT).exit_code in (0, 3)
    written = plan.read_text()
    assert nightbeam(tmp_path, *arguments).exit_code == 2
    assert plan.read_text() == written
    assert nightbeam(tmp_path, *arguments, "--force").exit_code in (0, 3)


def test_a_goal_without_an_answer_says_what_collides(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    told = nightbeam(tmp_path, "plan", "suggest", GOALS / "mof.yaml", "--to", plan)
    assert told.exit_code == 2
    assert not plan.exists()
    assert "no plan on demo.toml can answer this question" in told.output
    assert "The target period and the fluence budget collide." in told.output
    assert "period of 4.7 Å" in told.output
    assert "Enough by itself: the target period 2.4" in told.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format_version: 1\nname: x\n", "sample"),
        ("format_version: 9\nname: x\n", "up to 1 is understood"),
        ("beam_energy_kev: 300000\n", "1500"),
        ("field_nm: [51e-9, 27e-9]\n", "field_nm"),
        ("beam_energy_kev: 301\n", "The nearest is 300"),
        ("detector: arin\n", "Did you mean arina"),
        ("thickness: 10\n", "thickness"),
    ],
)
def test_bad_goals_are_refused_with_what_to_do(text: str, said: str, tmp_path: Path) -> None:
    goal = tmp_path / "goal.yaml"
    if text.startswith("format_version"):
        goal.write_text(text)
    else:
        name = text.partition(":")[0]
        kept = [line for line in (GOALS / "case_a.yaml").read_text().splitlines() if not line.startswith(name)]
        goal.write_text("\n".join([*kept, text]))
    told = nightbeam(tmp_path, "plan", "suggest", goal, "--json")
    assert told.exit_code == 2
    assert said in json.dumps(json.loads(told.stdout), ensure_ascii=False)


@pytest.mark.parametrize("name", ["plan.gif", "none/plan.png"])
def test_a_picture_that_cannot_be_written_is_refused(name: str, tmp_path: Path) -> None:
    told = nightbeam(tmp_path, "plan", "show", PLANS / "case_a.yaml", "--picture", tmp_path / name)
    assert told.exit_code == 2
    assert "picture" in told.output


@pytest.mark.parametrize("name", ["plan.txt", "none/plan.yaml"])
def test_a_plan_that_cannot_be_written_is_refused_before_the_search(name: str, tmp_path: Path) -> None:
    told = nightbeam(tmp_path, "plan", "suggest", GOALS / "com.yaml", "--to", tmp_path / name)
    assert told.exit_code == 2
    assert "path" in told.output
