"""Centre of mass of frames that left no maps behind: one pass, then what maps of an acquisition get."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from stem4d import optics
from stem4d.analyse.com.outcome import ComOptions, com_outcome
from stem4d.analyse.frame_pass import FollowingPass, sampled_rows
from stem4d.analyse.geometry import require_sound
from stem4d.analyse.method import Given, Method, Outcome, Parts, Rows
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.quality.regions import CLEAR_OF_DISK, EDGE_PX
from stem4d.virtual_detectors import PixelMask

Mask = npt.NDArray[np.bool_]


def prepare(given: Given, options: ComOptions, rows: Rows) -> Parts:
    """The sum of some rows' patterns, on the mean origin, and which rows they are."""
    require_sound(given, rows.scan_shape, rows.detector_shape)
    looking = _pass(given, options, rows)
    if options.region_outer_mrad is not None:
        _check_region(given, options.region_outer_mrad, looking)
    chosen = sampled_rows(rows)
    region = _region(given, options, rows, looking.mean_px)
    return {"pattern": looking.look(chosen.tolist()).aligned, "rows": chosen, "region": region}


def part(given: Given, options: ComOptions, rows: Rows, prepared: Parts, first: int, stop: int) -> Parts:
    """Centres and counts of rows first to stop - 1."""
    found = _pass(given, options, rows).over(first, stop)
    return {
        "total": found.total,
        "com_counts": found.com_counts,
        "com_px": found.com_px,
        "moved_px": found.moved_px,
        "saturated": found.saturated,
        "adf": found.virtual.sum(axis=-1),
    }


def finish(given: Given, options: ComOptions, prepared: Parts, parts: Parts) -> Outcome:
    """As `stem4d.analyse.com.outcome.com_outcome` has it, every pattern moved onto the mean origin by whole pixels."""
    shape = parts["total"].shape
    recorded = np.isfinite(parts["total"])
    nothing = np.zeros(shape, np.uint32)
    com = parts["com_px"].astype(np.float32)
    maps = RunMaps(
        recorded=recorded,
        total=np.nan_to_num(parts["total"]),
        com_y_px=com[..., 0],
        com_x_px=com[..., 1],
        maximum=nothing,
        saturated_px=parts["saturated"].astype(np.uint32),
        invalid_px=nothing,
        sum_pattern=prepared["pattern"],
        max_pattern=prepared["pattern"],
        full_scale=given.full_scale,
        virtual={"adf": np.nan_to_num(parts["adf"])} if np.nansum(parts["adf"]) > 0 else {},
    )
    origin = given.origin_at((shape[0], shape[1])) - parts["moved_px"].transpose(2, 0, 1)
    summed = np.zeros(shape, bool)
    summed[prepared["rows"]] = True
    counts = np.nan_to_num(parts["com_counts"], nan=0.0)
    return com_outcome(
        replace(given, origin_px=origin), maps, options, PixelMask("region", prepared["region"]), counts, summed
    )


COM = Method("com", ComOptions, prepare, part, finish)


def _pass(given: Given, options: ComOptions, rows: Rows) -> FollowingPass:
    origin = given.origin_at(rows.scan_shape).reshape(2, -1)
    farthest = [(y, x) for y in (origin[0].min(), origin[0].max()) for x in (origin[1].min(), origin[1].max())]
    # Where the disk leaves no room beside it, nothing tells what scatters.
    room = all((_beyond(given, rows.detector_shape, at) & ~given.bad_pixels).any() for at in farthest)

    def beyond(origin_px: tuple[float, float]) -> tuple[Mask, ...]:
        return (_beyond(given, rows.detector_shape, origin_px),) if room else ()

    if options.region_outer_mrad is None:
        return FollowingPass(given, rows, beyond)
    return FollowingPass(given, rows, beyond, lambda origin: _region(given, options, rows, origin))


def _beyond(given: Given, shape: tuple[int, int], origin_px: tuple[float, float]) -> Mask:
    """Pixels clear of the disk: what they count tells where the specimen scatters."""
    y, x = np.indices(shape)
    radius = optics.disk_radius_px(given.convergence_semi_angle_mrad, given.mrad_per_pixel)
    far: Mask = np.hypot(y - origin_px[0], x - origin_px[1]) > CLEAR_OF_DISK * radius + EDGE_PX
    return far


def _region(given: Given, options: ComOptions, rows: Rows, origin_px: tuple[float, float]) -> Mask:
    if options.region_outer_mrad is None:
        return np.ones(rows.detector_shape, bool)
    y, x = np.indices(rows.detector_shape)
    near: Mask = np.hypot(y - origin_px[0], x - origin_px[1]) * given.mrad_per_pixel <= options.region_outer_mrad
    return near


def _check_region(given: Given, outer_mrad: float, looking: FollowingPass) -> None:
    """A region of less than the disk carries no centre of mass worth the name."""
    if outer_mrad < given.convergence_semi_angle_mrad:
        raise BadInput(
            field="region_outer_mrad",
            value=outer_mrad,
            limit=f"at least the convergence semi-angle, {given.convergence_semi_angle_mrad:g} mrad",
            unit="mrad",
        )
    for axis, name in enumerate(("y", "x")):
        farthest = looking.moved_px[..., axis].astype(float) + looking.mean_px[axis]
        low, high = float(farthest.min()), float(farthest.max())
        if low < 0 or high > looking.rows.detector_shape[axis] - 1:
            raise BadInput(
                field="origin_px",
                value=(round(low, 1), round(high, 1)),
                limit=f"on the detector along {name}, 0 to {looking.rows.detector_shape[axis] - 1}",
                unit="px",
            )
