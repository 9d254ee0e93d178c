"""A judgement on any recorded 4D-STEM file: what its frames can carry, and what cannot be said and why."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from devices.passes import counts_dtype, maps_of
from stem4d.accumulate import AccumulatorSpec, Annulus
from stem4d.calibrate.disk import DiskFit, find_disk
from stem4d.calibrate.pixels import find_bad_pixels
from stem4d.maps import RunMaps
from stem4d.quality.file import FileKnowledge, judge_file
from stem4d.verdict import QualityResult
from storage.frames import Frames
from storage.read import open_frames

COM_REGION_RADII = 1.25


@dataclass(frozen=True)
class Inspection:
    """What was found in a file."""

    path: Path
    kind: str
    scan_shape: tuple[int, int]
    detector_shape: tuple[int, int]
    dtype: str
    full_scale: int | None
    metadata: dict[str, object]
    bad_pixels: int
    disk: DiskFit
    maps: RunMaps
    results: tuple[QualityResult, ...]


def inspect_file(
    path: Path,
    *,
    full_scale: int | None = None,
    known: dict[str, float] | None = None,
) -> Inspection:
    """Read a file twice: once to find bad pixels and the disk, once to judge with them.

    Parameters
    ----------
    path : Path
        Any file that ``storage.read.open_frames`` opens.
    full_scale : int, optional
        Largest value of the counter, where the file does not say it.
    known : dict, optional
        What the user supplies, by the names of ``FileKnowledge``.
    """
    with open_frames(path, wary=True) as frames:
        scale = full_scale if full_scale is not None else frames.full_scale
        first = maps_of(frames, _spec(frames, scale))
        bad = find_bad_pixels(first.mean_pattern, first.frames, first.max_pattern).mask
        disk = find_disk(first.mean_pattern, bad, clipped_too=True)
        maps = maps_of(frames, _spec(frames, scale, bad, disk))
        facts = {**frames.metadata, **(known or {})}
        knowledge = FileKnowledge(**{name: _number(facts.get(name)) for name in FileKnowledge.__dataclass_fields__})
        return Inspection(
            path=path,
            kind=frames.kind,
            scan_shape=frames.scan_shape,
            detector_shape=frames.detector_shape,
            dtype=str(frames.dtype),
            full_scale=scale,
            metadata=dict(frames.metadata),
            bad_pixels=int(bad.sum()),
            disk=disk,
            maps=maps,
            results=judge_file(maps, disk, bad, knowledge),
        )


def _spec(
    frames: Frames,
    full_scale: int | None,
    bad: "np.ndarray[tuple[int, int], np.dtype[np.bool_]] | None" = None,
    disk: DiskFit | None = None,
) -> AccumulatorSpec:
    region = None
    if disk is not None and disk.ok:
        region = Annulus("com", disk.centre_px, 0.0, COM_REGION_RADII * disk.radius_px)
    return AccumulatorSpec(
        detector_shape=frames.detector_shape,
        dtype=counts_dtype(frames),
        detectors=(),
        full_scale=full_scale,
        bad_pixels=bad,
        com_region=region,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and isfinite(value) else None
