"""What a quality check is told besides the maps: where the disk is, what is wanted of the data, what is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, inf
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from stem4d.detector import DetectorFacts
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.plan import Analysis, Plan, QualityPolicy, Virtual

if TYPE_CHECKING:
    from stem4d.calibrate.disk import DiskFit
    from stem4d.calibrate.pixels import Mask

COM_REGION_RADII = 1.25
"""The centre of mass is taken within this many disk radii: all of the disk and its movement, little of the rest."""
BEYOND_RADII = 1.2
"""What lies beyond the disk begins at so many of its radii: its blurred edge is left out."""

NEEDS_WHOLE_DISK = ("com", "dpc", "tcbf", "ptychography")
USES_BRAGG_DISKS = ("strain", "orientation")
CLEAR_OF_DISK = 1.1
"""A region outside the bright-field disk starts at this many radii, and EDGE_PX beyond."""
EDGE_PX = 2.0


@dataclass(frozen=True)
class PatternGeometry:
    """The bright-field disk of a scan's patterns: centre (y, x) and radius in pixels."""

    centre_px: tuple[float, float]
    radius_px: float
    mrad_per_pixel: float | None = None

    def distance_px(self, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Distance of every pixel's middle from the disk's centre, (det_y, det_x) [px]."""
        y, x = np.ogrid[: shape[0], : shape[1]]
        distance: npt.NDArray[np.float64] = np.hypot(y - self.centre_px[0], x - self.centre_px[1])
        return distance

    def ring(self, shape: tuple[int, ...], inner_px: float, outer_px: float) -> "Mask":
        """Pixels with inner <= distance < outer."""
        distance = self.distance_px(shape)
        return (distance >= inner_px) & (distance < outer_px)

    def usable_px(self, shape: tuple[int, ...]) -> float:
        """Largest radius about the centre that the detector holds on all sides [px]; negative off the detector."""
        edges = zip(self.centre_px, shape, strict=True)
        return min(min(at + 0.5, size - 0.5 - at) for at, size in edges)


@dataclass(frozen=True)
class Wanted:
    """One analysis that the data are judged for."""

    name: str
    """The kind; ``virtual NAME`` for each virtual detector."""
    kind: str
    asked: Analysis | None = None
    """What the plan asks of it; None where no plan is known."""
    inner_px: float = 0.0
    outer_px: float = inf
    """Annulus of a virtual detector [px]."""
    uses_disk: bool = True
    """Whether it looks into the bright-field disk."""


@dataclass(frozen=True)
class FileKnowledge:
    """What is known of a file beside its frames, from itself or from its user; None where nobody knows."""

    mrad_per_pixel: float | None = None
    scan_step_nm: float | None = None
    beam_energy_kev: float | None = None
    convergence_semi_angle_mrad: float | None = None
    defocus_nm: float | None = None
    dwell_time_us: float | None = None
    max_count_rate_per_px_hz: float | None = None
    """Count rate per pixel at which 10 % is lost [1/s]."""


IN_WORDS = {
    "mrad_per_pixel": "the angle per pixel",
    "scan_step_nm": "the scan step",
    "beam_energy_kev": "the beam energy",
    "convergence_semi_angle_mrad": "the convergence angle",
    "defocus_nm": "the defocus",
    "dwell_time_us": "the dwell time",
    "max_count_rate_per_px_hz": "the detector's highest counting rate",
}
"""What a file may leave open, by the names of ``FileKnowledge``."""


@dataclass(frozen=True)
class Subject:
    """What is known about a recording besides its maps."""

    wanted: tuple[Wanted, ...]
    geometry: PatternGeometry | None
    """As found in the data, or as calibrated where it was not found; None where neither is known."""
    fit: "DiskFit"
    """The disk in the data; its ``ok`` says whether there is one."""
    bad_pixels: "Mask"
    full_scale: int | None
    policy: QualityPolicy
    known: FileKnowledge
    plan: Plan | None = None
    detector: DetectorFacts | None = None
    """What is known of the detector; None where nobody named it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(det_y, det_x)."""
        return self.bad_pixels.shape

    @property
    def mrad_per_pixel(self) -> float | None:
        """Angle per pixel [mrad]."""
        return self.known.mrad_per_pixel

    @property
    def live_time_s(self) -> float | None:
        """Time in which a frame counts [s]; of a file its dwell, less the dead time of a named detector."""
        if self.plan is not None:
            return self.plan.exposure.live_time_us * 1e-6
        if self.known.dwell_time_us is None:
            return None
        dead_us = self.detector.dead_time_us if self.detector is not None else 0.0
        return max(self.known.dwell_time_us - dead_us, 0.0) * 1e-6 or None

    @property
    def max_count_rate_hz(self) -> float | None:
        """Count rate per pixel at which 10 % is lost [1/s], as somebody said it, or by what the detector is."""
        if self.known.max_count_rate_per_px_hz is not None or self.detector is None:
            return self.known.max_count_rate_per_px_hz
        return self.detector.max_count_rate_per_px_hz

    @property
    def doubt(self) -> str:
        """A sentence for messages where the disk was not found in the data."""
        return "" if self.fit.ok else f" No disk was found in the data ({self.fit.reason}); it is taken as calibrated."

    def region(self, inner_px: float, outer_px: float) -> "Mask":
        """Good pixels from ``inner_px`` to below ``outer_px`` of the disk's centre; none where there is no disk."""
        if self.geometry is None:
            return np.zeros(self.shape, dtype=bool)
        return self.geometry.ring(self.shape, inner_px, outer_px) & ~self.bad_pixels

    def disk(self) -> "Mask":
        """Good pixels of the bright-field disk, its radius included."""
        return self.region(0.0, float(np.nextafter(self.geometry.radius_px, inf)) if self.geometry else 0.0)

    def beyond_disk(self) -> "Mask":
        """Good pixels that the bright-field disk and its blur do not reach."""
        return self.region(CLEAR_OF_DISK * self.geometry.radius_px + EDGE_PX if self.geometry else 0.0, inf)


def subject_of_plan(
    plan: Plan, maps: RunMaps, bad_pixels: "Mask | None" = None, calibrated: PatternGeometry | None = None
) -> Subject:
    """What is known of a run made after a plan: the disk is looked for, the calibrated one stands in for it."""
    # Imported here: what only knows where a disk is does without the fits.
    from stem4d.calibrate.disk import find_disk

    bad = mask_for(maps.sum_pattern.shape, bad_pixels)
    fallback = calibrated or planned_geometry(plan)
    fit = find_disk(maps.sum_pattern, bad, fallback.radius_px, clipped_too=True)
    delta = fallback.mrad_per_pixel or plan.mrad_per_pixel
    return Subject(
        wanted=wanted_of(plan.analyses, plan.optics.convergence_semi_angle_mrad, delta),
        geometry=PatternGeometry(fit.centre_px, fit.radius_px, delta) if fit.ok else fallback,
        fit=fit,
        bad_pixels=bad,
        full_scale=maps.full_scale if maps.full_scale is not None else plan.detector.full_scale,
        policy=plan.quality,
        known=FileKnowledge(
            mrad_per_pixel=delta,
            scan_step_nm=plan.scan.step_nm,
            beam_energy_kev=plan.optics.beam_energy_kev,
            convergence_semi_angle_mrad=plan.optics.convergence_semi_angle_mrad,
            defocus_nm=plan.optics.defocus_nm,
        ),
        plan=plan,
    )


def planned_geometry(plan: Plan) -> PatternGeometry:
    """Where a plan expects the disk."""
    shape, offset = plan.detector.shape, plan.detector.pattern_offset_px
    centre = ((shape[0] - 1) / 2 + offset[0], (shape[1] - 1) / 2 + offset[1])
    return PatternGeometry(centre, plan.disk_radius_px, plan.mrad_per_pixel)


def wanted_of(analyses: Sequence[Analysis], convergence_mrad: float, mrad_per_pixel: float) -> tuple[Wanted, ...]:
    """A plan's analyses, each virtual detector on its own."""
    wanted: list[Wanted] = []
    for asked in analyses:
        if not isinstance(asked, Virtual):
            wanted.append(Wanted(asked.kind, asked.kind, asked))
            continue
        for each in asked.detectors:
            inner, outer = each.inner_mrad / mrad_per_pixel, each.outer_mrad / mrad_per_pixel
            inside = each.inner_mrad < convergence_mrad
            wanted.append(Wanted(f"virtual {each.name}", "virtual", asked, inner, outer, inside))
    return tuple(wanted)


def wanted_of_file(geometry: PatternGeometry | None, shape: tuple[int, ...]) -> tuple[Wanted, ...]:
    """Everything that 4D-STEM data are used for, where nobody said what is wanted."""
    radius = geometry.radius_px if geometry is not None else 0.0
    beyond = CLEAR_OF_DISK * radius + EDGE_PX
    return (
        Wanted("virtual bright_field", "virtual", None, 0.0, radius),
        Wanted("virtual dark_field", "virtual", None, beyond, hypot(*shape) + 1, uses_disk=False),
        *(Wanted(kind, kind) for kind in ("com", "dpc", "strain", "orientation", "tcbf", "ptychography")),
    )


def mask_for(shape: tuple[int, ...], bad_pixels: "Mask | None") -> "Mask":
    """The bad pixels as a mask of a pattern's shape.

    Raises
    ------
    BadInput
        If the mask has another shape.
    """
    if bad_pixels is None:
        return np.zeros(shape, dtype=bool)
    if bad_pixels.shape != shape:
        raise BadInput(field="bad_pixels", value=bad_pixels.shape, limit=f"must have the pattern's shape {shape}")
    return np.asarray(bad_pixels, dtype=bool)
