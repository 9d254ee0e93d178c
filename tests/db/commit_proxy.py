"""A connection to PostgreSQL that breaks when a commit was done and its reply is on the way."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

COMMIT = b"COMMIT\0"


class CommitProxy:
    """Hands on what comes; once armed, the reply to the next commit is swallowed and the connection closed."""

    def __init__(self, port: int) -> None:
        self._to, self._armed = port, threading.Event()
        self.cut = threading.Event()
        """Set when a reply was swallowed: the server has answered, so the commit was done."""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def arm(self) -> None:
        """Lose the reply to the next commit."""
        self.cut.clear()
        self._armed.set()

    def close(self) -> None:
        """Close everything, and wait until nobody is at work."""
        for each in (self._server, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._server, *self._open):
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                doomed = threading.Event()
                for one, other, asks in ((near, far, True), (far, near, False)):
                    self._threads.append(threading.Thread(target=self._hand_on, args=(one, other, asks, doomed)))
                    self._threads[-1].start()

    def _hand_on(self, source: socket.socket, target: socket.socket, asks: bool, doomed: threading.Event) -> None:
        with suppress(OSError):
            while part := source.recv(65536):
                if asks and COMMIT in part and self._armed.is_set():
                    self._armed.clear()
                    doomed.set()
                if not asks and doomed.is_set():
                    self.cut.set()
                    break
                target.sendall(part)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(port: int) -> Iterator[CommitProxy]:
    """A proxy to a port, closed afterwards."""
    proxy = CommitProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
