"""What an emulated detector sends of a series: the parts of each message, in stream v2 and in the legacy stream."""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from devices.simplon.emulator.rules import saturation_value
from devices.simplon.emulator.series import Series
from devices.simplon.emulator.settings import flatfield_of, mask_of
from devices.simplon.messages import ImageEncoder, PackedFrame, array_of, date_of, encode

Parts = list[bytes]
CHANNEL = "threshold_1"


class Wire(Protocol):
    """One format of the stream; a message is a list of parts."""

    def start(self, series: Series) -> Parts:
        """What comes at arm."""
        ...

    def image(self, series: Series, number: int, frame: PackedFrame, start_s: float) -> Parts:
        """One frame; ``start_s`` is when its exposure began, after the series' [s]."""
        ...

    def end(self, series: Series) -> Parts:
        """What comes when the series is over."""
        ...


class StreamV2:
    """CBOR, one part a message."""

    def start(self, series: Series) -> Parts:
        """See `Wire`."""
        return [encode(_start(series))]

    def image(self, series: Series, number: int, frame: PackedFrame, start_s: float) -> Parts:
        """See `Wire`."""
        encoder = _encoder(series.series_id, series.unique_id, series.armed, series.stream["image_appendix"])
        return [encoder.encode(number, {CHANNEL: frame}, start_s, start_s + series.config["count_time"])]

    def end(self, series: Series) -> Parts:
        """See `Wire`."""
        return [encode({"type": "end", "series_id": series.series_id, "series_unique_id": series.unique_id})]


@lru_cache(maxsize=4)
def _encoder(series_id: int, unique_id: str, armed: datetime, appendix: str) -> ImageEncoder:
    """Of a series, and of another whose frames stray into it."""
    return ImageEncoder(series_id, unique_id, armed.isoformat(), appendix)


def _start(series: Series) -> dict[str, Any]:
    config = series.config
    content: dict[str, Any] = {
        "type": "start",
        "arm_date": date_of(series.armed.isoformat()),
        "beam_center_x": config["beam_center_x"],
        "beam_center_y": config["beam_center_y"],
        "channels": [CHANNEL],
        "count_time": config["count_time"],
        "countrate_correction_enabled": config["countrate_correction_applied"],
        "detector_description": config["description"],
        "detector_serial_number": config["detector_number"],
        "detector_translation": [0.0, 0.0, config["detector_distance"]],
        "flatfield_enabled": config["flatfield_correction_applied"],
        "frame_time": config["frame_time"],
        "goniometer": {
            axis: {"start": config[f"{axis}_start"], "increment": config[f"{axis}_increment"]}
            for axis in ("chi", "kappa", "omega", "phi", "two_theta")
        },
        "image_dtype": f"uint{config['bit_depth_image']}",
        "image_size_x": config["x_pixels_in_detector"],
        "image_size_y": config["y_pixels_in_detector"],
        "incident_energy": config["incident_energy"],
        "incident_wavelength": config["wavelength"],
        "number_of_images": series.images,
        "pixel_mask_enabled": config["pixel_mask_applied"],
        "pixel_size_x": config["x_pixel_size"],
        "pixel_size_y": config["y_pixel_size"],
        "saturation_value": saturation_value(config),
        "sensor_material": config["sensor_material"],
        "sensor_thickness": config["sensor_thickness"],
        "series_id": series.series_id,
        "series_unique_id": series.unique_id,
        "threshold_energy": {CHANNEL: config["threshold/1/energy"]},
        "user_data": series.stream["header_appendix"],
        "virtual_pixel_interpolation_enabled": config["virtual_pixel_correction_applied"],
    }
    if series.stream["header_detail"] == "all":
        content["flatfield"] = {CHANNEL: array_of(flatfield_of(config))}
        content["pixel_mask"] = {CHANNEL: array_of(mask_of(config))}
    return content


class LegacyStream:
    """JSON and binary parts; the header is one message of several parts."""

    def __init__(self) -> None:
        self._described: WeakKeyDictionary[PackedFrame, tuple[str, bytes]] = WeakKeyDictionary()

    def start(self, series: Series) -> Parts:
        """See `Wire`."""
        detail = series.stream["header_detail"]
        parts = [_json({"htype": "dheader-1.0", "series": series.series_id, "header_detail": detail})]
        if detail != "none":
            kept = {name: value for name, value in series.config.items() if name not in ("pixel_mask", "flatfield")}
            parts.append(_json(kept))
        if detail == "all":
            for htype, kind, pixels in (
                ("dflatfield-1.0", "float32", flatfield_of(series.config)),
                ("dpixelmask-1.0", "uint32", mask_of(series.config)),
            ):
                parts += [_json({"htype": htype, "shape": list(pixels.shape[::-1]), "type": kind}), pixels.tobytes()]
        return [*parts, *_appendix(series.stream["header_appendix"])]

    def image(self, series: Series, number: int, frame: PackedFrame, start_s: float) -> Parts:
        """See `Wire`."""
        start_ns, real_ns = round(start_s * 1e9), round(series.config["count_time"] * 1e9)
        digest, description = self._of(frame)
        return [
            _json({"htype": "dimage-1.0", "series": series.series_id, "frame": number, "hash": digest}),
            description,
            frame.payload,
            _json(
                {
                    "htype": "dconfig-1.0",
                    "start_time": start_ns,
                    "stop_time": start_ns + real_ns,
                    "real_time": real_ns,
                }
            ),
            *_appendix(series.stream["image_appendix"]),
        ]

    def end(self, series: Series) -> Parts:
        """See `Wire`."""
        return [_json({"htype": "dseries_end-1.0", "series": series.series_id})]

    def _of(self, frame: PackedFrame) -> tuple[str, bytes]:
        """Hash and description of a frame, made once: it may be sent again and again."""
        if (known := self._described.get(frame)) is not None:
            return known
        bits = frame.dtype.itemsize * 8
        digest = hashlib.md5(frame.payload, usedforsecurity=False).hexdigest()
        description = _json(
            {
                "htype": "dimage_d-1.0",
                "shape": [frame.shape[1], frame.shape[0]],
                "type": f"uint{bits}",
                "encoding": f"bs{bits}-lz4<" if frame.algorithm else "<",
                "size": len(frame.payload),
            }
        )
        self._described[frame] = digest, description
        return digest, description


WIRES: Mapping[str, Wire] = {"cbor": StreamV2(), "legacy": LegacyStream()}


_ENCODER = json.JSONEncoder(allow_nan=False)


def _json(content: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(content).encode()


def _appendix(text: str) -> Parts:
    return [text.encode()] if text else []
