"""What a plan will give before it is run: positions, bytes, time, electrons, geometry."""

from stem4d import dose, optics
from stem4d.detector import container_bytes
from stem4d.model import Strict
from stem4d.plan import Plan, Strain
from stem4d.precision import com_noise_mrad, compressed_frame_bytes, strain_noise


class Prediction(Strict):
    """Figures of a plan; per pass unless named total."""

    wavelength_a: float
    mrad_per_pixel: float
    max_angle_mrad: float
    half_period_limit_a: float
    disk_radius_px: float
    probe_diameter_a: float
    diffraction_fwhm_a: float
    depth_of_field_a: float
    linear_overlap: float
    area_overlap: float
    window_a: float
    window_over_probe: float
    electrons_per_pattern: float
    electrons_per_disk_pixel: float
    rate_per_disk_pixel_hz: float
    average_fluence_e_per_a2: float
    local_fluence_e_per_a2: float
    """Highest fluence of one pass, with what unblanked flyback adds [e/Å²]."""
    total_fluence_e_per_a2: float
    """Highest fluence of all passes [e/Å²]."""
    frames: int
    raw_bytes: int
    """All passes."""
    compressed_bytes: int
    """All passes; an estimate, good to a factor of two."""
    com_noise_mrad: float
    """Shot noise of one pattern's centre of mass, per axis."""
    strain_noise: float | None
    """Shot noise of the strain at one position, where the plan wants strain."""
    line_time_s: float
    pass_time_s: float
    total_time_s: float


def usable_max_angle_mrad(plan: Plan) -> float:
    """Largest angle recorded on all sides [mrad], on the axis that leaves least."""
    axes = zip(plan.detector.shape, plan.detector.pattern_offset_px, strict=True)
    return min(optics.max_angle_mrad(pixels, plan.mrad_per_pixel, offset) for pixels, offset in axes)


def flyback_factor(plan: Plan) -> float:
    """Dose that unblanked flyback adds, as a factor on the fluence."""
    if plan.scan.flyback_blanked:
        return 1.0
    return 1.0 + plan.scan.flyback_us / (plan.scan.shape[1] * plan.exposure.dwell_time_us)


def at_current(plan: Plan, true_over_commanded: float) -> Plan:
    """A plan with the current that the beam really has when the plan's is commanded."""
    current = {"probe_current_pa": plan.optics.probe_current_pa * true_over_commanded}
    return plan.model_copy(update={"optics": plan.optics.model_copy(update=current)})


def predict(plan: Plan) -> Prediction:
    """All figures of a plan. Formulas: stem4d/optics.py and stem4d/dose.py."""
    energy, alpha = plan.optics.beam_energy_kev, plan.optics.convergence_semi_angle_mrad
    delta, theta = plan.mrad_per_pixel, usable_max_angle_mrad(plan)
    diameter_a = optics.defocused_probe_diameter_a(
        energy, alpha, plan.optics.defocus_nm, plan.optics.spherical_aberration_mm
    )
    step_a = plan.scan.step_nm * 10
    current, dwell = plan.optics.probe_current_pa, plan.exposure.dwell_time_us
    per_pattern = dose.electrons(current, plan.exposure.live_time_us)
    local = dose.local_fluence_e_per_a2(current, dwell, plan.scan.step_nm, diameter_a) * flyback_factor(plan)
    line_s = (plan.scan.shape[1] * dwell + plan.scan.flyback_us) * 1e-6
    pass_s = line_s * plan.scan.shape[0]
    passes = plan.exposure.passes
    pixels = plan.detector.shape[0] * plan.detector.shape[1]
    radius = plan.disk_radius_px
    raw = plan.scan.frames * passes * pixels * container_bytes(plan.detector.bit_depth)
    strain = next((each for each in plan.analyses if isinstance(each, Strain)), None)
    return Prediction(
        wavelength_a=optics.wavelength_a(energy),
        mrad_per_pixel=delta,
        max_angle_mrad=theta,
        half_period_limit_a=optics.half_period_limit_a(energy, theta) if theta > 0 else 1e9,
        disk_radius_px=radius,
        probe_diameter_a=diameter_a,
        diffraction_fwhm_a=optics.diffraction_fwhm_a(energy, alpha),
        depth_of_field_a=optics.depth_of_field_a(energy, alpha),
        linear_overlap=optics.linear_overlap(step_a, diameter_a),
        area_overlap=optics.area_overlap(step_a, diameter_a),
        window_a=optics.window_a(energy, delta),
        window_over_probe=optics.window_a(energy, delta) / diameter_a,
        electrons_per_pattern=per_pattern,
        electrons_per_disk_pixel=dose.electrons_per_disk_pixel(per_pattern, radius),
        rate_per_disk_pixel_hz=dose.electrons_per_disk_pixel(dose.electrons(current, 1e6), radius),
        average_fluence_e_per_a2=dose.average_fluence_e_per_a2(current, dwell, plan.scan.step_nm),
        local_fluence_e_per_a2=local,
        total_fluence_e_per_a2=local * passes,
        frames=plan.scan.frames * passes,
        raw_bytes=raw,
        compressed_bytes=round(min(raw, plan.scan.frames * passes * compressed_frame_bytes(plan, per_pattern))),
        com_noise_mrad=com_noise_mrad(plan, per_pattern),
        strain_noise=strain_noise(plan, strain, per_pattern) if strain is not None else None,
        line_time_s=line_s,
        pass_time_s=pass_s,
        total_time_s=pass_s * passes + plan.exposure.pause_between_passes_s * (passes - 1),
    )
