"""A judgement on any recorded 4D-STEM file: what its frames can carry, and what cannot be said and why."""

from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import numpy as np

from devices.passes import COUNTS, counts_dtype, maps_of
from devices.value_pass import survey_of, value_maps_of
from flows.inspect_mask import read_mask
from flows.inspect_options import with_options
from stem4d.accumulate import AccumulatorSpec, Annulus
from stem4d.calibrate.disk import DiskFit, find_disk
from stem4d.calibrate.pixels import Mask, find_bad_pixels
from stem4d.detector import DetectorFacts
from stem4d.maps import RunMaps
from stem4d.quality.file import FileKnowledge, judge_file
from stem4d.quality.regions import BEYOND_RADII, COM_REGION_RADII
from stem4d.quality.values import NotCounts
from stem4d.values import Reading, Survey
from stem4d.verdict import QualityResult
from storage.frames import Frames
from storage.read import open_frames


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
    counts_per_electron: float | None = None
    """By which values that are no counts were divided; None for counts."""


@dataclass(frozen=True)
class _Read:
    """What two readings of a file leave."""

    maps: RunMaps
    bad: Mask
    disk: DiskFit
    not_counts: NotCounts | None = None


def inspect_file(
    path: Path,
    *,
    full_scale: int | None = None,
    known: dict[str, float] | None = None,
    detector: DetectorFacts | None = None,
    counts_per_electron: float | None = None,
    mask: Path | None = None,
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
    detector : DetectorFacts, optional
        What is known of the detector.
    counts_per_electron : float, optional
        What one electron adds to a value of an integrating detector; the upper bound by the values' own scatter where
        absent. Of no use where the values are counts.
    mask : Path, optional
        Bad pixels that the user knows; others are looked for besides. See ``flows.inspect_mask``.
    """
    with open_frames(path, wary=True) as frames:
        scale = full_scale if full_scale is not None else frames.full_scale
        gaps = None if mask is None else read_mask(mask, frames.detector_shape)
        read = _read(frames, scale, counts_per_electron, gaps)
        facts = {"dwell_time_us": frames.metadata.get("exposure_time_us"), **frames.metadata, **(known or {})}
        knowledge = FileKnowledge(**{name: _number(facts.get(name)) for name in FileKnowledge.__dataclass_fields__})
        results = judge_file(read.maps, read.disk, read.bad, knowledge, detector=detector, not_counts=read.not_counts)
        return Inspection(
            path=path,
            kind=frames.kind,
            scan_shape=frames.scan_shape,
            detector_shape=frames.detector_shape,
            dtype=str(frames.dtype),
            full_scale=scale,
            metadata=dict(frames.metadata),
            bad_pixels=int(read.bad.sum()),
            disk=read.disk,
            maps=read.maps,
            results=tuple(with_options(one, knowledge, scale, detector) for one in results),
            counts_per_electron=read.not_counts.reading.unit if read.not_counts and read.maps.frames else None,
        )


def _read(frames: Frames, full_scale: int | None, counts_per_electron: float | None, gaps: Mask | None) -> _Read:
    if frames.dtype.name not in COUNTS:
        survey = survey_of(frames)
        if survey.frames and not survey.counts:
            return _read_values(frames, survey, full_scale, counts_per_electron, gaps)
    first = maps_of(frames, _spec(frames, full_scale, gaps))
    bad = _bad(first, gaps)
    disk = find_disk(first.mean_pattern, bad, clipped_too=True)
    return _Read(maps_of(frames, _spec(frames, full_scale, bad, disk)), bad, disk)


def _read_values(
    frames: Frames, survey: Survey, full_scale: int | None, counts_per_electron: float | None, gaps: Mask | None
) -> _Read:
    """The same of values that are no counts, which the accumulator does not take."""
    whole = survey.whole and survey.lowest >= 0
    unit = counts_per_electron or (1.0 if whole else survey.electron() or 1.0)
    out = survey.left_out if gaps is None else survey.left_out | gaps
    reading = Reading(survey, unit, out, full_scale)
    if out.all():
        maps = value_maps_of(frames, reading)
        return _Read(maps, out, find_disk(maps.mean_pattern, out), NotCounts(reading, unit_known=whole))
    counted = np.rint(np.maximum(survey.mean, 0.0) / unit * survey.frames) / survey.frames
    bad = out | find_bad_pixels(counted, survey.frames, np.floor(np.maximum(survey.largest, 0.0) / unit), gaps=out).mask
    disk = find_disk(counted, bad, clipped_too=True)
    region = Annulus("com", disk.centre_px, 0.0, COM_REGION_RADII * disk.radius_px) if disk.ok else None
    weights = None if region is None else region.weights(frames.detector_shape).astype(np.bool_)
    reading = replace(reading, bad=bad, region=weights)
    known = whole or counts_per_electron is not None
    return _Read(value_maps_of(frames, reading), bad, disk, NotCounts(reading, unit_known=known))


def _bad(maps: RunMaps, gaps: Mask | None) -> Mask:
    """Hot and dead pixels, and those that the user named; a recording without frames shows none."""
    known = np.zeros(maps.sum_pattern.shape, np.bool_) if gaps is None else gaps
    if maps.frames == 0:
        return known
    return known | find_bad_pixels(maps.mean_pattern, maps.frames, maps.max_pattern, gaps).mask


def around_disk(disk: DiskFit, shape: tuple[int, int]) -> tuple[Annulus, ...]:
    """The virtual detectors that every pass is accumulated with: what a run's page shows of its scan, a file shows."""
    disk_px, centre = disk.radius_px, disk.centre_px
    return (
        Annulus("disk", centre, 0.0, disk_px),
        Annulus("beyond_disk", centre, BEYOND_RADII * disk_px, float(max(shape))),
    )


def _spec(
    frames: Frames, full_scale: int | None, bad: Mask | None = None, disk: DiskFit | None = None
) -> AccumulatorSpec:
    region: Annulus | None = None
    detectors: tuple[Annulus, ...] = ()
    if disk is not None and disk.ok:
        region = Annulus("com", disk.centre_px, 0.0, COM_REGION_RADII * disk.radius_px)
        detectors = around_disk(disk, frames.detector_shape)
    return AccumulatorSpec(
        detector_shape=frames.detector_shape,
        dtype=counts_dtype(frames),
        detectors=detectors,
        full_scale=full_scale,
        bad_pixels=bad,
        com_region=region,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and isfinite(value) else None
