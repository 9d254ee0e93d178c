"""The pictures of one calibration: its fit on the data of its evidence, kind by kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.passes import maps_of
from stem4d.accumulate import AccumulatorSpec
from stem4d.dose import electrons
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from storage.read import open_frames
from web.report.figures import fits
from web.report.figures.canvas import Drawing, as_picture
from web.report.values import Plate

Facts = dict[str, Any]
Pixels = list[tuple[int, int]]


def drawn_fit(one: Facts, plan: Plan, bad: Pixels) -> tuple[Plate, ...]:
    """The pictures of a calibration as ``db.questions.calibrations`` tells of it; none where there is no evidence.

    Raises
    ------
    BadInput, OSError
        Where a file of the evidence cannot be read.
    """
    drawings: list[Drawing] = []
    paths = [Path(each["path"]) for each in one["evidence"] if each["path"]]
    curves = one["curves"] or {}
    if paths and one["value"]:
        drawings += _KINDS.get(one["kind"], _rings)(one, paths, plan, bad)
    # Data of the database: at most two images, of at most 48 positions a side.
    drawings += [fits.image(each["label"], np.array(each["values"])) for each in curves.get("images", ())]
    if "x" in curves:
        drawings.append(fits.curve(f"Fit: {curves['y_label']}", curves))
    return (Plate("", tuple(as_picture(each) for each in drawings)),) if drawings else ()


def _pixels(one: Facts, paths: list[Path], _plan: Plan, bad: Pixels) -> list[Drawing]:
    maps = _read(paths[0], bad)
    return [fits.pattern_with_rings(maps.mean_pattern, (), _mask(bad, maps), "Mean pattern and bad pixels")]


def _disk(one: Facts, paths: list[Path], _plan: Plan, bad: Pixels) -> list[Drawing]:
    value, maps = one["value"], _read(paths[0], bad)
    if value.get("radius_px") is None:
        return [fits.pattern_with_rings(maps.mean_pattern, (), _mask(bad, maps), "Mean pattern: no disk was found")]
    centre = (value["centre_px"][0], value["centre_px"][1])
    ring = {"centre_px": centre, "radius_px": value["radius_px"], "label": "disk"}
    return [
        fits.pattern_with_rings(maps.mean_pattern, (ring,), _mask(bad, maps), "Mean pattern and fitted disk"),
        fits.radial_profile(
            maps.mean_pattern, centre, value["radius_px"], value.get("edge_width_px"), _mask(bad, maps)
        ),
    ]


def _descan(one: Facts, paths: list[Path], plan: Plan, bad: Pixels) -> list[Drawing]:
    value, drawings = one["value"], []
    for path, state in zip(paths, ("before correction", "after correction"), strict=False):
        maps, step_nm = _read(path, bad), _step_nm(path)
        positions = np.stack([maps.com_y_px, maps.com_x_px], axis=-1).astype(np.float64)
        plane = np.broadcast_to(np.nanmean(positions, axis=(0, 1)), positions.shape)
        if state == "before correction" and "descan_mrad_per_nm" in value:
            # What was set is minus what was measured.
            slope = -np.array(value["descan_mrad_per_nm"]) / _scale(path, plan)
            plane = plane + _from_middle(positions.shape[:2]) * step_nm @ slope.T
        drawings.append(fits.positions_with_plane(positions, plane, state))
    return drawings


def _current(one: Facts, paths: list[Path], plan: Plan, bad: Pixels) -> list[Drawing]:
    maps = _read(paths[0], bad)
    with open_frames(paths[0]) as frames:
        exposure_us = float(str(frames.metadata.get("exposure_time_us", plan.exposure.live_time_us)))
    return [fits.totals(maps.total[maps.recorded], electrons(plan.optics.probe_current_pa, exposure_us))]


def _rings(one: Facts, paths: list[Path], _plan: Plan, bad: Pixels) -> list[Drawing]:
    """The mean pattern with whatever rings the measurement left, of kinds without a picture of their own."""
    rings = (one["curves"] or {}).get("rings", ())
    maps = _read(paths[0], bad)
    return [fits.pattern_with_rings(maps.mean_pattern, rings, _mask(bad, maps), "Mean pattern and fit")]


_KINDS: dict[str, Callable[[Facts, list[Path], Plan, Pixels], list[Drawing]]] = {
    "pixel_mask": _pixels,
    "centre": _disk,
    "descan": _descan,
    "current": _current,
}


def _read(path: Path, bad: Pixels) -> RunMaps:
    """Maps of a small file, bad pixels left out."""
    with open_frames(path) as frames:
        mask = np.zeros(frames.detector_shape, np.bool_)
        for y, x in bad:
            mask[y, x] = True
        spec = AccumulatorSpec(
            detector_shape=frames.detector_shape,
            dtype=frames.dtype,
            detectors=(),
            full_scale=None,
            bad_pixels=mask,
            threads=1,
        )
        return maps_of(frames, spec)


def _scale(path: Path, plan: Plan) -> float:
    with open_frames(path) as frames:
        return float(str(frames.metadata.get("mrad_per_pixel", plan.mrad_per_pixel)))


def _step_nm(path: Path) -> float:
    with open_frames(path) as frames:
        return float(str(frames.metadata["scan_step_nm"]))


def _mask(bad: Pixels, maps: RunMaps) -> NDArray[np.bool_]:
    mask = np.zeros(maps.sum_pattern.shape, np.bool_)
    for y, x in bad:
        mask[y, x] = True
    return mask


def _from_middle(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Positions (y, x) of a scan from its middle, in steps, shape (scan_y, scan_x, 2)."""
    y, x = np.indices(shape[:2], dtype=np.float64)
    return np.stack([y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2], axis=-1)
