"""temscript's remote server over HTTP and JSON: values read and written, and every failure named.

Only reads are tried again. The server answers one question after the other and closes the connection after each; while
the microscope is busy with one of them, all others wait.
"""

import math
import ssl
import time
from collections.abc import Callable
from typing import Any

import httpx

from devices.strict_json import is_number, parsed
from stem4d.errors import DeviceFault, shown

LARGEST_BYTES = 2**20
CONNECT_TIMEOUT_S = 1.0
READS = 3
"""How often a value is asked for before it is said that no answer comes."""
PAUSE_S = 0.05
OLDEST = (2, 1)
"""Version of temscript whose server tells and closes the column valves."""


class NoAnswer(DeviceFault):
    """The connection failed before an answer was there: what was asked may have been done, or may be done yet."""


class Temscript:
    """One server. Close it after use.

    Parameters
    ----------
    host, port : str, int
        Where it listens.
    answer_timeout_s : float
        Within which is answered what is not said to take longer [s].
    sleep, monotonic : callable
        The real clock; tests have their own.
    """

    def __init__(
        self,
        host: str,
        port: int,
        answer_timeout_s: float,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at, self._answer_timeout_s = f"{host}:{port}", answer_timeout_s
        self._sleep, self._monotonic = sleep, monotonic
        # Not by a proxy of the environment: the microscope stands beside us.
        self._client = httpx.Client(
            base_url=f"http://{self._at}/v1/",
            trust_env=False,
            # Plain HTTP: nobody's certificate is trusted, and none has to be loaded.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Let go of the connection; again does nothing."""
        self._client.close()

    def require_known(self) -> None:
        """Raise `DeviceFault` where this is no server of temscript, or an older one than is understood."""
        version = self.text("version")
        try:
            major, minor = (int(part) for part in version.split(".")[:2])
        except ValueError:
            raise self._no("version", version, "the version of a temscript server") from None
        if major != OLDEST[0] or minor < OLDEST[1]:
            raise DeviceFault(
                f"temscript at {self._at} has version {shown(version)}; a 2.x from 2.1 on is needed. Update it there"
            )

    def number(self, endpoint: str) -> float:
        """Read a finite number; for each of these: raises `DeviceFault`, `NoAnswer` where no answer came."""
        value = self._read(endpoint)
        if not _finite(value):
            raise self._no(endpoint, value, "a finite number")
        return float(value)

    def whole(self, endpoint: str) -> int:
        """Read a whole number."""
        value = self.number(endpoint)
        if not value.is_integer():
            raise self._no(endpoint, value, "a whole number")
        return int(value)

    def pair(self, endpoint: str) -> tuple[float, float]:
        """Read two finite numbers, (x, y) as the server has them."""
        value = self._read(endpoint)
        if not isinstance(value, list) or len(value) != 2 or not all(_finite(each) for each in value):
            raise self._no(endpoint, value, "a pair of finite numbers")
        return float(value[0]), float(value[1])

    def truth(self, endpoint: str) -> bool:
        """Read true or false."""
        value = self._read(endpoint)
        if not isinstance(value, bool):
            raise self._no(endpoint, value, "true or false")
        return value

    def text(self, endpoint: str) -> str:
        """Read a text."""
        value = self._read(endpoint)
        if not isinstance(value, str):
            raise self._no(endpoint, value, "a text")
        return value

    def axes(self, endpoint: str) -> dict[str, tuple[float, ...]]:
        """Read numbers by axis: one each of a position, two of limits."""
        value = self._read(endpoint)
        if isinstance(value, dict):
            lists = {axis: each if isinstance(each, list) else [each] for axis, each in value.items()}
            if all(_finite(each) for numbers in lists.values() for each in numbers):
                return {axis: tuple(float(each) for each in numbers) for axis, numbers in lists.items()}
        raise self._no(endpoint, value, "finite numbers by axis")

    def write(self, endpoint: str, value: object, timeout_s: float | None = None, **query: str) -> None:
        """Write a value once.

        Raises
        ------
        DeviceFault
            Naming what was asked, the status and the server's words. After `NoAnswer` the value may have been
            written, or may be once the server is no longer busy.
        """
        self._send("PUT", endpoint, timeout_s or self._answer_timeout_s, value, query)

    def _read(self, endpoint: str) -> Any:
        for _ in range(READS - 1):
            try:
                return self._value(endpoint)
            except NoAnswer:
                self._sleep(PAUSE_S)
        return self._value(endpoint)

    def _value(self, endpoint: str) -> Any:
        where, status, body = self._send("GET", endpoint, self._answer_timeout_s)
        try:
            return parsed(body)
        except ValueError:
            words = shown(body[:400].decode("utf-8", "replace"), 200)
            raise DeviceFault(f"{where} answered {status}, but not in JSON: {words}") from None

    def _send(
        self, method: str, endpoint: str, timeout_s: float, value: object = None, query: dict[str, str] | None = None
    ) -> tuple[str, int, bytes]:
        where = f"{method} /v1/{endpoint} at {self._at}"
        ends_s = self._monotonic() + timeout_s + CONNECT_TIMEOUT_S
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        content = {} if method == "GET" else {"json": value}
        body = b""
        try:
            with self._client.stream(method, endpoint, params=query, timeout=timeout, **content) as answer:  # type: ignore[arg-type]
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > LARGEST_BYTES:
                        raise DeviceFault(f"{where} answered with more than {LARGEST_BYTES} bytes")
                    if self._monotonic() > ends_s:
                        raise NoAnswer(f"{where}: the answer was not complete after {timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(
                f"{where}: no answer ({type(error).__name__}: {error}), {timeout_s:g} s were allowed"
            ) from None
        if not answer.is_success:
            # The server's words stand in the reason; its body says the same in HTML.
            raise DeviceFault(f"{where} answered {answer.status_code}: {shown(answer.reason_phrase, 200)}")
        return where, answer.status_code, body

    def _no(self, endpoint: str, value: object, what: str) -> DeviceFault:
        return DeviceFault(f"GET /v1/{endpoint} at {self._at} answered {shown(value)}, which is not {what}")


def _finite(value: object) -> bool:
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
