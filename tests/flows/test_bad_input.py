"""Bad input at the command line: one clear message, exit code 2, no traceback, nothing written (rows F16 to F18)."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app

PLANS = Path(__file__).parents[2] / "plans"
GOOD = (PLANS / "case_b.yaml").read_text()

PLAN_CASES = {
    "unknown key": (GOOD.replace("defocus_nm:", "defocus_mn:"), "optics.defocus_mn", "Did you mean defocus_nm?"),
    "nan": (GOOD.replace("defocus_nm: 1500", "defocus_nm: .nan"), "optics.defocus_nm", "finite"),
    "inf": (GOOD.replace("defocus_nm: 1500", "defocus_nm: .inf"), "optics.defocus_nm", "finite"),
    "1e400 as text": (GOOD.replace("step_nm: 2.0", 'step_nm: "1e400"'), "scan.step_nm", "number"),
    "1e400": (GOOD.replace("step_nm: 2.0", "step_nm: 1e400"), "scan.step_nm", "finite"),
    "true for a number": (GOOD.replace("step_nm: 2.0", "step_nm: true"), "scan.step_nm", "number"),
    "negative dwell": (GOOD.replace("dwell_time_us: 33.3", "dwell_time_us: -1"), "exposure.dwell_time_us", "at least"),
    "huge scan": (GOOD.replace("[128, 128]", "[1000000000, 1000000000]"), "scan.shape", "65536"),
    "path as a name": (GOOD.replace("name: case_b", "name: ../../etc/x"), "name", "letters, digits"),
    "newer format": (GOOD.replace("format_version: 1", "format_version: 99"), "format_version", "newer"),
    "two keys": (GOOD + "name: again\n", "name", "given once"),
    "alias": ("a: &a [1]\nb: *a\n", "bad.yaml", "anchor"),
    "alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{c}: &{c} [{','.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
        "bad.yaml",
        "anchor",
    ),
    "deep": ("a: " + "[" * 500 + "]" * 500, "bad.yaml", "20"),
    "too large": ("# " + "x" * 300_000, "bad.yaml", "262,144"),
    "empty": ("", "bad.yaml", ""),
    "not yaml": ("a: [1,", "bad.yaml", ""),
    "binary": ("\x00\x01\x02", "bad.yaml", ""),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that must not come to be."""
    folder = tmp_path / "home"
    monkeypatch.setenv("NIGHTBEAM_HOME", str(folder))
    yield folder
    assert not folder.exists(), "bad input wrote something"


def refused(arguments: list[str]) -> str:
    """The message of a command that must refuse, both as text and as JSON."""
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 2, told.output
    assert "Traceback" not in told.output
    assert len(told.stderr.strip().splitlines()) == 1, told.stderr
    as_json = CliRunner().invoke(app, [*arguments, "--json"])
    assert as_json.exit_code == 2
    assert json.loads(as_json.stdout)["error"] in as_json.stderr
    return told.stderr


@pytest.mark.parametrize("command", [["plan", "check"], ["plan", "show"], ["run"]], ids="-".join)
@pytest.mark.parametrize("case", PLAN_CASES)
def test_bad_plan(case: str, command: list[str], home: Path, tmp_path: Path) -> None:
    text, field, says = PLAN_CASES[case]
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    message = refused([*command, str(path)])
    assert field in message
    assert says in message


def test_missing_file(home: Path, tmp_path: Path) -> None:
    assert "no such file" in refused(["plan", "check", str(tmp_path / "none.yaml")])


def test_a_night_whose_third_plan_is_bad_is_refused_before_the_first_runs(home: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(GOOD)
    (tmp_path / "c.yaml").write_text(PLAN_CASES["negative dwell"][0])
    night = tmp_path / "night.yaml"
    targets = "".join(f"  - {{name: {name}, plan: {name}.yaml}}\n" for name in "abc")
    night.write_text(f"format_version: 1\nname: n\ninstrument: i.toml\ntargets:\n{targets}")
    assert "exposure.dwell_time_us" in refused(["night", str(night), "--yes"])


def test_a_night_cannot_reach_out_of_its_folder(home: Path, tmp_path: Path) -> None:
    night = tmp_path / "night.yaml"
    night.write_text(
        "format_version: 1\nname: n\ninstrument: i.toml\ntargets:\n  - {name: a, plan: ../../etc/passwd}\n"
    )
    assert "plan" in refused(["night", str(night), "--yes"])


FILES = {
    "empty": b"",
    "text": b"not a data file\n" * 10,
    "truncated": b"\x89HDF\r\n\x1a\n" + bytes(200),
}


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".mib", ".blo", ".xyz"])
@pytest.mark.parametrize("content", FILES)
def test_bad_data_file(content: str, suffix: str, home: Path, tmp_path: Path) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(FILES[content])
    assert path.name in refused(["inspect", str(path)])


def test_a_user_mistake_shows_no_traceback_in_a_real_process(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(PLAN_CASES["nan"][0])
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "plan", "check", str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "optics.defocus_nm" in done.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--mrad-per-pixel", "-1"), ("--step-nm", "0"), ("--beam-energy-kev", "nan"), ("--full-scale", "0")],
)
def test_inspect_refuses_what_no_microscope_has(option: str, value: str, home: Path, tmp_path: Path) -> None:
    message = refused(["inspect", str(tmp_path / "any.h5"), option, value])
    assert option in message
    assert "above 0" in message
