"""The maps that an acquisition left beside the frames of each pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from stem4d.maps import RunMaps, maps_from_arrays
from stem4d.plan import Plan
from stem4d.quality.drift_seen import Scans


def recorded_maps(one: dict[str, Any]) -> RunMaps:
    """What the acquisition of a pass left, by the facts that the exposure gave of it."""
    # Imported here: the first exposure is not kept waiting for what reads it.
    from storage.read import open_frames

    with open_frames(Path(one["path"])) as frames:
        maps = maps_from_arrays(frames.online(), frames.full_scale)
        return replace(maps, came_twice=frames.came_twice, corrupt=frames.corrupt)


def recorded_passes(exposed: dict[str, Any]) -> list[RunMaps]:
    """The same of every pass of an exposure."""
    return [recorded_maps(one) for one in exposed["passes"]]


def recorded_references(plan: Plan, exposed: dict[str, Any]) -> Scans | None:
    """The reference scans before and after the passes, which have the plan's raster; None where there are not two."""
    scans = exposed["references"]
    if len(scans) < 2:
        return None
    maps = tuple(recorded_maps(one) for one in scans)
    return Scans(maps, tuple(one["started_s"] for one in scans), plan.scan.step_nm)
