"""What the calibrations of a run come to: where the disk is, which pixels are bad, how the column is to be set."""

import numpy as np
import numpy.typing as npt
from pydantic import Field

from devices.protocols import ColumnSetting
from stem4d import optics, rules
from stem4d.accumulate_spec import AccumulatorSpec
from stem4d.detector import container_bytes
from stem4d.model import Strict
from stem4d.plan import Plan, Virtual
from stem4d.quality.regions import BEYOND_RADII, COM_REGION_RADII, PatternGeometry
from stem4d.virtual_detectors import Annulus


class Calibrated(Strict):
    """The calibrated geometry of one run's patterns, and the calibrations (database ids) it rests on."""

    column: ColumnSetting
    centre_px: tuple[float, float]
    disk_radius_px: float
    mrad_per_pixel: float
    bad_pixels: tuple[tuple[int, int], ...]
    descan_range_px: float
    """Movement of the disk over the field that is left after correction, peak to peak."""
    current_ratio: float
    """True over commanded probe current, as the vacuum scan counted it: doses are booked with it."""
    calibration_ids: dict[str, int]
    """By kind."""
    known: dict[str, rules.Calibrated] = Field(default_factory=dict)
    """Figures for the plan rules, by the rules' names."""

    def geometry(self) -> PatternGeometry:
        """Where the disk is, for the quality checks."""
        return PatternGeometry(self.centre_px, self.disk_radius_px, self.mrad_per_pixel)

    def figures(self) -> dict[str, rules.Calibrated]:
        """What the plan rules may hold the plan against."""
        return self.known

    def bad_pixel_mask(self, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Bad pixels as a mask (det_y, det_x), True where excluded."""
        mask = np.zeros(shape, np.bool_)
        for y, x in self.bad_pixels:
            mask[y, x] = True
        return mask


def uncalibrated(plan: Plan) -> Calibrated:
    """What is known of a plan's patterns before anything was measured."""
    height, width = plan.detector.shape
    offset_y, offset_x = plan.detector.pattern_offset_px
    return Calibrated(
        column=ColumnSetting(optics=plan.optics),
        centre_px=((height - 1) / 2 + offset_y, (width - 1) / 2 + offset_x),
        disk_radius_px=plan.disk_radius_px,
        mrad_per_pixel=plan.mrad_per_pixel,
        bad_pixels=(),
        descan_range_px=0.0,
        current_ratio=1.0,
        calibration_ids={},
    )


def accumulator_spec(plan: Plan, geometry: Calibrated, threads: int, com_everywhere: bool = False) -> AccumulatorSpec:
    """Which virtual detectors, bad pixels and full scale a pass is accumulated with.

    The plan's own virtual detectors, and always the bright-field disk and what lies beyond it.
    """
    delta = geometry.mrad_per_pixel
    alpha = plan.optics.convergence_semi_angle_mrad
    beyond = max(plan.detector.shape) * delta
    rings = {"disk": (0.0, alpha), "beyond_disk": (BEYOND_RADII * alpha, beyond)}
    for analysis in plan.analyses:
        if isinstance(analysis, Virtual):
            rings |= {ring.name: (ring.inner_mrad, ring.outer_mrad) for ring in analysis.detectors}
    return AccumulatorSpec(
        detector_shape=plan.detector.shape,
        dtype=f"uint{8 * container_bytes(plan.detector.bit_depth)}",
        detectors=tuple(
            Annulus(name=name, centre_px=geometry.centre_px, inner_px=inner / delta, outer_px=outer / delta)
            for name, (inner, outer) in rings.items()
        ),
        full_scale=plan.detector.full_scale,
        bad_pixels=geometry.bad_pixel_mask(plan.detector.shape),
        com_region=None
        if com_everywhere
        else Annulus(
            name="com",
            centre_px=geometry.centre_px,
            inner_px=0.0,
            outer_px=COM_REGION_RADII * optics.disk_radius_px(alpha, delta),
        ),
        threads=threads,
    )
