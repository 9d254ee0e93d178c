"""Connections to the simulated instrument's server, which is started when none runs."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

from devices.protocols import BeamFound
from devices.simulator.wire import (
    CALLS,
    LOCK_FILE,
    LOG_FILE,
    Address,
    Link,
    NoAddress,
    content_hash,
    file_json,
    holder,
    read_address,
    show_key,
    unpack_error,
)
from stem4d.errors import BadInput, DeviceFault
from stem4d.instrument import InstrumentFile

ANSWER_TIMEOUT_S = 10.0
"""Longest wait for an answer [s]; calls that wait do so for a quarter of a second at a time."""
READY_TIMEOUT_S = 55.0
"""Longest wait for a source, or for it to be ready [s]: physics is imported, potentials may have to be computed."""
START_TIMEOUT_S = 60.0
"""Longest time until a server runs [s]; imports on a slow disk take most of it."""

GARBAGE_TIMEOUT_S = 1.0
"""How long a file that is garbage may be what a server has not removed yet [s]."""
_END_IT = "If it is not at work, end it and begin again"

# The server becomes nobody's child: it outlives the process that needed it first, and leaves no zombie with it.
_DETACH = "import os, sys\nif os.fork() == 0:\n    os.execv(sys.argv[1], sys.argv[1:])"

_Answer = tuple[Any, Exception | None]


class Silent(DeviceFault):
    """A server that is there and does not answer."""


class Gone(DeviceFault):
    """A server that has ended, or a connection to it that broke."""


def open_line(file: InstrumentFile, home: Path, linger_s: float) -> "Line":
    """Connect to the simulated instrument of a file, starting its server when none runs.

    Parameters
    ----------
    file : InstrumentFile
        A server that runs with another file is ended first.
    home : Path
        Log and address of the server lie in ``home/instruments/NAME``.
    linger_s : float
        How long a server that is started stays after its last client [s].

    Returns
    -------
    Line
        In a session: the column valves are open.

    Raises
    ------
    BadInput
        For settings that are wrong, or while others use the instrument with another file.
    DeviceFault
        When the server does not start or does not answer.
    """
    home = home.absolute()
    folder = home / "instruments" / file.name
    began_s, why = time.monotonic(), "it did not say where it listens"
    while True:
        address = None
        try:
            address = read_address(folder)
            line = _known(file, address)
        except Silent:
            # A killed server can hold its lock a moment longer than its port, which then is another program's.
            if read_address(folder) == address:
                raise
            continue
        except Gone as error:
            line, why = None, str(error)
        except NoAddress as error:
            # A server that is just beginning has not removed yet what another left.
            if time.monotonic() - began_s > GARBAGE_TIMEOUT_S:
                raise DeviceFault(f"{error}, and {holder(folder)} holds {folder / LOCK_FILE}. {_END_IT}") from None
            line = None
        if line is not None:
            return line
        if not _start(file, home, linger_s):
            # Somebody else is starting a server, or one is just ending.
            time.sleep(0.05)
        if time.monotonic() - began_s > START_TIMEOUT_S:
            raise DeviceFault(
                f"the simulated instrument {file.name} could not be reached within {START_TIMEOUT_S:g} s: "
                f"{holder(folder)} holds {folder / LOCK_FILE}, but {why}. {_END_IT}; see also {folder / LOG_FILE}"
            )


def _known(file: InstrumentFile, address: Address | None) -> "Line | None":
    """A line to the server of an address, in a session; None where none runs or it is to end.

    Raises
    ------
    Gone
        Where it has ended.
    DeviceFault
        What the server itself says against a session: that does not pass by starting another one.
    """
    if address is None:
        return None
    line = Line(file.name, address)
    try:
        if address.content == content_hash(file):
            line.found = line.ask("open")
            return line
        if not line.ask("quit"):
            raise BadInput(
                field="instrument",
                value=file.name,
                limit="others use it with another instrument file at the moment",
                remedy="Wait for them to end, or use the same file",
            )
    except BaseException:
        line.close()
        raise
    line.close()
    return None


def _start(file: InstrumentFile, home: Path, linger_s: float) -> bool:
    """Start a server; False where one holds the instrument already."""
    server = [sys.executable, "-P", "-m", "devices.simulator.server", str(home), str(linger_s)]
    # It imports what this process would: the empty path is the folder this one works in.
    paths = (os.path.abspath(path) for path in sys.path)
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-I", "-S", "-c", _DETACH, *server],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(file_json(file), timeout=START_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise DeviceFault(f"the server of {file.name} did not start within {START_TIMEOUT_S:g} s") from None
    try:
        how = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        raise DeviceFault(f"the server of {file.name} did not start: {said[-2000:]}") from None
    if "error" in how:
        raise unpack_error(how)
    return "ready" in how


def connect(address: Address, timeout_s: float) -> Link:
    """Connect to a server and show the key; raises `OSError`."""
    link = Link(socket.create_connection(("127.0.0.1", address.port), timeout=timeout_s), timeout_s)
    try:
        link.wait_in_all(timeout_s)
        show_key(link, address.key)
        link.wait_at_most(timeout_s)
    except BaseException:
        link.close()
        raise
    return link


class Line:
    """A client's connection to one server: questions one after the other, each answered or a `DeviceFault` in time.

    They pass through a thread of its own: an interrupt can then neither tear a message nor let the next one overtake.
    The queues are simple ones, which hold no lock that an interrupted caller could keep.
    """

    def __init__(self, name: str, address: Address) -> None:
        self._name, self._address = name, address
        self.found: BeamFound | None = None
        """The beam as the session that was opened on it found it."""
        self._link: Link | None = None
        self._questions: SimpleQueue[tuple[str, object, SimpleQueue[_Answer]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, daemon=True, name="simulator-client")
        self._thread.start()
        self._closed = False

    def ask(self, call: str, argument: object = None) -> Any:
        """Ask for a call of `CALLS` and return its result; errors are those of the device."""
        if self._closed:
            raise DeviceFault(f"the simulated instrument {self._name} was closed")
        answer: SimpleQueue[_Answer] = SimpleQueue()
        self._questions.put((call, argument, answer))
        value, error = answer.get()
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Let go of the connection when all questions are answered; again does nothing."""
        self._closed = True
        self._questions.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            call, argument, answer = question
            try:
                answer.put((self._exchange(call, argument), None))
            except Exception as error:  # noqa: BLE001 - whoever asks has to hear of it, whatever it is
                answer.put((None, error))
        self._drop()

    def _exchange(self, call: str, argument: object) -> Any:
        types = CALLS[call]
        body = types.argument.dump_json(argument) if types.argument else b""
        try:
            if self._link is None:
                self._link = connect(self._address, ANSWER_TIMEOUT_S)
            self._link.wait_at_most(READY_TIMEOUT_S if call == "detector.source" else ANSWER_TIMEOUT_S)
            self._link.send({"call": call}, body)
            head, answer = self._link.receive()
        except OSError as error:
            self._drop()
            raise no_answer(self._name, self._address, error) from None
        if "error" in head:
            raise unpack_error(head)
        return types.result.validate_json(answer, strict=True) if types.result else None

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def no_answer(name: str, address: Address, error: OSError) -> DeviceFault:
    """What a connection that broke or timed out means."""
    kind, what = (Silent, "does not answer") if isinstance(error, TimeoutError) else (Gone, "has ended")
    return kind(f"the simulated instrument {name}: its server, process {address.pid}, {what} ({error})")
