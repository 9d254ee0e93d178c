"""Defocus and astigmatism from the shifts of tilted bright-field images of the plan's area."""

from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.angles import TiltImages, add_frames, empty_images, group_angles
from stem4d.calibrate.tilt import TiltFit, fit_tilts
from stem4d.calibrate.tilt_model import ROTATION, slope_nm
from storage.read import open_frames
from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, not_measurable, of_fit

MOST_POSITIONS = 48
"""Along an axis: frames of so many positions fit in memory."""
ELECTRONS_PER_PATTERN = 2e4


def measure(bench: Bench) -> tuple[Measured, ...]:
    """One scan of the area at the plan's defocus and step, booked on the area's budget."""
    plan = bench.plan
    if plan.optics.defocus_nm == 0:
        return (not_measurable("defocus", "tilted images do not shift in focus: give the plan a defocus"),)
    shape = (min(plan.scan.shape[0], MOST_POSITIONS), min(plan.scan.shape[1], MOST_POSITIONS))
    scan = bench.request(shape, electrons_per_pattern=ELECTRONS_PER_PATTERN).model_copy(
        update={"step_nm": plan.scan.step_nm}
    )
    scanned = bench.scan("tilts", bench.this_area, scan)
    geometry = bench.geometry
    bad = geometry.bad_pixel_mask(plan.detector.shape)
    images = empty_images(group_angles(plan.detector.shape, geometry.centre_px, geometry.disk_radius_px, bad), shape)
    with open_frames(scanned.path) as frames:
        for first, batch in frames.batches():
            add_frames(images, bench.without_dark(batch), first, scanned.plan.detector.full_scale)
    rotation = bench.known.get("rotation")
    fit = fit_tilts(
        images,
        bench.true_step_nm(scan.step_nm),
        geometry.mrad_per_pixel,
        plan.optics.convergence_semi_angle_mrad,
        plan.optics.beam_energy_kev,
        plan.optics.defocus_nm,
        rotation_hint_deg=rotation.value["rotation_deg"] if rotation and rotation.value["half_turn_known"] else None,
        mirrored=rotation.value["mirrored"] if rotation else None,
        # A rotation of the same session may tell it still: `agree` refuses what stays open.
        trust_sign=True,
    )
    drawn = _sums(images, fit, geometry.mrad_per_pixel, bench.true_step_nm(scan.step_nm))
    names = (
        "defocus_nm", "astigmatism_nm", "astigmatism_angle_deg", "rotation_deg", "mirrored", "half_turn_known",
        "sharpness", "significance",
    )  # fmt: skip
    no_error = dict.fromkeys(("mirrored", "half_turn_known", "sharpness", "significance"), "no_error")
    return (of_fit("defocus", fit, names, errors=no_error, evidence=(scanned.dataset_id,), curves=drawn),)


def _sums(images: TiltImages, fit: TiltFit, projection: float, step_nm: float) -> dict[str, Any]:
    """The tilted images added up as they are, and each shifted back to where the fit says that it belongs."""
    used = images.images.astype(np.float64)
    drawn = [{"label": "tilted images added as they are", "values": _rounded(used.sum(axis=0))}]
    if np.isfinite(fit.coefficients_nm[: ROTATION + 1]).all():
        angles = images.groups.angles_px * np.array([-1.0 if fit.mirrored else 1.0, 1.0]) * projection * 1e-3
        values = fit.coefficients_nm[: ROTATION + 1]
        moved = -slope_nm(angles[:, 1] + 1j * angles[:, 0], values) * np.exp(-1j * values[ROTATION])
        ky, kx = (np.fft.fftfreq(number) for number in used.shape[1:])
        turns = (ky[:, None] * moved.imag[:, None, None] + kx * moved.real[:, None, None]) / step_nm
        back = np.fft.ifft2(np.fft.fft2(used) * np.exp(2j * np.pi * turns)).real
        drawn.append({"label": "each shifted back by the fit", "values": _rounded(back.sum(axis=0))})
    return {"images": drawn}


def _rounded(image: npt.NDArray[np.float64]) -> list[list[float]]:
    """Contrast to four digits: enough for a picture, and short in the database."""
    found: list[list[float]] = np.round(image / max(float(image.mean()), 1e-300), 4).tolist()
    return found
