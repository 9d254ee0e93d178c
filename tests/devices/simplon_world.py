"""A scripted SIMPLON control unit without a wire, and a stream that sends what a test tells it to."""

import base64
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Thread
from typing import Any, Self

import httpx
import numpy as np
import zmq

from devices.acquire import AcquisitionJob, AcquisitionResult, acquire
from devices.protocols import ExposureRequest
from devices.simplon.driver import SimplonDetector
from devices.simplon.messages import Image, PackedFrame, encode
from devices.simplon.rest import Simplon
from devices.simplon.stream import SimplonStream
from stem4d.accumulate import AccumulatorSpec
from stem4d.detector import DetectorFacts
from storage.spec import FileSpec
from tests.devices.simplon_content import image_content
from tests.packing import bitshuffle

SHAPE = (4, 6)
TOKEN = "our-token"
FACTS = DetectorFacts(
    name="arina",
    shape=SHAPE,
    pixel_pitch_um=100.0,
    bit_depths=(8, 16, 32),
    max_frame_rate_hz=2e4,
    max_count_rate_per_px_hz=1e7,
    dead_time_us=0.1,
)
REQUEST = ExposureRequest(detector="arina", shape=SHAPE, bit_depth=16, exposure_time_us=100.0, frames=12)

Answer = Callable[[httpx.Request], httpx.Response]


class Clock:
    """Stands still until somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


class FakeUnit:
    """Keeps values and a state; ``script`` holds answers that come first, by the end of the path."""

    def __init__(self) -> None:
        self.state = "idle"
        self.calls: list[str] = []
        self.script: dict[str, list[Answer | Exception]] = {}
        self.values: dict[str, dict[str, Any]] = {
            "detector": {
                "roi_mode": "disabled",
                "roi_bit_depth": 8,
                "nimages": 500,
                "ntrigger": 7,
                "trigger_mode": "exte",
                "auto_summation": True,
                "compression": "lz4",
                "count_time": 1.0,
                "frame_time": 1.1,
                "bit_depth_image": 16,
                "x_pixels_in_detector": SHAPE[1],
                "y_pixels_in_detector": SHAPE[0],
                "description": "Arina",
                "threshold/1/energy": 40000.0,
                "threshold/1/mode": "enabled",
                "pixel_mask": {
                    "shape": [6, 4],
                    "type": "uint32",
                    "filters": ["base64"],
                    "data": base64.b64encode(bytes([0] * 4 + [1] + [0] * 91)).decode(),
                },
            },
            "stream": {"format": "legacy", "header_detail": "basic", "header_appendix": "", "mode": "disabled"},
        }
        self.limits: dict[str, dict[str, Any]] = {
            "count_time": {"min": 1e-6, "max": 1800.0, "unit": "s"},
            "trigger_mode": {"allowed_values": ["ints", "inte", "exts", "exte"]},
            "description": {"access_mode": "r"},
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        _, module, _, _, *rest = path.split("/")
        self.calls.append(f"{request.method} {module} {'/'.join(rest)}".strip())
        for ending, answers in self.script.items():
            if path.endswith(ending) and answers:
                answer = answers.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer(request)
        if rest in ([], [""]):
            return httpx.Response(200, json={"value": "1.8.0", "value_type": "string"})
        return self._answer(request, module, rest[0], "/".join(rest[1:]))

    def _answer(self, request: httpx.Request, module: str, task: str, key: str) -> httpx.Response:
        if task == "command" and key == "abort" and self.state in ("na", "error"):
            return httpx.Response(400, text=f"abort is not possible in state {self.state}")
        if task == "command":
            self.state = {"arm": "ready", "trigger": "acquire", "restart": "na", "cancel": self.state}.get(key, "idle")
            return httpx.Response(200, json={"sequence id": 3} if key in ("arm", "disarm") else {})
        if key.endswith("flatfield"):
            return httpx.Response(200, text="0" * 2**21)
        values = {"state": self.state} if task == "status" else self.values[module]
        if key == "keys":
            return httpx.Response(200, json=sorted(values))
        if key not in values:
            return httpx.Response(404, text=f'error during request: path error: unknown path: "{key}"')
        if request.method == "GET":
            return httpx.Response(200, json={"value": values[key], **self.limits.get(key, {})})
        values[key] = json.loads(request.content)["value"]
        if key == "roi_mode":
            merged = 2 if values[key] == "merge2x2" else 1
            values |= {"x_pixels_in_detector": SHAPE[1] // merged, "y_pixels_in_detector": SHAPE[0] // merged}
            return httpx.Response(200, json=["roi_mode", "flatfield", "threshold/1/flatfield"])
        if key == "count_time":
            values["frame_time"] = values[key] + 1e-6
            return httpx.Response(200, json=["count_time", "frame_time", "difference_mode"])
        return httpx.Response(200, json=[key])


def status(code: int, text: str = "") -> Answer:
    """An answer with a status."""
    return lambda _request: httpx.Response(code, text=text)


def valued(value: object) -> Answer:
    """An answer with a value, or a list of names as it is."""
    return lambda _request: httpx.Response(200, json=value if isinstance(value, list) else {"value": value})


def rest_of(unit: FakeUnit, clock: Clock | None = None) -> Simplon:
    """A client of a fake unit, which waits on a clock of its own."""
    clock = clock or Clock()
    transport = httpx.MockTransport(unit)
    return Simplon("dcu", transport=transport, sleep=clock.sleep, jitter=lambda: 0.5, monotonic=clock)


def detector_of(unit: FakeUnit, clock: Clock | None = None, **changes: Any) -> SimplonDetector:
    """A detector of a fake unit."""
    clock = clock or Clock()
    return SimplonDetector(rest_of(unit, clock), FACTS, monotonic=clock, sleep=clock.sleep, **changes)


class Sender:
    """The detector's end of a stream: a PUSH socket on a port of its own."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.sndtimeo = 10_000
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def send(self, *messages: bytes) -> None:
        """Send each as it is."""
        for message in messages:
            self._socket.send(message)

    def spec(self, frames: int = 12, **changes: Any) -> SimplonStream:
        """How to receive what is sent."""
        settings: dict[str, Any] = {"first_frame_timeout_s": 30.0, "gap_timeout_s": 30.0, **changes}
        return SimplonStream("127.0.0.1", self.port, frames, SHAPE, "uint16", TOKEN, **settings)


def frame_of(number: int) -> np.ndarray:
    """(det_y, det_x) counts that belong to a number."""
    return np.arange(number, number + 24, dtype=np.uint16).reshape(SHAPE)


def chunk_of(number: int) -> bytes:
    """The same, packed."""
    return bitshuffle().pack(frame_of(number)[None])[0]


def image(
    number: int, series: str = "OURS", algorithm: str = "bslz4", channel: str = "threshold_1", series_id: int = 1
) -> bytes:
    """An image message."""
    payload = {"bslz4": chunk_of, "": lambda n: frame_of(n).tobytes()}.get(algorithm, lambda _n: b"xyz")(number)
    frame = PackedFrame(SHAPE, np.dtype("<u2"), algorithm, payload)
    return encode(image_content(Image(series_id, series, number, {channel: frame}, 0.0, 1e-4), "2026-11-27T00:00:00Z"))


def images(numbers: Iterable[int], series: str = "OURS") -> list[bytes]:
    """Image messages."""
    return [image(number, series) for number in numbers]


def start(series: str = "OURS", token: str = TOKEN, **changes: Any) -> bytes:
    """A start message."""
    facts = {
        "type": "start",
        "series_id": 1,
        "series_unique_id": series,
        "number_of_images": 12,
        "image_size_x": SHAPE[1],
        "image_size_y": SHAPE[0],
        "image_dtype": "uint16",
        "channels": ["threshold_1"],
        "user_data": token,
    }
    return encode(facts | changes)


def end(series: str = "OURS") -> bytes:
    """An end message."""
    return encode({"type": "end", "series_id": 1, "series_unique_id": series})


def scanned(
    detector: SimplonDetector,
    request: ExposureRequest,
    scan_shape: tuple[int, int],
    path: Path,
    pulse: Callable[[], None] | None = None,
) -> AcquisitionResult:
    """Configure, listen, arm, trigger by command or pulses, and take the frames of a whole scan into a file."""
    resolved = detector.prepare(request)
    source = detector.source()
    file = FileSpec(
        path=path,
        scan_shape=scan_shape,
        detector_shape=resolved.shape,
        dtype=source.dtype,
        scan_step_nm=None,
        mrad_per_pixel=None,
        full_scale=2**request.bit_depth - 1,
        reserve_bytes=0,
    )
    accumulator = AccumulatorSpec(
        detector_shape=resolved.shape, dtype=source.dtype, detectors=(), full_scale=file.full_scale
    )
    triggering = Thread(target=pulse or detector.trigger)

    def on_listening() -> None:
        detector.arm()
        triggering.start()

    result = acquire(AcquisitionJob(source, file, accumulator), on_listening, lambda _progress: None)
    triggering.join()
    return result
