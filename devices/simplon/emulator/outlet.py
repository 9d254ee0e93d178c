"""The bound sockets that an emulated detector sends by; messages that nobody takes in time are lost."""

import time
from threading import Event

import zmq

from devices.simplon.emulator.series import Series
from devices.simplon.emulator.state import DetectorState
from devices.simplon.emulator.wire import Parts
from stem4d.errors import BadInput

LOOK_MS = 20
"""How often a message that waits for room looks whether its series was stopped [ms]."""


class Outlet:
    """The bound sockets, by format; a message waits for room a while, those after a lost one do not until one goes."""

    def __init__(self, ports: dict[str, int], high_water_mark: int, patience_s: float) -> None:
        self._context = zmq.Context()
        self._patience_s, self._flows, self._closing = patience_s, True, Event()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self.ports: dict[str, int] = {}
        try:
            for name, port in ports.items():
                socket = self._sockets[name] = self._context.socket(zmq.PUSH)
                socket.setsockopt(zmq.LINGER, 0)
                socket.setsockopt(zmq.SNDHWM, high_water_mark)
                socket.bind(f"tcp://127.0.0.1:{port or '*'}")
                self.ports[name] = int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        except zmq.ZMQError as error:
            self.close()
            raise BadInput(field=f"{name} port", value=port, limit=f"cannot be bound: {error.strerror}") from None

    def send(self, name: str, parts: Parts, state: DetectorState, series: Series, *, last: bool = False) -> bool:
        """Send a message; False where nobody took it in time, or the series was stopped and this is not its last."""
        socket, deadline_s = self._sockets[name], None
        while not _sent(socket, parts):
            now_s = time.monotonic()
            deadline_s = deadline_s or now_s + (self._patience_s if self._flows else 0.0)
            if self._closing.is_set() or (not last and state.wait_stopped(series, 0)):
                return False
            if now_s >= deadline_s:
                self._flows = False
                return False
            socket.poll(LOOK_MS, zmq.POLLOUT)
        self._flows = True
        return True

    def give_up(self) -> None:
        """Wait for nobody any more; from any thread."""
        self._closing.set()

    def close(self) -> None:
        """Drop what is not sent yet."""
        for socket in self._sockets.values():
            socket.close()
        self._context.term()


def _sent(socket: "zmq.Socket[bytes]", parts: Parts) -> bool:
    """Whether there was room for a message. To ask first takes as long as to send."""
    try:
        if len(parts) == 1:
            socket.send(parts[0], zmq.NOBLOCK)
        else:
            socket.send_multipart(parts, zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True
