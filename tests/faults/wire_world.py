"""A connection that fails on the way: a proxy on loopback between a detector's stream and who receives it."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Failure = Literal["none", "black hole", "reset", "closed", "half closed", "flipped bit", "cut", "slow"]
FAILURES: tuple[Failure, ...] = ("none", "black hole", "reset", "closed", "half closed", "flipped bit", "cut", "slow")
PIECE_BYTES = 4096


class Proxy:
    """Hands on what comes from a port; the first connection suffers its failure after so many bytes from there."""

    def __init__(self, port: int, failure: Failure, after_bytes: int) -> None:
        self._to, self._failure, self._after = port, failure, after_bytes
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.happened = threading.Event()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Close everything, and wait until nobody is at work."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        failing = self._failure
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for one, other, what in ((near, far, "none"), (far, near, failing)):
                    self._threads.append(threading.Thread(target=self._hand_on, args=(one, other, what)))
                    self._threads[-1].start()
                failing = "none"

    def _hand_on(self, source: socket.socket, target: socket.socket, failing: Failure) -> None:
        passed = 0
        with suppress(OSError):
            while part := source.recv(PIECE_BYTES):
                if failing != "none" and passed + len(part) > self._after and not self.happened.is_set():
                    self.happened.set()
                    part = self._fail(failing, part, source, target)
                elif self.happened.is_set() and failing == "black hole":
                    part = b""
                elif self.happened.is_set() and failing == "slow":
                    self._pause.wait(0.002)
                passed += len(part)
                target.sendall(part)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    _pause = threading.Event()
    """Never set: to wait on it is to hand on slowly."""

    def _fail(self, failing: Failure, part: bytes, source: socket.socket, target: socket.socket) -> bytes:
        half = part[: len(part) // 2]
        match failing:
            case "reset":
                # Lingering for no time makes the system send a reset.
                target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                target.close()
                source.shutdown(socket.SHUT_RDWR)
            case "closed":
                target.shutdown(socket.SHUT_RDWR)
                source.shutdown(socket.SHUT_RDWR)
            case "half closed":
                target.sendall(half)
                target.shutdown(socket.SHUT_WR)
            case "flipped bit":
                return half[:-1] + bytes([half[-1] ^ 1]) + part[len(half) :]
            case "cut":
                # Bytes are missing in the middle, and the connection goes on.
                return half + part[len(half) + 100 :]
            case "black hole":
                return b""
        return part


@contextmanager
def proxy_to(port: int, failure: Failure, after_bytes: int) -> Iterator[Proxy]:
    """A proxy to a port, closed afterwards."""
    proxy = Proxy(port, failure, after_bytes)
    try:
        yield proxy
    finally:
        proxy.close()
