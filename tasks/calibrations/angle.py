"""The convergence semi-angle: the disk's radius times an angle per pixel that a reference specimen gave."""

from math import hypot

from db.calibrations import CalibrationRecord
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
    alpha = delta * radius
    parts = part(scale.uncertainty, "mrad_per_pixel", delta), radius_part(disk)
    return (
        Measured(
            kind=KIND,
            verdict="pass",
            value={
                "convergence_semi_angle_mrad": alpha,
                "camera_length_mm": bench.plan.optics.camera_length_mm,
                "of": [scale.id, disk.id],
            },
            uncertainty={"convergence_semi_angle_mrad": alpha * hypot(*parts)},
            residual=disk.residual,
            evidence=bench.evidence(disk, scale),
        ),
    )


def radius_part(disk: CalibrationRecord) -> float:
    """The standard error of a disk's radius as a part of it, the floor included."""
    noise = part(disk.uncertainty, "radius_px", disk.value["radius_px"])
    return hypot(noise, RADIUS_FLOOR_PX / disk.value["radius_px"])


def part(uncertainty: dict[str, float] | None, name: str, value: float) -> float:
    """A standard error as a part of its value."""
    return ((uncertainty or {}).get(name) or 0.0) / value
