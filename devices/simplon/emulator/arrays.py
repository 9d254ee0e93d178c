"""Arrays in JSON as SIMPLON writes them: base64 of little-endian pixels, with the shape as [x, y]."""

import base64
import binascii
from typing import Any

import numpy as np
import numpy.typing as npt

from devices.simplon.emulator.keys import KeyRefused

DTYPES = ("<u1", "<u2", "<u4", "<f4")


def array_document(pixels: npt.NDArray[Any]) -> dict[str, Any]:
    """The JSON value of an array (det_y, det_x)."""
    little = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return {
        "__darray__": [1, 0, 0],
        "type": little.dtype.str if little.dtype.itemsize > 1 else "<u1",
        "shape": [int(side) for side in reversed(little.shape)],
        "filters": ["base64"],
        "data": base64.b64encode(little.tobytes()).decode(),
    }


def array_of_document(name: str, document: Any, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """The array (det_y, det_x) of a JSON value; KeyRefused where it is none of that shape."""
    try:
        if document["filters"] != ["base64"] or document["type"] not in DTYPES:
            raise KeyRefused(f"bad array: {name} takes base64 of {', '.join(DTYPES)}")
        raw = base64.b64decode(document["data"], validate=True)
        pixels = np.frombuffer(raw, np.dtype(document["type"]))
        if tuple(document["shape"]) != shape[::-1] or pixels.size != shape[0] * shape[1]:
            raise KeyRefused(f"bad array: {name} takes shape {list(shape[::-1])}, x first")
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        if isinstance(error, KeyRefused):
            raise
        raise KeyRefused(f"bad array: {name}: {type(error).__name__}: {error}") from None
    return pixels.reshape(shape)
