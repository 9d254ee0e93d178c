"""What passes between the simulated instrument's server and its clients: messages, calls, errors, and the key.

A message is a header in JSON and a body: JSON of a known type, or raw pixels. Nothing that comes over the wire is
executed, and no message has a field for the hidden truth.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import socket
import struct
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, TypeAdapter

from devices.protocols import BeamFound, ColumnSetting, ExposureRequest, Reading, ScanRequest
from stem4d.approach import StagePose
from stem4d.detector import DetectorFacts
from stem4d.dose import DoseLease
from stem4d.errors import BadInput, DeviceFault, DoseRefused, LimitViolation, NightbeamError
from stem4d.instrument import InstrumentFile
from stem4d.model import sha256_of
from storage.home import refuse_folders

VERSION = 5
"""Raised when messages change: a server that an older program left running is then not used."""
HEADER = struct.Struct("<IQ")
"""Bytes of the header's JSON and of the body."""
LARGEST_HEAD = 1 << 16
LARGEST_BODY = 1 << 20
"""Of a request or an answer [bytes]; frames are announced by their header and checked against what is expected."""
SERVER_FILE, LOCK_FILE, LOG_FILE = "server.json", "server.lock", "server.log"

Head = dict[str, Any]


@dataclass(frozen=True)
class Address:
    """Where a server listens, and the key that it asks every client for."""

    pid: int
    port: int
    key: str
    content: str
    """Hash of the instrument file it was started with."""
    started: str
    """UTC."""


@dataclass(frozen=True)
class SourceFacts:
    """What the receiver of an exposure needs to know beforehand."""

    run: int
    frames: int
    detector_shape: tuple[int, int]
    dtype: str


class Call(NamedTuple):
    """The types of a call's argument and result; None for none."""

    argument: TypeAdapter[Any] | None
    result: TypeAdapter[Any] | None


def _call(argument: Any = None, result: Any = None) -> Call:
    return Call(TypeAdapter(argument) if argument else None, TypeAdapter(result) if result else None)


CALLS = {
    "open": _call(result=BeamFound | None),
    "close": _call(),
    "pause": Call(TypeAdapter(float, config=ConfigDict(ser_json_inf_nan="constants")), TypeAdapter(float)),
    "now_s": _call(result=float),
    "column.prepare": _call(ColumnSetting, ColumnSetting),
    "column.snapshot": _call(result=tuple[Reading, ...]),
    "column.normalise": _call(),
    "stage.go_to": _call(str, str),
    "stage.position": _call(result=str),
    "stage.move_to": _call(StagePose, StagePose),
    "stage.pose": _call(result=StagePose),
    "scan.prepare": _call(ScanRequest, ScanRequest),
    "scan.start": _call(),
    "scan.wait": _call(result=float),
    "scan.ensure_stopped": _call(),
    "detector.facts": _call(result=DetectorFacts),
    "detector.prepare": _call(ExposureRequest, ExposureRequest),
    "detector.source": _call(result=SourceFacts),
    "detector.arm": _call(),
    "detector.ensure_stopped": _call(),
    "gate.blank": _call(),
    "gate.unblank": _call(DoseLease),
    "gate.is_blanked": _call(result=bool),
    "gate.newest_token": _call(result=int),
    "gate.see_owner": _call(int, int),
    "valves.close": _call(),
    "stream": _call(int),
    "quit": _call(result=bool),
}
"""Every call that a server answers. ``pause`` and ``scan.wait`` give what is left [s]: the client asks again."""
EXPOSING: TypeAdapter[SourceFacts | None] = TypeAdapter(SourceFacts | None)
"""Answer to ``exposing``, which whoever stands beside the instrument asks on a connection of its own."""


def content_hash(file: InstrumentFile) -> str:
    """Of everything that a server is started with."""
    return sha256_of(f"{VERSION} " + file_json(file))


def file_json(file: InstrumentFile) -> str:
    """An instrument file as its server takes it; a NaN among the settings is the server's to refuse."""
    return json.dumps(file.model_dump(mode="json"), sort_keys=True)


def write_address(folder: Path, address: Address) -> None:
    """Make a server known, to this user only."""
    refuse_folders(folder / SERVER_FILE)
    new = folder / f"{SERVER_FILE}.{address.pid}"
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(address), file)
    new.rename(folder / SERVER_FILE)


def read_address(folder: Path) -> Address | None:
    """The server that was last made known; None where none runs, as its lock tells.

    An address alone may be that of a server that was killed, whose port another program has by now. Raises `BadInput`
    where one of a server's files cannot be one.
    """
    refuse_folders(*(folder / name for name in (LOCK_FILE, SERVER_FILE, LOG_FILE)))
    try:
        with (folder / LOCK_FILE).open("rb") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        return TypeAdapter(Address).validate_json((folder / SERVER_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise NoAddress(f"{folder / SERVER_FILE} does not say where a server listens") from None


class NoAddress(DeviceFault):
    """A server's file that is garbage while a server holds the lock."""


def hold(lock: IO[str]) -> bool:
    """Take the lock of an instrument's server for as long as it is open, and leave one's number in it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    with suppress(OSError):  # on a full disk it stays empty: the number is for messages
        lock.truncate(0)
        os.write(lock.fileno(), str(os.getpid()).encode())
    return True


def holder(folder: Path) -> str:
    """Who holds the lock, in words."""
    with suppress(OSError, ValueError):
        return f"process {int((folder / LOCK_FILE).read_text())}"
    return "a process that left no number"


class Link:
    """One connection, seen from either end. Everything that goes wrong with it is an `OSError`."""

    def __init__(self, connection: socket.socket, timeout_s: float | None) -> None:
        self._socket = connection
        self._ends_s: float | None = None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wait_at_most(timeout_s)

    def wait_at_most(self, timeout_s: float | None) -> None:
        """How long to wait for the other end before `TimeoutError` [s]; None for as long as it lives."""
        self._ends_s = None
        self._socket.settimeout(timeout_s)

    def wait_in_all(self, timeout_s: float) -> None:
        """How long to wait in all, whatever comes meanwhile [s]; until `wait_at_most` is called."""
        self.wait_at_most(timeout_s)
        self._ends_s = time.monotonic() + timeout_s

    def send(self, head: Head, body: bytes | memoryview = b"") -> None:
        """Send one message."""
        text = json.dumps(head).encode()
        if len(body) > LARGEST_HEAD:
            self._socket.sendall(HEADER.pack(len(text), len(body)) + text)
            self._socket.sendall(body)
        else:
            self._socket.sendall(HEADER.pack(len(text), len(body)) + text + body)

    def receive(self) -> tuple[Head, bytes]:
        """Receive one message."""
        head, length = self.receive_head()
        if length > LARGEST_BODY:
            raise ConnectionError(f"a message of {length} bytes")
        body = bytearray(length)
        self.receive_into(memoryview(body))
        return head, bytes(body)

    def receive_head(self) -> tuple[Head, int]:
        """Receive a header and the length of the body that is still to come."""
        start = bytearray(HEADER.size)
        self.receive_into(memoryview(start))
        length, body = HEADER.unpack(start)
        if length > LARGEST_HEAD:
            raise ConnectionError(f"a header of {length} bytes")
        text = bytearray(length)
        self.receive_into(memoryview(text))
        try:
            head = json.loads(text)
        except (ValueError, RecursionError):
            head = None
        if not isinstance(head, dict):
            raise ConnectionError("a header that is not one")
        return head, body

    def receive_into(self, buffer: memoryview) -> None:
        """Fill a buffer of bytes."""
        filled = 0
        while filled < len(buffer):
            if self._ends_s is not None:
                left_s = self._ends_s - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError("timed out")
                self._socket.settimeout(left_s)
            got = self._socket.recv_into(buffer[filled:])
            if not got:
                raise ConnectionResetError("the other end has gone")
            filled += got

    def ask_for_more(self, batches: int) -> None:
        """Tell the sender of frames that so many more may come."""
        self._socket.sendall(b"+" * batches)

    def asked_for_more(self) -> None:
        """Wait until the receiver of frames wants another batch."""
        self.receive_into(memoryview(bytearray(1)))

    def until_the_end(self) -> None:
        """Wait for the other end to let go: closing before it has read all would take the last message from it."""
        while self._socket.recv(4096):
            pass

    def close(self) -> None:
        """Let go, waking a thread that waits on it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def pixels_of(frames: npt.NDArray[Any]) -> memoryview:
    """The bytes of an array in C order, without a copy."""
    return frames.reshape(-1).view(np.uint8).data


def admit(link: Link, key: str) -> None:
    """The server's side of the challenge: both ends show that they know the key, and neither sends it."""
    asked = secrets.token_hex(32)
    link.send({"challenge": asked})
    answer, _ = link.receive()
    if not _same(answer.get("answer"), _mac(key, "client", asked)):
        raise ConnectionError("a client that does not know the key")
    link.send({"answer": _mac(key, "server", _asked(answer))})


def show_key(link: Link, key: str) -> None:
    """The client's side of the challenge."""
    challenge, _ = link.receive()
    asked = secrets.token_hex(32)
    link.send({"answer": _mac(key, "client", _asked(challenge)), "challenge": asked})
    answer, _ = link.receive()
    if not _same(answer.get("answer"), _mac(key, "server", asked)):
        raise ConnectionError("a server that does not know the key")


def _asked(head: Head) -> str:
    """A challenge as `admit` and `show_key` make them: anything else, deeply nested, could not even be printed."""
    asked = head.get("challenge")
    if not isinstance(asked, str):
        raise ConnectionError("a challenge that is not one")
    return asked


def _same(said: object, mac: str) -> bool:
    return isinstance(said, str) and hmac.compare_digest(_bytes(said), mac.encode())


def _mac(key: str, role: str, asked: str) -> str:
    return hmac.new(key.encode(), _bytes(f"{role} {asked}"), hashlib.sha256).hexdigest()


def _bytes(text: str) -> bytes:
    """Of any text that JSON can hold, halves of characters included."""
    return text.encode("utf-8", "surrogatepass")


def pack_error(error: Exception) -> Head:
    """An error as a message; what is not one of a device's own kinds is a fault of the device."""
    match error:
        case BadInput():
            names = ("field", "value", "limit", "unit", "remedy")
        case LimitViolation():
            names = ("device", "setting", "asked", "limit", "unit")
        case DeviceFault() | DoseRefused():
            return {"error": type(error).__name__, "text": str(error)}
        case NightbeamError():
            return {"error": "DeviceFault", "text": str(error)}
        case _:
            return {"error": "DeviceFault", "text": f"the simulated instrument failed: {type(error).__name__}: {error}"}
    return {"error": type(error).__name__, **{name: _plain(getattr(error, name)) for name in names}}


def unpack_error(head: Head) -> NightbeamError:
    """The error of a message, of the same class and with the same fields."""
    facts = {name: _tuples(value) for name, value in head.items() if name != "error"}
    match head["error"]:
        case "BadInput":
            return BadInput(**facts)
        case "LimitViolation":
            return LimitViolation(**facts)
        case "DoseRefused":
            return DoseRefused(facts["text"])
        case _:
            return DeviceFault(facts["text"])


def _plain(value: object) -> object:
    """A value as JSON has it, or as text where JSON has none such."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
