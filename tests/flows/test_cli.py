"""The command line as a person and a script see it: what it prints, what it exits with, how fast it answers."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from devices.lease import owned
from flows.cli.acquire import _code, _to_measure
from flows.cli.app import app
from flows.queue import queue
from flows.withdraw import _user
from tests.flows.night_world import NAME, PLANS, NightOnDisk


@pytest.fixture
def home(small_night: NightOnDisk) -> Path:
    return small_night.home


def nightbeam(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"NIGHTBEAM_HOME": str(home), "COLUMNS": "200"})


def facts(home: Path, *arguments: str, code: int = 0) -> Any:
    told = nightbeam(home, *arguments, "--json")
    assert told.exit_code == code, told.output
    return json.loads(told.stdout)


def test_runs_are_listed_newest_first_and_by_page(home: Path) -> None:
    everything = facts(home, "runs")["runs"]
    # The night's own order: one change of camera length, one of spot, and the other high tension last.
    assert [run["plan"] for run in everything] == [
        "refused",
        *["saturating"] * (len(everything) - 4),
        "drifting",
        "overview",
        "ptychography",
    ]
    first = facts(home, "runs", "--limit", "2")
    rest = facts(home, "runs", "--before", str(first["next_before"]))
    assert [run["name"] for run in first["runs"] + rest["runs"]] == [run["name"] for run in everything]
    assert [run["plan"] for run in facts(home, "runs", "--state", "refused")["runs"]] == ["refused"]
    assert not any(run["calibrating"] for run in everything)
    table = nightbeam(home, "runs").output
    assert all(run["name"] in table for run in everything)


def test_a_night_and_each_of_its_runs_can_be_shown(home: Path) -> None:
    night = facts(home, "show", "latest")
    assert [target["state"] for target in night["targets"]] == ["done", "done", "mended", "refused", "marked"]
    told = nightbeam(home, "show", "latest")
    assert "5. drifting: marked" in told.output
    for target in night["targets"]:
        for run in target["runs"]:
            assert facts(home, "show", run["name"])["state"] == run["state"]
            said = nightbeam(home, "show", run["name"]).output
            assert run["name"] in said
            # Figures are words: no dictionary, and no more digits than a standard error carries.
            assert "{" not in said
            assert not re.search(r"\d\.\d{9}", said.partition("\nend")[2].partition("calibration")[2])


def test_the_database_is_upgraded_from_nothing_by_the_command_that_messages_name(tmp_path: Path) -> None:
    assert facts(tmp_path, "db", "status", code=3)["state"] == "empty"
    assert facts(tmp_path, "db", "upgrade")["state"] == "current"
    assert facts(tmp_path, "db", "status")["state"] == "current"


@pytest.mark.parametrize("name", ["r20200101-000000-0000", "n20200101-000000-0000", "x", "'; DROP TABLE run; --"])
def test_an_unknown_run_is_refused(name: str, home: Path) -> None:
    assert nightbeam(home, "show", name).exit_code == 2


def test_doctor_finds_this_installation_well(home: Path) -> None:
    lines = facts(home, "doctor")
    assert all(line["ok"] for line in lines), lines
    assert {"prefect version", "driver simulator", "driver replay", "database"} <= {line["what"] for line in lines}


def test_doctor_says_how_to_mend_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    told = nightbeam(blocked, "doctor")
    assert told.exit_code == 1
    assert "Set NIGHTBEAM_HOME elsewhere" in told.output


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["case_a.yaml"], 3, "Depth of field is 25.8 Å"),
        (["case_b.yaml"], 3, "0 hard finding(s)"),
        (["case_b.yaml", "--set", "optics.defocus_nm=20"], 2, "Linear overlap of neighbouring probes is -222 %"),
        (["case_a.yaml", "--set", "detector.pattern_offset_px=[35.6, 0.0]"], 2, "32.0 of 50.9 mrad"),
        (["demo/4_refused.yaml"], 2, "cannot work: probe overlap"),
    ],
)
def test_plan_check_answers_with_figures_and_its_exit_code(
    arguments: list[str], code: int, says: str, tmp_path: Path
) -> None:
    told = nightbeam(tmp_path / "none", "plan", "check", str(PLANS / arguments[0]), *arguments[1:])
    assert told.exit_code == code
    assert says in told.output
    as_json = facts(tmp_path / "none", "plan", "check", str(PLANS / arguments[0]), *arguments[1:], code=code)
    assert bool(as_json["hard"]) == (code == 2)
    assert not (tmp_path / "none").exists()


def test_plan_show_writes_every_default_out(tmp_path: Path) -> None:
    told = nightbeam(tmp_path / "none", "plan", "show", str(PLANS / "case_a.yaml"))
    assert told.exit_code == 0
    assert "quality.max_attempts" in told.output
    assert "half-period that this angle carries            0.193 Å" in told.output


@pytest.mark.parametrize(
    ("file", "full_scale", "lowest", "highest"),
    [
        ("recorded_merlin_6bit/001_4x2_6bit.mib", 63, 1932, 1956),
        ("recorded_nanomegas_blo/test1.blo", 255, 46, 50),
    ],
)
def test_inspect_judges_recorded_data(
    file: str, full_scale: int, lowest: int, highest: int, recorded_data: Path, tmp_path: Path
) -> None:
    told = facts(tmp_path / "none", "inspect", str(recorded_data / file), code=3)
    assert told["full_scale"] == full_scale
    assert told["saturated_px_per_frame"] == {"lowest": lowest, "highest": highest}
    assert {name: told["verdicts"][name] for name in ("com", "dpc", "ptychography")} == dict.fromkeys(
        ("com", "dpc", "ptychography"), "fail"
    )
    assert told["verdicts"]["virtual dark_field"] != "fail"
    assert not (tmp_path / "none").exists()


def test_inspect_agrees_with_what_the_acquisition_counted(home: Path) -> None:
    run = next(run for run in facts(home, "runs")["runs"] if run["plan"] == "overview")
    shown = facts(home, "show", run["name"])["datasets"]
    (dataset,) = [one for one in shown if one["purpose"] == "acquisition"]
    told = facts(home, "inspect", dataset["locations"][0]["path"])
    assert told["frames"] == 32 * 32
    assert told["kind"] == "nightbeam"
    assert told["disk"]["radius_px"] == pytest.approx(
        21.4 / (100 / 106.4), abs=0.2
    )  # specimen scattering blurs the edge


def test_calibrations_are_listed_as_they_stand_for_a_plan(home: Path) -> None:
    plan = str(PLANS / "demo" / "1_overview.yaml")
    told = facts(home, "calibrate", "--plan", plan, "--list", code=3)
    states = {one["kind"]: one["state"] for one in told["calibrations"]}
    # What the night measured holds for its field, however finely that is scanned.
    assert [states[kind] for kind in ("pixel_mask", "centre", "descan", "current")] == ["valid"] * 4
    assert states["scan_step"] == "missing"
    step = next(one for one in told["calibrations"] if one["kind"] == "scan_step")
    assert step["obstacle"] == "not measurable: the instrument file names no reference specimen"
    assert told["measured"] == []
    assert "field_nm=(2.56, 2.56)" in next(one["mode_key"] for one in told["calibrations"] if one["kind"] == "descan")


def test_calibrate_refuses_an_unknown_kind_and_asks_before_the_beam_is_used(home: Path) -> None:
    plan = str(PLANS / "demo" / "1_overview.yaml")
    told = nightbeam(home, "calibrate", "disc", "--plan", plan)
    assert told.exit_code == 2
    assert "mrad_per_pixel" in told.output
    runs = len(facts(home, "runs")["runs"])
    asked = nightbeam(home, "calibrate", "rotation", "--plan", plan)
    assert asked.exit_code != 0
    assert "on area lamella-1 of demo-crystal, out of its budget" in asked.output
    assert len(facts(home, "runs")["runs"]) == runs


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rotaton"], "Did you mean rotation?"),
        (["defocus,drift"], "Separate kinds by spaces"),
        (["--list", "--plan", "INSTRUMENT"], "this is an instrument file, and a plan is wanted"),
        (["--list", "--plan", "PLAN", "-i", "PLAN"], "this is a plan, and an instrument file is wanted"),
        (["--plan", "AREA", "-i", "INSTRUMENT", "--yes"], "The stage has no position film-2"),
        (["--plan", "AREA", "-i", "INSTRUMENT", "--list"], "The stage has no position film-2"),
        (["--plan", "LENGTH", "-i", "INSTRUMENT"], "optics.camera_length_mm: got 251.7 mm; has to be one of 85,"),
        (["--plan", "FAR", "-i", "INSTRUMENT"], "the instrument cannot do it"),
        (["--list"], "Add --plan"),
        (["--withdraw", "1000000", "--because", "it moved"], "nothing was run there yet"),
        (["--list", "--plan", "PLAN", "-i", "INSTRUMENT"], "nothing was run there yet"),
        (["--withdraw", "1"], "Add --because"),
    ],
)
def test_calibrate_refuses_before_anything_is_opened(arguments: list[str], said: str, tmp_path: Path) -> None:
    reference = (PLANS / "calibrate" / "reference.yaml").read_text()
    files = {"PLAN": PLANS / "calibrate" / "reference.yaml", "INSTRUMENT": PLANS / "instruments" / "calibration.toml"}
    changes = (("AREA", "film-1", "film-2"), ("LENGTH", "_mm: 250 ", "_mm: 251.7 "), ("FAR", "_mm: 250 ", "_mm: 2500 "))
    for name, old, new in changes:
        assert old in reference
        files[name] = tmp_path / f"{name}.yaml"
        files[name].write_text(reference.replace(old, new, 1))
    home = tmp_path / "home"
    told = nightbeam(home, "calibrate", *(str(files.get(each, each)) for each in arguments))
    assert told.exit_code == 2, told.output
    assert said in told.output
    assert not home.exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "camera_length_mm: 106.4",
            "camera_length_mm: 106.9",
            "optics.camera_length_mm: got 106.9 mm; has to be",
        ),
        ("camera_length_mm: 106.4", "camera_length_mm: 2500", "the instrument cannot do it"),
    ],
)
def test_run_and_night_refuse_what_the_instrument_cannot_do_before_anything_is_opened(
    old: str, new: str, said: str, tmp_path: Path
) -> None:
    """A target that the night expects to be refused does not hold up the others."""
    overview = (PLANS / "demo" / "1_overview.yaml").read_text()
    assert old in overview
    plan = tmp_path / "bad.yaml"
    plan.write_text(overview.replace(old, new))
    shutil.copy(PLANS / "instruments" / "demo.toml", tmp_path / "i.toml")
    nights = {}
    for expect in ("done", "refused"):
        nights[expect] = tmp_path / f"{expect}.yaml"
        target = f"{{name: bad, plan: bad.yaml, expect: {expect}}}"
        nights[expect].write_text(f"format_version: 1\nname: n\ninstrument: i.toml\ntargets:\n  - {target}\n")
    for command in (["run", str(plan)], ["night", str(nights["done"])]):
        told = nightbeam(tmp_path / "home", *command, "--yes")
        assert told.exit_code == 2, told.output
        assert said in told.output
        assert "bad.yaml" in told.output
    assert not (tmp_path / "home").exists()
    _night, (queued,) = queue(nights["refused"])
    assert queued.target.name == "bad"


def test_who_withdraws_has_a_number_where_it_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("flows.withdraw.getuser", nobody)
    assert _user() == f"user {os.getuid()}"


def test_calibrations_are_listed_while_somebody_else_holds_the_instrument(home: Path) -> None:
    plan = str(PLANS / "demo" / "1_overview.yaml")
    with owned(NAME, home / "instruments" / NAME):
        facts(home, "calibrate", "--plan", plan, "--list", code=3)
        refused = nightbeam(home, "calibrate", "--plan", plan, "--yes", "--json")
    assert refused.exit_code == 2
    limit = json.loads(refused.stdout)["limit"]
    assert "held by process" in limit
    assert "{" not in limit


def test_without_a_terminal_the_question_says_which_option_answers_it(home: Path) -> None:
    told = nightbeam(home, "calibrate", "rotation", "--plan", str(PLANS / "demo" / "1_overview.yaml"))
    assert told.exit_code == 2
    assert "Add --yes" in told.output
    assert "Aborted" not in told.output
    assert "Expected: about" in told.output


def test_one_kind_says_which_others_share_its_scan(home: Path) -> None:
    told = nightbeam(home, "calibrate", "centre", "--plan", str(PLANS / "demo" / "1_overview.yaml"))
    assert "descan: in vacuum (measured in the same scan as centre, valid as it is)" in told.output


def test_help_shows_an_example_of_every_command() -> None:
    overview = CliRunner().invoke(app, ["--help"]).output
    commands = [
        "demo",
        "run",
        "night",
        "calibrate",
        "inspect",
        "runs",
        "show",
        "verify",
        "recover",
        "doctor",
        "plan check",
        "plan show",
        "plan suggest",
        "plan rules",
    ]
    commands += ["db status", "db upgrade"]
    for command in commands:
        assert command.split()[0] in overview
        told = CliRunner().invoke(app, [*command.split(), "--help"])
        assert f"Example: nightbeam {command}" in told.output
        assert "--json" in told.output


@pytest.mark.parametrize(
    "command",
    [
        ["plan", "check", str(PLANS / "case_a.yaml")],
        ["plan", "suggest", str(PLANS / "goals" / "orientation.yaml")],
        ["runs"],
        ["verify", "RUN"],
    ],
)
def test_commands_that_ask_do_not_load_prefect(command: list[str], home: Path) -> None:
    command = [facts(home, "runs")["runs"][-1]["name"] if part == "RUN" else part for part in command]
    code = (
        f"import os, sys\nos.environ['NIGHTBEAM_HOME'] = {str(home)!r}\nfrom flows.cli.app import app\n"
        f"try:\n    app({command!r})\nexcept SystemExit:\n    pass\nprint('prefect' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.splitlines()[-1] == "False"


def test_a_run_that_lacks_a_calibration_is_done_with_warnings_and_names_the_command() -> None:
    assert (_code({"done"}), _code({"done"}, lacking=True), _code({"failed"}, lacking=True)) == (0, 3, 1)
    said = _to_measure(("rotation", "scan_step"), Path("my.yaml"), Path("my.toml"))
    assert said.endswith("nightbeam calibrate rotation scan_step --plan my.yaml --instrument my.toml")
