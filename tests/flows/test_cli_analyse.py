"""The command that analyses: of a run and of anybody's file, once each, and every mistake with what to do."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from flows.analyse import Wanted, options_of
from stem4d.plan import Plan
from storage.documents import load_model
from tests.flows.night_world import NightOnDisk
from tests.flows.test_cli import facts, nightbeam

PLANS = Path(__file__).parents[2] / "plans"
CALIBRATION = """format_version: 1
beam_energy_kev: 200
convergence_semi_angle_mrad: 12
mrad_per_pixel: 1.0
scan_step_nm: 0.5
scan_rotation_deg: 0.0
"""


@pytest.fixture
def home(small_night: NightOnDisk) -> Path:
    return small_night.home


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A file of somebody else's: a disk that moves with the scan, and what is known of it beside."""
    rng = np.random.default_rng(3)
    y, x = np.indices((40, 40)) - 19.5
    moved = [[np.hypot(y - np.sin(a / 2), x - np.cos(b / 2)) < 12 for b in range(10)] for a in range(8)]
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["data"] = rng.poisson(20.0 * np.array(moved)).astype(np.uint16)
    (tmp_path / "known.yaml").write_text(CALIBRATION)
    return path


def of(path: Path, home: Path, *more: str, code: int) -> Any:
    known = str(path.with_name("known.yaml"))
    return facts(home, "analyse", str(path), "--method", "com", "--calibration", known, *more, code=code)


def test_anybodys_file_is_analysed_once(foreign: Path, tmp_path: Path) -> None:
    (first,) = of(foreign, tmp_path / "home", code=0)["results"]
    # The disk moves by sin and cos of these, a pixel being a mrad; of 80 positions the noise takes 1 %.
    moved = (np.var(np.sin(np.arange(8) / 2)) + np.var(np.cos(np.arange(10) / 2))) / 2
    assert first["figures"]["rms_deflection_mrad"] == pytest.approx(np.sqrt(moved), rel=0.1)
    assert first["figures"]["noise_y_mrad"] == pytest.approx(12 / (2 * np.sqrt(20 * np.pi * 144)), rel=0.2)
    (second,) = of(foreign, tmp_path / "home", code=0)["results"]
    assert (first["worked_out_now"], second["worked_out_now"]) == (True, False)
    assert second["figures"] == first["figures"]
    (other,) = of(foreign, tmp_path / "home", "--set", "field=none", code=0)["results"]
    assert other["worked_out_now"]
    assert other["file"] != first["file"]


def test_what_lies_in_another_file_is_part_of_what_a_result_is_made_from(foreign: Path, tmp_path: Path) -> None:
    whole = foreign.with_name("whole.h5")
    virtual = h5py.VirtualLayout((8, 10, 40, 40), np.uint16)
    virtual[:] = h5py.VirtualSource(foreign.name, "data", (8, 10, 40, 40))
    with h5py.File(whole, "w") as file:
        file.create_virtual_dataset("data", virtual)
    (first,) = of(whole, tmp_path / "home", code=0)["results"]
    assert not of(whole, tmp_path / "home", code=0)["results"][0]["worked_out_now"]
    with h5py.File(foreign, "r+") as file:
        file["data"][...] = file["data"][:][:, ::-1]
    (second,) = of(whole, tmp_path / "home", code=0)["results"]
    assert second["worked_out_now"]
    assert second["file"] != first["file"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--method", "tomography"), "is no method"),
        (("--set", "field=sideways"), "field"),
        (("--set", "nothing"), "NAME=VALUE"),
        (("--set", "unknown=1"), "unknown"),
    ],
)
def test_a_mistake_is_told(foreign: Path, tmp_path: Path, more: tuple[str, ...], said: str) -> None:
    known = str(foreign.with_name("known.yaml"))
    told = nightbeam(tmp_path / "home", "analyse", str(foreign), "--method", "com", "--calibration", known, *more)
    assert told.exit_code == 2, told.output
    assert said in told.output
    assert "Traceback" not in told.output


def test_what_nobody_knows_of_a_file_is_asked_for(foreign: Path, tmp_path: Path) -> None:
    told = nightbeam(tmp_path / "home", "analyse", str(foreign), "--method", "com")
    assert told.exit_code == 2
    assert "--calibration FILE.yaml" in told.output


def test_a_run_is_analysed_again_and_its_record_has_it(home: Path) -> None:
    run = next(one["name"] for one in facts(home, "runs")["runs"] if one["plan"] == "overview")
    before = facts(home, "show", run)["analyses"]
    told = nightbeam(home, "analyse", run, "--method", "com", "--set", "phase=false", "--json")
    (made,) = json.loads(told.stdout)["results"]
    assert told.exit_code == (0 if made["verdict"] == "good" else 3)
    after = facts(home, "show", run)["analyses"]
    assert len(after) == len(before) + 1
    assert after[-1]["path"] == made["file"]
    (data,) = (one for one in facts(home, "show", run)["datasets"] if one["purpose"] == "acquisition")
    assert after[-1]["summary"]["input_sha256"] == data["sha256"]
    # The same once more is not worked out, and not recorded twice.
    nightbeam(home, "analyse", run, "--method", "com", "--set", "phase=false")
    assert len(facts(home, "show", run)["analyses"]) == len(after)
    # Results that are not those of the record are nobody's: they are made again.
    with h5py.File(made["file"], "a") as file:
        file["entry"].attrs["reason"] = "forged"
    again = nightbeam(home, "analyse", run, "--method", "com", "--set", "phase=false", "--json")
    assert json.loads(again.stdout)["results"][0]["reason"] == made["reason"]
    # Nor is a file of another run analysed as this one's.
    kept, place = Path(data["locations"][0]["path"]).read_bytes(), Path(data["locations"][0]["path"])
    try:
        place.write_bytes(kept + b"more")
        refused = nightbeam(home, "analyse", run, "--method", "com")
        assert (refused.exit_code, "is not what the run recorded" in refused.stderr) == (2, True)
    finally:
        place.write_bytes(kept)


def test_a_thick_specimen_is_handed_over(foreign: Path, tmp_path: Path) -> None:
    known, home, folder = foreign.with_name("known.yaml"), tmp_path / "home", tmp_path / "phaser"
    what = (str(foreign), "--calibration", str(known), "--handover", str(folder), "--method")
    told = nightbeam(home, "analyse", *what, "com")
    assert (told.exit_code, "only ptychography is handed over" in told.output) == (2, True)
    told = nightbeam(home, "analyse", *what, "ptychography")
    assert (told.exit_code, "defocus is not known" in told.output) == (3, True)
    assert not folder.exists()
    known.write_text(f"{CALIBRATION}thickness_nm: 60\ndefocus_nm: 40\n")
    # What the analysis itself says where it is too thick leads here.
    too_thick = nightbeam(home, "analyse", str(foreign), "--calibration", str(known), "--method", "ptychography")
    assert (too_thick.exit_code, "--handover DIR" in too_thick.output) == (3, True)
    (path,) = facts(home, "analyse", *what, "ptychography", code=0)["parameters"]
    assert Path(path) == folder / "phaser.yaml"
    assert np.load(folder / "patterns.npy").shape[:2] == (8, 10)
    assert sha256(foreign.read_bytes()).hexdigest() in (folder / "README.txt").read_text()
    again = nightbeam(home, "analyse", *what, "ptychography")
    assert (again.exit_code, "must be new or empty" in again.output) == (2, True)


def test_what_was_learned_later_goes_over_a_runs_calibrations(home: Path, tmp_path: Path) -> None:
    known = tmp_path / "known.yaml"
    known.write_text("format_version: 1\nscan_rotation_deg: 12.5\nuncertainty: {scan_rotation_deg: 0.2}\n")
    run = facts(home, "runs")["runs"][-1]["name"]
    page = home / "reports" / f"{run}.html"
    assert page.is_file()
    told = nightbeam(home, "analyse", run, "--method", "com", "--calibration", str(known), "--json")
    (made,) = json.loads(told.stdout)["results"]
    given = made["made_from"]["given"]
    assert (given["scan_rotation_deg"], given["mirrored"], given["uncertainty"]["scan_rotation_deg"]) == (
        12.5,
        False,
        0.2,
    )
    assert made["figures"]["scan_rotation_deg"] == 12.5
    # Of what the document does not say the run's own word stands.
    plain = json.loads(nightbeam(home, "analyse", run, "--method", "com", "--json").stdout)["results"][0]
    apart = {name for name, value in plain["made_from"]["given"].items() if given[name] != value}
    assert apart <= {"scan_rotation_deg", "mirrored", "uncertainty"}
    # It stands in the record, on the screen and on the page.
    last = [one for one in facts(home, "show", run)["analyses"] if one["path"] == made["file"]]
    assert json.loads(last[0]["summary"]["calibration"])["scan_rotation_deg"] == 12.5
    shown = nightbeam(home, "show", run).output
    assert "result of com" in shown
    assert plain["file"] in shown.replace("\n", "")
    assert plain["reason"].split(";")[0] in page.read_text()


def test_an_unknown_run_is_refused(home: Path) -> None:
    told = nightbeam(home, "analyse", "r19990101-000000-0000", "--method", "com")
    assert told.exit_code == 2
    assert "r19990101-000000-0000" in told.output


def test_a_plans_words_are_the_options_unless_others_are_given() -> None:
    plan = load_model(PLANS / "methods" / "5_tcbf.yaml", Plan)
    (asked,) = (one for one in plan.analyses if one.kind == "tcbf")
    asked_for = asked.model_copy(update={"upsampling": 3})
    plan = plan.model_copy(update={"analyses": (asked_for,)})
    assert options_of(Wanted("tcbf"), plan).upsampling == 3
    assert options_of(Wanted("tcbf", ("upsampling=2",)), plan).upsampling == 2
    assert options_of(Wanted("tcbf"), None).upsampling != 3
    # What the plan does not ask for is as the method has it.
    assert options_of(Wanted("strain"), plan) == options_of(Wanted("strain"), None)
