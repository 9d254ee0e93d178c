"""The simulated instrument as a process: it holds truth and state, and its drivers are clients on a loopback socket.

Started by `devices.simulator.client` as ``python -m devices.simulator.server HOME LINGER_S`` with the instrument file
as JSON on its standard input; one line of JSON on its standard output says how that went. It ends by itself some time
after its last client has left; the log keeps how the instrument stands.
"""

import fcntl
import json
import os
import secrets
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np

from devices.simulator.instrument import SimulatedInstrument, read_truth
from devices.simulator.state import State
from devices.simulator.wire import (
    CALLS,
    LOCK_FILE,
    LOG_FILE,
    SERVER_FILE,
    Address,
    Link,
    SourceFacts,
    admit,
    content_hash,
    pack_error,
    pixels_of,
    write_address,
)
from stem4d.errors import DeviceFault, NightbeamError
from stem4d.instrument import InstrumentFile

ADMIT_S = 5.0
"""How long a new connection has to show the key [s]."""
LOOK_S = 0.2
"""How often the server looks whether anybody is still there [s]."""
UNLOCKED = {"pause", "scan.wait", "detector.source"}
"""Calls that wait or compute, and take the state's lock themselves where they need it."""


class Server:
    """The clients of one state: a thread for each, and one call at a time."""

    def __init__(self, name: str, state: State, key: str, linger_s: float) -> None:
        self._name, self._state, self._key, self._linger_s = name, state, key, linger_s
        self._counting = Lock()
        self._clients, self._left_at_s, self._quits = 0, time.monotonic(), False

    def run(self, listener: socket.socket) -> None:
        """Take clients until the last one has been gone for a while."""
        listener.settimeout(LOOK_S)
        while not self._may_end():
            with suppress(TimeoutError, ConnectionAbortedError):
                connection, _ = listener.accept()
                with self._counting:
                    self._clients += 1
                Thread(target=self._attend, args=(connection,), daemon=True).start()

    def _may_end(self) -> bool:
        with self._counting:
            gone_s = time.monotonic() - self._left_at_s
            return self._quits or (self._clients == 0 and gone_s > self._linger_s)

    def _attend(self, connection: socket.socket) -> None:
        """One client, until it leaves; the instrument then stays as it is."""
        link = Link(connection, ADMIT_S)
        try:
            admit(link, self._key)
            link.wait_at_most(None)
            self._answer_all(link)
        except OSError:
            pass  # it has gone, or does not know the key
        except Exception:  # noqa: BLE001 - a client that talks nonsense is dropped, and the others go on
            traceback.print_exc()
        finally:
            link.close()
            with self._counting:
                self._clients -= 1
                self._left_at_s = time.monotonic()

    def _answer_all(self, link: Link) -> None:
        instrument = SimulatedInstrument(self._name, self._state)
        calls = self._handlers(instrument)
        while True:
            head, body = link.receive()
            name = str(head.get("call"))
            if name == "stream":
                self._stream(link, instrument, body)
                return
            try:
                answer = self._answer(calls, name, body)
            except Exception as error:  # noqa: BLE001 - the client has to hear of whatever goes wrong
                link.send(_told(error))
            else:
                link.send({"done": name}, answer)

    def _answer(self, calls: dict[str, Callable[..., Any]], name: str, body: bytes) -> bytes:
        if name not in calls:
            raise DeviceFault(f"the simulated instrument knows no call {name!r}")
        argument, result = CALLS[name]
        given = [argument.validate_json(body, strict=True)] if argument else []
        if name in UNLOCKED:
            answer = calls[name](*given)
        else:
            with self._state.lock:
                answer = calls[name](*given)
        return result.dump_json(answer) if result else b""

    def _handlers(self, instrument: SimulatedInstrument) -> dict[str, Callable[..., Any]]:
        return {
            "open": self._state.begin,
            "close": instrument.close,
            "pause": instrument.pause_a_while,
            "now_s": instrument.now_s,
            "column.prepare": instrument.column.prepare,
            "column.snapshot": instrument.column.snapshot,
            "stage.go_to": instrument.stage.go_to,
            "stage.position": instrument.stage.position,
            "scan.prepare": instrument.scan.prepare,
            "scan.start": instrument.scan.start,
            "scan.wait": instrument.scan.wait_a_while,
            "scan.ensure_stopped": instrument.scan.ensure_stopped,
            "detector.facts": lambda: instrument.detector.facts,
            "detector.prepare": instrument.detector.prepare,
            "detector.source": lambda: _facts_of(instrument),
            "detector.arm": instrument.detector.arm,
            "detector.ensure_stopped": instrument.detector.ensure_stopped,
            "gate.blank": instrument.gate.blank,
            "gate.unblank": instrument.gate.unblank,
            "gate.is_blanked": instrument.gate.is_blanked,
            "valves.close": instrument.valves.close,
            "quit": self._quit,
        }

    def _quit(self) -> bool:
        """End, unless another client is there."""
        with self._counting:
            self._quits = self._clients == 1
            return self._quits

    def _stream(self, link: Link, instrument: SimulatedInstrument, body: bytes) -> None:
        """Frames of the newest run, each batch made when the client asks for it."""
        try:
            with instrument.detector.source_of(json.loads(body)).open() as frames:
                link.send({"ready": True})
                coming = frames.batches(lambda: link.send({"alive": True}))
                while True:
                    link.asked_for_more()
                    batch = next(coming, None)
                    if batch is None:
                        break
                    pixels = np.ascontiguousarray(batch.frames)
                    link.send({"first": batch.first, "n": len(pixels)}, pixels_of(pixels))
            link.send({"end": True})
        except OSError:
            raise  # the client has gone
        except Exception as error:  # noqa: BLE001 - as for any other call
            link.send(_told(error))
        link.until_the_end()


def _told(error: Exception) -> dict[str, Any]:
    """An error for the client, and for the server's log where it is none of ours."""
    if not isinstance(error, NightbeamError):
        traceback.print_exception(error)
    return pack_error(error)


def _facts_of(instrument: SimulatedInstrument) -> SourceFacts:
    source = instrument.detector.source()
    return SourceFacts(source.run.number, source.frames, source.detector_shape, source.dtype)


def _say(**how: Any) -> None:
    print(json.dumps(how), flush=True)


def _import_physics() -> None:
    """What the first exposure needs, while the instrument answers already."""
    import devices.simulator.scene  # noqa: F401


def main(home: Path, linger_s: float) -> None:
    """Serve the instrument of the file on standard input until nobody needs it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for those who use the instrument
    file = InstrumentFile.model_validate_json(sys.stdin.read())
    folder = home / "instruments" / file.name
    try:
        truth = read_truth(file)  # first: what is refused leaves nothing behind
    except NightbeamError as error:
        _say(**pack_error(error))
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(held=True)
            return
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = Address(
                pid=os.getpid(),
                port=listener.getsockname()[1],
                key=secrets.token_hex(32),
                content=content_hash(file),
                started=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            state = State(file.facts, truth, folder)
            server = Server(file.name, state, address.key, linger_s)
            write_address(folder, address)
            _say(ready=True)
            _write_to(folder / LOG_FILE)
            Thread(target=_import_physics, daemon=True).start()
            server.run(listener)
            state.doses.settle()
        (folder / SERVER_FILE).unlink(missing_ok=True)


def _write_to(path: Path) -> None:
    """Send all further output to a file: whoever started this server waits for the end of its output."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
