"""Merlin's control connection: values read and written, commands given, answers read by length, every failure named.

``MPX,<ten digits>,<GET|SET|CMD>,<NAME>[,value]``, where the digits count the payload and the comma before it. The
answer repeats kind and name, gives the value of a GET, and ends with a code. Only reads are asked again. A write or a
command whose answer is lost may have worked: who gave it has to look.
"""

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from devices.merlin.blocks import PREFIX, PREFIX_BYTES, prefixed
from stem4d.errors import DeviceFault, LimitViolation, shown

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 5.0
"""A change of the exposure takes the detector about 0.3 s."""
RETRIES = 3
FIRST_PAUSE_S = 0.1
BUSY_FOR_S = 3.0
"""How long what is refused because the detector is busy is asked again: nothing was done then."""
BUSY_PAUSE_S = 0.2
LARGEST_ANSWER_BYTES = 2**16
BUSY, UNKNOWN, OUT_OF_RANGE = 1, 2, 3
MEANINGS = {BUSY: "it is busy", UNKNOWN: "it knows no such name", OUT_OF_RANGE: "the value is out of range"}

Kind = Literal["GET", "SET", "CMD"]


class NoAnswer(DeviceFault):
    """The connection failed before an answer was there: what was asked may have been done or not."""


class Refused(DeviceFault):
    """The detector answered with an error code."""

    def __init__(self, text: str, code: int = 0) -> None:
        self.code = code
        super().__init__(text)


@dataclass
class Merlin:
    """One detector's control connection, made when it is first needed. Close it; several threads may share it."""

    host: str
    port: int = 6341
    answer_timeout_s: float = ANSWER_TIMEOUT_S
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    monotonic: Callable[[], float] = time.monotonic
    _socket: socket.socket | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def close(self) -> None:
        """Let go of the connection; the next question makes a new one."""
        with self._lock:
            self._drop()

    def get(self, name: str) -> str:
        """Read a value.

        Raises
        ------
        DeviceFault
            Naming question, address and what went wrong; `NoAnswer` where no answer came, `Refused` for an error code.
        """
        for tried in range(RETRIES):
            try:
                return self._granted("GET", name)
            except NoAnswer:
                self.sleep(FIRST_PAUSE_S * 2**tried * (0.5 + self.jitter()))
        return self._granted("GET", name)

    def known(self, name: str) -> str | None:
        """Read a value; None where this detector's software has none of that name."""
        try:
            return self.get(name)
        except Refused as error:
            if error.code == UNKNOWN:
                return None
            raise

    def set(self, name: str, value: float) -> None:
        """Write a value, once.

        Raises
        ------
        LimitViolation
            The detector says that the value is out of range.
        DeviceFault
            As `get`.
        """
        try:
            self._granted("SET", name, written(value))
        except Refused as error:
            if error.code != OUT_OF_RANGE:
                raise
            limit = "what the detector takes; it refuses the value"
            raise LimitViolation(device="detector", setting=name, asked=value, limit=limit) from None

    def command(self, name: str) -> None:
        """Give a command, once, and wait for its answer."""
        self._granted("CMD", name)

    def _granted(self, kind: Kind, name: str, value: str = "") -> str:
        """Ask until the detector is not busy."""
        began_s = self.monotonic()
        while True:
            try:
                return self._ask(kind, name, value)
            except Refused as error:
                if error.code != BUSY or self.monotonic() - began_s >= BUSY_FOR_S:
                    raise
            self.sleep(BUSY_PAUSE_S)

    def _ask(self, kind: Kind, name: str, value: str) -> str:
        question = ",".join([kind, name, *([value] if value else [])])
        where = f"{question} at {self.host}:{self.port}"
        with self._lock:
            try:
                payload = self._exchanged(question)
            except OSError as error:
                # What is answered after this must not be taken for the answer to the next question.
                self._drop()
                what = f"{type(error).__name__}: {error}"
                raise NoAnswer(f"{where}: no answer ({what}), {self.answer_timeout_s:g} s were allowed") from None
            there, code = _answer(payload, kind, name)
            if code is None:
                self._drop()
                raise NoAnswer(f"{where} was answered {shown(payload, 200)}, which is no answer to it")
        if code:
            meaning = MEANINGS.get(code, "an error that is not known here")
            raise Refused(f"{where} was refused with code {code}: {meaning}", code)
        return there

    def _exchanged(self, question: str) -> str:
        """Send a question and read one block; OSError where that fails, or takes too long."""
        if self._socket is None:
            self._socket = socket.create_connection((self.host, self.port), CONNECT_TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ends_s = self.monotonic() + self.answer_timeout_s
        self._socket.settimeout(self.answer_timeout_s)
        self._socket.sendall(prefixed(question.encode("ascii")))
        head = self._read(self._socket, PREFIX_BYTES, ends_s)
        prefix = PREFIX.fullmatch(head)
        length = int(prefix[1]) - 1 if prefix else -1
        if not 0 <= length <= LARGEST_ANSWER_BYTES:
            raise ConnectionError(f"{shown(head.decode('latin-1'))} is no prefix of an answer")
        return self._read(self._socket, length, ends_s).decode("latin-1")

    def _read(self, connection: socket.socket, size: int, ends_s: float) -> bytes:
        got = bytearray()
        while len(got) < size:
            left_s = ends_s - self.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"{len(got)} of {size} bytes came")
            connection.settimeout(left_s)
            part = connection.recv(size - len(got))
            if not part:
                raise ConnectionError("the detector closed the connection")
            got += part
        return bytes(got)

    def _drop(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None


def written(value: float) -> str:
    """A number as the detector reads it."""
    return str(value) if isinstance(value, int) else f"{value:.9g}"


def _answer(payload: str, kind: Kind, name: str) -> tuple[str, int | None]:
    """Value and code of an answer; no code where it is none to this question. Values may have commas in them."""
    parts = payload.strip("\r\n\0 ").split(",")
    code = parts[-1].strip()
    if parts[:2] != [kind, name] or len(parts) < (4 if kind == "GET" else 3) or not code.isdecimal():
        return "", None
    return ",".join(parts[2:-1]).strip(), int(code)
