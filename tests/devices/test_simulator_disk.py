"""A full disk, a torn or corrupt log, a corrupt dose: the beam goes off all the same, and the user reads which file."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.simulator.client import connect
from stem4d.dose import DoseLease
from stem4d.errors import BadInput, DeviceFault, DoseRefused
from tests.devices.server_world import address_of, blanked, ended, entries, folder_of, log_of, now_lease, session
from tests.devices.simulator_world import lease, opened, prepared, prepared_anywhere


def events(home: Path) -> list[str]:
    return [one["event"] for one in entries(home)]


@contextmanager
def full(path: Path) -> Iterator[None]:
    """Nothing more can be written to a file: the kernel's own full device stands in its place."""
    aside = path.with_suffix(".aside")
    path.rename(aside)
    path.symlink_to("/dev/full")
    try:
        yield
    finally:
        path.unlink()
        aside.rename(path)


@contextmanager
def room_for(path: Path, more_bytes: int) -> Iterator[None]:
    """So many bytes still fit into a file; the write that meets the limit is cut short by the kernel."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_the_beam_goes_off_and_the_log_has_it_when_there_is_room(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    prepared(instrument)
    instrument.detector.arm()
    instrument.gate.unblank(lease())
    instrument.scan.start()
    with full(log_of(tmp_path)):
        instrument.gate.blank()
        assert instrument.gate.is_blanked() is True
        instrument.scan.ensure_stopped()
        instrument.detector.ensure_stopped()
        with pytest.raises(DeviceFault, match=r"column\.jsonl.*disk is full"):
            instrument.gate.unblank(lease(token=2))
        assert instrument.gate.is_blanked() is True
        assert instrument.gate.newest_token() == 1
        with pytest.raises(DeviceFault, match="disk is full"):
            instrument.stage.go_to("sample")
        assert instrument.stage.position() == "vacuum"
    instrument.stage.go_to("sample")
    # What was owed comes first: the log has the order in which it happened.
    assert events(tmp_path)[-4:] == ["scan", "blank", "stop", "stage"]
    with full(log_of(tmp_path)):
        instrument.close()


def test_the_server_on_a_full_disk_answers_blanks_and_says_so(tmp_path: Path) -> None:
    folder_of(tmp_path).mkdir(parents=True)
    (folder_of(tmp_path) / "server.log").symlink_to("/dev/full")
    with session(tmp_path) as instrument:
        prepared_anywhere(instrument)
        instrument.detector.arm()
        instrument.gate.unblank(now_lease())
        instrument.scan.start()
        with full(log_of(tmp_path)), session(tmp_path) as watchdog:
            link = connect(address_of(tmp_path), 10)
            link.send({"call": "stage.go_to"}, b"{")  # an error that goes to the server's log
            assert "error" in link.receive()[0]
            link.send({"call": "now_s"})
            assert "done" in link.receive()[0]
            link.close()
            with pytest.raises(DeviceFault, match="disk is full"):
                watchdog.stage.go_to("sample")
            watchdog.gate.blank()
            assert instrument.gate.is_blanked() is True
        assert blanked(tmp_path)
        pid = address_of(tmp_path).pid
    assert ended(pid)


def test_a_session_that_cannot_be_logged_is_refused_at_once_with_the_cause(tmp_path: Path) -> None:
    with session(tmp_path, linger_s=20) as first:
        first.close()
        pid = address_of(tmp_path).pid
        with full(log_of(tmp_path)):
            began_s = time.monotonic()
            with pytest.raises(DeviceFault, match=r"column\.jsonl.*disk is full"), session(tmp_path):
                pytest.fail("a session began")
            # Not the minute that a missing server may take to come up.
            assert time.monotonic() - began_s < 20
    deadline_s = time.monotonic() + 10
    while not ended(pid, within_s=0.1):
        # Another file: the first server is ended, once it has seen that its last client left.
        with suppress(BadInput) if time.monotonic() < deadline_s else nullcontext(), session(tmp_path, seed=10):
            assert ended(pid)


@pytest.mark.parametrize("more_bytes", [1, 30, 60])
def test_a_line_that_was_cut_short_swallows_nothing(tmp_path: Path, more_bytes: int) -> None:
    instrument = opened(tmp_path)
    instrument.gate.unblank(lease(token=3))
    before = log_of(tmp_path).read_bytes()
    with room_for(log_of(tmp_path), more_bytes):
        with pytest.raises(DeviceFault, match="cannot be written"):
            instrument.stage.go_to("sample")
        instrument.gate.blank()
    assert log_of(tmp_path).read_bytes() == before
    instrument.stage.go_to("sample")
    again = opened(tmp_path)
    assert again.gate.is_blanked() is True
    assert again.stage.position() == "sample"


def test_what_a_killed_process_left_without_its_end_counts_only_when_whole(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.gate.unblank(lease(token=3))
    first.gate.blank()
    text = log_of(tmp_path).read_bytes()
    line = text.splitlines()[-1]
    for cut in range(1, len(line)):
        log_of(tmp_path).write_bytes(text[: -cut - 1])
        again = opened(tmp_path)
        assert again.gate.is_blanked() is False
        again.gate.blank()
        assert opened(tmp_path).gate.is_blanked() is True
    log_of(tmp_path).write_bytes(text[:-1])
    assert opened(tmp_path).gate.is_blanked() is True


@pytest.mark.parametrize(
    "line",
    [
        '{"simulated_s": 0.0}',
        '{"event": "blank"}',
        '{"event": "blank", "simulated_s": Infinity}',
        '{"event": "blank", "simulated_s": 1e999}',
        '{"event": "stage", "simulated_s": 0.0}',
        '{"event": "scan", "simulated_s": 0.0, "duration_s": 1e999}',
        '{"event": "unblank", "simulated_s": 0.0, "token": ' + "9" * 30 + "}",
        '{"event": "expose", "simulated_s": 0.0, "run": "many"}',
        '{"event": "bl{"event": "blank", "simulated_s": 0.0}',
        "[" * 100_000,
        '"blank"',
        "\x00\x00\x00",
    ],
)
def test_a_corrupt_line_is_named_with_its_file(tmp_path: Path, line: str) -> None:
    opened(tmp_path).close()
    number = len(log_of(tmp_path).read_text().splitlines()) + 1
    with log_of(tmp_path).open("a") as log:
        log.write(line + "\n")
    with pytest.raises(BadInput, match=rf"line {number}\b.*not an entry.*remove that line") as caught:
        opened(tmp_path)
    assert caught.value.field == str(log_of(tmp_path))


def test_a_server_says_which_line_is_corrupt(tmp_path: Path) -> None:
    opened(tmp_path)
    log_of(tmp_path).write_text("[" * 100_000 + "\n")
    with pytest.raises(BadInput, match=r"line 1\b.*nested too deeply") as caught, session(tmp_path):
        pytest.fail("a session began")
    assert "Traceback" not in str(caught.value)


GOOD: dict[str, Any] = {"fluence_e_per_a2": np.ones((3, 4), np.float32), "origin": np.array([0, 0])}


@pytest.mark.parametrize(
    "changes",
    [
        {"fluence_e_per_a2": np.full((3, 4), np.nan, np.float32)},
        {"fluence_e_per_a2": -np.ones((3, 4), np.float32)},
        {"fluence_e_per_a2": np.ones(12, np.float32)},
        {"fluence_e_per_a2": np.array([["a"]])},
        {"origin": np.array([0.5, 0])},
        {"origin": np.array(0)},
        {},
    ],
)
def test_a_corrupt_dose_is_named_with_its_file(tmp_path: Path, changes: dict[str, Any]) -> None:
    doses = opened(tmp_path)._state.doses
    path = folder_of(tmp_path) / "dose-sample.npz"
    np.savez_compressed(path, **{**GOOD, **changes})
    if not changes:
        path.write_bytes(path.read_bytes()[:-40])  # cut short
    with pytest.raises(DeviceFault, match=r"dose-sample\.npz.*remove it"):
        doses._known("sample")


def test_a_good_dose_is_read(tmp_path: Path) -> None:
    doses = opened(tmp_path)._state.doses
    np.savez_compressed(folder_of(tmp_path) / "dose-sample.npz", **GOOD)
    assert doses._known("sample").values.sum() == 12


def test_figures_that_would_ruin_the_log_are_refused(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    for pause_s in (float("inf"), 1e300):
        with pytest.raises(BadInput, match="pause"):
            instrument.pause(pause_s)
    for bad in (
        DoseLease("sample", 100.0, 10**24, 2000.0),
        DoseLease("sample", float("nan"), 1, 2000.0),
        DoseLease("sample", 100.0, 1, float("inf")),
    ):
        with pytest.raises(DoseRefused):
            instrument.gate.unblank(bad)
    assert instrument.now_s() == 0
    assert instrument.gate.is_blanked() is True
    again = opened(tmp_path)
    again.gate.unblank(lease())
    assert again.gate.is_blanked() is False
