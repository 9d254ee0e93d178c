"""The convergence semi-angle: the disk's radius times an angle per pixel that a reference specimen gave."""

from math import hypot

from stem4d.calibrate.scale import RADIUS_FLOOR_PX
from tasks.calibrations.bench import Bench
from tasks.calibrations.measured import Measured, not_measurable

KIND = "convergence_semi_angle"


def measure(bench: Bench) -> tuple[Measured, ...]:
    """Worked out of two calibrations that rest on different images: one image never gives both angle and scale."""
    scale, disk = bench.known["mrad_per_pixel"], bench.known["centre"]
    if scale.value["source"] != "reference":
        return (not_measurable(KIND, "the angle per pixel was itself transferred from an angle: measure it on a "
                               "reference specimen"),)  # fmt: skip
    delta, radius = scale.value["mrad_per_pixel"], disk.value["radius_px"]
    delta_error, radius_error = (
        (each.uncertainty or {}).get(name) for each, name in ((scale, "mrad_per_pixel"), (disk, "radius_px"))
    )
    if delta_error is None or radius_error is None:
        return (not_measurable(KIND, "nothing says how well the angle per pixel and the disk's radius are known"),)
    alpha = delta * radius
    error = alpha * hypot(delta_error / delta, radius_error / radius, RADIUS_FLOOR_PX / radius)
    return (
        Measured(
            kind=KIND,
            verdict="pass",
            value={
                "convergence_semi_angle_mrad": alpha,
                "camera_length_mm": bench.plan.optics.camera_length_mm,
                "of": [scale.id, disk.id],
            },
            uncertainty={"convergence_semi_angle_mrad": error},
            residual=disk.residual,
            evidence=bench.evidence(disk, scale),
        ),
    )
