"""Messages of DECTRIS stream v2: CBOR maps, read without unpacking their pixels, and written as a detector writes them.

What is not a message of that kind, or lacks what makes it one, is ``NotAMessage``. Arrays are RFC 8746
typed arrays in tag 40; packed ones are tag 56500 [algorithm, bytes an element, payload].
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import cbor2
import numpy as np
import numpy.typing as npt

SELF_DESCRIBED = b"\xd9\xd9\xf7"
"""Every message begins with CBOR's tag 55799; the detector maker's own parser refuses one that does not."""
DATE, DIMENSIONAL, PACKED = 0, 40, 56500
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

    @cached_property
    def encoded(self) -> bytes:
        """The array as it stands in a message; made once, as a frame may be sent again and again."""
        return bytes(cbor2.dumps(packed_array_of(self)))


class Image(NamedTuple):
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
        # Dates stay text: no frame is given up for one that cannot be read.
        return _message(cbor2.loads(message, semantic_decoders=_DATES_AS_TEXT))
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
            facts = _resolved(content)
            return Start(*series, int(content["number_of_images"]), shape, facts.get("user_data"), facts)
        case "end":
            return End(*series)
    raise NotAMessage(f"of type {kind!r}")


def _frame(data: Any) -> PackedFrame:
    found = _array(data) if isinstance(data, cbor2.CBORTag) and data.tag == DIMENSIONAL else data
    if isinstance(found, PackedFrame):
        return found
    if isinstance(found, np.ndarray) and found.ndim == 2:
        return PackedFrame((found.shape[0], found.shape[1]), found.dtype, "", found.tobytes())
    raise NotAMessage(f"a {type(found).__name__} where an image should be")


def _seconds(content: Mapping[str, Any], name: str) -> float:
    """A time that is not said or not understood is NaN: no frame is given up for it."""
    try:
        ticks, per_s = content[name]
        return float(ticks / per_s)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return math.nan


def _as_it_is(value: Any, _immutable: bool) -> Any:
    return value


_DATES_AS_TEXT = {DATE: _as_it_is}


def _resolved(value: Any) -> Any:
    """A header's values with its arrays read; other tags give way to what they hold."""
    if isinstance(value, Mapping):
        return {name: _resolved(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(each) for each in value]
    if not isinstance(value, cbor2.CBORTag):
        return value
    if value.tag == DIMENSIONAL:
        return _array(value)
    return _typed(value) if value.tag in ARRAY_TAGS else _resolved(value.value)


def _typed(tag: cbor2.CBORTag) -> npt.NDArray[Any]:
    """Elements of a typed array that is not packed."""
    return np.frombuffer(tag.value, ARRAY_TAGS[tag.tag])


def _array(tag: cbor2.CBORTag) -> "npt.NDArray[Any] | PackedFrame":
    """An array in its shape; a packed one stays so, as how many elements it has only the shape tells."""
    shape, typed = tag.value
    sides = [int(side) for side in shape]
    if not sides or min(sides) < 1 or max(sides) > LARGEST_SIDE_PX:
        raise NotAMessage(f"an array of shape {sides}")
    kind, value = ARRAY_TAGS[typed.tag], typed.value
    if not isinstance(value, cbor2.CBORTag):
        return _typed(typed).reshape(sides)
    if value.tag != PACKED:
        raise NotAMessage(f"tag {value.tag} where packed pixels should be")
    algorithm, item_bytes, payload = value.value
    if not isinstance(payload, bytes):
        raise NotAMessage(f"a {type(payload).__name__} where packed pixels should be")
    if len(sides) != 2 or item_bytes != kind.itemsize:
        raise NotAMessage(f"packed {kind} of shape {sides} in elements of {item_bytes} bytes")
    return PackedFrame((sides[0], sides[1]), kind, str(algorithm), payload)


def date_of(text: str) -> cbor2.CBORTag:
    """A date and time in the form of RFC 3339."""
    return cbor2.CBORTag(DATE, text)


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
    """A message of a map, whose first key has to be ``type``.

    Arrays in it are by `array_of` and `packed_array_of`, dates by `date_of`.
    """
    return SELF_DESCRIBED + cbor2.dumps(dict(content))


class ImageEncoder:
    """Image messages of one series; what they have in common is encoded once.

    Keys stand in the order of a detector's own; times are in ticks of its clock.
    """

    TICKS_PER_S = 50_000_000

    def __init__(self, series_id: int, series_unique_id: str, series_date: str, user_data: object = None) -> None:
        appendix = {"user_data": user_data} if user_data else {}
        common = {"type": "image", "series_id": series_id, "series_unique_id": series_unique_id}
        later = {"series_date": date_of(series_date)}
        keys = len(common) + len(later) + len(("image_id", "real_time", "start_time", "stop_time", "data"))
        self._head = SELF_DESCRIBED + bytes([_MAP | keys + len(appendix)]) + _pairs(common) + cbor2.dumps("image_id")
        self._date = _pairs(later)
        self._tail = _pairs(appendix)

    def encode(self, number: int, channels: Mapping[str, PackedFrame], start_s: float, stop_s: float) -> bytes:
        """One frame."""
        parts = [
            self._head,
            cbor2.dumps(number),
            _REAL_TIME,
            self._ticks(stop_s - start_s),
            self._date,
            _START_TIME,
            self._ticks(start_s),
            _STOP_TIME,
            self._ticks(stop_s),
            _DATA,
            bytes([_MAP | len(channels)]),
        ]
        for name, frame in channels.items():
            parts += [cbor2.dumps(name), frame.encoded]
        return b"".join([*parts, self._tail])

    def _ticks(self, time_s: float) -> bytes:
        return _PAIR + cbor2.dumps(round(time_s * self.TICKS_PER_S)) + _PER_S


_MAP = 0xA0
"""First byte of a map of fewer than 24 keys, which is added to it."""
_PAIR = cbor2.dumps([0, 0])[:1]
_PER_S = cbor2.dumps(ImageEncoder.TICKS_PER_S)
_REAL_TIME, _START_TIME, _STOP_TIME, _DATA = map(cbor2.dumps, ("real_time", "start_time", "stop_time", "data"))


def _pairs(content: Mapping[str, Any]) -> bytes:
    """Keys and values of a map, without its first byte."""
    return bytes(cbor2.dumps(dict(content))[1:])
