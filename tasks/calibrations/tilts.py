"""Defocus and astigmatism from the shifts of tilted bright-field images of the plan's area."""

from storage.read import open_frames
from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, not_measurable, of_fit

MOST_POSITIONS = 48
"""Along an axis: frames of so many positions fit in memory."""
ELECTRONS_PER_PATTERN = 2e4


def measure(bench: Bench) -> tuple[Measured, ...]:
    """One scan of the area at the plan's defocus and step, booked on the area's budget."""
    from stem4d.calibrate.angles import add_frames, empty_images, group_angles
    from stem4d.calibrate.tilt import fit_tilts

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
            add_frames(images, batch, first, scanned.plan.detector.full_scale)
    rotation = bench.known.get("rotation")
    fit = fit_tilts(
        images,
        scan.step_nm,
        geometry.mrad_per_pixel,
        plan.optics.convergence_semi_angle_mrad,
        plan.optics.beam_energy_kev,
        plan.optics.defocus_nm,
        rotation_hint_deg=rotation.value["rotation_deg"] if rotation and rotation.value["half_turn_known"] else None,
        mirrored=rotation.value["mirrored"] if rotation else None,
    )
    names = ("defocus_nm", "astigmatism_nm", "astigmatism_angle_deg", "rotation_deg", "mirrored")
    return (of_fit("defocus", fit, names, evidence=(scanned.dataset_id,)),)
