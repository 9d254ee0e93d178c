"""Reads recorded messages of stream v2 by DECTRIS's decompression: type, series, frame, shape, sum and hash."""

import hashlib
import json
import sys
from pathlib import Path

import cbor2
import numpy as np
from dectris.compression import decompress

KINDS = {64: "<u1", 69: "<u2", 70: "<u4"}


def pixels(array):
    """Of tag 40: shape and pixels."""
    shape, typed = array.value
    content = typed.value
    if isinstance(content, cbor2.CBORTag):
        assert content.tag == 56500
        algorithm, element_bytes, packed = content.value
        content = decompress(packed, algorithm, elem_size=element_bytes)
    return np.frombuffer(content, KINDS[typed.tag]).reshape(shape)


if __name__ == "__main__":
    for path in sorted(Path(sys.argv[1]).iterdir()):
        message = cbor2.loads(path.read_bytes())
        told = {name: message[name] for name in ("type", "series_id")}
        if message["type"] == "image":
            (frame,) = (pixels(array) for array in message["data"].values())
            told |= {
                "image_id": message["image_id"],
                "shape": frame.shape,
                "sum": int(frame.sum(dtype="u8")),
                "sha256": hashlib.sha256(frame).hexdigest(),
            }
        print(json.dumps(told))
