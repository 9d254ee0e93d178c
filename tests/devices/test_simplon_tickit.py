"""The driver at somebody else's detector: scans from the EIGER server of tickit-devices, over sockets."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import cbor2
import pytest

from devices.protocols import ExposureRequest
from devices.simplon.driver import SimplonDetector
from stem4d.detector import DetectorFacts
from stem4d.errors import DeviceFault
from storage.read import open_frames
from tests.devices.dectris_rules import message
from tests.devices.emulator_world import wait_for
from tests.devices.simplon_world import scanned
from tests.devices.tickit_world import PINS, Eiger, Relay, eiger, relayed, rest_of
from tests.peer_environments import python_of

SHAPE = (4362, 4148)
SCAN = (3, 4)
FRAMES = 12
IMAGE = b"\xd9\xd9\xf7\xa9dtypeeimage"
FACTS = DetectorFacts(
    name="eiger",
    shape=SHAPE,
    pixel_pitch_um=75.0,
    bit_depths=(16, 32),
    max_frame_rate_hz=133.0,
    max_count_rate_per_px_hz=1e7,
)
REQUEST = ExposureRequest(detector="eiger", shape=SHAPE, bit_depth=16, exposure_time_us=20_000.0, frames=FRAMES)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextmanager
def detector_at(server: Eiger, relay: Relay, **settings: Any) -> Iterator[SimplonDetector]:
    """The driver of an initialised detector."""
    with rest_of(server) as rest:
        rest.command("initialize")
        detector = SimplonDetector(rest, FACTS, "software", relay.port, **settings)
        yield detector
        detector.ensure_stopped()
        assert detector.state() == "idle"


def read_by_dectris(raw: list[bytes], folder: Path) -> list[dict[str, Any]]:
    """What recorded messages hold, by the detector maker's own decompression."""
    folder.mkdir()
    for number, each in enumerate(raw):
        (folder / f"{number:06}.cbor").write_bytes(each)
    script = PINS.with_name("read_stream_v2.py")
    done = subprocess.run([python_of(PINS), script, folder], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_full_scan_is_what_the_server_sends(tmp_path: Path) -> None:
    with eiger(tmp_path) as server, relayed(server) as relay, detector_at(server, relay) as detector:
        result = scanned(detector, REQUEST, SCAN, tmp_path / "pass1.h5")
        wait_for(lambda: len(relay.sent) == FRAMES + 2)
        assert relay.kinds() == ["start", *["image"] * FRAMES, "end"]
        known = {reading.name: reading.value for reading in detector.snapshot()}
        sent = list(relay.sent)
    assert (result.frames.ok, result.frames.strays) == (FRAMES, 0)
    assert (result.stopped, result.receipt.path) == ("", tmp_path / "pass1.h5")
    assert (known["count_time"], known["frame_time"]) == pytest.approx((0.02, 0.03))
    images = [told for told in read_by_dectris(sent, tmp_path / "sent") if told["type"] == "image"]
    assert [told["image_id"] for told in images] == list(range(FRAMES))
    assert result.total_counts == sum(told["sum"] for told in images)
    with open_frames(result.receipt.path) as frames:
        recorded = [frame for _first, batch in frames.batches() for frame in batch]
    assert [(list(frame.shape), int(frame.sum(dtype="u8"))) for frame in recorded] == [
        (told["shape"], told["sum"]) for told in images
    ]
    assert [hashlib.sha256(frame).hexdigest() for frame in recorded] == [told["sha256"] for told in images]


def test_what_a_stopped_scan_left_is_not_taken_for_the_next_ones(tmp_path: Path) -> None:
    with eiger(tmp_path) as server, relayed(server) as relay, detector_at(server, relay) as detector:
        detector.prepare(REQUEST.model_copy(update={"frames": 100}))
        triggering = Thread(target=detector.trigger)
        with detector.source().open() as frames:
            detector.arm()
            triggering.start()
            assert next(batch for batch in frames.batches() if batch.indices).indices[0] == 0
        # Nobody listens any more, and it sends on.
        came = len(relay.sent)
        wait_for(lambda: len(relay.sent) > came)
        detector.ensure_stopped()
        assert detector.state() == "idle"
        # It answers no trigger that it was stopped in: the driver's own time for an answer ends that.
        triggering.join()
        result = scanned(detector, REQUEST, SCAN, tmp_path / "pass2.h5")
        images = [message(raw) for raw in relay.sent if raw.startswith(IMAGE)]
    assert (result.frames.ok, result.frames.duplicate) == (FRAMES, 0)
    # An image that nobody listened for, and the end that the stop made.
    assert result.frames.strays >= 2
    # Its series all have one name; their numbers tell them apart.
    assert len({image["series_unique_id"] for image in images}) == 1
    assert {image["series_id"] for image in images} == {1, 2}


def test_where_it_is_no_detector_the_driver_says_so(tmp_path: Path) -> None:
    with eiger(tmp_path) as server, server.client() as client:
        with (
            rest_of(server, versioned=False) as rest,
            pytest.raises(DeviceFault, match=r"GET /detector/api/version/ .*answered 404"),
        ):
            rest.command("initialize")
        with rest_of(server) as rest, pytest.raises(DeviceFault, match=r"/stream/api/1.8.0/command/initialize .* 404"):
            SimplonDetector(rest, FACTS).recover()
        with (
            relayed(server, appendix=False) as relay,
            detector_at(server, relay, first_frame_timeout_s=3.0) as detector,
        ):
            detector.prepare(REQUEST)
            with detector.source().open() as frames:
                detector.arm()
                with pytest.raises(DeviceFault, match=r"announced no series of ours within .* s \(\d+ other messages"):
                    list(frames.batches())
            detector.ensure_stopped()
            # What is not from the documents, and is not leant on: docs/simplon.md lists it.
            # An end for the abort of the recovery; another where the series was stopped.
            wait_for(lambda: relay.kinds()[:3] == ["end", "start", "end"])
            start = cbor2.loads(relay.sent[1])
            assert not {"user_data", "image_dtype"} & start.keys()
            assert start["detector_description"] == "Dectris EIGER2 Si 16M"
            assert start["count_time"] != REQUEST.exposure_time_us * 1e-6
            assert isinstance(start["flatfield"]["threshold_1"], bytes)
        config = "/detector/api/1.8.0/config"
        assert not {"min", "max", "unit"} & client.get(f"{config}/nimages").json().keys()
        assert client.put(f"{config}/nimages", json={"value": -5}).is_success
        assert client.get(f"{config}/nimages").json()["value"] == -5
        assert client.put(config, json={"nimages": {"value": 1}}).status_code == 404
