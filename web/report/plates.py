"""Draws the pictures of a run from its files: what the acquisition left beside the frames, and the vacuum scans."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices.passes import maps_of
from stem4d.accumulate import AccumulatorSpec
from stem4d.errors import BadInput
from stem4d.maps import RunMaps, maps_from_arrays
from stem4d.plan import Plan, Virtual, VirtualDetector
from stem4d.quality.drift_seen import shift_between
from storage.read import open_frames
from web.report.figures import maps, motion, patterns
from web.report.figures.canvas import as_picture
from web.report.text import number, places
from web.report.values import Picture, Plate

BEFORE, AFTER = "vacuum-before.h5", "vacuum-after.h5"
"""The calibration's scans without specimen, beside the run's own files."""


MOST_PASSES = 20
"""Passes that the drift is drawn from."""


@dataclass(frozen=True)
class Pass:
    """One recorded pass: its file and its place among the others."""

    path: Path
    index: int


@dataclass(frozen=True)
class Calibrated:
    """What the calibrations say of a run's patterns; None and empty where there are none."""

    centre_px: tuple[float, float] | None = None
    bad_pixels: tuple[tuple[int, int], ...] = ()
    vacuum_folder: Path | None = None
    mrad_per_pixel: float | None = None
    convergence_semi_angle_mrad: float | None = None
    step_ratio: tuple[float, float] | None = None
    """(y, x): true over nominal scan step."""

    def step_nm(self, plan: Plan) -> tuple[float, float]:
        """(y, x), as calibrated; as the plan asked where nobody knows better."""
        y, x = self.step_ratio or (1.0, 1.0)
        return plan.scan.step_nm * y, plan.scan.step_nm * x

    def nominal(self) -> tuple[str, ...]:
        """What pictures show as the plan has it: ``angle``, ``convergence``, ``step``."""
        known = {"angle": self.mrad_per_pixel, "convergence": self.convergence_semi_angle_mrad, "step": self.step_ratio}
        return tuple(name for name, value in known.items() if value is None)


@dataclass(frozen=True)
class Judged:
    """Figures and limits that the run was judged by, as far as pictures show them."""

    descan_limit_px: float | None = None
    drift_nm_per_min: float | None = None
    drift_limit_nm_per_min: float | None = None


def run_plates(plan: Plan, passes: tuple[Pass, ...], calibrated: Calibrated, judged: Judged) -> tuple[Plate, ...]:
    """All pictures of a run: patterns and centre of mass of its last pass, virtual images of its first and last.

    Raises
    ------
    BadInput
        A file is missing or damaged.
    """
    last, last_scale = _read(passes[-1].path, plan)
    geometry = _geometry(plan, last, last_scale, calibrated)
    invalid = _mask(calibrated, last.sum_pattern.shape)
    steps_nm = calibrated.step_nm(plan)
    plates = [_patterns(last, geometry, invalid, _of_pass(passes[-1], passes))]
    for one in passes[:: max(1, len(passes) - 1)]:
        recorded = last if one is passes[-1] else _read(one.path, plan)[0]
        plates.append(_virtual_images(recorded, plan, calibrated, _of_pass(one, passes)))
    plates.append(_centre_of_mass(last, geometry, steps_nm, _of_pass(passes[-1], passes)))
    plates.append(_disk_positions(last, geometry, calibrated, judged.descan_limit_px))
    if len(passes) > 1:
        plates.append(_drift(passes, plan, steps_nm, judged))
    return tuple(plates)


def _read(path: Path, plan: Plan) -> tuple[RunMaps, float]:
    """Maps of a file, and its angle per pixel [mrad]."""
    with open_frames(path) as frames:
        scale = frames.metadata.get("mrad_per_pixel", plan.mrad_per_pixel)
        assert isinstance(scale, int | float)
    return read_maps(path), float(scale)


def read_maps(path: Path) -> RunMaps:
    """What the acquisition left in a file beside the frames, with what its ledger says.

    Raises
    ------
    BadInput
        The file is missing or damaged, or the acquisition ended before it wrote its maps.
    """
    with open_frames(path) as frames:
        try:
            maps = maps_from_arrays(frames.online(), frames.full_scale)
            return replace(maps, came_twice=frames.came_twice, corrupt=frames.corrupt)
        except KeyError as missing:
            raise BadInput(
                field=path.name,
                value=f"no array {missing}",
                limit="the acquisition ended before it wrote its maps",
                remedy="`nightbeam inspect` makes them from the frames",
            ) from None


def _geometry(plan: Plan, recorded: RunMaps, mrad_per_pixel: float, calibrated: Calibrated) -> patterns.PatternGeometry:
    centre = calibrated.centre_px
    if centre is None and recorded.frames:
        centre = float(np.nanmean(recorded.com_y_px)), float(np.nanmean(recorded.com_x_px))
    rows, columns = recorded.sum_pattern.shape
    return patterns.PatternGeometry(
        calibrated.mrad_per_pixel or mrad_per_pixel,
        centre or ((rows - 1) / 2, (columns - 1) / 2),
        calibrated.convergence_semi_angle_mrad or plan.optics.convergence_semi_angle_mrad,
        _rings(plan),
        calibrated.nominal(),
    )


def _patterns(recorded: RunMaps, geometry: patterns.PatternGeometry, invalid: NDArray[np.bool_], which: str) -> Plate:
    bad = int(invalid.sum())
    masked = f" Bad pixels, left out and drawn in a colour of their own: {_places(invalid)}." if bad else ""
    y, x = geometry.centre_px
    note = (
        f"Of {number(recorded.frames)} frames. The centre lies at pixel ({number(y)}, {number(x)}) (y, x). "
        f"Angles: {_angles_said(geometry)}.{masked}"
    )
    mean = patterns.mean_pattern(recorded.mean_pattern, geometry, invalid)
    highest = patterns.maximum_pattern(recorded.max_pattern, geometry, invalid, recorded.full_scale)
    return Plate(f"Diffraction patterns{which}", (as_picture(mean), as_picture(highest)), note)


def _angles_said(geometry: patterns.PatternGeometry) -> str:
    """Whether the scale and the disk of the pictures were measured."""
    scale = "nominal, of the plan" if "angle" in geometry.nominal else "calibrated"
    disk = "nominal, of the plan" if "convergence" in geometry.nominal else "calibrated"
    return (
        f"1 px = {number(geometry.mrad_per_pixel)} mrad ({scale}), disk of "
        f"{number(geometry.convergence_semi_angle_mrad)} mrad ({disk})"
    )


def _places(invalid: NDArray[np.bool_]) -> str:
    """How many bad pixels, and where (y, x)."""
    found = np.argwhere(invalid).tolist()
    return f"{number(len(found))}, at (y, x) {places(found)}"


def _virtual_images(recorded: RunMaps, plan: Plan, calibrated: Calibrated, which: str) -> Plate:
    own, steps_nm = {ring.name: ring for ring in _rings(plan)}, calibrated.step_nm(plan)
    alpha = plan.optics.convergence_semi_angle_mrad
    rings = own or {"disk": VirtualDetector(name="disk", inner_mrad=0.0, outer_mrad=alpha)}
    names = list(own) or sorted(recorded.virtual)
    pictures = [
        maps.virtual_image(np.where(recorded.recorded, image, np.nan), name, steps_nm, rings.get(name))
        for name, image in ((name, recorded.virtual[name]) for name in names if name in recorded.virtual)
    ]
    y, x = (number(step) for step in steps_nm)
    asked = f"calibrated; {number(plan.scan.step_nm)} was asked for"
    how = "nominal, of the plan" if calibrated.step_ratio is None else asked
    note = f"Scan step {y} nm (y), {x} nm (x): {how}."
    return Plate(f"Virtual images{which}", tuple(as_picture(one) for one in pictures), note)


def _centre_of_mass(
    recorded: RunMaps, geometry: patterns.PatternGeometry, step_nm: tuple[float, float], which: str
) -> Plate:
    scale = geometry.mrad_per_pixel
    y, x = (_from_mean(values) * scale for values in (recorded.com_y_px, recorded.com_x_px))
    limit = maps.com_limit_mrad(y, x)
    drawings = (
        maps.com_direction(y, x, step_nm, limit),
        maps.com_component(y, "y", step_nm, limit),
        maps.com_component(x, "x", step_nm, limit),
    )
    note = "Less its mean over the scan. Components along the detector's axes, y downwards."
    return Plate(f"Centre of mass{which}", tuple(as_picture(one) for one in drawings), note)


def _disk_positions(
    recorded: RunMaps, geometry: patterns.PatternGeometry, calibrated: Calibrated, limit_px: float | None
) -> Plate:
    middle = (np.array(recorded.sum_pattern.shape) - 1) / 2
    specimen = np.stack([recorded.com_y_px, recorded.com_x_px], axis=-1).astype(np.float64) - middle
    states = [(_vacuum(calibrated, name), word) for name, word in ((BEFORE, "before"), (AFTER, "after"))]
    shown: list[Picture] = [
        as_picture(
            motion.disk_positions(
                values,
                geometry.mrad_per_pixel,
                state=f"vacuum, {word} correction",
                limit_px=limit_px,
                nominal="angle" in geometry.nominal,
            )
        )
        for values, word in states
        if values is not None
    ]
    # On a specimen the centre of mass follows the fields of the atoms too: only where no vacuum scan tells them apart.
    if recorded.frames and not shown:
        drawn = motion.disk_positions(
            specimen, geometry.mrad_per_pixel, state="on the specimen", limit_px=limit_px,
            nominal="angle" in geometry.nominal,
        )  # fmt: skip
        shown.append(as_picture(drawn))
    note = "Each mesh is the scan field as the disk's centre of mass draws it on the detector, in blocks of the scan."
    return Plate("Disk position: descan and centring", tuple(shown), note)


def _vacuum(calibrated: Calibrated, name: str) -> NDArray[np.float64] | None:
    """Centre of mass of a vacuum scan's patterns less the detector's middle, (scan_y, scan_x, 2) [px]."""
    path = None if calibrated.vacuum_folder is None else calibrated.vacuum_folder / name
    if path is None or not path.is_file():
        return None
    with open_frames(path) as frames:
        spec = AccumulatorSpec(
            detector_shape=frames.detector_shape,
            dtype=frames.dtype,
            detectors=(),
            full_scale=None,
            bad_pixels=_mask(calibrated, frames.detector_shape),
            threads=1,
        )
        maps = maps_of(frames, spec)
    centre = np.stack([maps.com_y_px, maps.com_x_px], axis=-1).astype(np.float64)
    return centre - (np.array(maps.sum_pattern.shape) - 1) / 2


def _drift(passes: tuple[Pass, ...], plan: Plan, steps_nm: tuple[float, float], judged: Judged) -> Plate:
    """The shift of each pass against the first; of many passes, some between."""
    chosen = sorted({round(at) for at in np.linspace(0, len(passes) - 1, min(len(passes), MOST_PASSES))})
    first = _read(passes[0].path, plan)[0]
    offsets_nm = np.zeros((len(chosen), 2))
    reasons = []
    for row, number_of_pass in enumerate(chosen[1:], start=1):
        other = _read(passes[number_of_pass].path, plan)[0]
        shift = shift_between(first, other)
        offsets_nm[row] = np.array(shift.shift_px) * steps_nm if shift.ok else np.nan
        reasons += [] if shift.ok else [shift.reason]
    drawing = motion.drift(
        offsets_nm,
        np.array([passes[at].index + 1 for at in chosen]),
        rate_nm_per_min=judged.drift_nm_per_min,
        limit_nm_per_min=judged.drift_limit_nm_per_min,
    )
    note = f"Not every pass could be placed: {reasons[-1]}." if reasons else ""
    return Plate("Drift", (as_picture(drawing),), note)


def _rings(plan: Plan) -> tuple[VirtualDetector, ...]:
    rings = {ring.name: ring for kind in plan.analyses if isinstance(kind, Virtual) for ring in kind.detectors}
    return tuple(rings.values())


def _mask(calibrated: Calibrated, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    for y, x in calibrated.bad_pixels:
        mask[y, x] = True
    return mask


def _from_mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
    exact = np.asarray(values, dtype=np.float64)
    return exact - np.nanmean(exact) if np.isfinite(exact).any() else exact


def _of_pass(one: Pass, passes: tuple[Pass, ...]) -> str:
    return f", pass {one.index + 1} of {len(passes)}" if len(passes) > 1 else ""
