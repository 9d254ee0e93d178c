"""Stream v2 byte by byte: messages spelled out by hand, and those of the emulated detector by the maker's own rules."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from devices.simplon.messages import End, Image, PackedFrame, array_of, decode, encode
from tests.devices.dectris_rules import Refused, Tag, array, message
from tests.devices.emulator_world import SHAPE, client_of, pixels_of, sent_pixels
from tests.devices.simplon_content import image_content
from tests.packing import bitshuffle

ID = "01HBV3JPF9T4ZDPADX6EMK6XMZ"
FRAMING = bytes.fromhex("0000000000000010 00002000")
"""Of HDF5's bitshuffle filter: 16 bytes unpacked, in blocks of 8192 bytes."""
ONES = FRAMING + bytes.fromhex("0000000b 25 ff00 0100 50 0000000000")
"""Eight ones of 16 bit: the lowest bits of all are the byte ff, 15 zeros follow. As LZ4, in 11 bytes: two literals,
nine bytes that repeat the one before, five literals."""
SERIES = (
    bytes.fromhex("69")
    + b"series_id"
    + bytes.fromhex("193cfe")  # 15614
    + bytes.fromhex("70")
    + b"series_unique_id"
    + bytes.fromhex("781a")
    + ID.encode()
)
IMAGE = (
    bytes.fromhex("d9d9f7 a9")  # self-described; a map of 9
    + bytes.fromhex("64")
    + b"type"
    + bytes.fromhex("65")
    + b"image"
    + SERIES
    + bytes.fromhex("68")
    + b"image_id"
    + bytes.fromhex("19012c")  # 300
    + bytes.fromhex("69")
    + b"real_time"
    + bytes.fromhex("82 1a00bebc20 1a02faf080")  # [12500000, 50000000]
    + bytes.fromhex("6b")
    + b"series_date"
    + bytes.fromhex("c0 74")  # tag 0: a date as text
    + b"2026-11-27T00:00:00Z"
    + bytes.fromhex("6a")
    + b"start_time"
    + bytes.fromhex("82 1a017d7840 1a02faf080")  # [25000000, 50000000]
    + bytes.fromhex("69")
    + b"stop_time"
    + bytes.fromhex("82 1a023c3460 1a02faf080")  # [37500000, 50000000]
    + bytes.fromhex("64")
    + b"data"
    + bytes.fromhex("a1 6b")
    + b"threshold_1"
    + bytes.fromhex("d828 82 82 02 04")  # tag 40: [[2, 4],
    + bytes.fromhex("d845")  # tag 69: u16, little-endian
    + bytes.fromhex("d9dcb4 83")  # tag 56500: [
    + bytes.fromhex("65")
    + b"bslz4"
    + bytes.fromhex("02")  # bytes an element
    + bytes.fromhex("581b")  # 27 bytes
    + ONES
)
MESSAGE = Image(15614, ID, 300, {"threshold_1": PackedFrame((2, 4), np.dtype("<u2"), "bslz4", ONES)}, 0.5, 0.75)
END = bytes.fromhex("d9d9f7 a3 64") + b"type" + bytes.fromhex("63") + b"end" + SERIES


def test_an_image_is_these_bytes_and_these_bytes_are_that_image() -> None:
    assert encode(image_content(MESSAGE, "2026-11-27T00:00:00Z")) == IMAGE
    assert decode(IMAGE) == MESSAGE
    pixels = np.empty((1, 2, 4), np.uint16)
    bitshuffle().unpack([ONES], pixels)
    np.testing.assert_array_equal(pixels, 1)
    assert bitshuffle().pack(pixels)[0][:12] == FRAMING


def test_an_end_is_these_bytes() -> None:
    assert encode({"type": "end", "series_id": 15614, "series_unique_id": ID}) == END
    assert decode(END) == End(15614, ID)


@pytest.mark.parametrize(
    ("dtype", "spelled"),
    [
        ("<u1", "d828 82 82 01 02 d840 42 01 ff"),
        ("<u2", "d828 82 82 01 02 d845 44 0100 ff00"),
        ("<u4", "d828 82 82 01 02 d846 48 01000000 ff000000"),
        ("<f4", "d828 82 82 01 02 d855 48 0000803f 00007f43"),
    ],
)
def test_arrays_that_are_not_packed_are_these_bytes(dtype: str, spelled: str) -> None:
    written = encode({"type": "start", "a": array_of(np.array([[1, 255]], dtype))})
    assert written == bytes.fromhex("d9d9f7 a2 64") + b"type" + b"\x65start" + b"\x61a" + bytes.fromhex(spelled)


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda raw: raw[3:],
        lambda raw: raw.replace(b"\x64type\x65image", b"").replace(b"\xf7\xa9", b"\xf7\xa8"),
        lambda raw: raw.replace(b"\xc0\x74", b"\x74"),
        lambda raw: raw.replace(b"\xd9\xdc\xb4", b"\xd9\xdc\xb5"),
        lambda raw: raw.replace(b"\x02\x58\x1b", b"\x04\x58\x1b"),
        lambda raw: raw.replace(b"\xd8\x45", b"\xd8\x46"),
        lambda raw: raw.replace(b"\x82\x02\x04", b"\x82\x02\x05"),
        lambda raw: raw + b"\x00",
    ],
)
def test_the_makers_rules_refuse_what_is_not_so(spoiled: Callable[[bytes], bytes]) -> None:
    assert message(IMAGE)["data"]["threshold_1"] == Tag(40, [[2, 4], Tag(69, Tag(56500, ["bslz4", 2, ONES]))])
    assert spoiled(IMAGE) != IMAGE
    with pytest.raises(Refused):
        message(spoiled(IMAGE))


@pytest.mark.parametrize(
    ("config", "tag", "element_bytes"),
    [({}, 69, 2), ({"roi_bit_depth": 8}, 64, 1), ({"count_time": 1, "compression": "none"}, 70, 4)],
)
def test_what_the_emulator_sends_keeps_the_makers_rules(config: dict[str, Any], tag: int, element_bytes: int) -> None:
    with client_of() as client:
        # Whole numbers in JSON, where reals are meant.
        client.ready(nimages=2, beam_center_x=12, incident_energy=200000, omega_increment=1, **config)
        client.put("header_detail", "all", "stream")
        client.put("header_appendix", "run-7", "stream")
        client.command("arm")
        client.command("trigger")
        raw = [client.parts() for _ in range(4)]
        wavelength_a = client.get("wavelength")["value"]
    assert [len(parts) for parts in raw] == [1, 1, 1, 1]
    start, *images, end = (message(parts[0]) for parts in raw)
    assert list(end) == ["type", "series_id", "series_unique_id"]
    assert (start["type"], start["user_data"], end["type"]) == ("start", "run-7", "end")
    # The maker states angstroms; 200 keV has 0.0251.
    assert start["incident_wavelength"] == wavelength_a == pytest.approx(0.0251, abs=1e-4)
    assert array(start["pixel_mask"]["threshold_1"]) == (list(SHAPE), 70, bytes(4 * SHAPE[0] * SHAPE[1]))
    assert array(start["flatfield"]["threshold_1"])[:2] == (list(SHAPE), 85)
    for number, image in enumerate(images):
        sides, kind, data = array(image["data"]["threshold_1"])
        assert (image["image_id"], sides, kind) == (number, list(SHAPE), tag)
        packed = "compression" not in config
        assert not packed or data[:2] == ["bslz4", element_bytes]
        frame = PackedFrame(SHAPE, np.dtype(f"<u{element_bytes}"), "bslz4" * packed, data[2] if packed else data)
        np.testing.assert_array_equal(pixels_of(frame), sent_pixels(number))


def test_a_date_that_cannot_be_read_costs_no_frame() -> None:
    assert decode(IMAGE.replace(b"2026-11-27T00:00:00Z", b"in a while, or later")) == MESSAGE
