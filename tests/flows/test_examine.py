"""What `doctor` finds of a machine that is to run nights without people: Prefect's server, clock, messages, windows."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from flows.api import PrefectApi
from flows.examine.machine import clock, disk
from flows.examine.unattended import maintenance, messages, prefect_server, watchdog
from storage.settings import Settings

ALWAYS = {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from_time": "00:00", "to_time": "00:00"}


@pytest.mark.timeout(300)
def test_a_server_with_a_password_is_well_and_its_schedules_are_counted(
    prefect_api: PrefectApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    with get_client(sync_client=True) as client:
        scheduled = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 20 * * *", timezone="Europe/Vienna"))
        flow_id = client.create_flow(flow(name="examined")(lambda: None))
        deployment = client.create_deployment(flow_id, "nightly", schedules=[scheduled])
        lines = {line.what: line for line in prefect_server(Settings(home=tmp_path))}
        client.delete_deployment(deployment)
    assert lines["Prefect's server"].ok
    assert lines["Prefect's door"].ok
    assert "1 active" in lines["schedules"].found
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "nightbeam:wrong")
    (line,) = prefect_server(Settings(home=tmp_path))
    assert not line.ok
    assert "PREFECT_API_AUTH_STRING" in line.found
    assert "wrong" not in line.text


class Open(BaseHTTPRequestHandler):
    """A server that answers whoever asks, whose scheduler is dead and whose pool nobody polls."""

    ANSWERS: ClassVar = {
        "/ready": "true",
        "/admin/version": '"3.8.8"',
        "/work_pools/filter": '[{"name": "instrument-a", "type": "process", "status": "NOT_READY"}]',
        "/deployments/filter": '[{"name": "nightly", "paused": false, "schedules": [{"active": true}]}]',
        "/flow_runs/count": "0",
    }

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.ANSWERS[self.path.removeprefix("/api")].encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def open_server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Open) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://someone:secret@127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def test_what_is_wrong_with_a_server_is_told_with_the_fix(
    open_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", open_server.replace("someone:secret@", ""))
    bad = {line.what: line.fix for line in prefect_server(Settings(home=tmp_path)) if not line.ok}
    assert set(bad) == {"Prefect's door", "work pool instrument-a", "schedules"}
    assert "prefect worker start --pool instrument-a" in bad["work pool instrument-a"]
    assert "SQLAlchemy 2.1" in bad["schedules"]


@pytest.mark.parametrize("url", ["http://someone:secret@127.0.0.1:1/api", "nonsense"])
def test_a_server_that_does_not_answer_is_told_without_its_password(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    (line,) = prefect_server(Settings(home=tmp_path))
    assert not line.ok
    assert "secret" not in line.text


def test_without_a_server_none_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (line,) = prefect_server(Settings(home=tmp_path))
    assert line.ok


def test_disk_clock_and_watchdog_are_measured(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert {line.what for line in disk(settings)} == {"free disk", "fsync of 4 kB", "writing"}
    (told,) = clock(settings)
    assert told.ok
    assert "s from the database's" in told.found
    (dog,) = watchdog(settings)
    assert "starts in" in dog.found


def test_a_clock_that_differs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from db.clock import utc_now

    monkeypatch.setattr("flows.examine.machine.utc_now", lambda: utc_now() + timedelta(minutes=5))
    (told,) = clock(Settings(home=tmp_path))
    assert (told.ok, "300" in told.found) == (False, True)


# Apprise asks a module of Python 3.11's library that 3.13 has no more.
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_an_address_that_nobody_knows_is_told_and_not_shown(tmp_path: Path) -> None:
    (line,) = messages(Settings.model_validate({"home": tmp_path, "notify": ["json://h/ok", "nowhere://user:secret"]}))
    assert not line.ok
    assert "address 2 " in line.found
    assert "secret" not in line.text
    (nobody,) = messages(Settings(home=tmp_path))
    assert nobody.ok


def test_windows_of_maintenance_are_told_for_each_instrument(tmp_path: Path) -> None:
    (tmp_path / "instruments" / "stem").mkdir(parents=True)
    settings = Settings.model_validate({"home": tmp_path, "maintenance": [{**ALWAYS, "reason": "new gun"}]})
    (line,) = maintenance(settings)
    assert "new gun until" in line.found
    coming = {"begins": "2999-01-01T00:00Z", "ends": "2999-01-02T00:00Z"}
    settings = Settings.model_validate({"home": tmp_path, "maintenance": [coming]})
    assert "next maintenance at 2999-01-01" in next(iter(maintenance(settings))).found


def test_a_window_for_an_instrument_that_nobody_knows_is_told(tmp_path: Path) -> None:
    (tmp_path / "instruments" / "stem").mkdir(parents=True)
    settings = Settings.model_validate({"home": tmp_path, "maintenance": [{**ALWAYS, "instrument": "stme"}]})
    (line,) = maintenance(settings)
    assert (line.ok, line.found) == (False, "keeps nobody out: instruments here are stem")
    assert "stme" in line.text
