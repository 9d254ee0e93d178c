"""Bad input at the command line: one clear message, exit code 2, no traceback, nothing written (rows F16 to F18)."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from db.engine import open_engine
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


def refused(arguments: list[str], lines: int = 1) -> str:
    """The message of a command that must refuse, both as text and as JSON."""
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 2, told.output
    assert "Traceback" not in told.output
    assert len(told.stderr.strip().splitlines()) == lines, told.stderr
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
    # All that is wrong, a line each: the plan, the instrument that is not there, two targets on one area.
    told = refused(["night", str(night), "--yes"], lines=4)
    assert told.startswith("refused: 3 problems:")
    for problem in ("exposure.dwell_time_us", "i.toml", "target b: area hole-1"):
        assert problem in told


def test_a_night_cannot_reach_out_of_its_folder(home: Path, tmp_path: Path) -> None:
    night = tmp_path / "night.yaml"
    night.write_text(
        "format_version: 1\nname: n\ninstrument: i.toml\ntargets:\n  - {name: a, plan: ../../etc/passwd}\n"
    )
    assert "plan" in refused(["night", str(night), "--yes"])


def folder(path: Path) -> None:
    path.mkdir(parents=True)


def a_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def dangling(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.parent / "gone")


def damaged(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    open_engine(f"sqlite:///{path}").dispose()
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 40960)


OURS = "instruments/demo-stem"
UNUSABLE = {
    ".": (a_file, "is a file"),
    "data": (dangling, "is a link to"),
    OURS: (a_file, "is a file where a folder has to be"),
    f"{OURS}/owner.lock": (folder, "is a folder where a file has to be"),
    f"{OURS}/server.lock": (folder, "is a folder where a file has to be"),
    f"{OURS}/server.json": (folder, "is a folder where a file has to be"),
    "nightbeam.db": (damaged, "the file is damaged"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_home_that_cannot_be_used(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, says = UNUSABLE[name]
    spoil(tmp_path / "home" / name)
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path / "home"))
    message = refused(["calibrate", "centre", "--yes", "--plan", str(PLANS / "demo" / "1_overview.yaml")])
    assert says in message
    assert (name if name != "." else "home") in message


@pytest.mark.parametrize("command", [["db", "status"], ["runs"]], ids="-".join)
def test_other_commands_in_a_home_that_is_a_file(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("x")
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path / "home"))
    assert "is a file" in refused(command)


def test_a_home_with_a_question_mark_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path / "ho?me"))
    assert "question mark" in refused(["db", "status"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EROFS, "can only be read. Make it writable, or set NIGHTBEAM_HOME"),
        (errno.EACCES, "this user may not use it. Change its owner"),
        (errno.ENOSPC, "the disk is full. Free some space"),
        (errno.EIO, "Input/output error. See what it is"),
    ],
)
def test_what_a_disk_refuses_is_said_with_the_path_and_what_to_do(
    number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A superuser may write anywhere, so the system's answer is given in its place."""

    def refuse(path: Path, *_rest: object, **_more: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Path, "mkdir", refuse)
    message = refused(["db", "status"])
    assert str(tmp_path / "home")[-30:] in message
    assert says in message


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
