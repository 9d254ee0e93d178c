"""The maps that an acquisition left beside the frames of each pass."""

from pathlib import Path
from typing import Any

from stem4d.maps import RunMaps, maps_from_arrays
from storage.read import open_frames


def recorded_maps(one: dict[str, Any]) -> RunMaps:
    """What the acquisition of a pass left, by the facts that the exposure gave of it."""
    with open_frames(Path(one["path"])) as frames:
        return maps_from_arrays(frames.online(), frames.full_scale)


def recorded_passes(exposed: dict[str, Any]) -> list[RunMaps]:
    """The same of every pass of an exposure."""
    return [recorded_maps(one) for one in exposed["passes"]]
