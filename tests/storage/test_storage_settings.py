"""Settings: file, environment over it, secrets hidden, nothing read at import."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from stem4d.errors import BadInput
from storage.settings import load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "WORKER", "PREFECT", "DISK_RESERVE_GB", "LOG_LEVEL", "ACCUMULATOR_THREADS"):
        monkeypatch.delenv(f"NIGHTBEAM_{name}", raising=False)
    monkeypatch.setenv("NIGHTBEAM_HOME", str(tmp_path))
    return tmp_path


def test_defaults_lie_in_the_home_folder(home: Path) -> None:
    read = load_settings()
    assert read.database_url.get_secret_value() == f"sqlite:///{home}/nightbeam.db"
    assert (read.worker, read.prefect, read.disk_reserve_gb) == ("child", True, 2.0)
    folders = (read.data_folder, read.reports_folder, read.instruments_folder)
    assert folders == tuple(home / name for name in ("data", "reports", "instruments"))
    assert list(home.iterdir()) == []


def test_home_defaults_to_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NIGHTBEAM_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert load_settings().home == tmp_path / "me" / ".nightbeam"


def test_the_environment_wins_over_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "nightbeam.toml").write_text('worker = "inline"\nprefect = false\ndisk_reserve_gb = 5\n')
    monkeypatch.setenv("NIGHTBEAM_PREFECT", "true")
    monkeypatch.setenv("NIGHTBEAM_DATABASE_URL", "postgresql://me:s3cret@host/db")
    read = load_settings()
    assert (read.worker, read.prefect, read.disk_reserve_gb) == ("inline", True, 5.0)
    assert read.database_url.get_secret_value() == "postgresql://me:s3cret@host/db"
    assert "s3cret" not in f"{read!r} {read} {read.model_dump()} {read.model_dump_json()}"
    with pytest.raises(ValidationError):
        read.prefect = False  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('workers = "inline"', "workers: got 'inline'; is not a known name. Did you mean worker?"),
        ('worker = "thread"', "worker: got 'thread'; has to be 'child' or 'inline'"),
        ("disk_reserve_gb = -1", "disk_reserve_gb: got -1 GB; has to be at least 0"),
        ("disk_reserve_gb = inf", "disk_reserve_gb: got inf GB; has to be a finite number"),
        ("accumulator_threads = 0", "accumulator_threads: got 0; has to be at least 1"),
        ("database_url = 7", "database_url: got '(hidden)'; has to be text"),
        ('notify = "json://u:s3cret@h"', "notify: got '(hidden)'; has to be a list"),
        ('notify = {x = "json://u:s3cret@h"}', "notify: got '(hidden)'; has to be a list"),
        ('notifi = ["json://u:s3cret@h"]', "notifi: got '(hidden)'; is not a known name"),
        ('home = "/elsewhere"', "is where this file lies"),
        ("worker = ", "not well-formed TOML"),
    ],
)
def test_a_bad_file_is_refused(home: Path, text: str, message: str) -> None:
    (home / "nightbeam.toml").write_text(text)
    with pytest.raises(BadInput) as refused:
        load_settings()
    assert message in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("given", ["", "json://u:s3cret@h", '[["json://u:s3cret@h"]]', '{"a": "json://u:s3cret@h"}'])
def test_addresses_in_a_variable_that_are_no_list_are_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("NIGHTBEAM_NOTIFY", given)
    with pytest.raises(BadInput, match="hidden") as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)


def test_a_bad_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBEAM_WORKER", "loud")
    with pytest.raises(BadInput, match=r"nightbeam.toml or NIGHTBEAM_\*: worker: got 'loud'"):
        load_settings()


@pytest.mark.parametrize("how", ["HOME", "folder"])
def test_a_question_mark_that_comes_with_the_whole_path_is_refused(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = tmp_path / "what?"
    odd.mkdir()
    monkeypatch.setenv("NIGHTBEAM_HOME", "~/night" if how == "HOME" else "night")
    monkeypatch.setenv("HOME", str(odd))
    monkeypatch.chdir(odd)
    with pytest.raises(BadInput, match="question mark"):
        load_settings()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("storage.settings, storage.documents", "h5py numpy rsciio prefect sqlalchemy"),
        ("storage.read, storage.write", "rsciio dask prefect sqlalchemy"),
    ],
)
def test_modules_import_only_what_they_need(module: str, absent: str) -> None:
    code = f"import {module}, sys; print(*({absent.split()!r} & sys.modules.keys()))".replace("[", "{").replace(
        "]", "}"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
