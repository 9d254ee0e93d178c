"""The method: a library from a CIF, the orientation of every pattern, and an outcome."""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from stem4d.analyse.geometry import angles_per_px, require_sound
from stem4d.analyse.method import Given, Method, Outcome, Parts, Rows
from stem4d.analyse.orientation.crystal import read_crystal
from stem4d.analyse.orientation.library import build, disk_px, offsets_px, polar_grid
from stem4d.analyse.orientation.pictures import outcome
from stem4d.analyse.orientation.search import FIGURES, orient_frames
from stem4d.analyse.usable import MOST_LOST
from stem4d.errors import BadInput
from stem4d.model import Positive, Strict
from stem4d.optics import wavelength_a

Array = npt.NDArray[np.float64]


class OrientationOptions(Strict):
    """What patterns are matched with."""

    crystal_cif: Annotated[str, Field(min_length=1, max_length=2_000_000)]
    """Text of a CIF."""
    angular_step_deg: Annotated[float, Field(ge=0.5, le=5.0)] = 2.0
    """Between templates."""
    excitation_per_a: Annotated[float, Field(ge=1e-4, le=0.2)] = 0.02
    """Excitation error at which a reflection has fallen to 1/e [1/Å]: about 0.5 over the thickness in Å, more for
    bent or rocked crystals."""
    shape: Literal["gaussian", "plate"] = "gaussian"
    """How reflections fall off: a Gaussian of that width, or as for a flat plate of the specimen's thickness, whose
    sinc² the refinement has and templates come near with a Gaussian."""
    largest_angle_mrad: Positive | None = None
    """Spots beyond are not used; to the edge of the detector if absent."""
    least_score: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Correlation below which a pattern is not this crystal's."""
    least_margin: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Part of the score by which the best orientation must lie above every different one, and above itself turned by
    180 deg about its zone axis."""


def prepare(given: Given, options: OrientationOptions, rows: Rows) -> Parts:
    """The library and the polar grid, as arrays."""
    require_sound(given, rows.scan_shape, rows.detector_shape)
    crystal = read_crystal(options.crystal_cif)
    wide = options.excitation_per_a if options.shape == "gaussian" else 0.05 / _thickness_nm(given)
    radii, azimuths = polar_grid(given, rows.detector_shape, options.largest_angle_mrad)
    made = build(crystal, given, radii, azimuths, options.angular_step_deg, wide)
    return {**made, "radii_mrad": radii, "offsets_px": offsets_px(given, radii, azimuths)}


def part(given: Given, options: OrientationOptions, rows: Rows, prepared: Parts, first: int, stop: int) -> Parts:
    """Orientations and figures of rows first to stop - 1."""
    width = rows.scan_shape[1]
    number = (stop - first) * width
    rotation, figures = np.full((number, 3, 3), np.nan), np.full((number, FIGURES), np.nan)
    # One type for the compiled part, which would be compiled again for another.
    origin = given.origin_at(rows.scan_shape).reshape(2, -1).T.astype(np.float64)
    good = ~given.bad_pixels
    radii = prepared["radii_mrad"]
    radius, spacing = disk_px(given), float(radii[1] - radii[0])
    reach = int(radius)
    half_widths = np.floor(np.sqrt(radius**2 - np.arange(-reach, reach + 1) ** 2)).astype(np.int64)
    per_px = given.mrad_per_pixel
    cells = spacing * radii * (2 * np.pi / prepared["offsets_px"].shape[1]) / (np.pi * (radius * per_px) ** 2)
    optics = np.array(
        [
            wavelength_a(given.beam_energy_kev),
            options.excitation_per_a,
            radii[0],
            radii[-1],
            prepared["wide_per_a"][0],
            0.0 if options.shape == "gaussian" else 10 * _thickness_nm(given),
        ]
    )
    for positions, batch in rows.read(first, stop):
        frames, usable = _numbers(batch, good)
        at = positions - first * width
        found, told = np.empty((len(frames), 3, 3)), np.empty((len(frames), FIGURES))
        orient_frames(
            frames,
            good,
            1 / given.counts_per_electron,
            np.ascontiguousarray(origin[positions]),
            np.linalg.inv(angles_per_px(given)),
            half_widths,
            radius,
            prepared["offsets_px"],
            spacing,
            cells,
            optics,
            np.radians(options.angular_step_deg),
            prepared["turns"],
            prepared["g"],
            prepared["strength"],
            prepared["rotation"],
            prepared["first"],
            prepared["ring"],
            prepared["azimuth"],
            prepared["weight"],
            found,
            told,
        )
        rotation[at[usable]], figures[at[usable]] = found[usable], told[usable]
    grid = (stop - first, width)
    return {"rotation": rotation.reshape(*grid, 3, 3), "figures": figures.reshape(*grid, FIGURES)}


def finish(given: Given, options: OrientationOptions, prepared: Parts, parts: Parts) -> Outcome:
    """Maps of orientation, score and margin, and what they are worth."""
    return outcome(
        given,
        parts["rotation"],
        parts["figures"],
        prepared["turns"],
        disk_px(given),
        options.least_score,
        options.least_margin,
    )


ORIENTATION = Method("orientation", OrientationOptions, prepare, part, finish)


def _thickness_nm(given: Given) -> float:
    if given.thickness_nm is None:
        raise BadInput(
            field="thickness_nm",
            value=None,
            limit="must be known where shape is plate",
            unit="nm",
            remedy="Use gaussian",
        )
    return given.thickness_nm


def _numbers(
    batch: npt.NDArray[np.generic], good: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Frames as the compiled part takes them, and which can be used; what is no number becomes 0."""
    values = np.ascontiguousarray(batch, dtype=np.float32)
    if batch.dtype.kind in "ub":
        return values, np.ones(len(values), bool)
    lost = ~np.isfinite(values)
    if lost.any():
        values = np.where(lost, np.float32(0.0), values)
    usable: npt.NDArray[np.bool_] = (lost & good).sum((1, 2)) <= MOST_LOST * good.sum()
    return values, usable
