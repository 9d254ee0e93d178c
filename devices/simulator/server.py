"""The simulated instrument as a process: it holds truth and state, and its drivers are clients on a loopback socket.

Started by `devices.simulator.client` as ``python -m devices.simulator.server HOME LINGER_S`` with the instrument file
as JSON on its standard input; one line of JSON on its standard output says how that went. It ends by itself some time
after its last client has left; the log keeps how the instrument stands.
"""

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
from devices.simulator.settings import Truth
from devices.simulator.source import SimulatedSource
from devices.simulator.state import State
from devices.simulator.wire import (
    CALLS,
    EXPOSING,
    LOCK_FILE,
    LOG_FILE,
    SERVER_FILE,
    Address,
    Link,
    SourceFacts,
    admit,
    content_hash,
    hold,
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
MOST_WAITING = 16
"""Connections without the key at one time; one more takes the place of the oldest."""
MOST_COMPLAINTS = 100
"""Tracebacks in the log of one server; more of them say nothing new and would fill the disk."""
UNLOCKED = {"pause", "scan.wait", "detector.source"}
"""Calls that wait or compute, and take the state's lock themselves where they need it."""


class Server:
    """The clients of one state: a thread for each, and one call at a time."""

    def __init__(self, name: str, state: State, key: str, linger_s: float) -> None:
        self._name, self._state, self._key, self._linger_s = name, state, key, linger_s
        self._counting = Lock()
        self._waiting: list[Link] = []
        """Connections that have not shown the key yet, oldest first."""
        self._clients, self._owners, self._left_at_s, self._quits = 0, 0, time.monotonic(), False
        """Of the clients, the owners are those that can blank: a receiver of frames cannot."""
        self._complaints = 0

    def run(self, listener: socket.socket) -> None:
        """Take clients until the last one has been gone for a while."""
        listener.settimeout(LOOK_S)
        while not self._may_end():
            self._state.catch_up()
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                time.sleep(LOOK_S)  # no descriptor is free, or the client has gone again: those who are in go on
                continue
            self._let_in(connection)

    def _let_in(self, connection: socket.socket) -> None:
        """Give a new connection a thread, and a place among those who have to show the key."""
        try:
            link = Link(connection, ADMIT_S)
        except OSError:  # it has gone already
            connection.close()
            return
        with self._counting:
            crowded = self._waiting[: max(0, len(self._waiting) - MOST_WAITING + 1)]
            self._waiting.append(link)
        for oldest in crowded:
            oldest.close()
        try:
            Thread(target=self._attend, args=(link,), daemon=True).start()
        except RuntimeError:  # the system has no thread for it
            with self._counting:
                self._waiting.remove(link)
            link.close()

    def _may_end(self) -> bool:
        with self._counting:
            gone_s = time.monotonic() - self._left_at_s
            return self._quits or (self._clients == 0 and not self._waiting and gone_s > self._linger_s)

    def _attend(self, link: Link) -> None:
        """One client, until it leaves; the instrument then stays as it is, but for a beam that nobody could blank."""
        admitted = False
        try:
            link.wait_in_all(ADMIT_S)
            try:
                admit(link, self._key)
                link.wait_at_most(None)
                admitted = True
            finally:
                with self._counting:
                    self._waiting.remove(link)
                    self._clients += admitted
            self._answer_all(link)
        except OSError:
            pass  # it has gone, or does not know the key
        except Exception as error:  # noqa: BLE001 - a client that talks nonsense is dropped, and the others go on
            self._complain(error)
        finally:
            link.close()
            if admitted:
                with self._counting:
                    self._clients -= 1
                    self._left_at_s = time.monotonic()

    def _complain(self, error: Exception) -> None:
        """Write a traceback to the server's log, if there is room for it and it is not one of too many."""
        self._complaints += 1
        if self._complaints <= MOST_COMPLAINTS:
            with suppress(OSError, ValueError, RecursionError):
                traceback.print_exception(error)

    def _told(self, error: Exception) -> dict[str, Any]:
        """An error for the client, and for the server's log where it is none of ours."""
        if not isinstance(error, NightbeamError):
            self._complain(error)
        return pack_error(error)

    def _answer_all(self, link: Link) -> None:
        instrument = SimulatedInstrument(self._name, self._state)
        head, body = link.receive()
        if head.get("call") == "stream":
            self._stream(link, instrument, body)
            return
        if head.get("call") == "exposing":
            self._tell_exposing(link, instrument)
            return
        with self._counting:
            self._owners += 1
        try:
            self._answer_calls(link, self._handlers(instrument), head, body)
        finally:
            # Under both locks, in the order of `_quit`: whoever comes next finds what was done, not what is to be.
            with self._state.lock, self._counting:
                self._owners -= 1
                if self._owners == 0:
                    self._state.gate_itself()

    def _answer_calls(
        self, link: Link, calls: dict[str, Callable[..., Any]], head: dict[str, Any], body: bytes
    ) -> None:
        while True:
            name = head["call"] if isinstance(head.get("call"), str) else ""
            try:
                answer = self._answer(calls, name, body)
            except Exception as error:  # noqa: BLE001 - the client has to hear of whatever goes wrong
                link.send(self._told(error))
            else:
                link.send({"done": name}, answer)
            head, body = link.receive()

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
            "column.normalise": instrument.column.normalise,
            "stage.go_to": instrument.stage.go_to,
            "stage.position": instrument.stage.position,
            "stage.move_to": instrument.stage.move_to,
            "stage.pose": instrument.stage.pose,
            "scan.prepare": instrument.scan.prepare,
            "scan.start": instrument.scan.start,
            "scan.wait": instrument.scan.wait_a_while,
            "scan.ensure_stopped": instrument.scan.ensure_stopped,
            "detector.facts": lambda: instrument.detector.facts,
            "detector.prepare": instrument.detector.prepare,
            "detector.source": lambda: _facts_of(instrument.detector.source()),
            "detector.arm": instrument.detector.arm,
            "detector.ensure_stopped": instrument.detector.ensure_stopped,
            "gate.blank": instrument.gate.blank,
            "gate.unblank": instrument.gate.unblank,
            "gate.is_blanked": instrument.gate.is_blanked,
            "gate.newest_token": instrument.gate.newest_token,
            "gate.see_owner": instrument.gate.see_owner,
            "valves.close": instrument.valves.close,
            "quit": self._quit,
        }

    def _quit(self) -> bool:
        """End, unless another client is there."""
        with self._counting:
            self._quits = self._clients == 1
            return self._quits

    def _tell_exposing(self, link: Link, instrument: SimulatedInstrument) -> None:
        """What is being exposed, for a device beside the instrument: like a receiver of frames it owns nothing."""
        with self._state.lock:
            source = instrument.detector.exposing()
        link.send({"done": "exposing"}, EXPOSING.dump_json(_facts_of(source) if source else None))

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
        except (ConnectionError, TimeoutError):
            raise  # the client has gone
        except Exception as error:  # noqa: BLE001 - as for any other call; an `OSError` may be of the rendering
            link.send(self._told(error))
        link.until_the_end()


def _facts_of(source: SimulatedSource) -> SourceFacts:
    return SourceFacts(source.run.number, source.frames, source.detector_shape, source.dtype)


def _say(**how: Any) -> None:
    print(json.dumps(how), flush=True)


def _import_physics() -> None:
    """What the first exposure needs, while the instrument answers already."""
    import devices.simulator.scene  # noqa: F401


def main(home: Path, linger_s: float) -> None:
    """Serve the instrument of the file on standard input until nobody needs it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for those who use the instrument
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    file = InstrumentFile.model_validate_json(sys.stdin.read())
    folder = home / "instruments" / file.name
    try:
        truth = read_truth(file)  # first: what is refused leaves nothing behind
    except NightbeamError as error:
        _say(**pack_error(error))
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK_FILE).open("a") as lock:
            if hold(lock):
                # From here on an address that cannot be read is garbage, not one that a killed server left.
                (folder / SERVER_FILE).unlink(missing_ok=True)
                _serve(file, truth, folder, linger_s)
            else:
                _say(held=True)
    except NightbeamError as error:
        _say(**pack_error(error))
    except OSError as error:
        what = f"{folder}: the server of {file.name} cannot work there ({error.strerror or error})"
        _say(**pack_error(DeviceFault(f"{what}. Make room, or mend the permissions")))


def _serve(file: InstrumentFile, truth: Truth, folder: Path, linger_s: float) -> None:
    """Hold the instrument until nobody needs it; on every way out its beam is blanked."""
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
        try:  # from here on: the state may have found the beam on
            write_address(folder, address)
            _say(ready=True)
            _write_to(folder / LOG_FILE)
            Thread(target=_import_physics, daemon=True).start()
            server.run(listener)
        finally:
            state.gate_itself()
            (folder / SERVER_FILE).unlink(missing_ok=True)
            if why := state.catch_up():
                _complain_of_the_end(f"the last entries of the beam's log could not be written ({why})")
            try:
                state.doses.settle()
            except NightbeamError as error:
                _complain_of_the_end(str(error))


def _complain_of_the_end(text: str) -> None:
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _write_to(path: Path) -> None:
    """Send all further output to a file: whoever started this server waits for the end of its output."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError:  # a log less is no reason to let go of the instrument
        descriptor = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
