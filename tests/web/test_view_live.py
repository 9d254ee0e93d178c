"""The page of what runs now, by the files that a run leaves: whole ones, and ones that are wrong in every field."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from devices.lease import owned
from storage.orders import write_status
from tests.web.view_world import Client, filled, pages

SCAN = {
    "name": "expose pass 1/1",
    "frames_done": 512,
    "frames_total": 2048,
    "frames_per_s": 4000.0,
    "losses": "3 corrupt",
    "queue_share": 0.25,
    "seconds_left": 90.0,
}
JUDGED = {"metric": "drift", "verdict": "warn", "analysis": "strain", "message": "moves by 2 nm"}
WHOLE: dict[str, Any] = {
    "state": "running",
    "night": "n20261127-200000-1a2b",
    "target": {"name": "t2", "number": 3, "plan": "p", "sample": "s", "area": "a"},
    "targets": 5,
    "plan": "case-a",
    "run": "r20261127-200000-1a2b",
    "stage": "expose",
    "waiting_for": "the vacuum",
    "scan": SCAN,
    "predicted_end": "2026-11-28T05:30:00+00:00",
    "last": "run started: case-a",
    "quality": [JUDGED],
    "nothing_amiss_to_frame": 448,
    "title": "of another version",
}
WRONG: tuple[object, ...] = ("a text", 3, -1, 1e308, 10**30, [1], {"x": 1}, None, "\n", True)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    filled(tmp_path)
    with owned("stem", tmp_path / "instruments" / "stem"):
        yield tmp_path / "instruments" / "stem"


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with pages(folder.parents[1]) as opened:
        yield opened


def write(folder: Path, facts: dict[str, Any], *, ago_s: float = 0.0, pid: int | None = None) -> None:
    written = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()
    write_status(folder, {"pid": os.getpid() if pid is None else pid, "written": written, **facts})


def test_it_shows_all_that_the_run_tells(folder: Path, client: Client) -> None:
    write(folder, WHOLE)
    text = client.get("/live").text.replace("\xa0", " ")
    for words in (
        "stem: running", "/nights/n20261127-200000-1a2b", "t2, number 3 of 5", "case-a", "/runs/r20261127-200000-1a2b",
        "the vacuum", "25 % (512 of 2048 frames)", "4,000 frames/s, 1 min 30 s left", "25 % full; 3 corrupt",
        "2026-11-28 05:30", "run started: case-a", "up to frame 448", "drift for strain: moves by 2 nm",
    ):  # fmt: skip
        assert words in text, words
    assert "Nothing was heard" not in text
    assert "running, expose, 25 % of the scan" in client.get("/").text


def test_a_run_that_was_not_heard_of_for_long_is_said_to_wait_or_hang(folder: Path, client: Client) -> None:
    write(folder, WHOLE, ago_s=300)
    assert "Nothing was heard for 5 min" in client.get("/live").text.replace("\xa0", " ")


@pytest.mark.parametrize("facts", [{"state": "ended"}, {"state": []}, {"state": "running", "pid": 1}])
def test_a_status_of_nothing_that_runs_is_not_shown(folder: Path, client: Client, facts: dict[str, Any]) -> None:
    write(folder, {**WHOLE, **facts})
    assert "Nothing runs now" in client.get("/live").text


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_what_has_another_form_is_left_out_and_the_rest_is_shown(folder: Path, client: Client, wrong: object) -> None:
    for name in WHOLE.keys() - {"state"}:
        write(folder, {**WHOLE, name: wrong, "written": wrong})
        for address in ("/", "/live", "/live/part"):
            answer = client.get(address)
            assert (answer.status_code, "stem" in answer.text) == (200, True), (address, name)
        assert ("t2, number 3" in answer.text) == (name != "target"), name
    for name in SCAN:
        write(folder, {**WHOLE, "scan": {**SCAN, name: wrong}})
        assert client.get("/live").status_code == 200, name
    for name in JUDGED:
        write(folder, {**WHOLE, "quality": [{**JUDGED, name: wrong}]})
        assert client.get("/live").status_code == 200, name


def test_instruments_that_cannot_be_read_leave_the_record_readable(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "instruments").write_text("")
    with pages(tmp_path) as client:
        assert "Nothing runs now" in client.get("/live").text
