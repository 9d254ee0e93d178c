"""A small emulated Merlin on two real sockets, with its faults; it shares no code with the driver."""

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import numpy as np

Tamper = Callable[[int, bytes], list[bytes]]
"""What is written in place of a frame's block; to raise `ConnectionAbortedError` closes the data connection."""
CONTAINERS = {1: ("U08", "u1"), 6: ("U08", "u1"), 12: ("U16", ">u2"), 24: ("U32", ">u4")}
PACKED_BITS = {1: 1, 6: 8, 12: 16}
RANGES = {"COUNTERDEPTH": (1, 6, 12, 24), "TRIGGERSTART": range(6), "TRIGGERSTOP": range(6), "FILEFORMAT": (0, 1, 2)}


def prefixed(payload: bytes) -> bytes:
    """A block as Merlin sends it."""
    return b"MPX," + str(len(payload) + 1).zfill(10).encode() + b"," + payload


def packed(frame: np.ndarray, depth: int) -> bytes:
    """Pixels as one chip packs them: words of 64 bits, the first pixel lowest, the highest byte sent first."""
    values = [int(value) for value in frame.ravel()]
    if depth == 24:
        return packed(frame >> 12, 12) + packed(frame & 4095, 12)
    bits = PACKED_BITS[depth]
    each = 64 // bits
    words = [
        sum(value << (bits * place) for place, value in enumerate(values[start : start + each]))
        for start in range(0, len(values), each)
    ]
    return b"".join(word.to_bytes(8, "big") for word in words)


class MerlinEmulator:
    """One detector. Frames are random counts of the whole scale; ``frames`` are what a driver has to deliver."""

    def __init__(self, shape: tuple[int, int] = (16, 64), *, tamper: Tamper | None = None) -> None:
        self.shape = shape
        self.values: dict[str, str] = {
            "SOFTWAREVERSION": "1.6.1",
            "DETECTORSTATUS": "0",
            "COLOURMODE": "0",
            "ENABLECOUNTER1": "0",
            "COUNTERDEPTH": "12",
            "CONTINUOUSRW": "0",
            "FILEFORMAT": "0",
            "RUNHEADLESS": "0",
            "ACQUISITIONTIME": "10.000000",
            "ACQUISITIONPERIOD": "11.000000",
            "NUMFRAMESTOACQUIRE": "1",
            "NUMFRAMESPERTRIGGER": "1",
            "TRIGGERSTART": "0",
            "TRIGGERSTOP": "0",
            "IMAGEX": str(shape[1]),
            "IMAGEY": str(shape[0]),
            "THRESHOLD0": "40.000000",
            "THRESHOLD1": "511.000000",
            "HVBIAS": "120",
            "FILLMODE": "0",
            "DACFILE": "c:\\cfg\\W1,A.dacs",
        }
        self.asked: list[str] = []
        self.script: dict[str, list[Any]] = {}
        """By ``KIND,NAME``: what happens instead of the next answers. A number is a code; ``done`` does it and closes
        the connection, ``gone`` only closes it; ``silent`` does it and answers nothing; bytes are sent as they are."""
        self.forced: dict[str, str] = {}
        """What values read back as, whatever is written."""
        self.tamper: Tamper = tamper or (lambda _number, block: [block])
        self.header_changes: dict[str, str] = {}
        self.left_over = b""
        """Sent to whoever connects to the data port."""
        self.frames = np.zeros((0, *shape), np.uint32)
        self._sent = 0
        self._data: socket.socket | None = None
        self._lock = threading.RLock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._connected = threading.Event()

    def __enter__(self) -> Self:
        self.control_port = self._serve(self._control)
        self.data_port = self._serve(self._take_data)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def pulse(self, count: int = 1) -> None:
        """Electric pulses; ignored where the detector does not wait for them."""
        for _ in range(count):
            if self.values["TRIGGERSTART"] == "1":
                self._triggered()

    def _serve(self, handle: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        self._open.append(listener)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    self._open.append(connection)
                    self._start(lambda one=connection: handle(one))

        self._start(accept)
        port: int = listener.getsockname()[1]
        return port

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _take_data(self, connection: socket.socket) -> None:
        with self._lock:
            self._data = connection
            if self.left_over:
                connection.sendall(self.left_over)
        self._connected.set()

    def _control(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as stream:
            while head := stream.read(15):
                length = re.fullmatch(rb"MPX,(\d{10}),", head)
                assert length, head
                kind, name, *value = stream.read(int(length[1]) - 1).decode().split(",")
                with self._lock:
                    self.asked.append(",".join([kind, name, *value]))
                    scripted = self.script.get(f"{kind},{name}", [])
                    instead = scripted.pop(0) if scripted else None
                    if instead == "gone":
                        return
                    if isinstance(instead, bytes):
                        connection.sendall(instead)
                        continue
                    code = instead if isinstance(instead, int) else self._do(kind, name, value)
                    if instead == "done":
                        return
                    if instead == "silent":
                        continue
                    shown = [self.forced.get(name, self.values.get(name, "0"))] if kind == "GET" else []
                    connection.sendall(prefixed(",".join([kind, name, *shown, str(code)]).encode()))

    def _do(self, kind: str, name: str, value: list[str]) -> int:
        if kind == "CMD":
            return self._command(name)
        if name not in self.values:
            return 2
        if kind == "SET":
            number = float(value[0])
            if number < 0 or (name in RANGES and number not in RANGES[name]):
                return 3
            self.values[name] = f"{number:.6f}" if name.startswith("ACQUISITION") else value[0]
        return 0

    def _command(self, name: str) -> int:
        busy = self.values["DETECTORSTATUS"] == "1"
        if name == "STARTACQUISITION":
            if busy:
                return 1
            self.begin()
        elif name == "SOFTTRIGGER":
            if not busy:
                return 1
            self._start(self._triggered)
        elif name in ("STOPACQUISITION", "ABORT"):
            self.values["DETECTORSTATUS"] = "0"
        else:
            return 2
        return 0

    def _number(self, name: str) -> int:
        return int(self.values[name])

    def begin(self) -> None:
        """Start an acquisition: make its frames and send its header."""
        self.make_frames()
        self.send(prefixed(self.header()))

    def make_frames(self) -> None:
        """An acquisition's frames, as its start makes them; nothing is sent, so nobody has to be connected."""
        depth, total = self._number("COUNTERDEPTH"), self._number("NUMFRAMESTOACQUIRE")
        kind = {"U08": np.uint8, "U16": np.uint16, "U32": np.uint32}[CONTAINERS[depth][0]]
        self.frames = np.random.default_rng(depth).integers(0, 1 << depth, (total, *self.shape)).astype(kind)
        self.frames[:, 0, :2] = 0, (1 << depth) - 1
        self._sent = 0
        self.values["DETECTORSTATUS"] = "1"

    def header(self) -> bytes:
        """The header of the acquisition as it is set."""
        lines = {
            "Time and Date Stamp (day, mnth, yr, hr, min, s)": "27/11/2026 03:00:00",
            "Chip ID": "W559_G11, - , - , - ",
            "Chip Type (Medipix 3.0, Medipix 3.1, Medipix 3RX)": "Medipix 3RX",
            "Assembly Size (NX1, 2X2)": "   1x1",
            "Counter Depth (number)": self.values["COUNTERDEPTH"],
            "Thresholds (keV)": "4.000000E+1,5.110000E+2",
            "Gap Fill Mode": "None",
            "Frames in Acquisition (Number)": self.values["NUMFRAMESTOACQUIRE"],
            "Frames per Trigger (Number)": self.values["NUMFRAMESPERTRIGGER"],
            "Software Version": self.values["SOFTWAREVERSION"],
        }
        body = "".join(f"{name}:\t{value}\r\n" for name, value in (lines | self.header_changes).items())
        return ("HDR,\t\r\n" + body + "End\t").ljust(2044).encode("latin-1")

    def block(self, number: int) -> bytes:
        """The block of a frame, by its number from 1."""
        depth = self._number("COUNTERDEPTH")
        frame = self.frames[number - 1][::-1]
        kind, big = CONTAINERS[depth]
        if self.values["FILEFORMAT"] == "2":
            kind, pixels = "R64", packed(frame, depth)
        else:
            pixels = frame.astype(big).tobytes()
        height, width = self.shape
        fields = [
            f"MQ1,{number:06d},00384,01,{width:04d},{height:04d},{kind},   1x1,01,2026-11-27 03:00:00.000000",
            f"{float(self.values['ACQUISITIONTIME']) / 1e3:.6f},0,0,0",
            "4.000000E+1,5.110000E+2," + ",".join(["0.000000E+0"] * 6),
            "3RX," + ",".join(["100"] * 25),
            f"MQ1A,2026-11-27T03:00:00.000000000Z,1000000ns,{depth},",
        ]
        return prefixed(",".join(fields).encode().ljust(384, b"\0" if number > 1 else b" ") + pixels)

    def _triggered(self) -> None:
        for _ in range(self._number("NUMFRAMESPERTRIGGER")):
            with self._lock:
                if self.values["DETECTORSTATUS"] != "1":
                    return
                self._sent += 1
                number = self._sent
                last = number == self._number("NUMFRAMESTOACQUIRE")
            try:
                for part in self.tamper(number, self.block(number)):
                    self.send(part)
            except ConnectionAbortedError:
                self.cut_off()
                return
            if last:
                with self._lock:
                    self.values["DETECTORSTATUS"] = "0"

    def send(self, data: bytes) -> None:
        """Write to the data connection, to nobody where there is none."""
        self._connected.wait(10)  # a busy machine accepts late, and what is sent to nobody is lost
        if self._data is not None:
            with suppress(OSError):
                self._data.sendall(data)

    def cut_off(self) -> None:
        """Close the data connection."""
        if self._data is not None:
            self._data.shutdown(socket.SHUT_RDWR)
