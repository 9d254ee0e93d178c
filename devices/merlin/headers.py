"""What stands before Merlin's pixels: the header of an acquisition, and that of each frame."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

LARGEST_SIDE_PX = 16384
LARGEST_HEADER_BYTES = 2**16
COUNTER_DEPTHS = (1, 6, 12, 24)
_NUMBER = re.compile(rb"MQ1,(\d{6,10}),(\d{5}),")
_KIND = re.compile(r"U0?8|U16|U32|R64")
_ADDED = re.compile(r",MQ1A,[^,]*,\d+ns,(\d{1,2})(?!\d)")
"""What newer software adds: time, exposure, counter depth."""
_FIELDS = 14
"""Up to the gain; thresholds, DACs and the MQ1A part come after them."""


class NotAHeader(ValueError):
    """Bytes that are no header of that kind."""


@dataclass(frozen=True)
class FrameHeader:
    """Header ``MQ1`` of one frame."""

    number: int
    """In the acquisition, from 1."""
    data_offset: int
    """Where the pixels begin, from the first byte of ``MQ1`` [bytes]."""
    chips: int
    shape: tuple[int, int]
    """(det_y, det_x)."""
    pixels: str
    """U08, U16, U32: big-endian integers; R64: packed as the chip sends them."""
    layout: str
    """Chips beside each other: 1x1, 2x2, 2x2G, Nx1."""
    taken_at: str
    """By the clock of Merlin's computer."""
    exposure_s: float
    counter: int
    colour: bool
    gain: int
    depth: int | None
    """Counter depth; None before the software that writes it."""


def frame_number(block: bytes) -> int | None:
    """The number of a frame whose header may be cut or damaged behind it; None where it has none."""
    found = _NUMBER.match(block)
    return int(found[1]) if found else None


def parse_frame(block: bytes) -> FrameHeader:
    """Read the header at the start of a block.

    Raises
    ------
    NotAHeader
        For anything else; says what is wrong with it.
    """
    found = _NUMBER.match(block)
    if not found:
        raise NotAHeader("it does not begin with MQ1, a number and an offset")
    number, offset = int(found[1]), int(found[2])
    if not _FIELDS < offset <= min(len(block), LARGEST_HEADER_BYTES):
        raise NotAHeader(f"its pixels begin at byte {offset} of {len(block)}")
    text = block[:offset].decode("latin-1")
    fields = [field.strip(" \0") for field in text.split(",", _FIELDS)[:_FIELDS]]
    if len(fields) < _FIELDS:
        raise NotAHeader(f"it has {len(fields)} fields of {_FIELDS}")
    try:
        chips, width, height = (int(text) for text in fields[3:6])
        exposure_s = float(fields[10])
        counter, colour, gain = (int(text) for text in fields[11:14])
    except ValueError as error:
        raise NotAHeader(f"a field that is no number: {error}") from None
    if not (1 <= width <= LARGEST_SIDE_PX and 1 <= height <= LARGEST_SIDE_PX and chips >= 1):
        raise NotAHeader(f"{chips} chips of {width} x {height} pixels")
    if not _KIND.fullmatch(fields[6]):
        raise NotAHeader(f"pixels of kind {fields[6]!r}")
    added = _ADDED.search(text)
    return FrameHeader(
        number=number,
        data_offset=offset,
        chips=chips,
        shape=(height, width),
        pixels="U08" if fields[6] == "U8" else fields[6],
        layout=fields[7],
        taken_at=fields[9],
        exposure_s=exposure_s,
        counter=counter,
        colour=bool(colour),
        gain=gain,
        depth=int(added[1]) if added else None,
    )


def parse_acquisition(block: bytes) -> Mapping[str, str]:
    """Read the header of an acquisition: its lines by what stands before the colon, without remarks in brackets.

    Raises
    ------
    NotAHeader
        For anything else, or one that is too long.
    """
    if not block.startswith(b"HDR,"):
        raise NotAHeader("it does not begin with HDR")
    if len(block) > LARGEST_HEADER_BYTES:
        raise NotAHeader(f"{len(block)} bytes, more than {LARGEST_HEADER_BYTES}")
    values: dict[str, str] = {}
    for line in block.decode("latin-1").splitlines()[1:]:
        name, tab, value = line.partition("\t")
        if name == "End":
            break
        if tab:
            values[name.rstrip(": ").partition(" (")[0]] = value.strip(" \0")
    return values


def acquisition_number(values: Mapping[str, str], name: str) -> int | None:
    """A whole number of an acquisition's header; None where it is not there."""
    text = values.get(name, "")
    return int(text) if text.isdecimal() else None
