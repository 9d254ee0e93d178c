"""The map of an image message, for tests that change it before it is encoded."""

from typing import Any

from devices.simplon.messages import Image, date_of, packed_array_of

TICKS_PER_S = 50_000_000


def image_content(image: Image, series_date: str) -> dict[str, Any]:
    """In the order of a detector's own; times in ticks of its clock."""

    def ticks(time_s: float) -> list[int]:
        return [round(time_s * TICKS_PER_S), TICKS_PER_S]

    return {
        "type": "image",
        "series_id": image.series_id,
        "series_unique_id": image.series_unique_id,
        "image_id": image.image_id,
        "real_time": ticks(image.stop_time_s - image.start_time_s),
        "series_date": date_of(series_date),
        "start_time": ticks(image.start_time_s),
        "stop_time": ticks(image.stop_time_s),
        "data": {name: packed_array_of(frame) for name, frame in image.channels.items()},
    }
