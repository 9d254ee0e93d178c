"""A night that cannot go well is refused when it is queued: exit code 2, everything that is wrong, nothing started."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.queue import queue
from stem4d.errors import BadInput, SeveralBad

PLANS = Path(__file__).parents[2] / "plans"
PLAN = (PLANS / "demo" / "1_overview.yaml").read_text()
NOW = datetime(2026, 11, 27, 20, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that must not come to be."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NIGHTBEAM_HOME", str(folder))
    yield folder
    assert not folder.exists(), "a refused night wrote something"


def written(folder: Path, *targets: dict[str, Any], **plans: str) -> Path:
    """A night's file with its plans and the demo's instrument beside it."""
    (folder / "i.toml").write_text((PLANS / "instruments" / "demo.toml").read_text())
    for name, text in {"good": PLAN, **plans}.items():
        (folder / f"{name}.yaml").write_text(text)
    listed = [{"name": f"t{i}", "plan": "good.yaml", **one} for i, one in enumerate(targets)]
    path = folder / "night.json"
    path.write_text(json.dumps({"format_version": 1, "name": "n", "instrument": "i.toml", "targets": listed}))
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(BadInput) as caught:
        queue(path, now=lambda: NOW)
    error = caught.value
    return [str(one) for one in error.problems] if isinstance(error, SeveralBad) else [str(error)]


def on(area: str, budget: str = "2.0e+5", step: str = "0.04", dwell: str = "50") -> str:
    text = PLAN.replace("area: lamella-1", f"area: {area}").replace("2.0e+5", budget)
    return text.replace("step_nm: 0.04", f"step_nm: {step}").replace("dwell_time_us: 50", f"dwell_time_us: {dwell}")


def test_everything_that_is_wrong_is_told_at_once_and_nothing_is_started(home: Path, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"plan": "none.yaml"},
        {"deadline": "2026-11-01T05:30Z"},
        {"needs": ["scan_step"]},
        {"needs": ["sacn_step"]},
        {"plan": "short.yaml"},
        short=on("flake-1").replace("camera_length_mm: 106.4", "camera_length_mm: 107"),
    )
    arguments = ["night", str(path), "--yes"]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 2
    assert "Traceback" not in told.output
    as_json = CliRunner().invoke(app, [*arguments, "--json"])
    assert as_json.exit_code == 2
    listed = json.loads(as_json.stdout)["problems"]
    fields = " ".join(f"{one['field']} {one['value']}" for one in listed)
    for said in ("none.yaml", "t1: deadline", "t2: needs", "t3: needs", "short.yaml: optics.camera_length_mm"):
        assert said in fields
        assert said in told.stderr
    for one in listed:
        assert one["limit"]


def test_a_plan_that_is_not_there_is_named(tmp_path: Path) -> None:
    (told,) = problems(written(tmp_path, {"plan": "none.yaml"}))
    assert "none.yaml" in told
    assert "no such file" in told


def test_two_targets_on_one_area_beyond_its_budget(tmp_path: Path) -> None:
    """One pass of the plan gives 5.85e4 e/Å² of 2e5: three fit, and four do not."""
    assert queue(written(tmp_path, *[{}] * 3), now=lambda: NOW)
    (told,) = problems(written(tmp_path, *[{}] * 4))
    assert "target t3: area lamella-1: got 234100.0 e/Å²" in told
    assert "with t0, t1, t2 on it that is beyond the area's budget of 200000" in told
    assert "e/Å²" in told
    # With somewhere else to go it is none; what may never be run or is to be refused does not count.
    assert queue(written(tmp_path, {}, {}, {}, {"spare_areas": ["flake-1"]}), now=lambda: NOW)
    assert queue(written(tmp_path, {"spare_targets": ["t3"]}, {}, {}, {}), now=lambda: NOW)
    assert queue(written(tmp_path, {}, {}, {}, {"expect": "refused"}), now=lambda: NOW)


def test_of_many_problems_the_first_are_told_and_all_counted(home: Path, tmp_path: Path) -> None:
    """Thirteen faint targets fill an area; a hundred more do not fit, each for the same thirteen."""
    faint = on("lamella-1", dwell="12.5")
    filling = 13  # of 1.46e4 e/Å² each, of 2e5
    path = written(tmp_path, *[{"plan": "faint.yaml"}] * (filling + 100), faint=faint)
    with pytest.raises(SeveralBad) as caught:
        queue(path, now=lambda: NOW)
    assert len(caught.value.problems) == 100
    assert "t11 and 1 more on it" in str(caught.value.problems[0])
    assert ", t12" not in str(caught.value.problems[0])
    told = CliRunner().invoke(app, ["night", str(path), "--yes"])
    assert "100 problems:" in told.stderr
    assert "\n  10. target t22: " in told.stderr
    assert "target t23: " not in told.stderr
    assert "and 90 more" in told.stderr
    as_json = json.loads(CliRunner().invoke(app, ["night", str(path), "--yes", "--json"]).stdout)
    assert (as_json["count"], len(as_json["problems"])) == (100, 10)


def test_an_area_has_one_budget(tmp_path: Path) -> None:
    (told,) = problems(written(tmp_path, {}, {"plan": "other.yaml"}, other=on("lamella-1", budget="3.0e+5")))
    assert "an area has one budget" in told


def test_a_deadline_that_has_passed(tmp_path: Path) -> None:
    assert queue(written(tmp_path, {"deadline": "2026-11-27T20:00:01Z"}), now=lambda: NOW)
    for passed in ("2026-11-27T20:00:00Z", "2026-11-27T20:30:00+01:00"):
        (told,) = problems(written(tmp_path, {"deadline": passed}))
        assert "has passed: it is 2026-11-27T20:00Z" in told
    late = written(tmp_path, {"deadline": "2026-11-27T19:00:00Z"})
    # Of a night that goes on it is no mistake: its target is skipped with the reason.
    assert queue(late, now=lambda: NOW, goes_on=lambda *_: True)


def test_a_calibration_that_the_column_can_never_have(tmp_path: Path) -> None:
    """The demo's instrument has no reference specimen, which the scan's step is measured on."""
    needs = written(tmp_path, {"needs": ["scan_step"]})
    (told,) = problems(needs)
    assert "cannot be met on demo-stem" in told
    assert "no reference specimen" in told
    assert queue(needs, now=lambda: NOW, has=lambda *_: True)
    assert queue(written(tmp_path, {"needs": ["centre", "current"]}), now=lambda: NOW)


def test_spare_areas_of_plan_and_target_come_together(tmp_path: Path) -> None:
    _night, (one,) = queue(written(tmp_path, {"spare_areas": ["flake-1", "grain-2"]}), now=lambda: NOW)
    assert one.plan.sample.spare_areas == ("flake-1", "grain-2")
    (told,) = problems(written(tmp_path, {"spare_areas": ["lamella-1"]}))
    assert "none of them its area lamella-1" in told


def test_resume_of_nothing_is_refused(home: Path, tmp_path: Path) -> None:
    path = written(tmp_path, {})
    told = CliRunner().invoke(app, ["night", str(path), "--yes", "--resume"])
    assert (told.exit_code, "anything left to do" in told.stderr) == (2, True)
    both = CliRunner().invoke(app, ["night", str(path), "--yes", "--resume", "--new"])
    assert (both.exit_code, "one of the two" in both.stderr) == (2, True)


@pytest.mark.parametrize("command", ["run", "night"])
def test_a_driver_that_nobody_has_is_refused_before_anything_is_started(
    command: str, home: Path, tmp_path: Path
) -> None:
    path = written(tmp_path, {})
    instrument = tmp_path / "i.toml"
    instrument.write_text(instrument.read_text().replace('driver = "simulator"', 'driver = "simulater"'))
    named = [str(tmp_path / "good.yaml"), "-i", str(instrument)] if command == "run" else [str(path)]
    told = CliRunner().invoke(app, [command, *named, "--yes"])
    assert (told.exit_code, "known drivers are simulator" in told.stderr) == (2, True)


@pytest.mark.parametrize("command", [["pause"], ["resume"], ["skip", "t0"], ["stop", "--now"]])
def test_orders_where_no_night_runs_are_refused(command: list[str], home: Path) -> None:
    told = CliRunner().invoke(app, command)
    assert (told.exit_code, "no night runs here" in told.stderr) == (2, True)


def test_an_event_spoils_kinds_of_calibration_that_there_are(home: Path, tmp_path: Path) -> None:
    path = written(tmp_path, {})
    night = json.loads(path.read_text())
    path.write_text(json.dumps({**night, "events": [{"name": "flash", "at_h": 2.0, "spoils": ["curent", "centre"]}]}))
    (told,) = problems(path)
    assert told.startswith("event flash: spoils: got 'curent'; no kind of calibration; there are ")


def test_a_budget_that_another_plan_has_set_is_told_before_anything_starts(home: Path, tmp_path: Path) -> None:
    path = written(tmp_path, {}, {"plan": "second.yaml"}, second=on("lamella-2"))
    known = {"lamella-1": 5.0, "lamella-2": 2e5}
    with pytest.raises(BadInput) as caught:
        queue(path, now=lambda: NOW, registered=lambda _sample, area: known[area])
    assert "budget of area lamella-1" in caught.value.field
    assert "registered with 5 e/Å²" in str(caught.value)
