"""Defocus and astigmatism from the shifts of tilted bright-field images of the plan's area."""

from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, of_fit

MOST_POSITIONS = 48
"""Along an axis: frames of so many positions fit in memory."""
ELECTRONS_PER_PATTERN = 2e4


def measure(bench: Bench) -> tuple[Measured, ...]:
    """One scan of the area at the plan's defocus and step, booked on the area's budget."""
    from stem4d.calibrate.tilt import fit_tilts

    plan = bench.plan
    shape = (min(plan.scan.shape[0], MOST_POSITIONS), min(plan.scan.shape[1], MOST_POSITIONS))
    scan = bench.request(shape, electrons_per_pattern=ELECTRONS_PER_PATTERN).model_copy(
        update={"step_nm": plan.scan.step_nm}
    )
    scanned = bench.scan("tilts", bench.this_area, scan)
    frames = scanned.frames().reshape(*shape, *plan.detector.shape)
    rotation = bench.known.get("rotation")
    fit = fit_tilts(
        frames,
        step_nm=scan.step_nm,
        mrad_per_pixel=bench.geometry.mrad_per_pixel,
        centre_px=bench.geometry.centre_px,
        radius_px=bench.geometry.disk_radius_px,
        nominal_defocus_nm=plan.optics.defocus_nm,
        rotation_deg=None if rotation is None else rotation.value["rotation_deg"],
        bad_pixels=bench.geometry.bad_pixel_mask(plan.detector.shape),
    )
    names = ("defocus_nm", "astigmatism_nm", "astigmatism_angle_deg", "rotation_deg", "mirrored")
    return (of_fit("defocus", fit, names, evidence=(scanned.dataset_id,)),)
