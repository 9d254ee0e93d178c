"""Reads Merlin's data connection in a thread of its own, into a queue that is bounded in bytes."""

import socket
import threading

from devices.frame_queue import LOOK_UP_MS, FrameQueue
from devices.merlin.blocks import Block, Splitter
from stem4d.errors import DeviceFault

CONNECT_TIMEOUT_S = 5.0
READ_BYTES = 2**18
"""Read at once: more is slower, the pages have to be made anew."""
SYSTEM_BUFFER_BYTES = 16 * 2**20
"""Asked of the system: what it holds while we are held up, so that the detector need not."""

Queue = FrameQueue[Block]


class Receiver:
    """A connection to the detector's data port that is read from now on; close it.

    Raises
    ------
    DeviceFault
        Where nobody answers at the address.
    """

    def __init__(self, host: str, port: int, largest_bytes: int, queue: Queue) -> None:
        self.queue = queue
        self._splitter = Splitter(largest_bytes)
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SYSTEM_BUFFER_BYTES)
            connection.settimeout(CONNECT_TIMEOUT_S)
            connection.connect((host, port))
        except OSError as error:
            connection.close()
            raise DeviceFault(
                f"the detector's data port {host}:{port} cannot be connected to: {type(error).__name__}: {error}; "
                "does Merlin's software run, and no other client use it?"
            ) from None
        connection.settimeout(LOOK_UP_MS / 1000)
        self._thread = threading.Thread(target=self._run, args=(connection,), name="merlin-data", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Disconnect; what came stays in the queue, the last block cut where it was."""
        self.queue.close()
        self._thread.join()

    def _run(self, connection: socket.socket) -> None:
        why = ""
        try:
            with connection:
                why = self._read(connection)
        except OSError as error:
            why = f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 - a receiver that dies silently looks like a silent detector
            why = f"the receiver failed: {type(error).__name__}: {error}"
        self._put(self._splitter.rest())
        self.queue.close(why)

    def _read(self, connection: socket.socket) -> str:
        room = memoryview(bytearray(READ_BYTES))
        while not self.queue.closed:
            try:
                size = connection.recv_into(room)
            except TimeoutError:
                self._put(self._splitter.settle())
                continue
            if not size:
                return "the detector closed the connection"
            self._put(self._splitter.feed(room[:size]))
        return ""

    def _put(self, blocks: list[Block]) -> None:
        if blocks:
            self.queue.put([(block, len(block.payload)) for block in blocks])
