"""The plan: what is to be learnt from which specimen, with which optics, scan, exposure and detector."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stem4d import optics
from stem4d.approach import Approach
from stem4d.detector import full_scale
from stem4d.model import Count, Name, Strict, Title

# Bounds far outside any experiment: what lies beyond is a slip of units, and no formula overflows within them.
AngstromPeriod = Annotated[float, Field(ge=0.01, le=1e5)]
NanometreLength = Annotated[float, Field(ge=1e-3, le=1e7)]
Milliradian = Annotated[float, Field(ge=1e-6, le=1e3)]
Microsecond = Annotated[float, Field(ge=1e-3, le=1e7)]
Share = Annotated[float, Field(ge=1e-9, le=1)]
Edge = Annotated[int, Field(ge=0, le=65536)]
LatticeSpacing = Annotated[float, Field(ge=0.01, le=1e4)]
LatticeAngle = Annotated[float, Field(ge=20, le=160)]
PixelOffset = Annotated[float, Field(ge=-8192, le=8192)]


class SensitivityClass(StrEnum):
    """How a specimen takes electrons; limits in stem4d/rules/limits.py."""

    VITRIFIED = "vitrified"
    MOF_COF = "mof_cof"
    PEROVSKITE_ZEOLITE = "perovskite_zeolite"
    ORGANIC_CRYSTAL = "organic_crystal"
    BATTERY_OXIDE = "battery_oxide"
    ROBUST = "robust"


class Imaging(Strict):
    """What the dose-limited period needs: none of these has a silent default."""

    contrast: Share
    signal_to_noise: Annotated[float, Field(ge=1e-3, le=1e6)]
    repeats: Annotated[float, Field(ge=1, le=1e15)]
    """Equal motifs averaged: lattice cells, particles; 1 for a single object."""
    detective_quantum_efficiency: Share


class Sample(Strict):
    """The specimen and the area of it that this plan may expose."""

    name: Name
    title: Title = ""
    area: Name
    sensitivity: SensitivityClass
    thickness_nm: NanometreLength
    height_variation_nm: Annotated[float, Field(ge=0, le=1e7)] = 0.0
    fluence_budget_e_per_a2: Annotated[float, Field(ge=1e-6, le=1e15)]
    spare_areas: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Like areas to go to where this one is spent or spoilt, in order; each has this budget of its own."""
    imaging: Imaging | None = None

    @model_validator(mode="after")
    def _areas_differ(self) -> "Sample":
        if len({self.area, *self.spare_areas}) < 1 + len(self.spare_areas):
            raise ValueError(f"spare_areas must differ from each other and from area ({self.area})")
        return self


class VirtualDetector(Strict):
    """An annulus of collection angles."""

    name: Name
    inner_mrad: Annotated[float, Field(ge=0, le=1e3)]
    outer_mrad: Milliradian

    @model_validator(mode="after")
    def _outer_beyond_inner(self) -> "VirtualDetector":
        if self.outer_mrad <= self.inner_mrad:
            raise ValueError(f"outer_mrad must be larger than inner_mrad ({self.inner_mrad:g} mrad)")
        return self


class Virtual(Strict):
    """Virtual bright and dark field images."""

    kind: Literal["virtual"]
    detectors: Annotated[tuple[VirtualDetector, ...], Field(min_length=1, max_length=16)]
    target_d_a: AngstromPeriod | None = None
    highest_angle_mrad: Milliradian | None = None
    """How far a strongly scattering specimen, or high-angle contrast, wants the patterns recorded."""


class CentreOfMass(Strict):
    """Centre of mass, differential phase contrast."""

    kind: Literal["com"]
    target_d_a: AngstromPeriod
    smallest_deflection_mrad: Milliradian | None = None


def require_region(reference: str, region: tuple[int, int, int, int] | None) -> None:
    """Raise ValueError where a reference region is upside down, or a region has no meaning."""
    if region is None:
        return
    if reference == "absolute":
        raise ValueError("reference_region has no meaning for reference: absolute")
    y0, x0, y1, x1 = region
    if not (y0 < y1 and x0 < x1):
        raise ValueError("reference_region must be (y0, x0, y1, x1) with y0 < y1 and x0 < x1")


class Strain(Strict):
    """Strain mapping from Bragg disk positions."""

    kind: Literal["strain"]
    reflection_d_a: AngstromPeriod
    target_strain: Share
    smallest_feature_nm: NanometreLength
    reference: Literal["region", "absolute"] = "region"
    lattice_a_nm: LatticeSpacing | None = None
    """For ``absolute``: the plane lattice whose reciprocal the disks show; for fcc along [001] the square of a/2."""
    lattice_b_nm: LatticeSpacing | None = None
    """``lattice_a_nm`` where absent."""
    lattice_angle_deg: LatticeAngle | None = None
    """Between the two; 90 where absent."""
    reference_region: tuple[Edge, Edge, Edge, Edge] | None = None
    """For ``region``: (y0, x0, y1, x1) [positions], ends not included; the whole scan where absent."""
    accept_disk_overlap: bool = False
    origin: Literal["per_pattern", "fixed"] = "per_pattern"
    """Whether the origin is found in each pattern, or one origin or map serves all."""

    @model_validator(mode="after")
    def _reference_fits(self) -> "Strain":
        lattice = (self.lattice_a_nm, self.lattice_b_nm, self.lattice_angle_deg)
        if self.reference == "region" and any(one is not None for one in lattice):
            raise ValueError("lattice_a_nm, lattice_b_nm and lattice_angle_deg have a meaning for reference: absolute")
        if self.reference == "absolute" and self.lattice_a_nm is None and any(one is not None for one in lattice):
            raise ValueError("lattice_a_nm must be stated where lattice_b_nm or lattice_angle_deg is")
        require_region(self.reference, self.reference_region)
        return self


class Orientation(Strict):
    """Orientation mapping from spot patterns."""

    kind: Literal["orientation"]
    reflection_d_a: AngstromPeriod
    """The outermost reflection wanted."""
    neighbour_d_a: AngstromPeriod | None = None
    """Lattice spacing that sets how close neighbouring reflections lie; ``reflection_d_a`` where absent."""
    smallest_feature_nm: NanometreLength
    crystal_cif: Annotated[str, Field(max_length=100_000)] | None = None
    """Text of the CIF of the crystal to look for; without it patterns are recorded and not indexed."""
    shape: Literal["gaussian", "plate"] = "gaussian"
    """How reflections fall off with the excitation error: a Gaussian, or as of a flat crystal of the sample's
    thickness."""
    excitation_per_a: Annotated[float, Field(ge=1e-4, le=0.2)] | None = None
    """Width of that Gaussian [1/Å]; the method's own where absent."""


class TiltCorrected(Strict):
    """Tilt-corrected bright field."""

    kind: Literal["tcbf"]
    target_d_a: AngstromPeriod
    upsampling: Annotated[float, Field(ge=1, le=1e3)] = 1.0


class Ptychography(Strict):
    """Iterative ptychography. ``target_d_a`` is a full period; a reconstruction's pixel is half of it."""

    kind: Literal["ptychography"]
    target_d_a: AngstromPeriod
    model: Literal["single_slice", "multislice"] = "single_slice"
    slice_thickness_nm: NanometreLength | None = None
    probe_modes: Count = 1
    affine_refinement: bool = False
    """Whether the reconstruction fits scale, shear and rotation of the scan."""
    iterations: Annotated[int, Field(ge=2, le=1000)] = 20
    reconstruct: Literal["at_end", "by_command"] = "at_end"
    """Of the run, while the next target waits, or by ``nightbeam analyse`` when somebody asks."""
    max_reconstruction_min: Annotated[float, Field(gt=0, le=1440)] = 10.0
    """What takes longer than this at the end of a run is left to the command."""

    @model_validator(mode="after")
    def _slice_stated(self) -> "Ptychography":
        if self.model == "multislice" and self.slice_thickness_nm is None:
            raise ValueError("slice_thickness_nm must be stated for model: multislice")
        return self


Analysis = Annotated[
    Virtual | CentreOfMass | Strain | Orientation | TiltCorrected | Ptychography, Field(discriminator="kind")
]


class Optics(Strict):
    """Column settings. ``defocus_nm`` > 0 is underfocus (crossover after the specimen)."""

    beam_energy_kev: Annotated[float, Field(ge=10, le=1500)]
    convergence_semi_angle_mrad: Annotated[float, Field(ge=1e-3, le=150)]
    defocus_nm: Annotated[float, Field(ge=-1e5, le=1e5)] = 0.0
    spherical_aberration_mm: Annotated[float, Field(ge=0, le=1e3)] = 0.0
    probe_current_pa: Annotated[float, Field(ge=1e-6, le=1e6)]
    camera_length_mm: Annotated[float, Field(ge=0.1, le=1e5)]


SMALLEST_STEP_NM, LARGEST_STEP_NM = 1e-4, 1e4


class Scan(Strict):
    """The raster: shape is (scan_y, scan_x), the fast axis is x."""

    shape: tuple[Annotated[int, Field(ge=1, le=65536)], Annotated[int, Field(ge=1, le=65536)]]
    step_nm: Annotated[float, Field(ge=SMALLEST_STEP_NM, le=LARGEST_STEP_NM)]
    rotation_deg: Annotated[float, Field(ge=-360, le=360)] = 0.0
    flyback_us: Annotated[float, Field(ge=0, le=1e7)] = 0.0
    flyback_blanked: bool = True
    required_field_nm: tuple[NanometreLength, NanometreLength] | None = None
    """Field of view that the question asks for, (y, x) [nm]."""

    @model_validator(mode="after")
    def _frames(self) -> "Scan":
        if self.frames > 2**31:
            raise ValueError(f"shape {self.shape[0]} x {self.shape[1]} is more than 2**31 positions")
        return self

    @property
    def frames(self) -> int:
        """Positions in one pass."""
        return self.shape[0] * self.shape[1]

    @property
    def field_nm(self) -> tuple[float, float]:
        """Scanned field (y, x) [nm]."""
        return self.shape[0] * self.step_nm, self.shape[1] * self.step_nm


class Exposure(Strict):
    """Dose goes with ``dwell_time_us``, counts with ``exposure_time_us`` (the dwell less the dead time)."""

    dwell_time_us: Microsecond
    exposure_time_us: Microsecond | None = None
    passes: Annotated[int, Field(ge=1, le=1000)] = 1
    pause_between_passes_s: Annotated[float, Field(ge=0, le=86400)] = 0.0
    time_available_min: Annotated[float, Field(gt=0, le=1e5)] | None = None
    """For all passes with their pauses."""
    track_drift: bool = False
    """Whether the field follows the specimen, as reference scans before each pass tell; they cost dose of the area."""
    reference_scans: bool = False
    """Whether a fast scan of few electrons is made before the first pass and after the last: the drift of a single pass
    is measured by them; they cost dose of the area."""

    @model_validator(mode="after")
    def _counts_within_dwell(self) -> "Exposure":
        if self.exposure_time_us is not None and self.exposure_time_us > self.dwell_time_us:
            raise ValueError(f"exposure_time_us must not be longer than dwell_time_us ({self.dwell_time_us:g} us)")
        return self

    @model_validator(mode="after")
    def _one_use_of_references(self) -> "Exposure":
        if self.reference_scans and self.track_drift:
            raise ValueError(
                "reference_scans and track_drift exclude each other: a field that follows is scanned where it goes"
            )
        return self

    @property
    def live_time_us(self) -> float:
        """Time in which counts are recorded [µs]."""
        return self.dwell_time_us if self.exposure_time_us is None else self.exposure_time_us


class DetectorSetup(Strict):
    """The detector as it is to be used."""

    name: Name
    shape: tuple[Annotated[int, Field(ge=4, le=8192)], Annotated[int, Field(ge=4, le=8192)]]
    pixel_pitch_um: Annotated[float, Field(ge=0.01, le=1e4)]
    bit_depth: Annotated[int, Field(ge=1, le=32)]
    mrad_per_pixel: Annotated[float, Field(ge=1e-6, le=100)] | None = None
    """Calibrated angle per pixel; from pitch and camera length where absent."""
    pattern_offset_px: tuple[PixelOffset, PixelOffset] = (0.0, 0.0)
    """Where the pattern's centre is known to lie, (y, x) from the middle of the array [px]."""

    @property
    def full_scale(self) -> int:
        """Largest value of the counter."""
        return full_scale(self.bit_depth)


Action = Literal[
    "reduce_dwell",
    "reduce_current",
    "split_passes",
    "recentre",
    "correct_descan",
    "replace_calibration",
    "spare_area",
    "settle",
    "track",
    "end_night",
    "skip",
]
"""What may be done about a failing figure; docs/remedies.md says when each is, and what it costs."""


class QualityPolicy(Strict):
    """What is tolerated in this run, and what may be done about the rest."""

    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    max_mending_min: Annotated[float, Field(gt=0, le=1e5)] = 60.0
    """Of the instrument's time for all that follows the first attempt: waiting, reference scans, exposing again."""
    max_saturated_fraction: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    """Of the pixels that an analysis looks at, the part that may stand at full scale."""
    max_drift_nm_per_min: Annotated[float, Field(ge=1e-9, le=1e6)] | None = None
    max_descan_px: Annotated[float, Field(ge=1e-6, le=8192)] | None = None
    """Residual movement of the disk over the scan, peak to peak [px]; by analysis where absent."""
    stop_early: bool = True
    """While frames arrive, and between passes."""
    remedies: tuple[Action, ...] = (
        "reduce_dwell",
        "reduce_current",
        "split_passes",
        "recentre",
        "correct_descan",
        "replace_calibration",
        "spare_area",
    )
    """What may be done, the most preferred first."""

    @model_validator(mode="after")
    def _remedies_differ(self) -> "QualityPolicy":
        twice = sorted({name for name in self.remedies if self.remedies.count(name) > 1})
        if twice:
            raise ValueError(f"remedies: {', '.join(twice)} stands more than once")
        return self


class Plan(Strict):
    """One experiment."""

    format_version: Literal[1]
    name: Name
    title: Title = ""
    sample: Sample
    analyses: Annotated[tuple[Analysis, ...], Field(min_length=1, max_length=8)]
    optics: Optics
    scan: Scan
    exposure: Exposure
    detector: DetectorSetup
    quality: QualityPolicy = QualityPolicy()
    approach: Approach | None = None
    """What is done before the target is exposed; where absent its area's stored position and focus are trusted."""

    @model_validator(mode="after")
    def _focus_area_is_another(self) -> "Plan":
        beside = self.approach.focus_area if self.approach else None
        if beside and beside.name in (self.sample.area, *self.sample.spare_areas):
            raise ValueError(f"approach.focus_area.name must not be an area that is exposed ({beside.name})")
        return self

    @model_validator(mode="after")
    def _detector_names_differ(self) -> "Plan":
        names = [each.name for wanted in self.analyses if isinstance(wanted, Virtual) for each in wanted.detectors]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"virtual detectors must have different names; {', '.join(twice)} stands more than once")
        return self

    @property
    def mrad_per_pixel(self) -> float:
        """Angle per detector pixel [mrad]: as calibrated, or pitch over camera length."""
        if self.detector.mrad_per_pixel is not None:
            return self.detector.mrad_per_pixel
        return optics.mrad_per_pixel(self.detector.pixel_pitch_um, self.optics.camera_length_mm)

    @property
    def disk_radius_px(self) -> float:
        """Radius of the bright-field disk [px]."""
        return optics.disk_radius_px(self.optics.convergence_semi_angle_mrad, self.mrad_per_pixel)
