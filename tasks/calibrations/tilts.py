"""Defocus and astigmatism from the shifts of tilted bright-field images of the plan's area."""

from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.angles import TiltImages, add_frames, empty_images, group_angles
from stem4d.calibrate.tilt import TiltFit, fit_tilts
from stem4d.calibrate.tilt_model import ROTATION, Geometry, directions, shifts_nm
from storage.read import open_frames
from tasks.calibrations.bench import Bench, Scanned
from tasks.calibrations.exposed import VACUUM_ELECTRONS
from tasks.calibrations.measured import Measured, not_measurable, of_fit

Array = npt.NDArray[np.float64]

ELECTRONS_PER_PATTERN = 2e4
"""Some ten in each of the hundreds of directions of a position: enough for 1 % of a defocus over 48 x 48 positions."""


def measure(bench: Bench) -> tuple[Measured, ...]:
    """One scan of the area at the plan's defocus and step, booked on the area's budget."""
    plan = bench.plan
    if plan.optics.defocus_nm == 0:
        return (not_measurable("defocus", "tilted images do not shift in focus: give the plan a defocus"),)
    # The dark level of an integrating detector is known for the exposure of the vacuum scans.
    scan = bench.request_here(VACUUM_ELECTRONS if bench.integrates else ELECTRONS_PER_PATTERN)
    scanned = bench.scan("tilts", bench.this_area, scan)
    images, fit = fit_of(bench, scanned, bench.true_step_nm(scan.step_nm), plan.optics.defocus_nm)
    drawn = _sums(images, fit, bench.projection_mrad_per_px, bench.true_step_nm(scan.step_nm))
    names = (
        "defocus_nm", "astigmatism_nm", "astigmatism_angle_deg", "rotation_deg", "mirrored", "half_turn_known",
        "sharpness", "significance",
    )  # fmt: skip
    no_error = dict.fromkeys(("mirrored", "half_turn_known", "sharpness", "significance"), "no_error")
    return (of_fit("defocus", fit, names, errors=no_error, evidence=(scanned.dataset_id,), curves=drawn),)


def fit_of(bench: Bench, scanned: Scanned, step_nm: float, nominal_defocus_nm: float) -> tuple[TiltImages, TiltFit]:
    """The tilted images of a scan, and what they say of defocus and astigmatism."""
    plan, geometry = bench.plan, bench.geometry
    groups = group_angles(plan.detector.shape, geometry.centre_px, geometry.disk_radius_px, bench.bad_pixels)
    with open_frames(scanned.path) as frames:
        images = empty_images(groups, frames.scan_shape)
        for first, batch in frames.batches():
            add_frames(images, bench.without_dark(batch), first, scanned.plan.detector.full_scale)
    rotation = bench.known.get("rotation")
    fit = fit_tilts(
        images,
        step_nm,
        bench.projection_mrad_per_px,
        bench.semi_angle_mrad,
        plan.optics.beam_energy_kev,
        nominal_defocus_nm,
        rotation_hint_deg=rotation.value["rotation_deg"] if rotation and rotation.value["half_turn_known"] else None,
        mirrored=rotation.value["mirrored"] if rotation else None,
        # A rotation of the same session may tell it still: `agree` refuses what stays open.
        trust_sign=True,
    )
    return images, fit


def _sums(images: TiltImages, fit: TiltFit, projection_mrad_per_px: Array, step_nm: float) -> dict[str, Any]:
    """The tilted images added up as they are, and each shifted back to where the fit says that it belongs."""
    used = images.images.astype(np.float64)
    drawn = [{"label": "tilted images added as they are", "values": _rounded(used.sum(axis=0))}]
    if np.isfinite(fit.coefficients_nm[: ROTATION + 1]).all():
        moved = shifts_nm(_directions(images, fit, projection_mrad_per_px), fit.coefficients_nm[: ROTATION + 1])
        ky, kx = (np.fft.fftfreq(number) for number in used.shape[1:])
        turns = (ky[:, None] * moved[:, 0, None, None] + kx * moved[:, 1, None, None]) / step_nm
        back = np.fft.ifft2(np.fft.fft2(used) * np.exp(2j * np.pi * turns)).real
        drawn.append({"label": "each shifted back by the fit", "values": _rounded(back.sum(axis=0))})
    return {"images": drawn}


def _directions(images: TiltImages, fit: TiltFit, projection_mrad_per_px: Array) -> Geometry:
    """Directions of the images for the handedness that was found; of the rest shifts know nothing."""
    angles = directions(images.groups.angles_px, projection_mrad_per_px, fit.mirrored)
    return Geometry(
        angles=angles,
        frequencies=np.empty(0, np.complex128),
        alpha=float(np.abs(angles).max()),
        soft=0.0,
        wavelength_nm=1.0,
        weights=np.ones(len(angles)),
    )


def _rounded(image: npt.NDArray[np.float64]) -> list[list[float]]:
    """Contrast to four digits: enough for a picture, and short in the database."""
    found: list[list[float]] = np.round(image / max(float(image.mean()), 1e-300), 4).tolist()
    return found
