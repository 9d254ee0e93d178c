"""Tilt-corrected bright field as an analysis: gather, fit, shift, correct the contrast transfer, and judge."""

from dataclasses import replace
from math import isnan, nan
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy import ndimage

from stem4d import optics
from stem4d.analyse.geometry import require_sound
from stem4d.analyse.method import Array, Given, Method, NotPossible, Outcome, Parts, Picture, Rows
from stem4d.analyse.tcbf.fit import Aligned, aligned, depth_of_field_nm, tilt_images
from stem4d.analyse.tcbf.gather import angle_groups, gathered
from stem4d.analyse.tcbf.halves import Likeness, likeness, signal_over_noise
from stem4d.analyse.tcbf.scatter import Entered, enter
from stem4d.analyse.tcbf.transfer import Correction, Grid, Optics, corrected, filter_of, noise_shape, transfer
from stem4d.calibrate.angles import AngleGroups
from stem4d.calibrate.tilt import SMALLEST_PX, Order
from stem4d.calibrate.tilt_model import Geometry, directions, shifts_nm
from stem4d.model import Strict

UNEQUAL_STEPS = 1e-3
"""Part by which the scan's steps along y and x may differ."""
ALIKE = 5.0
"""Sigmas by which the halves' images must be alike."""
MOST_NOISE = 1.5
"""Noise of the halves over that of counting from which on something else is in the images."""


class TcbfOptions(Strict):
    """How tilt-corrected bright field is made."""

    upsampling: Annotated[float, Field(ge=1, le=16)] = 1.0
    """Pixels of the picture per scan step."""
    correction: Correction = "flip"
    """Of the contrast transfer: signs alone, Wiener's division, or none."""
    order: Order = "first"
    """Aberrations that are fitted: defocus and astigmatism; coma and threefold astigmatism too; Cs too."""
    nominal_defocus_nm: float | None = None
    """About which is searched; the column's if absent."""


def prepare(given: Given, options: TcbfOptions, rows: Rows) -> Parts:
    """Refuse what cannot work before a frame is read; tell the groups of angles.

    Raises
    ------
    NotPossible, BadInput
        Without a defocus, with too few positions or unequal steps, or with the disk off the detector.
    """
    require_sound(given, rows.scan_shape, rows.detector_shape)
    nominal = _nominal(given, options)
    if min(rows.scan_shape) < SMALLEST_PX:
        raise NotPossible(
            f"{rows.scan_shape} positions (y, x) are too few to shift images onto each other; it takes {SMALLEST_PX} "
            "each way"
        )
    steps = given.scan_step_nm
    if abs(steps[0] - steps[1]) > UNEQUAL_STEPS * max(steps):
        raise NotPossible(
            f"the scan's steps differ, {steps[0]:.4g} nm along y and {steps[1]:.4g} nm along x; shifts are fitted on "
            "a square grid alone. Scan with equal steps"
        )
    groups = angle_groups(given, rows.detector_shape, steps[0] / options.upsampling, nominal)
    return {"detector_shape": np.array(rows.detector_shape), "angles_px": groups.angles_px}


def part(given: Given, options: TcbfOptions, rows: Rows, prepared: Parts, first: int, stop: int) -> Parts:
    """Counts of every group of angles in rows first to stop - 1."""
    return gathered(given, rows, _groups(given, options, prepared), first, stop)


def finish(given: Given, options: TcbfOptions, prepared: Parts, parts: Parts) -> Outcome:
    """Fit, reconstruct and judge.

    Raises
    ------
    NotPossible
        Where the images do not tell what aligns them.
    """
    groups = _groups(given, options, prepared)
    told = _with_defocus(given, _nominal(given, options))
    recorded = np.asarray(parts["recorded"], bool)
    if not recorded.any():
        raise NotPossible("no position holds a frame that can be used")
    found = aligned(told, tilt_images(told, groups, parts), options.order)
    if not len(found.values):
        raise NotPossible(
            f"no defocus near the nominal {told.defocus_nm:.4g} nm aligns the images of the angles; give another"
            " nominal_defocus_nm, right within a half of it"
        )
    light = Optics(
        found.values,
        given.convergence_semi_angle_mrad * 1e-3,
        optics.wavelength_a(given.beam_energy_kev) / 10,
        groups.width_px * given.mrad_per_pixel * 1e-3,
    )
    entered = _entered(given, options, groups, found, light, parts)
    pixel = given.scan_step_nm[0] / options.upsampling
    halves = likeness(*entered.halves(), pixel)
    image, sigma = entered.image()
    doubts = [*found.doubts, *_doubts(halves, sigma)]
    pictures = [
        Picture("aligned", "Tilt-corrected bright field", image, "", "intensity", (pixel, pixel), sigma),
        _plain(given, recorded, parts),
    ]
    if options.correction != "none" and halves is not None:
        pictures.append(_corrected(options.correction, image, sigma, halves, light, pixel))
    figures = _figures(given, found, halves, sigma, groups, recorded)
    verdict: Literal["good", "doubtful"] = "doubtful" if doubts else "good"
    return Outcome(verdict, "; ".join([_told(found, halves), *doubts]), figures, tuple(pictures))


TCBF = Method("tcbf", TcbfOptions, prepare, part, finish)


def _nominal(given: Given, options: TcbfOptions) -> float:
    nominal = options.nominal_defocus_nm if options.nominal_defocus_nm is not None else given.defocus_nm
    if nominal is None:
        raise NotPossible("the defocus is nowhere said; give nominal_defocus_nm, right within a half of it")
    if nominal == 0:
        raise NotPossible("in focus the images of all angles lie alike: there is nothing to shift. Scan with a defocus")
    return nominal


def _with_defocus(given: Given, nominal_nm: float) -> Given:
    """What the column says of its defocus is no nominal one where another was given."""
    if given.defocus_nm == nominal_nm:
        return given
    known = {name: value for name, value in given.uncertainty.items() if name != "defocus_nm"}
    return replace(given, defocus_nm=nominal_nm, uncertainty=known)


def _groups(given: Given, options: TcbfOptions, prepared: Parts) -> AngleGroups:
    y, x = (int(n) for n in prepared["detector_shape"])
    return angle_groups(given, (y, x), given.scan_step_nm[0] / options.upsampling, _nominal(given, options))


def _entered(
    given: Given, options: TcbfOptions, groups: AngleGroups, found: Aligned, light: Optics, parts: Parts
) -> Entered:
    angles = directions(groups.angles_px, found.projection, found.fit.mirrored)
    # A shift depends on no frequency.
    geometry = Geometry(
        angles, np.zeros(0, complex), light.alpha, light.group_rad, light.wavelength_nm, np.ones(len(angles))
    )
    shifts = shifts_nm(geometry, light.values) / given.scan_step_nm[0]
    # A chequerboard of angles: both halves see the specimen from all sides.
    cell = np.rint((groups.angles_px - groups.angles_px.min(axis=0)) / groups.width_px).astype(np.int64)
    return enter(
        parts["counts"], parts["recorded"], shifts, cell.sum(axis=1) % 2, options.upsampling, given.counts_per_electron
    )


def _plain(given: Given, recorded: Array, parts: Parts) -> Picture:
    electrons = np.asarray(parts["counts"]).sum(axis=-1, dtype=np.float64) / given.counts_per_electron
    mean = float(electrons[recorded].mean())
    image = np.where(recorded, electrons / mean, np.nan)
    sigma = np.where(recorded, np.sqrt(np.abs(electrons)) / mean, np.nan)
    return Picture("bright_field", "Bright field, not shifted", image, "", "intensity", given.scan_step_nm, sigma)


def _corrected(
    correction: Correction, image: Array, sigma: Array, halves: Likeness, light: Optics, pixel_nm: float
) -> Picture:
    known = np.isfinite(image)
    contrast = np.where(known, image - np.nanmean(image), 0.0)
    grid = Grid((2 * image.shape[0], 2 * image.shape[1]), pixel_nm)
    passed = transfer(grid, light)
    chosen = filter_of(correction, passed, signal_over_noise(halves, np.abs(grid.frequencies())))
    values = np.where(known, corrected(contrast, chosen), np.nan)
    # A filter spreads noise: that of a pixel comes from around it.
    around = np.sqrt(ndimage.uniform_filter(np.where(known, sigma, np.nanmean(sigma)) ** 2, 5, mode="nearest"))
    noise = around * np.sqrt(float(np.mean(chosen**2 * noise_shape(grid))))
    flipped = correction == "flip"
    title = "Contrast with its signs corrected" if flipped else "Phase (Wiener)"
    unit = "" if flipped else "rad"
    noise = np.where(known, noise, np.nan)
    return Picture("corrected", title, values, unit, "signed", (pixel_nm, pixel_nm), noise)


def _doubts(halves: Likeness | None, sigma: Array) -> list[str]:
    if halves is None:
        return ["too little of the field is seen from all angles to compare halves of them"]
    doubts = []
    if halves.sigmas < ALIKE:
        doubts.append(f"images of two halves of the angles are alike by {halves.sigmas:.1f} sigma only")
    if (over := halves.noise / _rms(sigma)) > MOST_NOISE:
        doubts.append(f"the halves differ by {over:.1f} times what counting explains")
    return doubts


def _figures(
    given: Given, found: Aligned, halves: Likeness | None, sigma: Array, groups: AngleGroups, recorded: Array
) -> dict[str, float | int | str | bool | None]:
    fit = found.fit
    resolution = halves.resolution_nm if halves is not None else nan
    return {
        "defocus_nm": fit.defocus_nm,
        "defocus_uncertainty_nm": fit.defocus_uncertainty_nm,
        "astigmatism_nm": fit.astigmatism_nm,
        "astigmatism_uncertainty_nm": fit.astigmatism_uncertainty_nm,
        "astigmatism_angle_deg": fit.astigmatism_angle_deg,
        "astigmatism_angle_uncertainty_deg": fit.astigmatism_angle_uncertainty_deg,
        "scan_rotation_deg": fit.rotation_deg,
        "scan_rotation_uncertainty_deg": fit.rotation_uncertainty_deg,
        "half_turn_known": fit.half_turn_known,
        "mirrored": fit.mirrored,
        "significance_sigmas": fit.significance,
        "sharpness": fit.sharpness,
        "half_correlation": None if halves is None else halves.correlation,
        "noise_over_counting": None if halves is None else halves.noise / _rms(sigma),
        "resolution_d_nm": None if isnan(resolution) else resolution,
        "depth_of_field_nm": depth_of_field_nm(given),
        "angles": len(groups.first),
        "positions": int(recorded.sum()),
    }


def _told(found: Aligned, halves: Likeness | None) -> str:
    fit = found.fit
    told = (
        f"defocus {fit.defocus_nm:.4g} ± {fit.defocus_uncertainty_nm:.2g} nm, astigmatism {fit.astigmatism_nm:.3g} ± "
        f"{fit.astigmatism_uncertainty_nm:.2g} nm, rotation {fit.rotation_deg:.2f} ± "
        f"{fit.rotation_uncertainty_deg:.2f} deg"
    )
    if halves is None or isnan(halves.resolution_nm):
        return told
    return f"{told}; halves of the angles agree down to periods of {halves.resolution_nm:.3g} nm"


def _rms(values: Array) -> float:
    return float(np.sqrt(np.nanmean(values**2)))
