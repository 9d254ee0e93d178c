"""What the detector maker's parser takes for a message of stream v2: its rules, read from bytes without a CBOR library.

Written from the maker's description of the messages and of tag 56500, RFC 8949 and RFC 8746.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

PREFIX = b"\xd9\xd9\xf7"
ELEMENT_BYTES = {64: 1, 69: 2, 70: 4, 85: 4}
"""Of the typed arrays that detectors send: u8, u16, u32 and f32, little-endian."""
TIME = {"real_time", "start_time", "stop_time"}
FIELDS = {
    "date": {"arm_date", "series_date"},
    "text": {"series_unique_id", "detector_description", "detector_serial_number", "sensor_material"},
    "whole": {"series_id", "image_id", "image_size_x", "image_size_y", "number_of_images", "saturation_value"},
    "real": {
        *("beam_center_x", "beam_center_y", "count_time", "frame_time", "incident_energy", "incident_wavelength"),
        *("pixel_size_x", "pixel_size_y", "sensor_thickness"),
    },
    "switch": {
        *("countrate_correction_enabled", "flatfield_enabled", "pixel_mask_enabled"),
        "virtual_pixel_interpolation_enabled",
    },
}


class Refused(Exception):
    """The maker's parser would not take it."""


@dataclass(frozen=True)
class Tag:
    """A tag and what it stands before."""

    number: int
    content: Any


def message(raw: bytes) -> dict[str, Any]:
    """A message as a map of its fields, tags as they are; the order of the map is that of the message."""
    if not raw.startswith(PREFIX):
        raise Refused("signature")
    fields, end = _item(raw, len(PREFIX))
    if end != len(raw) or not isinstance(fields, dict):
        raise Refused("one map, and nothing after it")
    if next(iter(fields), None) != "type" or fields["type"] not in ("start", "image", "end"):
        raise Refused("type comes first")
    for name, value in fields.items():
        if not _fits(name, value):
            raise Refused(f"{name} = {value!r}")
    return fields


def array(value: Any) -> tuple[list[int], int, Any]:
    """Sides, kind and bytes of an array; the bytes are [algorithm, element bytes, packed] where it is packed."""
    match value:
        case Tag(40, [[int(), int()] as sides, Tag(kind, data)]) if kind in ELEMENT_BYTES:
            pass
        case _:
            raise Refused(f"an array of two sides, not {str(value)[:80]}")
    if isinstance(data, Tag):
        if data.number != 56500 or len(data.content) != 3 or data.content[0] != "bslz4":
            raise Refused(f"packed by {str(data)[:80]}")
        _, element_bytes, packed = data.content
        if element_bytes != ELEMENT_BYTES[kind]:
            raise Refused(f"elements of {element_bytes} bytes in tag {kind}")
        size, data = int.from_bytes(packed[:8], "big"), data.content
    else:
        size = len(data)
    if size != math.prod(sides) * ELEMENT_BYTES[kind]:
        raise Refused(f"{size} bytes for {sides}")
    return sides, kind, data


def _fits(name: str, value: Any) -> bool:
    if name in FIELDS["date"]:
        return isinstance(value, Tag) and value.number == 0 and isinstance(value.content, str)
    for kind, known in (("text", str), ("whole", int), ("real", float), ("switch", bool)):
        if name in FIELDS[kind]:
            return type(value) is known
    if name in TIME:
        return isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value)
    if name in ("data", "flatfield", "pixel_mask"):
        return isinstance(value, dict) and all(array(each) for each in value.values())
    if name == "channels":
        return isinstance(value, list) and all(type(each) is str for each in value)
    if name == "detector_translation":
        return isinstance(value, list) and [type(each) for each in value] == [float] * 3
    if name == "threshold_energy":
        return isinstance(value, dict) and all(type(each) is float for each in value.values())
    if name == "goniometer":
        return all(type(axis[what]) is float for axis in value.values() for what in ("start", "increment"))
    return name in ("type", "user_data", "image_dtype")


def _item(raw: bytes, at: int) -> tuple[Any, int]:
    """One item and where the next begins; lengths are always said before."""
    major, short = raw[at] >> 5, raw[at] & 31
    at += 1
    if major == 7:
        return _simple(raw, at, short)
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(short, 0)
    if short > 27:
        raise Refused("a length that is not said")
    count = int.from_bytes(raw[at : at + size], "big") if size else short
    at += size
    if major == 0:
        return count, at
    if major in (2, 3):
        part = raw[at : at + count]
        return (part if major == 2 else part.decode()), at + count
    if major == 4:
        items = []
        for _ in range(count):
            item, at = _item(raw, at)
            items.append(item)
        return items, at
    if major == 5:
        fields = {}
        for _ in range(count):
            name, at = _item(raw, at)
            if not isinstance(name, str) or name in fields:
                raise Refused(f"key {name!r}")
            fields[name], at = _item(raw, at)
        return fields, at
    if major == 6:
        content, at = _item(raw, at)
        return Tag(count, content), at
    raise Refused("a negative number")


def _simple(raw: bytes, at: int, short: int) -> tuple[Any, int]:
    if short in (20, 21):
        return short == 21, at
    for code, form, size in ((25, ">e", 2), (26, ">f", 4), (27, ">d", 8)):
        if short == code:
            return struct.unpack_from(form, raw, at)[0], at + size
    raise Refused(f"simple value {short}")
