"""Secrets of settings stand nowhere (row F19): after a night with failures, in no file, row, log, page or answer."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
import pytest
from sqlalchemy import make_url, text

from db.connect import connect
from tests.flows.serving import environment, serving
from tests.postgres import Server, new_database

PLANS = Path(__file__).parents[2] / "plans"
CANARIES = {
    "password of the database": "c4nary-Pa55word+one",
    "password in the query of its address": "c4nary-Query+two",
    "token of the pages": "c4nary-Token-of-the-pages-three",
    "password of a notification": "c4naryNotifyFour",
    "address of a notification": "c4naryPathFive",
}
LATE_S = 240.0
"""Until the night exposes: imports, Prefect's server and calibrations come first, on a machine with other work."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def found_in(content: bytes | str) -> list[str]:
    """Which secrets a content has: plain, as in an address, in a login header, or as JSON writes them."""
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    found = []
    for what, secret in CANARIES.items():
        # Base64 of anything that has the secret within has one of these three.
        within = [base64.b64encode(b"x" * shift + secret.encode())[4 * (shift > 0) + 4 : -4] for shift in range(3)]
        if any(form in raw for form in (secret.encode(), quote(secret, safe="").encode(), *within)):
            found.append(what)
    return found


def test_the_search_finds_what_it_looks_for() -> None:
    secret = CANARIES["password of a notification"]
    assert found_in(f"x{secret}") == found_in(base64.b64encode(f"user:{secret}".encode())) != []
    assert found_in(quote("c4nary-Pa55word+one", safe="")) == ["password of the database"]
    assert found_in(b"nothing") == []


class Watched:
    """Command lines of all processes of ours, and what Prefect's API answers, while something runs."""

    def __init__(self, home: Path) -> None:
        self._home, self.lines, self.answers, self.programs = home, set[str](), list[str](), set[str]()

    def look(self) -> None:
        for one in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                line = " ".join(one.cmdline())
                self.lines.add(line)
        with suppress(OSError, ValueError, KeyError, httpx.HTTPError):
            note = json.loads((self._home / "prefect" / "api.json").read_text())
            auth = tuple(note["auth"].split(":", 1))
            for kind in ("flows", "flow_runs", "task_runs", "logs", "artifacts", "deployments", "block_documents"):
                asked = httpx.post(f"{note['url']}/{kind}/filter", json={}, auth=auth, timeout=10, trust_env=False)
                self.answers.append(asked.text)


def small_night(folder: Path) -> Path:
    """One target that is good, one that its plan refuses, one that saturates; 24 x 24 positions each."""
    folder.mkdir()
    targets = []
    for name in ("1_overview", "4_refused", "3_saturating"):
        plan = (PLANS / "demo" / f"{name}.yaml").read_text()
        plan = plan.replace("shape: [64, 64]", "shape: [24, 24]").replace("shape: [48, 48]", "shape: [24, 24]")
        (folder / f"{name}.yaml").write_text(plan)
        targets.append({"name": name.partition("_")[2], "plan": f"{name}.yaml"})
    (folder / "i.toml").write_text((PLANS / "instruments" / "demo.toml").read_text())
    path = folder / "night.json"
    path.write_text(json.dumps({"format_version": 1, "name": "secrets", "instrument": "i.toml", "targets": targets}))
    return path


def stage(home: Path) -> str:
    """What the status of the night says that it does."""
    for path in home.glob("instruments/*/status.json"):
        with suppress(OSError, ValueError):
            return str(json.loads(path.read_text()).get("stage"))
    return ""


def rows(url: str) -> Iterator[str]:
    """Every row of every table, as text."""
    engine = connect(url)
    with engine.connect() as connection:
        names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        for name in connection.execute(text(names)).scalars().all():
            yield from connection.execute(text(f'SELECT row_to_json(one)::text FROM "{name}" AS one')).scalars()
    engine.dispose()


def test_no_secret_stands_anywhere_after_a_night_with_failures(tmp_path: Path, own_postgres: Server) -> None:
    home = tmp_path / "home"
    with new_database(own_postgres.url) as plain_url:
        secret_url = make_url(plain_url).set(password=CANARIES["password of the database"])
        secret_url = secret_url.update_query_dict({"sslpassword": CANARIES["password in the query of its address"]})
        notify = (
            f"json://user:{CANARIES['password of a notification']}@127.0.0.1:9/{CANARIES['address of a notification']}"
        )
        variables = environment(
            home,
            NIGHTBEAM_DATABASE_URL=secret_url.render_as_string(hide_password=False),
            NIGHTBEAM_WEB_TOKEN=CANARIES["token of the pages"],
            NIGHTBEAM_NOTIFY=json.dumps([notify]),
            NIGHTBEAM_DISK_RESERVE_GB="0",
        )
        told: list[tuple[str, str]] = []

        def nightbeam(*arguments: str, **changed: str) -> str:
            done = subprocess.run(
                [sys.executable, "-m", "flows.cli", *arguments],
                env={**variables, **changed},
                capture_output=True,
                text=True,
                timeout=400,
            )
            told.append((" ".join(arguments), done.stdout + done.stderr))
            return done.stdout

        nightbeam("db", "upgrade")
        watched, night = Watched(home), small_night(tmp_path / "plans")
        said = tmp_path / "said"
        with said.open("w") as stream:
            run = [sys.executable, "-m", "flows.cli", "night", str(night), "--yes"]
            process = subprocess.Popen(run, env=variables, stdout=stream, stderr=stream)
            killed = back = False
            give_up = time.monotonic() + 4 * LATE_S
            while process.poll() is None and time.monotonic() < give_up:
                watched.look()
                if not killed and stage(home) == "expose":
                    own_postgres.kill()  # the rest of this target goes into the outbox
                    killed = True
                if killed and not back and "database away" in said.read_text():
                    own_postgres.start()
                    back = True
            if killed and not back:
                own_postgres.start()
            process.wait(60)
        assert back, said.read_text()[-2000:]
        told.append(("night", said.read_text()))
        # A second one dies, is found dead, and is closed.
        with subprocess.Popen(
            [*run, "--new"], env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as second:
            give_up = time.monotonic() + LATE_S
            while stage(home) != "calibrate" and second.poll() is None and time.monotonic() < give_up:
                time.sleep(0.05)
            os.kill(second.pid, signal.SIGKILL)
            told.append(("killed", second.communicate(timeout=60)[0]))
        nightbeam("recover")
        for asked in ("runs", "show latest", "why latest", "cost latest", "software", "doctor", "db status", "status"):
            nightbeam(*asked.split())
            nightbeam(*asked.split(), "--json")
        (first, *_rest) = json.loads(nightbeam("runs", "--json"))["runs"]
        for asked in ("show", "lineage", "export"):
            nightbeam(asked, first["name"], *(["--to", str(tmp_path / "crate")] if asked == "export" else []))
        away = secret_url.set(port=9).render_as_string(hide_password=False)
        for wrong in (away, secret_url.set(drivername="mysql").render_as_string(hide_password=False), f"x{away}"):
            nightbeam("runs", NIGHTBEAM_DATABASE_URL=wrong)
            nightbeam("db", "status", NIGHTBEAM_DATABASE_URL=wrong)
            nightbeam("night", str(night), "--yes", "--no-prefect", NIGHTBEAM_DATABASE_URL=wrong)
            nightbeam("serve", "--port", "0", NIGHTBEAM_DATABASE_URL=wrong)
        nightbeam("serve", "--host", "0.0.0.0", NIGHTBEAM_WEB_TOKEN=CANARIES["token of the pages"][:12])
        pages = pages_of(home, variables, first["name"])
        nothing_in(told, pages, watched, [*rows(plain_url)], tmp_path)


def pages_of(home: Path, variables: dict[str, str], run: str) -> list[tuple[str, str]]:
    """What the server answers, with and without its token, and what it says itself."""
    token, answers = CANARIES["token of the pages"], []
    kept = {
        name: value for name, value in variables.items() if name.startswith("NIGHTBEAM_") and name != "NIGHTBEAM_HOME"
    }
    with serving(home, **kept) as server:
        for show in ({}, {"authorization": f"Bearer {token}"}, {"authorization": f"Bearer {token}x"}):
            for path in ("/", "/runs", f"/runs/{run}", "/nights/latest", "/live", "/none", "/calibrations", "/samples"):
                answer = server.get(path, headers=show)
                answers.append((path, f"{answer.status_code} {answer.headers} {answer.text}"))
        for given in (token, f"{token}x"):
            answer = server.post("/login", data={"token": given})
            answers.append(("/login", f"{answer.headers} {answer.text}"))
    assert {answer.split()[0] for _path, answer in answers} >= {"200", "401", "404"}
    return [*answers, ("serve", f"{server.said} {server.ended}")]


def nothing_in(
    told: list[tuple[str, str]], pages: list[tuple[str, str]], watched: Watched, record: list[str], folder: Path
) -> None:
    """All that was looked at is there, and none of it has a secret."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    places: dict[str, Any] = {
        **{f"file {path.relative_to(folder)}": path.read_bytes() for path in files},
        **{f"said by {what}, {number}": said for number, (what, said) in enumerate(told)},
        **{f"page {path}, {number}": said for number, (path, said) in enumerate(pages)},
        **{f"command line {line[:80]}": line for line in watched.lines},
        **{f"Prefect's answer {number}": said for number, said in enumerate(watched.answers)},
        **{f"row {number}: {said[:80]}": said for number, said in enumerate(record)},
    }
    kinds = {path.suffix for path in files}
    assert {".h5", ".html", ".log", ".db"} <= kinds, kinds
    assert len(record) > 100
    assert any("flow_run" in said for said in watched.answers)
    assert any("devices.watchdog" in line for line in watched.lines)
    assert any("database" in said for what, said in told if what == "night")
    assert {place: secrets for place, said in places.items() if (secrets := found_in(said))} == {}
