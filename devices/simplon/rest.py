"""SIMPLON's REST interface: values read and written, commands given, and every failure named.

Only reads are tried again. A write or a command whose answer is lost may have worked: who gave it has to look.
"""

import base64
import binascii
import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import numpy as np
import numpy.typing as npt

from devices.simplon.messages import LARGEST_SIDE_PX
from devices.strict_json import is_number, parsed
from stem4d.errors import DeviceFault, LimitViolation, shown

MIB = 2**20
LARGEST_VALUE_BYTES = MIB
LARGEST_ARRAY_BYTES = 1536 * MIB
"""A mask of 16384 x 16384 pixels of 4 bytes, in base64."""
CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 20.0
"""A change of energy makes the detector compute its flat fields anew."""
RETRIES = 3
FIRST_PAUSE_S = 0.1
ARRAY_TYPES = ("uint8", "uint16", "uint32", "int32", "float32", "|u1", "<u2", "<u4", "<i4", "<f4")
"""By name, or as numpy writes them: clients of detectors have met both."""
_KEY = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
Read = TypeVar("Read")


class NoAnswer(DeviceFault):
    """The connection failed before an answer was there: what was asked may have been done or not."""


class Refused(DeviceFault):
    """The detector answered with an error."""

    def __init__(self, text: str, status: int = 0) -> None:
        self.status = status
        super().__init__(text)


def if_known(read: Callable[..., Read], *key: str) -> Read | None:
    """What a read gives; None where the detector has no such key."""
    try:
        return read(*key)
    except Refused as error:
        if error.status == 404:
            return None
        raise


@dataclass(frozen=True)
class Value:
    """A value of the detector, and what it says of it."""

    value: Any
    unit: str = ""
    lowest: float | None = None
    highest: float | None = None
    allowed: tuple[Any, ...] = ()
    writable: bool = True


@dataclass
class Simplon:
    """One detector's control unit. Close it after use; several threads may share it."""

    host: str
    port: int = 80
    transport: httpx.BaseTransport | None = None
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    monotonic: Callable[[], float] = time.monotonic
    _versions: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        # Not by a proxy of the environment: the detector stands beside us.
        self._client = httpx.Client(
            base_url=f"http://{self.host}:{self.port}",
            transport=self.transport,
            trust_env=False,
            headers={"Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def get(self, key: str, module: str = "detector", task: str = "config") -> Value:
        """Read a value.

        Raises
        ------
        DeviceFault
            Naming method, path, status and the detector's words; `NoAnswer` where none came, `Refused` for a status
            that is no success.
        """
        return _value(*self._read(self._path(module, task, key), LARGEST_VALUE_BYTES))

    def known(self, module: str = "detector", task: str = "config") -> frozenset[str]:
        """What can be read, as the detector lists it; some firmware leaves keys out."""
        where, body = self._read(self._path(module, task, "keys"), LARGEST_VALUE_BYTES)
        return frozenset(_texts(where, body))

    def array(self, key: str, module: str = "detector", task: str = "config") -> npt.NDArray[Any]:
        """Read an array such as ``pixel_mask``, (y, x)."""
        where, body = self._read(self._path(module, task, key), LARGEST_ARRAY_BYTES)
        return _array(where, _value(where, body).value)

    def put(self, key: str, value: object, module: str = "detector") -> tuple[str, ...]:
        """Write a value if it is within the detector's own limits; gives the keys that changed with it.

        What has the value already is left alone.

        Raises
        ------
        LimitViolation
            Nothing was written.
        DeviceFault
            As for `get`. After `NoAnswer` the value may have been written.
        """
        there = self.get(key, module)
        if there.value == value and isinstance(there.value, bool) == isinstance(value, bool):
            return ()
        require_within(key if module == "detector" else f"{module} {key}", value, there)
        where, body = self._send("PUT", self._path(module, "config", key), WRITE_TIMEOUT_S, {"value": value})
        return _texts(where, body)

    def command(self, name: str, module: str = "detector", timeout_s: float = WRITE_TIMEOUT_S) -> None:
        """Give a command and wait for its answer, which for some comes when all is done."""
        where, body = self._send("PUT", self._path(module, "command", name), timeout_s)
        if body.strip():
            answer = _parsed(where, body)
            if answer is not None and not isinstance(answer, dict | list):
                raise DeviceFault(f"{where} answered {shown(answer)}, which is no answer to a command")

    def _path(self, module: str, task: str, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise DeviceFault(f"{module} {task}: {shown(key)} cannot be the name of a value")
        if module not in self._versions:
            where, body = self._read(f"/{module}/api/version/", LARGEST_VALUE_BYTES)
            version = _value(where, body).value
            if not isinstance(version, str) or not _VERSION.fullmatch(version):
                raise DeviceFault(f"{where} answered {shown(version)}, which is no version")
            self._versions[module] = version
        return f"/{module}/api/{self._versions[module]}/{task}/{key}"

    def _read(self, path: str, largest_bytes: int) -> tuple[str, bytes]:
        for tried in range(RETRIES):
            try:
                return self._send("GET", path, READ_TIMEOUT_S, largest_bytes=largest_bytes)
            except (NoAnswer, Refused) as error:
                if isinstance(error, Refused) and error.status < 500:
                    raise
            self.sleep(FIRST_PAUSE_S * 2**tried * (0.5 + self.jitter()))
        return self._send("GET", path, READ_TIMEOUT_S, largest_bytes=largest_bytes)

    def _send(
        self, method: str, path: str, timeout_s: float, content: object = None, largest_bytes: int = LARGEST_VALUE_BYTES
    ) -> tuple[str, bytes]:
        where = f"{method} {path} at {self.host}:{self.port}"
        # Time for large arrays, and an end to a body that drips.
        deadline_s = self.monotonic() + timeout_s + largest_bytes / (10 * MIB)
        body = bytearray()
        try:
            timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
            with self._client.stream(method, path, json=content, timeout=timeout) as answer:
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > largest_bytes:
                        raise DeviceFault(f"{where} answered with more than {largest_bytes / MIB:g} MiB")
                    if self.monotonic() > deadline_s:
                        raise NoAnswer(f"{where}: the answer was not complete after {timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(
                f"{where}: no answer ({type(error).__name__}: {error}), {timeout_s:g} s were allowed"
            ) from None
        if not answer.is_success:
            words = shown(bytes(body[:400]).decode("utf-8", "replace"), 200)
            raise Refused(f"{where} answered {answer.status_code}: {words}", answer.status_code)
        return where, bytes(body)


def require_within(name: str, asked: object, there: Value) -> None:
    """Refuse a value outside the limits that the detector states; raises `LimitViolation`."""
    limit = ""
    if not there.writable:
        limit = "it can only be read"
    elif there.allowed and asked not in there.allowed:
        limit = "one of " + ", ".join(str(each) for each in there.allowed)
    elif is_number(asked):
        lowest = -math.inf if there.lowest is None else there.lowest
        highest = math.inf if there.highest is None else there.highest
        if not lowest <= asked <= highest:
            limit = f"{lowest:g} to {highest:g}"
    if limit:
        raise LimitViolation(device="detector", setting=name, asked=asked, limit=limit, unit=there.unit)


def _parsed(where: str, body: bytes) -> Any:
    try:
        return parsed(body)
    except ValueError:
        words = shown(body[:400].decode("utf-8", "replace"), 200)
        raise DeviceFault(f"{where} answered 200, but not in JSON: {words}") from None


def _value(where: str, body: bytes) -> Value:
    answer = _parsed(where, body)
    if not isinstance(answer, dict) or "value" not in answer:
        raise DeviceFault(f"{where} answered 200 without a value: {shown(answer, 200)}")
    lowest, highest = (answer[name] if is_number(answer.get(name)) else None for name in ("min", "max"))
    allowed = answer.get("allowed_values")
    return Value(
        value=answer["value"],
        unit=str(answer.get("unit") or ""),
        lowest=lowest,
        highest=highest,
        allowed=tuple(allowed) if isinstance(allowed, list) else (),
        writable=answer.get("access_mode") != "r",
    )


def _texts(where: str, body: bytes) -> tuple[str, ...]:
    answer = _parsed(where, body)
    if not isinstance(answer, list) or not all(isinstance(each, str) for each in answer):
        raise DeviceFault(f"{where} answered {shown(answer, 200)}, which is no list of names")
    return tuple(answer)


def _array(where: str, value: Any) -> npt.NDArray[Any]:
    try:
        sides, kind = [int(side) for side in value["shape"]], str(value["type"])
        if kind not in ARRAY_TYPES or value["filters"] != ["base64"]:
            raise ValueError(f"{shown(kind)} by {shown(value['filters'])}")
        if not sides or min(sides) < 1 or max(sides) > LARGEST_SIDE_PX:
            raise ValueError(f"shape {sides}")
        data = base64.b64decode(value["data"], validate=True)
        # x first, where numpy has it last.
        return np.frombuffer(data, np.dtype(kind).newbyteorder("<")).reshape(sides[::-1])
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise DeviceFault(f"{where} answered with no array: {type(error).__name__}: {error}") from None
