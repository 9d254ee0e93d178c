"""How a simulator's server starts, ends, and is missed: one for each home, gone after its clients, never waited for."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from devices.simulator import client, open_instrument
from devices.simulator.wire import SERVER_FILE, write_address
from stem4d.errors import BadInput, DeviceFault
from tests.devices.server_world import LINGER_S, address_of, ended, folder_of, gave_up_its_lock, now_lease, session
from tests.devices.simulator_world import AREA, instrument_file, prepared_anywhere, raster

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_who_come_at_once_share_one_server_that_ends_after_them_or_for_another_file(tmp_path: Path) -> None:
    def come(_who: int) -> ExitStack:
        with ExitStack() as stack:
            stack.enter_context(session(tmp_path)).stage.go_to("sample")
            return stack.pop_all()

    with ThreadPoolExecutor(2) as together:
        one, other = together.map(come, range(2))
    pid = address_of(tmp_path).pid
    assert len(list(folder_of(tmp_path).glob("server.json*"))) == 1
    one.close()
    with pytest.raises(BadInput, match="others use it with another instrument file"):
        open_instrument(instrument_file(seed=10), tmp_path)
    other.close()
    with session(tmp_path, seed=10) as changed:
        first, pid = pid, address_of(tmp_path).pid
        assert pid != first
        assert changed.stage.position() == "sample"
    left_s = time.monotonic()
    assert ended(first)
    assert ended(pid)
    assert time.monotonic() - left_s > 0.5 * LINGER_S
    assert not (folder_of(tmp_path) / SERVER_FILE).exists()
    assert (folder_of(tmp_path) / "server.log").read_text() == ""


def test_a_dead_server_is_a_fault_at_once_and_the_next_one_knows_how_the_beam_was(tmp_path: Path) -> None:
    with session(tmp_path) as instrument, ExitStack() as stack:
        source = prepared_anywhere(instrument, position="sample", scan=raster((64, 64), step_nm=0.05))
        instrument.detector.arm()
        instrument.gate.unblank(now_lease(token=7))
        instrument.scan.start()
        address = address_of(tmp_path)
        pid = address.pid
        with source.open() as frames:
            coming = frames.batches()
            next(coming)
            os.kill(pid, signal.SIGKILL)
            killed_s = time.monotonic()
            with pytest.raises(DeviceFault, match=rf"test-stem: its server, process {pid}, has ended"):
                list(coming)
        for _again in range(2):
            with pytest.raises(DeviceFault, match=rf"process {pid}, has ended"):
                instrument.gate.blank()
        with pytest.raises(DeviceFault, match="has ended"):
            source.open()
        # What the receiver may take to notice.
        assert time.monotonic() - killed_s < 1
        # While the kernel still takes its threads down it holds its lock, and is there for all that anybody can tell.
        assert ended(pid)
        assert gave_up_its_lock(folder_of(tmp_path))
        # Its port may be another program's by now, which says nothing.
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        write_address(folder_of(tmp_path), replace(address, port=silent.getsockname()[1]))
        with session(tmp_path, areas={"sample": AREA}) as again:
            new = address_of(tmp_path).pid
            assert new != pid
            assert again.gate.is_blanked() is False
            assert again.stage.position() == "sample"
            # The scan counts as run to its end: no frame was later.
            assert again.now_s() == pytest.approx(64 * (64 * 100 + 50) * 1e-6)
            with pytest.raises(DeviceFault, match="run 1 are gone"):
                source.open()
            # It ended before the next began: nobody else may have this instrument's frames.
            with pytest.raises(DeviceFault, match="has ended"):
                instrument.now_s()
    assert ended(new)


def test_bad_settings_are_refused_as_in_one_process_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="atom_phase_rad"):
        open_instrument(instrument_file(areas={"a": {**AREA, "atom_phase_rad": float("nan")}}), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose server runs in real time and stays for several tests."""
    home = tmp_path_factory.mktemp("real")
    with session(home, speed="real"):
        yield home
        pid = address_of(home).pid
    assert ended(pid)


def test_in_real_time_anybody_ends_a_wait(real: Path) -> None:
    with session(real, speed="real") as owner, session(real, speed="real") as watchdog:
        prepared_anywhere(owner, scan=raster((100, 100), step_nm=0.05))
        owner.detector.arm()
        owner.gate.unblank(now_lease())
        owner.scan.start()
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(owner.scan.wait)
            # The raster takes a second; the beam can be taken away meanwhile.
            watchdog.gate.blank()
            assert not waiting.done()
            watchdog.scan.ensure_stopped()
            with pytest.raises(DeviceFault, match="no raster runs"):
                waiting.result(timeout=5)
        began_s = time.monotonic()
        owner.pause(0.4)
        assert time.monotonic() - began_s >= 0.4


def test_a_server_that_hangs_is_a_fault_in_time(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with session(real, speed="real") as instrument:
        pid = address_of(real).pid
        monkeypatch.setattr(client, "ANSWER_TIMEOUT_S", 0.2)
        os.kill(pid, signal.SIGSTOP)
        # The signal comes to one of its threads a moment before all of them stand still.
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)
        try:
            with pytest.raises(DeviceFault, match="does not answer"):
                instrument.gate.blank()
            # Another server would be a second truth of one instrument.
            with pytest.raises(DeviceFault, match="does not answer"):
                open_instrument(instrument_file(speed="real"), real)
        finally:
            os.kill(pid, signal.SIGCONT)
        monkeypatch.undo()
        assert instrument.gate.is_blanked() is True


def test_a_client_never_loads_the_truth_or_the_physics() -> None:
    code = (
        "import sys, devices.simulator, devices.registry, devices.worker, stem4d.instrument\n"
        "print(*sorted(name for name in sys.modules if name.startswith(('devices.simulator', 'stem4d.simulate'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names = ("", ".client", ".remote", ".wire")
    assert done.stdout.split() == [f"devices.simulator{name}" for name in names]
