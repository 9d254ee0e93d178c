"""Who comes to the simulator's server without a key, and who leaves it without a word: the beam is safe from both."""

import json
import os
import signal
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import psutil
import pytest

from devices.simulator import open_instrument, server, wire
from devices.simulator.client import connect
from devices.simulator.server import ADMIT_S, MOST_WAITING
from devices.simulator.state import State
from stem4d.errors import DeviceFault
from tests.devices.server_world import address_of, blanked, ended, entries, folder_of, now_lease, session
from tests.devices.simulator_world import instrument_file, lease, opened, prepared, prepared_anywhere, raster


def left_with_the_beam_on(home: Path, linger_s: float) -> int:
    """All that a kill -9 leaves of a client is a closed connection; gives the server's process."""
    killed = open_instrument(instrument_file(), home, linger_s)
    prepared_anywhere(killed, position="sample", scan=raster((64, 64), step_nm=0.05))
    killed.detector.arm()
    killed.gate.unblank(now_lease(token=5))
    killed.scan.start()
    pid = address_of(home).pid
    killed._line.close()
    return pid


@pytest.mark.parametrize("lingers", [True, False])
def test_an_instrument_that_nobody_holds_blanks_itself_and_tells_the_next(tmp_path: Path, lingers: bool) -> None:
    pid = left_with_the_beam_on(tmp_path, linger_s=30.0 if lingers else 0.5)
    if lingers:
        # One who comes before the server has seen the other go is its owner then: the beam is theirs to answer for.
        assert blanked(tmp_path)
    else:
        assert ended(pid)
    with session(tmp_path, linger_s=0.2) as following:
        assert (address_of(tmp_path).pid == pid) is lingers
        assert following.gate.is_blanked() is True
        found = following.found
        assert found is not None
        assert found.area == "sample"
        assert found.since < found.until
        with session(tmp_path) as third:  # it is told once
            assert third.found is None
        now = address_of(tmp_path).pid
        assert following.scan.prepare(raster()) == raster()
        assert following.gate.newest_token() == 5
    assert next(one.get("by") for one in entries(tmp_path) if one["event"] == "blank") == "instrument"
    if lingers:
        os.kill(now, signal.SIGTERM)
    assert ended(now)


def test_a_server_that_is_told_to_end_blanks_first(tmp_path: Path) -> None:
    with session(tmp_path) as instrument:
        prepared_anywhere(instrument)
        instrument.gate.unblank(now_lease())
        pid = address_of(tmp_path).pid
        os.kill(pid, signal.SIGTERM)
        assert ended(pid)
    assert [one["event"] for one in entries(tmp_path)][-2:] == ["blank", "close"]


def test_a_server_that_cannot_make_itself_known_blanks_the_beam_that_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = opened(tmp_path)
    prepared(left)
    left.gate.unblank(lease())

    def full(*_arguments: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(server, "write_address", full)
    with pytest.raises(OSError, match="no room"):
        server._serve(instrument_file(), server.read_truth(instrument_file()), folder_of(tmp_path), 0.0)
    assert [one["event"] for one in entries(tmp_path)][-2:] == ["blank", "close"]


def test_an_error_of_the_rendering_is_told_though_it_is_one_that_sockets_raise_too(tmp_path: Path) -> None:
    def no_frames(_run: object) -> None:
        raise OSError("a table cannot be read")

    instrument = SimpleNamespace(detector=SimpleNamespace(source_of=no_frames))
    state = State(instrument_file().facts, server.read_truth(instrument_file()), tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = wire.Link(socket.create_connection(listener.getsockname(), timeout=10), 10)
        link = wire.Link(listener.accept()[0], 10)
        told = Thread(target=server.Server("test-stem", state, "", 0.0)._stream, args=(link, instrument, b"1"))
        told.start()
        head, _body = client.receive()
        client.close()
        told.join()
        link.close()
    assert "a table cannot be read" in json.dumps(head)


def test_crowds_without_the_key_neither_fill_the_server_nor_keep_others_out(tmp_path: Path) -> None:
    with session(tmp_path) as instrument, ExitStack() as crowd:
        address = address_of(tmp_path)
        server = psutil.Process(address.pid)
        # Fewer descriptors than there are strangers: before, that was the end of the server.
        server.rlimit(psutil.RLIMIT_NOFILE, (server.num_fds() + MOST_WAITING + 8,) * 2)
        strangers = [
            crowd.enter_context(socket.create_connection(("127.0.0.1", address.port), timeout=5))
            for _ in range(3 * MOST_WAITING)
        ]
        with session(tmp_path) as other:
            assert other.gate.is_blanked() is True
        # The first to come was the first to go.
        with suppress(ConnectionResetError):
            while strangers[0].recv(4096):
                pass
        assert instrument.gate.is_blanked() is True
        open_ones = [one for one in server.net_connections() if one.status == psutil.CONN_ESTABLISHED]
        # Those that wait, the instrument's session, and the other one if its end is not noticed yet.
        assert len(open_ones) <= MOST_WAITING + 2


def test_a_server_without_a_free_descriptor_goes_on_and_takes_the_next_later(tmp_path: Path) -> None:
    with session(tmp_path) as instrument:
        address = address_of(tmp_path)
        server = psutil.Process(address.pid)
        before = server.rlimit(psutil.RLIMIT_NOFILE)
        server.rlimit(psutil.RLIMIT_NOFILE, (server.num_fds(), before[1]))
        with socket.create_connection(("127.0.0.1", address.port), timeout=20) as waits:
            instrument.gate.blank()  # in memory, since the log cannot be opened
            assert instrument.gate.is_blanked() is True
            server.rlimit(psutil.RLIMIT_NOFILE, before)
            assert b"challenge" in waits.recv(4096)
        assert address_of(tmp_path) == address


def test_admission_has_one_deadline_however_slowly_bytes_come(tmp_path: Path) -> None:
    with session(tmp_path) as instrument:
        address = address_of(tmp_path)
        began_s = time.monotonic()
        with socket.create_connection(("127.0.0.1", address.port), timeout=10) as slow, suppress(OSError):
            slow.recv(4096)
            slow.settimeout(0.2)
            slow.sendall(wire.HEADER.pack(60_000, 0))
            while time.monotonic() - began_s < 4 * ADMIT_S:
                slow.sendall(b"\x01")
                with suppress(TimeoutError):
                    if not slow.recv(1):
                        break
        # A byte every 0.2 s kept it open for as long as anybody liked; as much again for a busy machine.
        assert 0.9 * ADMIT_S < time.monotonic() - began_s < 2 * ADMIT_S
        assert instrument.gate.is_blanked() is True


NONSENSE = (
    {"answer": "\u00e9" * 64, "challenge": "x"},
    {"answer": "\ud800", "challenge": "\ud800"},
    {"answer": 5, "challenge": ["x"]},
    {},
)


def test_malformed_hand_shakes_leave_no_word_in_the_log(tmp_path: Path) -> None:
    with session(tmp_path) as instrument:
        address = address_of(tmp_path)
        heads = [json.dumps(one).encode() for one in NONSENSE] + [b'{"answer": ' + b"[" * 30_000]
        for head in heads:
            with socket.create_connection(("127.0.0.1", address.port), timeout=10) as stranger:
                stranger.recv(4096)
                stranger.sendall(wire.HEADER.pack(len(head), 0) + head)
                with suppress(ConnectionResetError):
                    assert stranger.recv(4096) == b""
        assert instrument.gate.is_blanked() is True
        assert (folder_of(tmp_path) / "server.log").read_text() == ""


def test_an_admitted_client_that_talks_nonsense_cannot_fill_the_log(tmp_path: Path) -> None:
    with session(tmp_path) as instrument:
        link = connect(address_of(tmp_path), 10)
        sizes = []
        for _ in range(2):
            for _again in range(150):
                link.send({"call": "stage.go_to"}, b"{")
                assert "error" in link.receive()[0]
            sizes.append((folder_of(tmp_path) / "server.log").stat().st_size)
        link.close()
        assert sizes[0] == sizes[1] > 0
        assert instrument.gate.is_blanked() is True


@pytest.mark.parametrize(
    "said",
    [
        b'{"challenge": ' + b"[" * 30_000,
        b'{"challenge": 3}',
        b'{"challenge": "x"}',
        b'{"challenge": "\\ud800"}',
    ],
)
def test_a_server_that_is_none_is_a_fault_and_no_traceback(said: bytes) -> None:
    answer = json.dumps({"answer": "\u00e9"}).encode()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = wire.Address(1, listener.getsockname()[1], "0" * 64, "", "")
        pending = socket.create_connection(listener.getsockname(), timeout=10)
        theirs, _ = listener.accept()
        with theirs, pending:
            theirs.sendall(wire.HEADER.pack(len(said), 0) + said + wire.HEADER.pack(len(answer), 0) + answer)
            with pytest.raises(ConnectionError):
                wire.show_key(wire.Link(pending, 10), address.key)


def test_an_address_that_is_garbage_is_named_at_once_with_who_holds_the_lock(tmp_path: Path) -> None:
    with session(tmp_path):
        pid = address_of(tmp_path).pid
        path = folder_of(tmp_path) / wire.SERVER_FILE
        good = path.read_bytes()
        path.write_bytes(b"{garbage")
        began_s = time.monotonic()
        with pytest.raises(DeviceFault, match=rf"server\.json.*process {pid} holds .*server\.lock"):
            open_instrument(instrument_file(), tmp_path)
        # A second of grace and two starts of an interpreter, which a busy machine draws out; it was a minute before.
        assert time.monotonic() - began_s < 25
        path.write_bytes(good)
