"""A stand-in for temscript's server on a real socket, and the real one as a process with its Null microscope.

The stand-in answers as the real one's sources say: one question at a time, the connection closed after each, values
clipped without a word. `test_temscript_driver.py` holds driver and stand-in to the real one, test by test.
"""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from tests.peer_environments import python_of

PINS = Path(__file__).parent / "peers" / "temscript.txt"
STARTS_WITHIN_S = 30.0
HIGHEST_SPOT = 11
LIMITS = {"x": 1e-3, "y": 1e-3, "z": 3e-4, "a": 0.5235987755982988, "b": 0.5235987755982988}


class Server(Protocol):
    """What a test needs of either."""

    port: int

    def put(self, endpoint: str, value: object) -> None:
        """Change something behind the driver's back."""

    def get(self, endpoint: str) -> Any:
        """Look behind the driver's back."""


class StandIn:
    """Values by endpoint. ``odd`` answers come first, by ``GET name`` or ``PUT name``: status and body, or none."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {
            "version": "2.1.0",
            "voltage": 200.0,
            "column_valves_open": False,
            "stage_position": dict.fromkeys(LIMITS, 0.0),
            "stage_limits": {axis: [-limit, limit] for axis, limit in LIMITS.items()},
            "stage_status": "READY",
            "beam_shift": [0.0, 0.0],
            "diffraction_shift": [0.0, 0.0],
            "condenser_stigmator": [0.0, 0.0],
            "projection_mode": "IMAGING",
            "instrument_mode": "TEM",
            "magnification_index": 10,
            "indicated_camera_length": 0,
            "convergence_angle": 0.01,
            "probe_defocus": 0.0,
            "defocus": 0.0,
            "spot_size_index": 1,
            "beam_blanked": False,
        }
        self.odd: dict[str, list[tuple[int, bytes] | None]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        """Method, endpoint with its query, and what was put."""
        self.deaf: set[str] = set()
        """Endpoints that take what is put and leave everything as it is."""
        self.held = threading.Event()
        """While it is clear, a question with no answer keeps the server busy."""
        self.held.set()
        self._http = HTTPServer(("127.0.0.1", 0), self._handler())
        self.port = int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.held.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def get(self, endpoint: str) -> Any:
        return self.values[endpoint]

    def put(self, endpoint: str, value: Any) -> None:
        if endpoint in self.deaf:
            return
        match endpoint:
            case "spot_size_index":
                value = min(max(value, 1), HIGHEST_SPOT)
            case "stage_position":
                clipped = {axis: min(max(at, -LIMITS[axis]), LIMITS[axis]) for axis, at in value.items()}
                value = {**self.values["stage_position"], **clipped}
        if endpoint != "normalize":
            self.values[endpoint] = value
        diffracting = self.values["projection_mode"] == "DIFFRACTION"
        self.values["indicated_camera_length"] = self.values["magnification_index"] * 0.1 if diffracting else 0

    def written(self) -> list[str]:
        """Endpoints that were put, in order."""
        return [endpoint for method, endpoint, _value in self.asked if method == "PUT"]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_PUT(self) -> None:
                self._answer(self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, body: bytes | None) -> None:
                path = urlsplit(self.path)
                endpoint = path.path.removeprefix("/v1/")
                value = None if body is None else json.loads(body)
                query = f"?{path.query}" if path.query else ""
                stand_in.asked.append((self.command, endpoint + query, value))
                if odd := stand_in.odd.get(f"{self.command} {endpoint}"):
                    one = odd.pop(0)
                    if one is None:
                        stand_in.held.wait()
                        return
                    self._say(*one)
                elif endpoint not in (*stand_in.values, "normalize"):
                    self.send_error(404, f"no {endpoint}")
                elif body is None:
                    self._say(200, json.dumps(stand_in.values[endpoint]).encode())
                else:
                    stand_in.put(endpoint, value)
                    self.send_response(204)
                    self.end_headers()

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        return Handler


class Real:
    """temscript's own server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, endpoint: str) -> Any:
        return self._ask("GET", endpoint).json()

    def put(self, endpoint: str, value: object) -> None:
        self._ask("PUT", endpoint, json=value)

    def _ask(self, method: str, endpoint: str, **content: Any) -> httpx.Response:
        answer = httpx.request(method, f"http://127.0.0.1:{self.port}/v1/{endpoint}", trust_env=False, **content)
        answer.raise_for_status()
        return answer


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A stand-in, gone afterwards."""
    server = StandIn()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def null_microscope() -> Iterator[Real]:
    """temscript's server with its Null microscope, a process of its own environment; gone afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(python_of(PINS).with_name("temscript-server")), "--null", "--host", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            real = Real(port)
            _until(lambda: _answers(real), process)
            yield real
        finally:
            process.terminate()


def _answers(real: Real) -> bool:
    with suppress(httpx.TransportError):
        return bool(real.get("version"))
    return False


def _until(answers: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    ends_s = time.monotonic() + STARTS_WITHIN_S
    while not answers():
        assert process.poll() is None, "temscript's server ended"
        assert time.monotonic() < ends_s, "temscript's server does not answer"
        time.sleep(0.02)


def made_ready(server: Server) -> None:
    """What a person does before: diffraction, and the valves open."""
    server.put("projection_mode", "DIFFRACTION")
    server.put("column_valves_open", True)
