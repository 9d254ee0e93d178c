"""Merlin's blocks, headers and pixels: rules of the parsers, and headers of a real detector."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.merlin.blocks import Block, Splitter
from devices.merlin.headers import NotAHeader, acquisition_number, frame_number, parse_acquisition, parse_frame
from devices.merlin.pixels import data_bytes, unpacked
from tests.devices.merlin_emulator import MerlinEmulator, packed, prefixed

LARGEST = 5000
START = [b"MQ1,", b"HDR,"]
# Bytes of the protocol come up often enough to be taken for prefixes, which random ones would never be.
NASTY = st.lists(
    st.sampled_from([b"M", b"MP", b"MPX,", b"MPX,00", b"0000000007", b",", b"MQ1", b"HDR", b"\0"]), max_size=9
)
PAYLOADS = st.lists(
    st.builds(lambda start, parts: start + b"".join(parts), st.sampled_from(START), NASTY), min_size=1, max_size=6
)


def marked(payload: bytes) -> bool:
    """Whether a payload holds a whole prefix itself: nothing could tell it from two blocks."""
    return any(b"," + start in payload for start in START)


def fed(stream: bytes, sizes: list[int]) -> list[Block]:
    """A stream in parts of some sizes, to its end."""
    splitter, blocks, at = Splitter(LARGEST), [], 0
    for size in sizes:
        blocks += splitter.feed(stream[at : at + size])
        at += size
    return [*blocks, *splitter.feed(stream[at:]), *splitter.rest()]


@given(PAYLOADS, st.lists(st.integers(1, 40), max_size=30))
def test_blocks_come_out_as_they_went_in_however_they_are_cut_up(payloads: list[bytes], sizes: list[int]) -> None:
    payloads = [payload for payload in payloads if not marked(payload)]
    blocks = fed(b"".join(map(prefixed, payloads)), sizes)
    assert blocks == [Block(payload, whole=True) for payload in payloads]


@given(st.data(), st.lists(st.integers(1, 40), max_size=30))
def test_a_block_that_is_cut_takes_no_other_with_it(data: st.DataObject, sizes: list[int]) -> None:
    payloads = [b"MQ1,%06d," % number + bytes([number]) * 60 for number in range(1, 5)]
    which, lost = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 70))
    parts = [prefixed(payload) for payload in payloads]
    parts[which] = parts[which][:-lost]
    blocks = fed(b"".join(parts), sizes)
    assert [block for block in blocks if block.whole] == [
        Block(payload, whole=True) for number, payload in enumerate(payloads) if number != which
    ]
    cut = [block for block in blocks if not block.whole]
    assert [block.payload for block in cut] == [payloads[which][:-lost]]


ACTIONS = st.one_of(
    st.sampled_from(["keep", "keep", "drop", "twice"]),
    # All of the payload's 71 bytes at most: without its prefix, it is garbage after the block before it.
    st.tuples(st.just("cut"), st.integers(1, 71)),
    st.tuples(st.just("after"), st.binary(min_size=1, max_size=40)),
)


@given(st.lists(ACTIONS, min_size=1, max_size=8), st.lists(st.integers(1, 60), max_size=40))
def test_what_passes_for_whole_was_sent_so(actions: list[Any], sizes: list[int]) -> None:
    stream, kept = b"", []
    for number, action in enumerate(actions, start=1):
        payload = b"MQ1,%06d," % number + bytes([number]) * 60
        block = prefixed(payload)
        match action:
            case "keep" | "twice":
                times = 2 if action == "twice" else 1
                stream += times * block
                kept += times * [payload]
            case ("cut", lost):
                stream += block[:-lost]
            case ("after", garbage):
                stream += block + garbage
    blocks = fed(stream, sizes)
    whole = [block.payload for block in blocks if block.whole]
    # Garbage that begins like a prefix leaves the block before it in no doubt, and that one was sent whole.
    assert [payload for payload in whole if payload in kept] == kept
    assert all(payload in stream for payload in whole)
    assert {len(payload) for payload in whole} <= {len(payload)}


@given(st.binary(min_size=1, max_size=60), st.lists(st.integers(1, 40), max_size=30))
def test_garbage_between_blocks_is_skipped_and_what_it_follows_is_doubted(garbage: bytes, sizes: list[int]) -> None:
    first, second = b"MQ1,first", b"MQ1,second"
    blocks = fed(prefixed(first) + garbage + prefixed(second), sizes)
    assert blocks[-1] == Block(second, whole=True)
    assert blocks[0].payload == first
    assert len(blocks) in (2, 3)  # garbage at a look-alike of a prefix is a block of its own


def test_a_block_too_many_bytes_long_is_not_whole() -> None:
    assert fed(prefixed(b"MQ1,one") + b"x" + prefixed(b"MQ1,two"), [])[0] == Block(b"MQ1,one", whole=False)


def test_garbage_without_end_is_not_kept() -> None:
    splitter = Splitter(LARGEST)
    blocks = [block for _ in range(40) for block in splitter.feed(bytes(100_000))]
    assert sum(len(block.payload) for block in blocks) > 2_000_000
    assert splitter.feed(prefixed(b"MQ1,after"))[-1] == Block(b"MQ1,after", whole=True)


def test_a_length_that_cannot_be_is_no_prefix() -> None:
    huge = b"MPX,9999999999,MQ1,"
    assert [block.whole for block in fed(huge + prefixed(b"MQ1,next"), [])] == [False, True]


def header(**changes: object) -> bytes:
    """A frame's header of 384 bytes."""
    there: dict[str, object] = {"number": "000007", "offset": "00384", "chips": "01", "width": "0256", "kind": "U16"}
    there |= {"height": "0128", "counter": "0", "colour": "0", "end": "MQ1A,2026-11-27T03:00:00.0Z,1000000ns,12,"}
    there |= changes
    fields = "MQ1,{number},{offset},{chips},{width},{height},{kind},   1x1,01,2026-11-27 03:00:00.0,0.001000,{counter},"
    fields += "{colour},0,4.0E+1,5.11E+2,0,0,0,0,0,0,3RX,100,100,{end}"
    return fields.format(**there).encode().ljust(384)


def test_a_header_is_read() -> None:
    there = parse_frame(header() + bytes(100))
    assert (there.number, there.data_offset, there.shape, there.pixels) == (7, 384, (128, 256), "U16")
    assert (there.exposure_s, there.counter, there.colour, there.depth) == (0.001, 0, False, 12)
    assert data_bytes(there, 12) == 2 * 128 * 256


@pytest.mark.parametrize("end", ["", "MQ1A,", "MQ1A,x,5ns,", "MQ1A,x,5ns,twelve,"])
def test_a_header_without_a_depth_has_none(end: str) -> None:
    assert parse_frame(header(end=end)).depth is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"number": "x"}, "does not begin with MQ1"),
        ({"offset": "99999"}, "begin at byte 99999 of 384"),
        ({"offset": "00000"}, "begin at byte 0"),
        ({"offset": "00030"}, "fields of 14"),
        ({"width": "0000"}, "0 x 128 pixels"),
        ({"width": "99999"}, "99999 x 128"),
        ({"chips": "none"}, "no number"),
        ({"kind": "F32"}, "kind 'F32'"),
        ({"colour": ""}, "no number"),
    ],
)
def test_a_header_that_is_wrong_says_why(changes: dict[str, object], why: str) -> None:
    with pytest.raises(NotAHeader, match=why):
        parse_frame(header(**changes))


@given(st.binary(max_size=600), st.integers(0, 383), st.integers(0, 255))
def test_whatever_comes_a_header_is_read_or_refused(noise: bytes, place: int, value: int) -> None:
    damaged = bytearray(header())
    damaged[place] = value
    for block in (noise, b"MQ1,000001,00100," + noise, bytes(damaged), bytes(damaged)[:place]):
        try:
            there = parse_frame(block)
        except NotAHeader:
            continue
        assert there.data_offset <= len(block)
        assert frame_number(block) == there.number
        size = data_bytes(there, 12)
        assert size is None or size > 0
    for block in (noise, b"HDR,\n" + noise):
        try:
            parse_acquisition(block)
        except NotAHeader:
            assert not block.startswith(b"HDR,")


def test_the_header_of_an_acquisition_is_read_up_to_its_end() -> None:
    values = parse_acquisition(MerlinEmulator().header() + b"\nFrames in Acquisition (Number):\t99\r\n")
    assert acquisition_number(values, "Frames in Acquisition") == 1
    assert values["Chip Type"] == "Medipix 3RX"
    assert values["Assembly Size"] == "1x1"
    assert acquisition_number(values, "Chip ID") is acquisition_number(values, "ScanX") is None
    with pytest.raises(NotAHeader, match="70000 bytes"):
        parse_acquisition(b"HDR,".ljust(70000))


def test_headers_of_a_real_detector_are_read(recorded_data: Path) -> None:
    there = recorded_data / "recorded_merlin_6bit" / "001_4x2_6bit.mib"
    first = parse_frame(there.read_bytes()[:65920])
    assert (first.number, first.shape, first.pixels, first.depth, first.exposure_s) == (1, (256, 256), "U08", 6, 0.1)
    assert data_bytes(first, 6) == 65920 - first.data_offset
    second = parse_frame(there.read_bytes()[65920 : 2 * 65920])
    assert (second.number, second.depth) == (2, 6)
    values = parse_acquisition(there.with_suffix(".hdr").read_bytes())
    assert acquisition_number(values, "Frames in Acquisition") == 8
    assert acquisition_number(values, "Counter Depth") == 6
    assert (values["Gap Fill Mode"], values["Software Version"]) == ("None", "0.76.1.101")


def test_the_bottom_row_comes_first_and_big_endian() -> None:
    there = parse_frame(header(width="0002", height="0002"))
    counts = unpacked(there, 12, memoryview(bytes([0, 1, 0, 2, 1, 0, 15, 255])))
    np.testing.assert_array_equal(counts, [[256, 4095], [1, 2]])


@pytest.mark.parametrize(("depth", "kind"), [(1, np.uint8), (6, np.uint8), (12, np.uint16), (24, np.uint32)])
def test_packed_pixels_are_put_in_order(depth: int, kind: type) -> None:
    frame = np.random.default_rng(depth).integers(0, 1 << depth, (4, 64)).astype(kind)
    there = parse_frame(header(width="0064", height="0004", kind="R64"))
    data = packed(frame[::-1], depth)
    assert len(data) == data_bytes(there, depth)
    np.testing.assert_array_equal(unpacked(there, depth, memoryview(data)), frame)


def test_the_first_packed_pixel_is_in_the_last_byte_of_its_word() -> None:
    there = parse_frame(header(width="0064", height="0001", kind="R64"))
    assert unpacked(there, 1, memoryview(bytes([0] * 7 + [1])))[0].tolist() == [1] + [0] * 63
    assert unpacked(there, 6, memoryview(bytes(range(64))))[0, :9].tolist() == [7, 6, 5, 4, 3, 2, 1, 0, 15]
    of_many = parse_frame(header(chips="04", kind="R64"))
    assert data_bytes(of_many, 12) is None
