"""Stream v2's messages: what a detector's own look like byte for byte, and that nothing else is taken for one."""

import math
from contextlib import suppress

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.simplon.messages import (
    SELF_DESCRIBED,
    End,
    Image,
    NotAMessage,
    PackedFrame,
    Start,
    array_of,
    decode,
    encode,
)
from tests.devices.simplon_content import image_content
from tests.packing import bitshuffle

FRAME = np.arange(12, dtype=np.uint16).reshape(3, 4)


def packed() -> PackedFrame:
    return PackedFrame((3, 4), np.dtype("<u2"), "bslz4", bitshuffle().pack(FRAME[None])[0])


def image() -> Image:
    return Image(3, "01HXYZ", 7, {"threshold_1": packed()}, 0.5, 0.75)


def test_an_image_is_written_as_a_detector_writes_it() -> None:
    frame = packed()
    message = encode(image_content(image(), "2026-11-27T00:00:00Z"))
    # Tag 55799, a map of 9, its first key "type"; tag 40 around [shape, tag 69 around tag 56500].
    assert message.startswith(bytes.fromhex("d9d9f7 a9 64") + b"type" + bytes.fromhex("65") + b"image")
    array = bytes.fromhex("d828 82 8203 04 d845 d9dcb4 83 65") + b"bslz4" + bytes.fromhex("02")
    assert array in message
    assert message.count(frame.payload) == 1


def test_what_is_written_is_read_with_its_pixels_packed() -> None:
    assert decode(encode(image_content(image(), "2026-11-27T00:00:00Z"))) == image()


def test_pixels_that_are_not_packed_and_floats_are_read_too() -> None:
    content = image_content(image(), "") | {"data": {"threshold_1": array_of(FRAME)}}
    read = decode(encode(content))
    assert isinstance(read, Image)
    assert read.channels["threshold_1"] == PackedFrame((3, 4), np.dtype("<u2"), "", FRAME.tobytes())


def test_a_start_and_an_end() -> None:
    facts = {
        "type": "start",
        "series_id": 4,
        "series_unique_id": "01HXYZ",
        "number_of_images": 100,
        "image_size_x": 4,
        "image_size_y": 3,
        "user_data": "run-7",
        "flatfield": {"threshold_1": array_of(np.ones((3, 4), np.float32))},
    }
    read = decode(encode(facts))
    assert isinstance(read, Start)
    assert (read.series_id, read.number_of_images, read.shape, read.user_data) == (4, 100, (3, 4), "run-7")
    np.testing.assert_array_equal(read.facts["flatfield"]["threshold_1"], np.ones((3, 4)))
    assert decode(encode({"type": "end", "series_id": 4, "series_unique_id": "01HXYZ"})) == End(4, "01HXYZ")


@pytest.mark.parametrize("time", [None, [], [1], [1, 0], ["now", 1], 0.5, "noon", {"s": 1}])
def test_a_time_that_is_not_said_or_not_understood_is_not_a_number(time: object) -> None:
    content = image_content(image(), "") | {"start_time": time}
    del content["stop_time"]
    read = decode(encode(content))
    assert isinstance(read, Image)
    assert math.isnan(read.start_time_s)
    assert math.isnan(read.stop_time_s)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"type": "image"},
        {"type": "video", "series_id": 1, "series_unique_id": ""},
        {"type": "image", "series_id": 1, "series_unique_id": "", "image_id": "7", "data": {"a": array_of(FRAME)}},
        {"type": "image", "series_id": 1, "series_unique_id": "", "image_id": 7, "data": {}},
        {"type": "image", "series_id": 1, "series_unique_id": "", "image_id": 7, "data": {"a": b"pixels"}},
        {
            "type": "image",
            "series_id": 1,
            "series_unique_id": "",
            "image_id": 7,
            "data": {"a": cbor2.CBORTag(40, [[10**9, 3], cbor2.CBORTag(69, b"12")])},
        },
        {"type": "image", "series_id": 1, "series_unique_id": "", "image_id": 7, "data": [array_of(FRAME)]},
        {
            "type": "image",
            "series_id": 1,
            "series_unique_id": "",
            "image_id": 7,
            # As a length, this number would be allocated.
            "data": {"a": cbor2.CBORTag(40, [[3, 4], cbor2.CBORTag(69, cbor2.CBORTag(56500, ["bslz4", 2, 24]))])},
        },
    ],
)
def test_what_lacks_something_is_no_message(content: object) -> None:
    with pytest.raises(NotAMessage):
        decode(SELF_DESCRIBED + cbor2.dumps(content))


def test_what_does_not_begin_as_it_should_is_no_message() -> None:
    message = encode(image_content(image(), ""))
    with pytest.raises(NotAMessage, match="self-describing"):
        decode(message[3:])


@given(st.data())
def test_damaged_messages_are_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    message = bytearray(encode(image_content(image(), "2026-11-27T00:00:00Z")))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(3, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    with suppress(NotAMessage):
        decode(bytes(message[:cut]))
