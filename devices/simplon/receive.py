"""Takes messages off a detector's stream in a thread of its own, into a queue that is bounded in bytes."""

import threading

import zmq
from zmq.utils.monitor import recv_monitor_message

from devices.frame_queue import LOOK_UP_MS, FrameQueue
from devices.simplon.messages import Message, NotAMessage, decode
from stem4d.errors import DeviceFault

MIB = 2**20
LARGEST_MESSAGE_BYTES = 256 * MIB
"""ZeroMQ drops the connection for a larger one. A start message with a flat field and a mask of 4096 x 4096 pixels
has 128 MiB; frames have less."""
AT_ONCE = 64
"""Messages that are read before the queue's lock is taken; fewer where they come to ``WAITING_BYTES``."""
CONNECT_TIMEOUT_S = 5.0
MOST_WAITING = 1000
"""Messages that ZeroMQ itself holds at most."""
WAITING_BYTES = 64 * MIB


Queue = FrameQueue[Message | None]
"""None stands for what is no message."""


class Receiver:
    """A connection to a detector's stream that is read from now on; close it.

    Raises
    ------
    DeviceFault
        Where nobody answers at the address.
    """

    def __init__(self, host: str, port: int, frame_bytes: int, queue: Queue) -> None:
        self.queue = queue
        self._context = zmq.Context()
        socket = self._context.socket(zmq.PULL)
        try:
            socket.linger = 0
            socket.rcvhwm = max(8, min(MOST_WAITING, WAITING_BYTES // frame_bytes))
            socket.set(zmq.MAXMSGSIZE, LARGEST_MESSAGE_BYTES)
            _connect(socket, f"tcp://{host}:{port}")
        except BaseException:
            socket.close(linger=0)
            self._context.term()
            raise
        self._thread = threading.Thread(target=self._run, args=(socket,), name="simplon-stream", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Disconnect; what is in the queue stays."""
        self.queue.close()
        self._thread.join()
        self._context.term()

    def _run(self, socket: zmq.Socket[bytes]) -> None:
        try:
            while not self.queue.closed:
                if socket.poll(LOOK_UP_MS):
                    self.queue.put(_read(socket))
        except Exception as error:  # noqa: BLE001 - a receiver that dies silently looks like a silent detector
            self.queue.close(f"{type(error).__name__}: {error}")
        finally:
            socket.close(linger=0)


def _connect(socket: zmq.Socket[bytes], address: str) -> None:
    """Connect and wait for the peer's greeting: what a detector sends before it, it may not keep."""
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    try:
        socket.connect(address)
        if not monitor.poll(round(CONNECT_TIMEOUT_S * 1000)):
            raise DeviceFault(
                f"the detector's stream at {address} did not answer within {CONNECT_TIMEOUT_S:g} s; "
                "is the stream interface enabled, and no firewall between?"
            )
        recv_monitor_message(monitor)
    except zmq.ZMQError as error:
        raise DeviceFault(f"the detector's stream at {address} cannot be connected to: {error}") from None
    finally:
        socket.disable_monitor()
        monitor.close(linger=0)


def _read(socket: zmq.Socket[bytes]) -> list[tuple[Message | None, int]]:
    messages: list[tuple[Message | None, int]] = []
    read_bytes = 0
    while len(messages) < AT_ONCE and read_bytes < WAITING_BYTES:
        try:
            raw = socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            break
        read_bytes += len(raw)
        try:
            messages.append((decode(raw), len(raw)))
        except NotAMessage:
            messages.append((None, len(raw)))
    return messages
