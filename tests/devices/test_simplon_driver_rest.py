"""The REST client: what is tried again, what is refused, what a failure says; the wire's own faults over sockets."""

import json
import pickle
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest

from devices.simplon import rest as rest_module
from devices.simplon.rest import NoAnswer, Refused, Simplon, Value, require_within
from stem4d.errors import DeviceFault, LimitViolation
from tests.devices.simplon_world import Answer, Clock, FakeUnit, rest_of, status, valued

COUNT_TIME = "config/count_time"


def test_values_are_read_with_their_limits_and_versions_asked_once() -> None:
    unit = FakeUnit()
    rest = rest_of(unit)
    assert rest.get("count_time") == Value(1.0, "s", 1e-6, 1800.0)
    assert rest.get("trigger_mode").allowed == ("ints", "inte", "exts", "exte")
    assert unit.calls == ["GET detector", "GET detector config/count_time", "GET detector config/trigger_mode"]


def test_a_write_gives_the_keys_that_changed() -> None:
    unit = FakeUnit()
    assert rest_of(unit).put("count_time", 0.5) == ("count_time", "frame_time", "difference_mode")
    assert unit.values["detector"]["count_time"] == 0.5


def test_a_value_that_is_there_already_is_not_written() -> None:
    unit = FakeUnit()
    assert rest_of(unit).put("count_time", 1.0) == ()
    assert not [call for call in unit.calls if call.startswith("PUT")]
    unit.values["detector"]["nimages"] = True  # not the number 1
    rest_of(unit).put("nimages", 1)
    assert unit.values["detector"]["nimages"] is not True


@pytest.mark.parametrize("kind", ["uint32", "<u4"])
def test_arrays_are_turned_and_read_by_either_name_of_their_type(kind: str) -> None:
    unit = FakeUnit()
    unit.values["detector"]["pixel_mask"]["type"] = kind
    mask = rest_of(unit).array("pixel_mask")
    assert (mask.shape, mask.dtype, np.argwhere(mask).tolist()) == ((4, 6), np.uint32, [[0, 1]])


@pytest.mark.parametrize(
    ("asked", "there", "limit"),
    [
        (0.0, Value(1.0, "s", lowest=1e-6), "1e-06 to inf"),
        (-5, Value(1, lowest=1, highest=2e9), r"1 to 2e\+09"),
        (float("nan"), Value(1.0, lowest=0.0), "0 to inf"),
        ("inta", Value("ints", allowed=("ints", "exts")), "one of ints, exts"),
        ("x", Value("y", writable=False), "it can only be read"),
    ],
)
def test_a_value_outside_the_detectors_limits_is_refused(asked: object, there: Value, limit: str) -> None:
    with pytest.raises(LimitViolation, match=limit):
        require_within("key", asked, there)


def test_what_is_refused_is_not_written() -> None:
    unit = FakeUnit()
    with pytest.raises(LimitViolation, match="detector: trigger_mode = 'inta'"):
        rest_of(unit).put("trigger_mode", "inta")
    assert not [call for call in unit.calls if call.startswith("PUT")]


def test_what_the_detector_does_not_have_is_not_asked_for_again() -> None:
    unit = FakeUnit()
    with pytest.raises(Refused, match=r"GET /detector/api/1\.8\.0/config/nothing at dcu:80 answered 404.*unknown path"):
        rest_of(unit).get("nothing")
    assert unit.calls.count("GET detector config/nothing") == 1


def test_a_read_is_tried_three_times_again_with_growing_pauses() -> None:
    unit, clock = FakeUnit(), Clock()
    unit.script[COUNT_TIME] = [status(503, "busy"), httpx.ConnectError("no route"), httpx.ReadTimeout("late")]
    assert rest_of(unit, clock).get("count_time").value == 1.0
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4])


def test_a_read_that_fails_four_times_is_a_fault_with_the_last_answer() -> None:
    unit = FakeUnit()
    unit.script[COUNT_TIME] = [status(500, f"board {number} \x1b[31m") for number in range(5)]
    with pytest.raises(Refused, match=r"count_time at dcu:80 answered 500: 'board 3 \\x1b"):
        rest_of(unit).get("count_time")
    assert unit.calls.count("GET detector config/count_time") == 4


@pytest.mark.parametrize(
    ("failure", "kind"), [(status(500, "no"), Refused), (httpx.ReadError("reset"), NoAnswer)], ids=["500", "reset"]
)
def test_writes_and_commands_are_given_once(failure: Answer | Exception, kind: type[DeviceFault]) -> None:
    unit = FakeUnit()
    rest = rest_of(unit)
    rest.get("nimages")
    unit.script["command/arm"] = [failure]
    with pytest.raises(kind, match=r"PUT /detector/api/1.8.0/command/arm"):
        rest.command("arm")
    unit.script["config/nimages"] = [valued(1), failure]
    with pytest.raises(kind, match=r"PUT /detector/api/1.8.0/config/nimages"):
        rest.put("nimages", 3)
    assert unit.calls.count("PUT detector command/arm") == unit.calls.count("PUT detector config/nimages") == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html>proxy</html>", "answered 200, but not in JSON: '<html>proxy"),
        ("", "not in JSON"),
        ("[" * 100_000, "not in JSON"),
        ('{"value": NaN}', "not in JSON"),
        ("[1]", r"without a value: \[1\]"),
        ('{"valeu": 1}', "without a value"),
    ],
)
def test_rubbish_with_status_200_is_a_fault(body: str, message: str) -> None:
    unit = FakeUnit()
    unit.script[COUNT_TIME] = [status(200, body)]
    with pytest.raises(DeviceFault, match=message):
        rest_of(unit).get("count_time")
    assert unit.calls.count("GET detector config/count_time") == 1


def test_rubbish_to_a_write_a_command_or_the_version_is_a_fault() -> None:
    unit = FakeUnit()
    rest = rest_of(unit)
    unit.script[COUNT_TIME] = [valued(1.0), status(200, '{"ok": true}')]
    with pytest.raises(DeviceFault, match="which is no list of names"):
        rest.put("count_time", 0.5)
    unit.script["command/arm"] = [status(200, "<html>"), status(200, "3"), status(200, ""), status(200, "{}")]
    with pytest.raises(DeviceFault, match="not in JSON"):
        rest.command("arm")
    with pytest.raises(DeviceFault, match="no answer to a command"):
        rest.command("arm")
    rest.command("arm")
    rest.command("arm")
    unit.script["api/version/"] = [valued("../../1.8.0")]
    with pytest.raises(DeviceFault, match="which is no version"):
        rest.get("mode", "stream")
    with pytest.raises(DeviceFault, match="cannot be the name of a value"):
        rest.get("../../x")


def test_a_redirect_is_not_followed() -> None:
    unit = FakeUnit()
    unit.script[COUNT_TIME] = [lambda _request: httpx.Response(302, headers={"location": "http://elsewhere/"})]
    with pytest.raises(Refused, match="answered 302"):
        rest_of(unit).get("count_time")


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [6, 5]},
        {"shape": [10**9, 4]},
        {"shape": []},
        {"type": "object"},
        {"filters": ["base64", "zlib"]},
        {"data": "!!!!"},
        {"data": None},
    ],
)
def test_what_is_no_array_is_a_fault(changes: dict[str, object]) -> None:
    unit = FakeUnit()
    rest = rest_of(unit)
    assert rest.array("pixel_mask").shape == (4, 6)
    assert rest.array("pixel_mask").dtype == np.uint32
    unit.values["detector"]["pixel_mask"].update(changes)
    with pytest.raises(DeviceFault, match="answered with no array"):
        rest.array("pixel_mask")


class Unit(BaseHTTPRequestHandler):
    """Answers on a real socket; what, the path's last part says."""

    server: "Server"

    def do_GET(self) -> None:
        last = self.path.rpartition("/")[2]
        body = json.dumps({"value": "1.8.0"}).encode()
        if last == "huge":
            body = b"x" * (2 * 2**20)
        if last == "reset":
            # Lingering for no time makes the system send a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + (100 if last == "half" else 0)))
        self.end_headers()
        with suppress(OSError):  # the client hangs up
            if last == "drip":
                for letter in body:
                    self.wfile.write(bytes([letter]))
                    self.server.released.wait(0.05)
            elif last == "stall":
                self.server.released.wait(10)
            else:
                self.wfile.write(body)
        self.close_connection = last == "half"

    def log_message(self, *args: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    """Does not mind clients that hang up; what it holds back it holds until it is ``released``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Unit)
        self.released = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing."""


@pytest.fixture
def served() -> Iterator[Simplon]:
    """A client of a server on a socket."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    rest = Simplon("127.0.0.1", server.server_address[1], sleep=lambda _seconds: None)
    yield rest
    server.released.set()
    rest.close()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("huge", "answered with more than 1 MiB"),
        ("half", "no answer .RemoteProtocolError"),
        ("reset", r"no answer .ReadError|no answer .RemoteProtocolError"),
        ("stall", r"no answer .ReadTimeout.*0\.3 s were allowed"),
        ("drip", r"was not complete after 0\.3 s"),
    ],
)
def test_answers_that_do_not_end_as_they_should(
    served: Simplon, monkeypatch: pytest.MonkeyPatch, key: str, message: str
) -> None:
    if key in ("stall", "drip"):
        # Only these are to be given up; the others have as long as a busy machine needs.
        served.get("description")
        monkeypatch.setattr(rest_module, "READ_TIMEOUT_S", 0.3)
    with pytest.raises(DeviceFault, match=message):
        served.get(key)


def test_nobody_at_the_address_is_a_fault() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        rest = Simplon("127.0.0.1", port, sleep=lambda _seconds: None)
        with pytest.raises(NoAnswer, match=rf"GET /detector/api/version/ at 127.0.0.1:{port}: no answer .ConnectError"):
            rest.get("count_time")
        rest.close()


def test_faults_keep_what_they_say_on_the_way_between_processes() -> None:
    fault = pickle.loads(pickle.dumps(Refused("GET /x answered 404", 404)))
    assert (str(fault), fault.status) == ("GET /x answered 404", 404)
