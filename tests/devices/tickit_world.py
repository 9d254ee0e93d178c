"""The EIGER server of tickit-devices as a process, and what stands between it and the driver where it has gaps.

The driver is not taught the gaps. Two things that it cannot do without are put in on the way: the API's version, and
in start messages what was asked for as the header's appendix. All else is handed on byte by byte, and recorded. The
server itself is changed in one place: `run_tickit_eiger.py`.
"""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import zmq

from devices.simplon.rest import Simplon
from tests.devices.emulator_world import wait_for
from tests.peer_environments import python_of

PINS = Path(__file__).parent / "peers" / "tickit_eiger.txt"
HOST = "127.0.0.1"
LOOK_MS = 20
STARTS_WITHIN_S = 120.0


@dataclass(frozen=True)
class Eiger:
    """Where the server listens."""

    rest_port: int
    stream_port: int

    def client(self) -> httpx.Client:
        """Of its REST interface as it is."""
        return httpx.Client(base_url=f"http://{HOST}:{self.rest_port}", trust_env=False, timeout=30)


@contextmanager
def eiger(folder: Path) -> Iterator[Eiger]:
    """The server, which answers."""
    with ExitStack() as held:
        free = [held.enter_context(socket.create_server((HOST, 0))).getsockname()[1] for _ in range(3)]
    rest_port, legacy_port, stream_port = free
    config = folder / "eiger.yaml"
    config.write_text(
        "- type: tickit_devices.eiger.Eiger\n  name: eiger\n  inputs: {}\n"
        f"  host: {HOST}\n  port: {rest_port}\n  stream_host: {HOST}\n"
        f"  stream_legacy_port: {legacy_port}\n  stream_cbor_port: {stream_port}\n"
    )
    command: list[str | Path] = [
        python_of(PINS),
        PINS.with_name("run_tickit_eiger.py"),
        "--log-level",
        "INFO",
        "all",
        config,
    ]
    with (
        (folder / "eiger.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            there = Eiger(rest_port, stream_port)
            with there.client() as client:

                def answers() -> bool:
                    assert process.poll() is None, (folder / "eiger.log").read_text()
                    try:
                        return client.get("/detector/api/1.8.0/status/state").is_success
                    except httpx.TransportError:
                        return False

                wait_for(answers, STARTS_WITHIN_S)
            yield there
        finally:
            process.kill()


class _Versioned(httpx.BaseTransport):
    """Over sockets, but for the version of the API, which the server does not tell."""

    def __init__(self) -> None:
        self._sockets = httpx.HTTPTransport(trust_env=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/api/version/"):
            return httpx.Response(200, json={"value": "1.8.0", "value_type": "string"})
        return self._sockets.handle_request(request)

    def close(self) -> None:
        self._sockets.close()


@contextmanager
def rest_of(server: Eiger, *, versioned: bool = True) -> Iterator[Simplon]:
    """The driver's client of it."""
    rest = Simplon(HOST, server.rest_port, transport=_Versioned() if versioned else None)
    try:
        yield rest
    finally:
        rest.close()


class Relay:
    """Hands on what the server sends; ``sent`` is what came of it, as it came."""

    def __init__(self, server: Eiger, *, appendix: bool = True) -> None:
        self.sent: list[bytes] = []
        self._server, self._appendix = server, appendix
        self._context = zmq.Context()
        self._from, self._to = self._context.socket(zmq.PULL), self._context.socket(zmq.PUSH)
        self._from.connect(f"tcp://{HOST}:{server.stream_port}")
        self.port = self._to.bind_to_random_port(f"tcp://{HOST}")
        self._closing = threading.Event()
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()

    def close(self) -> None:
        """End; what waits is dropped, and what went wrong is raised."""
        self._closing.set()
        self._thread.join()
        self._context.destroy(linger=0)
        if self._fault is not None:
            raise self._fault

    def kinds(self) -> list[str]:
        """Of the messages that came, by their first key."""
        return [raw[raw.index(b"dtype") + 6 :].partition(b"iseries_id")[0].decode() for raw in self.sent]

    def _run(self) -> None:
        try:
            with self._server.client() as client:
                while not self._closing.is_set():
                    if self._from.poll(LOOK_MS):
                        for raw in self._from.recv_multipart():
                            self._hand_on(raw, client)
        except Exception as error:  # noqa: BLE001 - a test that goes on without it would blame the driver
            self._fault = error

    def _hand_on(self, raw: bytes, client: httpx.Client) -> None:
        self.sent.append(raw)
        handed = self._with_appendix(raw, client) if self._appendix else raw
        while not self._to.poll(LOOK_MS, zmq.POLLOUT):
            if self._closing.is_set():
                return
        self._to.send(handed)

    @staticmethod
    def _with_appendix(raw: bytes, client: httpx.Client) -> bytes:
        """A start message with one field more, which is text; others as they are."""
        head = b"\xd9\xd9\xf7\xb8"
        if not raw.startswith(head) or raw[5:16] != b"dtypeestart":
            return raw
        told = client.get("/stream/api/1.8.0/config/header_appendix").raise_for_status().json()
        text = str(told["value"]).encode()
        assert 24 <= len(text) < 256
        return head + bytes([raw[4] + 1]) + raw[5:] + b"iuser_data" + b"\x78" + bytes([len(text)]) + text


@contextmanager
def relayed(server: Eiger, *, appendix: bool = True) -> Iterator[Relay]:
    """A relay."""
    relay = Relay(server, appendix=appendix)
    try:
        yield relay
    finally:
        relay.close()
