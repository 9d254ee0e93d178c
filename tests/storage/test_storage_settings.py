"""Settings: file, environment over it, secrets hidden, nothing read at import."""

import os
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


WATCH = '[[watch]]\nfolder = "/in"\ndeployment = "a/b"\n'
HOOK = '[[hooks]]\nname = "scan"\ndeployment = "a/b"\n'


def test_triggers_are_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "nightbeam.toml").write_text(
        f'{WATCH}parameters = {{path = "{{path}}", more = [1, {{x = true}}]}}\nsettle_s = 3\n'
        f'[[watch]]\nfolder = "~/in"\ndeployment = "a/b"\n{HOOK}allow = ["path"]\n'
    )
    monkeypatch.setenv("HOME", "/of/me")
    monkeypatch.setenv("NIGHTBEAM_HOOK_TOKEN", "s3cret")
    read = load_settings()
    first, second = read.watch
    assert (first.folder, first.pattern, first.settle_s, first.existing) == (Path("/in"), "*", 3.0, False)
    assert first.parameters == {"path": "{path}", "more": [1, {"x": True}]}
    assert (second.folder, second.settle_s) == (Path("/of/me/in"), 10.0)
    (hook,) = read.hooks
    assert (hook.name, hook.deployment, hook.parameters, hook.allow) == ("scan", "a/b", {}, ("path",))
    assert "s3cret" not in f"{read!r} {read.model_dump_json()}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{WATCH}settel_s = 3", "watch[0].settel_s: got 3; is not a known name. Did you mean settle_s?"),
        (f"{WATCH}settle_s = -1", "watch[0].settle_s: got -1 s; has to be at least 0"),
        (f'{WATCH}settle_s = "3"', "has to be a number"),
        (f'{WATCH}pattern = "a/b"', "watch[0].pattern"),
        (WATCH.replace("/in", "in"), "has to be a whole path"),
        (WATCH.replace("a/b", "a"), "watch[0].deployment"),
        (WATCH.replace("a/b", "a/../b"), "watch[0].deployment"),
        ('[[watch]]\ndeployment = "a/b"', "watch[0].folder: got 'nothing'; is required"),
        (f"{WATCH}parameters = {{source = 'x'}}", "is set by nightbeam itself"),
        (f"{WATCH}parameters = {{x = nan}}", "got nan; has to be a finite number"),
        (f"{WATCH}parameters = {{x = {{__prefect_kind = 'jinja'}}}}", "this name is Prefect's own"),
        (f'{HOOK}allow = ["key"]', "is set by nightbeam itself"),
        (f"{HOOK}allow = [3]", "has to be text"),
        (f"{HOOK}{HOOK}", "given twice: scan"),
        (HOOK.replace("scan", "a/b"), "hooks[0].name"),
        ('watch = "/in"', "watch: got '/in'; has to be a list"),
        ('hook_token = ["s3cret"]', "hook_token: got '(hidden)'; has to be text"),
    ],
)
def test_a_bad_trigger_is_refused(home: Path, text: str, message: str) -> None:
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


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://stem-pc.example.org:8765/", "https://stem-pc.example.org:8765"),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765"),
        ("http://[::1]:8765/stem", "http://[::1]:8765/stem"),
    ],
)
def test_the_address_of_the_pages_is_one_that_a_link_can_begin_with(home: Path, url: str, kept: str) -> None:
    (home / "nightbeam.toml").write_text(f'web_url = "{url}"\n')
    assert load_settings().web_url == kept


@pytest.mark.parametrize(
    "url",
    ["stem-pc:8765", "javascript:alert(1)", "https://me:s3cret@h", "http://h/?a=b", "http://h/) [x", "http://h\\n"],
)
def test_another_address_is_refused_and_not_repeated(home: Path, url: str) -> None:
    (home / "nightbeam.toml").write_text(f'web_url = "{url}"\n')
    with pytest.raises(BadInput, match="web_url") as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(("writable", "kept"), [((), "compiled"), (("stem4d",), None), (("numba",), None)])
def test_kernels_are_kept_in_the_home_where_a_service_may_write_nowhere_else(
    home: Path, monkeypatch: pytest.MonkeyPatch, writable: tuple[str, ...], kept: str | None
) -> None:
    # Set first, so that what is set below is taken back: every child after this test would compile all anew.
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr("storage.compiled._writable", lambda folder: folder.name in writable)
    load_settings()
    assert os.environ.get("NUMBA_CACHE_DIR") == (str(home / kept) if kept else None)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "elsewhere")
    load_settings()
    assert os.environ["NUMBA_CACHE_DIR"] == "elsewhere"
