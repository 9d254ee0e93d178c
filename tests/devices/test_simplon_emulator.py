"""The emulated detector as a client meets it: a series over both streams is what was asked for and what was sent."""

import hashlib
import math
import time
from threading import Thread
from typing import Any

import numpy as np
import pytest

from devices.simplon.emulator import start_emulator
from devices.simplon.messages import End, Image, PackedFrame, Start
from stem4d.errors import BadInput
from tests.devices.emulator_world import (
    SHAPE,
    SOURCE,
    client_of,
    documents,
    frame_of,
    pixels_of,
    sent_pixels,
    wait_for,
)


def test_a_series_over_stream_v2_is_what_was_sent() -> None:
    with client_of() as client:
        client.ready(ntrigger=3, nimages=4, roi_bit_depth=16)
        client.put("header_appendix", "run-7", "stream")
        client.put("image_appendix", "row 1", "stream")
        assert client.command("arm") == {"sequence id": 1}
        assert client.state() == "ready"
        start = client.message()
        assert isinstance(start, Start)
        assert (start.series_id, start.number_of_images, start.shape, start.user_data) == (1, 12, SHAPE, "run-7")
        assert start.facts["image_dtype"] == "uint16"
        # A trigger in ints answers once its images are exposed.
        for trigger in range(3):
            assert client.command("trigger") == {}
            assert client.state() == ("idle" if trigger == 2 else "ready")
        *images, end = client.until_end()
        assert end == End(1, start.series_unique_id)
        truth = client.finished()
        assert (truth.starts, truth.ends, truth.dropped, truth.order) == (1, 1, 0, list(range(12)))
        for number, image in enumerate(images):
            assert isinstance(image, Image)
            assert image.image_id == number
            assert image.series_unique_id == start.series_unique_id == truth.unique_id
            pixels = pixels_of(frame_of(image))
            np.testing.assert_array_equal(pixels, sent_pixels(number))
            assert int(pixels.sum()) == int(SOURCE.counts(number % SOURCE.distinct).sum()) == truth.frames[number].total
            # Times are ticks of 20 ns.
            assert image.start_time_s == pytest.approx(number * client.get("frame_time")["value"], abs=20e-9)


def test_a_series_over_the_legacy_stream_is_what_was_sent() -> None:
    with client_of("legacy") as client:
        client.ready("legacy", nimages=3)
        client.put("header_appendix", "run-8", "stream")
        number = client.command("arm")["sequence id"]
        header, config, appendix = client.parts()
        assert documents([header]) == [{"htype": "dheader-1.0", "series": number, "header_detail": "basic"}]
        assert appendix == b"run-8"
        (facts,) = documents([config])
        # What LiberTEM-live reads of it.
        assert {name: facts[name] for name in ("ntrigger", "nimages", "trigger_mode", "bit_depth_image")} == {
            "ntrigger": 1,
            "nimages": 3,
            "trigger_mode": "ints",
            "bit_depth_image": 16,
        }
        assert (facts["y_pixels_in_detector"], facts["x_pixels_in_detector"]) == SHAPE
        client.command("trigger")
        for frame in range(3):
            image, described, blob, times = documents(client.parts())
            assert (image["htype"], image["series"], image["frame"]) == ("dimage-1.0", number, frame)
            assert image["hash"] == hashlib.md5(blob, usedforsecurity=False).hexdigest()
            assert described == {
                "htype": "dimage_d-1.0",
                "shape": [SHAPE[1], SHAPE[0]],
                "type": "uint16",
                "encoding": "bs16-lz4<",
                "size": len(blob),
            }
            assert times["stop_time"] - times["start_time"] == times["real_time"] == 1_000_000
            expected = sent_pixels(frame)
            packed = client.emulator.truth.series()[-1].frames[frame]
            pixels = pixels_of(PackedFrame(SHAPE, np.dtype("<u2"), "bslz4", blob))
            np.testing.assert_array_equal(pixels, expected)
            assert packed.total == int(expected.sum())
        assert documents(client.parts()) == [{"htype": "dseries_end-1.0", "series": number}]


@pytest.mark.parametrize(
    ("detail", "parts"), [("none", ["dheader-1.0"]), ("all", ["dheader-1.0", "dflatfield-1.0", "dpixelmask-1.0"])]
)
def test_the_legacy_header_has_as_much_detail_as_asked_for(detail: str, parts: list[str]) -> None:
    with client_of("legacy") as client:
        client.ready("legacy")
        client.put("header_detail", detail, "stream")
        client.command("arm")
        told = [each.get("htype") for each in documents(client.parts()) if isinstance(each, dict)]
        assert [htype for htype in told if htype] == parts


def test_all_detail_of_stream_v2_is_masks_and_flat_fields() -> None:
    with client_of() as client:
        client.ready()
        client.put("header_detail", "all", "stream")
        client.command("arm")
        start = client.message()
        assert isinstance(start, Start)
        np.testing.assert_array_equal(start.facts["pixel_mask"]["threshold_1"], np.zeros(SHAPE))
        np.testing.assert_array_equal(start.facts["flatfield"]["threshold_1"], np.ones(SHAPE))


@pytest.mark.parametrize(
    ("config", "shape", "dtype"),
    [
        ({"roi_mode": "lines", "roi_y_size": 8}, (8, 32), "<u2"),
        ({"roi_mode": "merge2x2"}, (12, 16), "<u2"),
        ({"roi_bit_depth": 8}, SHAPE, "|u1"),
        # Longer than a counter of 16 bit lasts: sub-frames are summed.
        ({"count_time": 0.1}, SHAPE, "<u4"),
        ({"compression": "none"}, SHAPE, "<u2"),
    ],
)
def test_regions_depths_and_compressions(config: dict[str, Any], shape: tuple[int, int], dtype: str) -> None:
    with client_of() as client:
        client.ready(**config)
        client.command("arm")
        client.command("trigger")
        start, image, _ = client.until_end()
        assert isinstance(start, Start)
        assert start.shape == shape
        frame = frame_of(image)
        assert (frame.shape, frame.dtype.str, frame.algorithm) == (
            shape,
            dtype,
            "" if config.get("compression") else "bslz4",
        )
        np.testing.assert_array_equal(pixels_of(frame), sent_pixels(0, **config))


def test_external_pulses_come_by_themselves_or_when_asked_for() -> None:
    with client_of() as client:
        client.ready(trigger_mode="exts", nimages=2, ntrigger=3)
        client.command("arm")
        assert len(client.until_end()) == 8
    with client_of(pulses="asked") as client:
        client.ready(trigger_mode="exte", ntrigger=5)
        client.command("arm")
        client.message()
        assert client.state() == "ready"
        refused = client.http.put(client.path("detector", "command", "trigger"), content="")
        assert refused.status_code == 400
        assert "takes electrical pulses only" in refused.text
        client.http.put("/emulator/pulse", json={"pulses": 3}).raise_for_status()
        images = [client.message() for _ in range(3)]
        assert [image.image_id for image in images if isinstance(image, Image)] == [0, 1, 2]
        wait_for(lambda: client.state() == "ready")
        # Fewer pulses than armed for: it waits for ever, until it is disarmed.
        assert client.command("disarm") == {"sequence id": 1}
        assert isinstance(client.message(), End)
        assert client.state() == "idle"


@pytest.mark.parametrize("command", ["disarm", "abort", "cancel"])
def test_a_series_that_goes_on_for_ever_is_ended_by_a_command(command: str) -> None:
    with client_of(rate_hz=100.0) as client:
        client.ready(nimages=10**6)
        client.command("arm")
        blocked = Thread(target=lambda: client.http.put(client.path("detector", "command", "trigger"), content=""))
        blocked.start()
        client.message()
        client.message()
        assert client.state() == "acquire"
        assert client.command(command) == {"sequence id": 1}
        blocked.join(20)
        assert not blocked.is_alive()
        wait_for(lambda: client.state() == "idle")
        images = client.until_end()
        truth = client.finished()
        assert truth.ends == 1
        # 10^6 frames at 100 Hz last for hours: it cannot have come to its end.
        assert len(images) == len(truth.order) < 10_000
        assert client.command("arm") == {"sequence id": 2}


def test_frames_keep_their_rate() -> None:
    with client_of(rate_hz=200.0) as client:
        client.ready(nimages=40)
        client.command("arm")
        began_s = time.monotonic()
        client.command("trigger")
        # 39 gaps of 5 ms; nothing can make it quicker, and a busy machine only slower.
        assert time.monotonic() - began_s >= 0.195


def test_the_first_frames_of_every_trigger_keep_it_too() -> None:
    with client_of(rate_hz=20.0) as client:
        client.ready(nimages=2, ntrigger=3)
        client.command("arm")
        for _ in range(3):
            began_s = time.monotonic()
            client.command("trigger")
            # One gap of 50 ms; nothing can make it quicker.
            assert time.monotonic() - began_s >= 0.05


def test_each_arm_has_an_identity_of_its_own_and_numbers_begin_again_after_initialize() -> None:
    with client_of() as client:
        seen = []
        for _ in range(2):
            client.ready()
            for expected in (1, 2):
                assert client.command("arm") == {"sequence id": expected}
                client.command("trigger")
                start = client.until_end()[0]
                assert isinstance(start, Start)
                assert start.series_id == expected
                seen.append(start.series_unique_id)
        assert len(set(seen)) == 4
        assert {len(each) for each in seen} == {26}
        assert sorted(seen, key=lambda each: each[:10]) == seen  # the first ten letters are the time


def test_a_stream_that_is_disabled_says_nothing_and_counts_nothing_lost() -> None:
    with client_of() as client:
        client.command("initialize")
        client.put("nimages", 5)
        client.command("arm")
        client.command("trigger")
        truth = client.finished()
        assert (truth.starts, truth.ends, truth.order, sorted(truth.frames)) == (0, 0, [], [0, 1, 2, 3, 4])
        assert client.get("state", "stream", "status")["value"] == "disabled"
        assert client.get("dropped", "stream", "status")["value"] == 0


def test_what_nobody_takes_is_lost_and_counted() -> None:
    with client_of(connected=False, patience_s=0.05) as client:
        client.ready(nimages=50)
        client.command("arm")
        client.command("trigger")
        truth = client.finished()
        assert client.get("dropped", "stream", "status")["value"] == truth.dropped == 52
        assert (truth.starts, truth.order, truth.ends) == (0, [], 0)
        assert {each.damage for each in truth.frames.values()} == {("no_room",)}
        client.command("initialize", "stream")
        assert client.get("dropped", "stream", "status")["value"] == 0
        assert client.get("mode", "stream")["value"] == "disabled"


def test_an_abort_is_answered_while_a_message_waits_for_room() -> None:
    with client_of(connected=False, patience_s=3600.0) as client:
        client.ready()
        client.command("arm")
        assert client.command("abort") == {"sequence id": 1}
        assert client.state() == "idle"
        # The end message still waits for somebody.
        client.connect()
        assert isinstance(client.until_end()[-1], End)


def test_it_ends_at_once_though_a_message_waits_for_room() -> None:
    began_s = time.monotonic()
    with client_of(connected=False, patience_s=3600.0) as client:
        client.ready()
        client.command("arm")
    assert time.monotonic() - began_s < 60


def test_ports_are_as_asked_for_and_a_taken_one_is_refused() -> None:
    with start_emulator(source=SOURCE, rate_hz=math.inf) as one:
        assert len({one.rest_port, one.stream_port, one.legacy_port}) == 3
        with pytest.raises(BadInput, match="in use"), start_emulator(source=SOURCE, rest_port=one.rest_port):
            pass
        with pytest.raises(BadInput, match="in use"), start_emulator(source=SOURCE, stream_port=one.stream_port):
            pass
    with start_emulator(source=SOURCE, rest_port=one.rest_port) as again:
        assert again.rest_port == one.rest_port
