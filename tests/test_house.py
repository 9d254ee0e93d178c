"""The rules of the house: sizes, docstrings, layers, what an import drags in, and what no committed file may name."""

import ast
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("stem4d", "storage", "devices", "db", "tasks", "flows", "web")
LONGEST = 400
# Not yaml: numba loads it for its own configuration. That we do not import it is a contract in pyproject.toml.
IO = {"prefect", "sqlalchemy", "h5py", "httpx", "fastapi", "typer"}
HEAVY = {"prefect", "numba", "numpy", "scipy", "sqlalchemy"}

FILES = [path for folder in (*PACKAGES, "tests", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]
OURS = [path for path in FILES if path.relative_to(ROOT).parts[0] in PACKAGES]


def name(path: Path) -> str:
    """A path as a test's name."""
    return str(path.relative_to(ROOT))


def test_there_is_a_house() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in OURS} == set(PACKAGES)
    assert Path(__file__) in FILES


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in FILES}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST} == {}


def test_every_file_says_its_one_job() -> None:
    assert [name(path) for path in OURS if not ast.get_docstring(ast.parse(path.read_bytes()))] == []


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kept = re.search(r"Contracts: (\d+) kept, 0 broken", done.stdout)
    assert kept
    assert int(kept[1]) >= 6


# A wall clock that is set back makes a negative duration; dates come from datetime with a zone (ruff DTZ).
WALL_CLOCK = re.compile(r"\btime\.time(_ns)?\(|^\s*from time import (\w+, )*time(_ns)?\b", re.MULTILINE)


def test_durations_are_monotonic() -> None:
    assert WALL_CLOCK.search("start = time.time()")
    assert WALL_CLOCK.search("from time import sleep, time")
    assert not WALL_CLOCK.search("from time import monotonic; time.monotonic()")
    assert [name(path) for path in OURS if WALL_CLOCK.search(path.read_text())] == []


def loaded(code: str) -> set[str]:
    """The top-level modules in a fresh interpreter after some code, which may leave by SystemExit."""
    listing = f"""
import sys
try:
    {code}
finally:
    print("\\nloaded:", *sorted({{module.partition(".")[0] for module in sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", listing], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


def test_the_physics_loads_no_io() -> None:
    modules = sorted(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in OURS)
    physics = [module.removesuffix(".__init__") for module in modules if module.startswith("stem4d.")]
    assert "stem4d.optics" in physics
    names = loaded(f"import {', '.join(physics)}")
    assert "stem4d" in names
    assert names & IO == set()


def test_help_loads_nothing_heavy() -> None:
    names = loaded("""
    from contextlib import suppress
    from flows.cli import main
    plans = ("plan check", "plan show", "plan suggest", "plan rules")
    others = ("run", "night", "calibrate", "inspect", "runs", "show", "affected", "verify", "recover", "doctor")
    others += ("status", "pause", "resume", "skip", "stop", "watch", "emit")
    for command in ("", "demo", *plans, *others, "simulate simplon"):
        sys.argv[1:] = [*command.split(), "--help"]
        with suppress(SystemExit):
            main()
    """)
    assert "typer" in names
    assert names & HEAVY == set()


HERE = rf"{re.escape(str(ROOT))}|{re.escape(str(Path.home()))}/"
FOREIGN = {
    "registry": r"\bpypi\.|pythonhosted|anaconda\.|conda-forge|artifactory|/simple/|index-url|find-links",
    "machine path": rf"(?<![\w.~-])/(?:home|root|Users|work)/[\w.-]|{HERE}",
    "address": r"https?://(?:\d{1,3}\.){3}\d{1,3}(?<!127\.0\.0\.1)\b",
}


def committed() -> list[Path]:
    """Every text that is in the repository or on its way into it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    paths = [ROOT / part for part in listed.decode().split("\0") if part]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:1024]]


def test_nothing_names_a_registry_or_a_machine() -> None:
    texts = {path: path.read_text() for path in committed() if path != Path(__file__)}
    assert ROOT / "constraints.txt" in texts
    found = [
        f"{name(path)}: {what}: {hit[0]}"
        for path, text in texts.items()
        for what, pattern in FOREIGN.items()
        for hit in re.finditer(pattern, text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("https://pypi.org/simple", "registry"),
        ("see /home/ada/plan.yaml", "machine path"),
        ("http://10.0.0.7/", "address"),
    ],
)
def test_the_search_finds_what_it_looks_for(text: str, what: str) -> None:
    assert re.search(FOREIGN[what], text)


def test_the_versions_that_break_prefect_silently_are_kept_out() -> None:
    def number(package: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version(package).split(".")[:2])

    assert version("prefect") == "3.8.8"
    assert number("fastapi") < (0, 151)
    assert number("sqlalchemy") == (2, 0)


def test_constraints_are_versions_of_what_is_installed() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.+]*", line)] == []
    pins = dict(line.lower().split("==") for line in lines)
    for package in ("prefect", "fastapi", "sqlalchemy", "numpy", "h5py", "numba"):
        assert pins[package] == version(package)
