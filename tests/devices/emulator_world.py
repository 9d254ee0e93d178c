"""Clients of an emulated detector: REST by httpx, frames by a PULL socket, unpacked and put beside the truth."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import zmq

from devices.protocols import ExposureRequest
from devices.simplon.emulator import Emulator, start_emulator
from devices.simplon.emulator.frames import SyntheticFrames
from devices.simplon.emulator.truth import SeriesTruth
from devices.simplon.messages import End, Image, Message, PackedFrame, decode
from stem4d.detector import DetectorFacts
from tests.packing import bitshuffle

SHAPE = (24, 32)
SOURCE = SyntheticFrames(SHAPE, seed=7, distinct=5)
SMALL = DetectorFacts(
    name="small",
    shape=(64, 48),
    pixel_pitch_um=75.0,
    bit_depths=(8, 16, 32),
    max_frame_rate_hz=4500.0,
    max_count_rate_per_px_hz=1e7,
)
"""A detector that the emulator stands for, as the driver is told of it."""
EXPOSURE = ExposureRequest(detector="small", shape=SMALL.shape, bit_depth=16, exposure_time_us=500.0, frames=300)
WITHIN_S = 20.0
"""What a busy machine may need for anything that ends by itself at once."""


class Client:
    """One that sees everything."""

    def __init__(self, emulator: Emulator, port: int) -> None:
        self.emulator = emulator
        self.http = httpx.Client(base_url=emulator.base, timeout=WITHIN_S)
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.PULL)
        self.socket.setsockopt(zmq.LINGER, 0)
        self._address = f"tcp://127.0.0.1:{port}"

    def connect(self) -> None:
        """To the stream; what was sent before went to nobody."""
        self.socket.connect(self._address)

    def close(self) -> None:
        self.http.close()
        self.socket.close()
        self._context.term()

    def path(self, module: str, task: str, key: str = "") -> str:
        return f"/{module}/api/1.8.0/{task}" + (f"/{key}" if key else "")

    def get(self, key: str, module: str = "detector", task: str = "config") -> Any:
        return self.http.get(self.path(module, task, key)).raise_for_status().json()

    def put(self, key: str, value: Any, module: str = "detector") -> list[str]:
        answer = self.http.put(self.path(module, "config", key), json={"value": value}).raise_for_status().json()
        assert isinstance(answer, list)
        return answer

    def command(self, name: str, module: str = "detector") -> Any:
        return self.http.put(self.path(module, "command", name), content="").raise_for_status().json()

    def state(self) -> str:
        return str(self.get("state", task="status")["value"])

    def ready(self, format: str = "cbor", **config: Any) -> None:
        """Initialised and streaming."""
        self.command("initialize")
        self.put("mode", "enabled", "stream")
        self.put("format", format, "stream")
        for key, value in config.items():
            self.put(key, value)

    def parts(self, within_s: float = WITHIN_S) -> list[bytes]:
        assert self.socket.poll(within_s * 1000), "no message came"
        return self.socket.recv_multipart()

    def message(self) -> Message:
        (one,) = self.parts()
        return decode(one)

    def until_end(self) -> list[Message]:
        got = [self.message()]
        while not isinstance(got[-1], End):
            got.append(self.message())
        return got

    def finished(self) -> SeriesTruth:
        """The truth of the newest series, once nothing more comes of it."""
        wait_for(lambda: self.emulator.truth.series()[-1:] and self.emulator.truth.series()[-1].finished)
        return self.emulator.truth.series()[-1]

    def everything(self) -> list[Message]:
        """What the newest series has sent, end or not."""
        truth = self.finished()
        return [self.message() for _ in range(truth.starts + len(truth.order) + truth.strays + truth.ends)]


@contextmanager
def client_of(format: str = "cbor", *, connected: bool = True, **settings: Any) -> Iterator[Client]:
    settings = {"source": SOURCE, "rate_hz": math.inf, **settings}
    with start_emulator(**settings) as emulator:
        client = Client(emulator, emulator.stream_port if format == "cbor" else emulator.legacy_port)
        try:
            if connected:
                client.connect()
            yield client
        finally:
            client.close()


def wait_for(holds: Callable[[], Any], within_s: float = WITHIN_S) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def frame_of(image: Message) -> PackedFrame:
    assert isinstance(image, Image)
    return image.channels["threshold_1"]


def pixels_of(frame: PackedFrame) -> npt.NDArray[Any]:
    if not frame.algorithm:
        return np.frombuffer(frame.payload, frame.dtype).reshape(frame.shape)
    codec = bitshuffle()
    pixels = np.empty((1, *frame.shape), frame.dtype)
    codec.unpack([frame.payload], pixels)
    return pixels[0]


def sent_pixels(
    number: int, roi_mode: str = "disabled", roi_y_size: int = SHAPE[0], **_others: object
) -> npt.NDArray[Any]:
    """What a frame of the source looks like; no pixel of it, nor four together, reaches 255."""
    counts = SOURCE.counts(number % SOURCE.distinct)
    if roi_mode == "merge2x2":
        return counts[::2, ::2] + counts[1::2, ::2] + counts[::2, 1::2] + counts[1::2, 1::2]
    above = (SHAPE[0] - roi_y_size) // 2
    return counts[above : SHAPE[0] - above]


def documents(parts: list[bytes]) -> list[Any]:
    """Parts as JSON where they are."""
    return [json.loads(part) if part.startswith(b"{") else part for part in parts]
