"""`nightbeam serve` as a process (rows F20, F25): what it starts with, whom it answers, what it says."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from db.engine import open_engine
from db.migrations import REVISIONS
from tests.flows.serving import SERVER, TOKEN, cable, environment, serving

NAMESPACES = os.geteuid() == 0 and all(map(shutil.which, ("unshare", "nsenter", "ip")))
SHOWN = f"Authorization: Bearer {TOKEN}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where something was run once."""
    folder = tmp_path_factory.mktemp("home")
    open_engine(f"sqlite:///{folder}/nightbeam.db").dispose()
    return folder


def refused(home: Path, *arguments: str, **variables: str) -> str:
    """What a server that must not start says."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "serve", "--port", "0", *arguments],
        env=environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_does_not_start_says_why(home: Path, tmp_path: Path) -> None:
    assert "NIGHTBEAM_WEB_TOKEN" in refused(home, "--host", "0.0.0.0")
    short = refused(home, "--host", "0.0.0.0", NIGHTBEAM_WEB_TOKEN="5hort-canary")
    assert "at least 20" in short
    assert "5hort-canary" not in short
    for_all = tmp_path / "token"
    for_all.write_text(TOKEN)
    for_all.chmod(0o644)
    told = refused(home, "--host", "0.0.0.0", "--token-file", str(for_all))
    assert "chmod 600" in told
    assert TOKEN not in told


@pytest.mark.slow
def test_more_that_does_not_start(home: Path, tmp_path: Path) -> None:
    assert "cannot be listened on" in refused(home, "--host", SERVER, NIGHTBEAM_WEB_TOKEN=TOKEN)
    assert "nothing was run there yet" in refused(tmp_path / "none")
    assert "--name" in refused(home, "--name", "http://x")


def test_this_machine_is_answered_and_the_token_never_said(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    with serving(home, "--token-file", str(path)) as server:
        assert server.get("/").status_code == 401
        assert server.get("/", headers={"host": "evil.example"}).status_code == 400
        assert server.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert server.get(f"/?token={TOKEN}").status_code == 401
        assert server.post("/login", data={"token": f"{TOKEN}x"}).status_code == 403
        assert server.post("/login", data={"token": TOKEN}).status_code == 303
        assert server.get("/live").status_code == 200
    assert TOKEN not in f"{server.said}{server.ended}"
    assert server.ended == (130, "interrupted\n")


@pytest.mark.slow
@pytest.mark.skipif(not NAMESPACES, reason="network namespaces need root, unshare, nsenter and ip")
def test_from_another_machine(home: Path) -> None:
    with cable() as wire:
        with serving(home, "--port", "8765", within=wire.here):
            assert wire.ask("/", port=8765) == "ConnectionRefusedError"
        with serving(home, "--port", "8765", "--host", SERVER, within=wire.here, NIGHTBEAM_WEB_TOKEN=TOKEN):
            assert wire.ask("/", port=8765) == "401"
            assert wire.ask("/", SHOWN, port=8765) == "200"
            assert wire.ask("/", SHOWN, "Host: evil.example", port=8765) == "400"
            assert wire.ask("/", "Accept: text/html", port=8765) == "303 /login"
        everywhere = ("--port", "8765", "--host", "0.0.0.0", "--name", "stem.example")
        with serving(home, *everywhere, within=wire.here, NIGHTBEAM_WEB_TOKEN=TOKEN):
            assert wire.ask("/", SHOWN, port=8765) == "200"
            assert wire.ask("/", SHOWN, "Host: stem.example", port=8765) == "200"
            assert wire.ask("/", SHOWN, "Host: 192.0.2.9:8765", port=8765) == "400"
            assert wire.ask("/", SHOWN, "Origin: http://evil.example", port=8765) == "403"


@pytest.mark.parametrize(
    ("revision", "says"),
    [
        (REVISIONS[-2], "Run `nightbeam db upgrade`"),
        ("0099_nightbeam_0.7.0", "Run `pip install 'nightbeam>=0.7.0'`"),
    ],
)
def test_a_schema_of_another_release_is_refused_with_the_command(tmp_path: Path, revision: str, says: str) -> None:
    """Row F25: one before the change, one from later; nothing is changed in either."""
    open_engine(f"sqlite:///{tmp_path}/nightbeam.db").dispose()
    with closing(sqlite3.connect(tmp_path / "nightbeam.db")) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    assert says in refused(tmp_path)
    with closing(sqlite3.connect(tmp_path / "nightbeam.db")) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]
