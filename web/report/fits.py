"""The pictures of one calibration: its fit on the data of its evidence, kind by kind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.passes import maps_of
from stem4d.accumulate import AccumulatorSpec
from stem4d.calibrate.ring_sectors import ellipse_departure, sector_radii
from stem4d.calibrate.rotation import curl_by_angle
from stem4d.calibrate.shift import register, without_surface
from stem4d.dose import electrons
from stem4d.errors import BadInput
from stem4d.maps import RunMaps, maps_from_arrays
from stem4d.plan import Plan
from storage.read import open_frames
from web.report.figures import fits, measured
from web.report.figures.canvas import Drawing, as_picture
from web.report.figures.maps import virtual_image
from web.report.text import quantity
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
    drawings += [fits.image(_titled(each["label"]), np.array(each["values"])) for each in curves.get("images", ())]
    if "x" in curves and not (drawings and one["kind"] in _OWN_CURVES):
        drawings.append(fits.curve(_CURVES.get(one["kind"], _titled(curves["y_label"])), curves))
    return (Plate("", tuple(as_picture(each) for each in drawings)),) if drawings else ()


def _titled(label: str) -> str:
    return label[:1].upper() + label[1:]


def _pixels(one: Facts, paths: list[Path], _plan: Plan, bad: Pixels) -> list[Drawing]:
    maps = _read(paths[0], bad)
    return [
        fits.pattern_with_rings(
            maps.mean_pattern, (), _mask(bad, maps.sum_pattern.shape), "Mean pattern and bad pixels"
        )
    ]


def _disk(one: Facts, paths: list[Path], _plan: Plan, bad: Pixels) -> list[Drawing]:
    value, maps = one["value"], _read(paths[0], bad)
    if value.get("radius_px") is None:
        return [
            fits.pattern_with_rings(
                maps.mean_pattern, (), _mask(bad, maps.sum_pattern.shape), "Mean pattern: no disk was found"
            )
        ]
    centre = (value["centre_px"][0], value["centre_px"][1])
    ring = {"centre_px": centre, "radius_px": value["radius_px"], "label": "disk"}
    return [
        fits.pattern_with_rings(
            maps.mean_pattern, (ring,), _mask(bad, maps.sum_pattern.shape), "Mean pattern and fitted disk"
        ),
        fits.radial_profile(
            maps.mean_pattern,
            centre,
            value["radius_px"],
            value.get("edge_width_px"),
            _mask(bad, maps.sum_pattern.shape),
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
        drawings.append(fits.positions_with_plane(positions, plane, step_nm, state))
    return drawings


def _current(one: Facts, paths: list[Path], plan: Plan, bad: Pixels) -> list[Drawing]:
    maps = _read(paths[0], bad)
    with open_frames(paths[0]) as frames:
        exposure_us = float(str(frames.metadata.get("exposure_time_us", plan.exposure.live_time_us)))
    return [fits.totals(maps.total[maps.recorded], electrons(plan.optics.probe_current_pa, exposure_us))]


def _rings(one: Facts, paths: list[Path], _plan: Plan, bad: Pixels) -> list[Drawing]:
    """The mean pattern with whatever rings the measurement left, of kinds without a picture of their own."""
    rings = (one["curves"] or {}).get("rings", ())
    return [_ringed(_mean_of(paths if rings else paths[:1], bad), rings, bad)]


def _ringed(pattern: NDArray[np.float64], rings: Any, bad: Pixels) -> Drawing:
    title = "Mean pattern and fit" if rings else "Mean pattern"
    return fits.pattern_with_rings(pattern, rings, _mask(bad, pattern.shape), title)


def _ellipse(one: Facts, paths: list[Path], plan: Plan, bad: Pixels) -> list[Drawing]:
    value = one["value"]
    disk, *rings = (one["curves"] or {}).get("rings") or [None]
    if disk is None or not rings or "ellipticity" not in rings[0] or value.get("ellipticity") is None:
        return _rings(one, paths, plan, bad)
    pattern = _mean_of(paths, bad)
    centre = (rings[0]["centre_px"][0], rings[0]["centre_px"][1])
    radii = np.array([each["radius_px"] for each in rings])
    seen = sector_radii(pattern, _mask(bad, pattern.shape), centre, radii, disk["radius_px"])
    azimuth = np.linspace(0.0, 360.0, 181)
    fitted = ellipse_departure(azimuth, value["ellipticity"], value["ellipse_angle_deg"])
    error = (one["uncertainty"] or {}).get("ellipticity")
    percent = quantity(100 * value["ellipticity"], "%", None if error is None else 100 * error)
    words = f"{percent}, long axis at {value['ellipse_angle_deg']:.0f}°"
    drawing = measured.ellipse(seen.azimuth_deg, seen.departure, seen.uncertainty, (azimuth, fitted), words)
    return [drawing, _ringed(pattern, [disk, *rings], bad)]


def _rotation(one: Facts, paths: list[Path], _plan: Plan, bad: Pixels) -> list[Drawing]:
    value = one["value"]
    if value.get("rotation_deg") is None:
        return []
    maps, angles = _read(paths[0], bad), np.linspace(-90.0, 90.0, 181)
    mirrored = bool(value.get("mirrored"))
    drawing = measured.rotation(
        angles,
        curl_by_angle(maps.com_y_px, maps.com_x_px, maps.recorded, mirrored, angles),
        _plain_curl(maps, mirrored, angles),
        found_deg=value["rotation_deg"],
        uncertainty_deg=(one["uncertainty"] or {}).get("rotation_deg"),
        deflections_deg=value.get("by_deflections_deg"),
    )
    return [drawing]


def _plain_curl(maps: RunMaps, mirrored: bool, angles_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the deflections that is curl at each angle, differences from position to position, without weights."""
    y, x = (np.nan_to_num(com - np.nanmean(com)).astype(np.float64) for com in (maps.com_y_px, maps.com_x_px))
    y = -y if mirrored else y
    # In the frame turned by a, curl is cos a of the curl and sin a of the divergence.
    curl = np.gradient(x, axis=0) - np.gradient(y, axis=1)
    divergence = np.gradient(y, axis=0) + np.gradient(x, axis=1)
    whole = float(np.mean(curl**2 + divergence**2))
    turned = [np.cos(a) * curl + np.sin(a) * divergence for a in np.radians(angles_deg)]
    return np.sqrt(np.array([float(np.mean(each**2)) for each in turned]) / max(whole, 1e-300))


def _step(one: Facts, paths: list[Path], _plan: Plan, _bad: Pixels) -> list[Drawing]:
    value, curves = one["value"], one["curves"] or {}
    drawings = []
    images = _online(paths[0]).virtual
    if "beyond_disk" in images and value.get("step_y_nm") and value.get("step_x_nm"):
        steps = (value["step_y_nm"], value["step_x_nm"])
        drawings.append(virtual_image(images["beyond_disk"], "beyond the disk, of the reference", steps, None))
    if curves.get("fit") is not None:
        at, found = (np.array(curves[name], dtype=np.float64) for name in ("fit", "data"))
        drawings.append(measured.residuals(at, 100 * (found / at - 1)))
    return drawings


def _drift(one: Facts, paths: list[Path], _plan: Plan, _bad: Pixels) -> list[Drawing]:
    times, rate = (one["curves"] or {}).get("x"), one["value"].get("drift_nm_per_min")
    if times is None or len(times) != len(paths) or rate is None or None in rate:
        return []
    step_nm, scans = _step_nm(paths[0]), [_online(path) for path in paths]
    images = [[without_surface(each, scan.recorded, 0) for each in (*scan.virtual.values(), scan.total)]
              for scan in scans]  # fmt: skip
    places, errors = np.zeros((len(scans), 2)), np.zeros((len(scans), 2))
    for index in range(1, len(scans)):
        shift = register(images[0], images[index], scans[0].recorded, scans[index].recorded)
        places[index] = np.array(shift.shift_px) * step_nm if shift.ok else np.nan
        errors[index] = np.sqrt(np.diag(shift.covariance_px2)) * step_nm if shift.ok else np.nan
    return [measured.drift(np.array(times), places, errors, (rate[0], rate[1]))]


_KINDS: dict[str, Callable[[Facts, list[Path], Plan, Pixels], list[Drawing]]] = {
    "pixel_mask": _pixels,
    "centre": _disk,
    "descan": _descan,
    "current": _current,
    "ellipticity": _ellipse,
    "rotation": _rotation,
    "scan_step": _step,
    "drift": _drift,
}
_OWN_CURVES = frozenset({"rotation", "scan_step", "ellipticity", "drift"})
"""Kinds whose own picture, where it can be drawn, says what their curve would."""
_CURVES = {
    "mrad_per_pixel": "Radial profile and fitted rings",
    "counts_per_electron": "Variance of the pixels against their mean",
}


def _mean_of(paths: list[Path], bad: Pixels) -> NDArray[np.float64]:
    pattern: NDArray[np.float64] = np.mean([_read(path, bad).mean_pattern for path in paths], axis=0)
    return pattern


def _online(path: Path) -> RunMaps:
    """The maps that the acquisition left beside the frames."""
    with open_frames(path) as frames:
        try:
            return maps_from_arrays(frames.online(), frames.full_scale)
        except KeyError as missing:
            raise BadInput(
                field=path.name, value=f"no array {missing}", limit="the acquisition ended before it wrote its maps"
            ) from None


def _read(path: Path, bad: Pixels) -> RunMaps:
    """Maps of a small file, bad pixels left out."""
    with open_frames(path) as frames:
        spec = AccumulatorSpec(
            detector_shape=frames.detector_shape,
            dtype=frames.dtype,
            detectors=(),
            full_scale=None,
            bad_pixels=_mask(bad, frames.detector_shape),
            threads=1,
        )
        return maps_of(frames, spec)


def _scale(path: Path, plan: Plan) -> float:
    with open_frames(path) as frames:
        return float(str(frames.metadata.get("mrad_per_pixel", plan.mrad_per_pixel)))


def _step_nm(path: Path) -> float:
    with open_frames(path) as frames:
        return float(str(frames.metadata["scan_step_nm"]))


def _mask(bad: Pixels, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    for y, x in bad:
        mask[y, x] = True
    return mask


def _from_middle(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Positions (y, x) of a scan from its middle, in steps, shape (scan_y, scan_x, 2)."""
    y, x = np.indices(shape[:2], dtype=np.float64)
    return np.stack([y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2], axis=-1)
