"""Messages of DECTRIS stream v2: CBOR maps, read without unpacking their pixels, and written as a detector writes them.

What is not a message of that kind, or lacks what makes it one, is ``NotAMessage``. Arrays are RFC 8746
typed arrays in tag 40; packed ones are tag 56500 [algorithm, bytes an element, payload].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cbor2
import numpy as np
import numpy.typing as npt

SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""Every message begins with CBOR's tag 55799; the detector maker's own parser refuses one that does not."""
DIMENSIONAL, PACKED = 40, 56500
ARRAY_TAGS: Mapping[int, np.dtype[Any]] = {
    64: np.dtype("<u1"),
    69: np.dtype("<u2"),
    70: np.dtype("<u4"),
    85: np.dtype("<f4"),
}
TAG_OF = {kind.str: tag for tag, kind in ARRAY_TAGS.items()}
LARGEST_SIDE_PX = 16384


class NotAMessage(ValueError):
    """Bytes that are no message of stream v2."""


@dataclass(frozen=True)
class PackedFrame:
    """One array of an image as it came."""

    shape: tuple[int, int]
    """(det_y, det_x)."""
    dtype: np.dtype[Any]
    algorithm: str
    """bslz4 or lz4; empty where the pixels are not packed."""
    payload: bytes


@dataclass(frozen=True)
class Image:
    """One frame: its number in the series, from 0, and an array for each threshold channel."""

    series_id: int
    series_unique_id: str
    image_id: int
    channels: Mapping[str, PackedFrame]
    start_time_s: float
    """Start of the exposure, after the series' date [s]; NaN where it is not said."""
    stop_time_s: float


@dataclass(frozen=True)
class Start:
    """Comes when the detector is armed, and says what is to come."""

    series_id: int
    series_unique_id: str
    number_of_images: int
    shape: tuple[int, int]
    """(det_y, det_x)."""
    user_data: Any
    """What was put into the header's appendix."""
    facts: Mapping[str, Any] = field(repr=False)
    """The whole message; arrays in it are numpy arrays or `PackedFrame`."""


@dataclass(frozen=True)
class End:
    """Comes when the series is finished or the detector disarmed; may overtake images."""

    series_id: int
    series_unique_id: str


Message = Start | Image | End


def decode(message: bytes) -> Message:
    """Read one message; pixels stay packed.

    Raises
    ------
    NotAMessage
        For anything else; says what is wrong with it.
    """
    if not message.startswith(SELF_DESCRIBED):
        raise NotAMessage("it does not begin with the self-describing tag of CBOR")
    try:
        content = cbor2.loads(message, tag_hook=_tag)
        return _message(content)
    except NotAMessage:
        raise
    except (
        cbor2.CBORDecodeError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise NotAMessage(f"{type(error).__name__}: {error}") from None


def _message(content: Any) -> Message:
    kind = content["type"]
    series = int(content["series_id"]), str(content["series_unique_id"])
    match kind:
        case "image":
            channels = {str(name): _frame(data) for name, data in content["data"].items()}
            number = content["image_id"]
            if not isinstance(number, int) or not channels:
                raise NotAMessage(f"image {number!r} with {len(channels)} channels")
            return Image(*series, number, channels, _seconds(content, "start_time"), _seconds(content, "stop_time"))
        case "start":
            shape = int(content["image_size_y"]), int(content["image_size_x"])
            return Start(*series, int(content["number_of_images"]), shape, content.get("user_data"), content)
        case "end":
            return End(*series)
    raise NotAMessage(f"of type {kind!r}")


def _frame(data: Any) -> PackedFrame:
    if isinstance(data, PackedFrame):
        return data
    if isinstance(data, np.ndarray) and data.ndim == 2:
        return PackedFrame((data.shape[0], data.shape[1]), data.dtype, "", data.tobytes())
    raise NotAMessage(f"a {type(data).__name__} where an image should be")


def _seconds(content: Mapping[str, Any], name: str) -> float:
    """A time that is not said or not understood is NaN: no frame is given up for it."""
    try:
        ticks, per_s = content[name]
        return float(ticks / per_s)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return math.nan


def _tag(tag: cbor2.CBORTag, _immutable: bool) -> Any:
    if tag.tag == DIMENSIONAL:
        return _array(*tag.value)
    if tag.tag in ARRAY_TAGS:
        kind, value = ARRAY_TAGS[tag.tag], tag.value
        # Packed: how many elements there are, only the shape around it tells.
        return (kind, value) if isinstance(value, _Packed) else np.frombuffer(value, kind)
    if tag.tag == PACKED:
        algorithm, item_bytes, payload = tag.value
        if not isinstance(payload, bytes):
            raise NotAMessage(f"a {type(payload).__name__} where packed pixels should be")
        return _Packed(str(algorithm), int(item_bytes), payload)
    return tag.value


@dataclass(frozen=True)
class _Packed:
    algorithm: str
    item_bytes: int
    payload: bytes


def _array(shape: Any, typed: Any) -> Any:
    sides = [int(side) for side in shape]
    if not sides or min(sides) < 1 or max(sides) > LARGEST_SIDE_PX:
        raise NotAMessage(f"an array of shape {sides}")
    if isinstance(typed, np.ndarray):
        return typed.reshape(sides)
    kind, packed = typed
    if len(sides) != 2 or packed.item_bytes != kind.itemsize:
        raise NotAMessage(f"packed {kind} of shape {sides} in elements of {packed.item_bytes} bytes")
    return PackedFrame((sides[0], sides[1]), kind, packed.algorithm, packed.payload)


def array_of(pixels: npt.NDArray[Any]) -> cbor2.CBORTag:
    """A typed array that is not packed."""
    little = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return cbor2.CBORTag(DIMENSIONAL, [list(pixels.shape), cbor2.CBORTag(TAG_OF[little.dtype.str], little.tobytes())])


def packed_array_of(frame: PackedFrame) -> cbor2.CBORTag:
    """A typed array, packed unless its algorithm is empty."""
    payload: Any = frame.payload
    if frame.algorithm:
        payload = cbor2.CBORTag(PACKED, [frame.algorithm, frame.dtype.itemsize, frame.payload])
    return cbor2.CBORTag(
        DIMENSIONAL, [list(frame.shape), cbor2.CBORTag(TAG_OF[frame.dtype.newbyteorder("<").str], payload)]
    )


def encode(content: Mapping[str, Any]) -> bytes:
    """A message of a map, whose first key has to be ``type``; arrays by `array_of` and `packed_array_of`."""
    return SELF_DESCRIBED + cbor2.dumps(dict(content))


def image_content(image: Image, series_date: str, ticks_per_s: int = 50_000_000) -> dict[str, Any]:
    """The map of an image message, in the order of a detector's own; times in ticks of its clock."""

    def ticks(time_s: float) -> list[int]:
        return [round(time_s * ticks_per_s), ticks_per_s]

    return {
        "type": "image",
        "image_id": image.image_id,
        "series_id": image.series_id,
        "series_unique_id": image.series_unique_id,
        "series_date": series_date,
        "real_time": ticks(image.stop_time_s - image.start_time_s),
        "start_time": ticks(image.start_time_s),
        "stop_time": ticks(image.stop_time_s),
        "data": {name: packed_array_of(frame) for name, frame in image.channels.items()},
    }
