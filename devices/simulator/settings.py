"""The hidden truth of a simulated instrument: the ``settings`` table of its file, checked."""

from contextlib import suppress
from copy import deepcopy
from dataclasses import fields
from math import atan2, cos, degrees, hypot, inf, radians, sin
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from devices.simulator.faults import (
    Angle,
    BadPixels,
    BeamTruth,
    DamageTruth,
    DetectorTruth,
    Fraction,
    JumpTruth,
    Moment,
    Place,
    ProjectorTruth,
    ScanTruth,
    Small,
    SupplyTruth,
    Thousand,
)
from devices.simulator.stage import LensTruth, StageTruth
from stem4d.errors import BadInput
from stem4d.model import Name, Strict
from stem4d.simulate.probe import Aberrations
from stem4d.simulate.specimen import Specimen
from stem4d.simulate.strain import Displacement
from stem4d.simulate.wander import Drift, Slip
from storage.documents import validate

VACUUM = "vacuum"
"""The stage position that every simulated instrument has besides its areas: nothing under the beam."""


class StrainTruth(Strict):
    """A known displacement field u (y, x) [nm] of the place R [nm]; see `stem4d.simulate.strain`."""

    linear: tuple[tuple[Small, Small], tuple[Small, Small]] = ((0.0, 0.0), (0.0, 0.0))
    quadratic_per_nm: tuple[tuple[Small, Small, Small], tuple[Small, Small, Small]] = ((0.0,) * 3, (0.0,) * 3)
    inclusion: Small = 0.0
    inclusion_radius_nm: Annotated[float, Field(ge=0.1, le=1e4)] = 5.0
    inclusion_centre_nm: tuple[Place, Place] = (0.0, 0.0)


MODELS = ("random", "square", "hexagonal")
"""Kinds of specimen made of model atoms, which need their spacing and phase."""


class Area(Strict):
    """A named place on the specimen. Fields that a kind does not need are ignored by it: `Specimen` says which."""

    specimen: Literal[
        "vacuum",
        "random",
        "square",
        "hexagonal",
        "amorphous",
        "crystal",
        "polycrystal",
        "strained",
        "mos2",
        "biological",
    ]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    spacing_a: Annotated[float, Field(ge=1.5, le=100)] | None = None
    """Lattice constant, or side of the cell that holds one random atom [Å]; model atoms have to state it."""
    atom_phase_rad: Annotated[float, Field(gt=0, le=3)] | None = None
    """Phase at the centre of a heavy atom at 200 kV [rad]; model atoms have to state it."""
    modulation: Fraction = 0.0
    vacancy_fraction: Fraction = 0.0
    material: Literal["Au", "Al", "Si", "SrTiO3"] | None = None
    """Of crystals: one of `stem4d.simulate.crystals.CELLS`."""
    thickness_nm: Annotated[float, Field(ge=0.1, le=500)] | None = None
    angle_deg: Angle = 0.0
    grain_nm: Annotated[float, Field(ge=1, le=1e4)] | None = None
    displacement: StrainTruth = StrainTruth()
    globule_nm: Annotated[float, Field(ge=2, le=1e3)] | None = None
    rms_rad: Annotated[float, Field(gt=0, le=10)] | None = None
    slices: Annotated[int, Field(ge=1, le=200)] = 1
    drift_nm_per_min: tuple[Place, Place] = (0.0, 0.0)
    """Velocity (y, x) along the specimen's axes: features move that way in later images."""
    drift_starts_s: Moment = 0.0
    """When the drift begins, on the instrument's clock [s]."""
    drift_nm_per_min2: tuple[Thousand, Thousand] = (0.0, 0.0)
    jumps: tuple[JumpTruth, ...] = ()
    place_um: tuple[Place, Place, Place] = (0.0, 0.0, 0.0)
    """Stored stage position (x, y, z): what the stage reads there."""
    displaced_nm: tuple[Place, Place] = (0.0, 0.0)
    """Where the area's origin really lies when the stage stands there, (y, x) along the specimen's axes."""
    height_nm: Place = 0.0
    """How far above the eucentric plane it lies there: so much more underfocus."""
    beam_damage: DamageTruth | None = None
    """What the beam does to it; its dose is then remembered, over exposures and sessions."""

    @property
    def drift(self) -> Drift:
        """How the specimen moves, as the physics layer takes it."""
        jumps = tuple(Slip(each.at_s, each.by_nm) for each in self.jumps)
        return Drift(self.drift_nm_per_min, self.drift_starts_s, self.drift_nm_per_min2, jumps)

    @model_validator(mode="after")
    def _models_are_stated(self) -> "Area":
        if self.specimen in MODELS and (self.spacing_a is None or self.atom_phase_rad is None):
            raise ValueError(f"a specimen of kind {self.specimen} needs spacing_a and atom_phase_rad")
        return self

    @property
    def physics(self) -> Specimen:
        """The area as the physics layer takes it."""
        told = self.model_dump(include={field.name for field in fields(Specimen)} - {"displacement"}, exclude_none=True)
        moved = Displacement(**self.displacement.model_dump())
        return Specimen(self.specimen, displacement=moved, **told)


class CurrentStep(Strict):
    """From ``above_pa`` commanded on, the true current is ``ratio`` times the commanded one."""

    above_pa: Annotated[float, Field(ge=0, le=1e6)]
    ratio: Annotated[float, Field(ge=1e-6, le=1e3)]


Coefficient = Annotated[float, Field(ge=0, le=1e6)]


class ResidualAberrations(Strict):
    """What the column has besides what it was told; it adds to the commanded values."""

    defocus_nm: Place = 0.0
    astigmatism_nm: Coefficient = 0.0
    astigmatism_angle_deg: Angle = 0.0
    spherical_aberration_mm: Thousand = 0.0
    coma_nm: Coefficient = 0.0
    coma_angle_deg: Angle = 0.0
    threefold_astigmatism_nm: Coefficient = 0.0
    threefold_astigmatism_angle_deg: Angle = 0.0
    star_um: Coefficient = 0.0
    star_angle_deg: Angle = 0.0
    fourfold_astigmatism_um: Coefficient = 0.0
    fourfold_astigmatism_angle_deg: Angle = 0.0


class ScheduledChange(Strict):
    """A knob that is turned at a moment of the instrument's time, and turned back where ``until_s`` is given."""

    at_s: Moment
    until_s: Moment | None = None
    knob: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=200)]
    """Its name within the settings, with dots: ``projector.ellipticity``, ``areas.flake-1.drift_nm_per_min``."""
    value: Any

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> "ScheduledChange":
        if self.until_s is not None and self.until_s <= self.at_s:
            raise ValueError(f"until_s: {self.until_s:g} s is not after at_s, {self.at_s:g} s")
        return self


class Truth(Strict):
    """Everything that calibration and quality have to find. Only tests may read it."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    areas: dict[Name, Area] = Field(default_factory=dict)
    descan_error_mrad_per_nm: tuple[tuple[Thousand, Thousand], tuple[Thousand, Thousand]] = ((0.0, 0.0), (0.0, 0.0))
    """Rows and columns (y, x): pattern shift [mrad] per probe position [nm] from the field's centre."""
    misalignment_mrad: tuple[Thousand, Thousand] = (0.0, 0.0)
    """Where the undeflected beam lands with no diffraction shift, (y, x) from the detector's middle."""
    scan_detector_rotation_deg: Angle = 0.0
    """Angle of the scan's axes to the specimen's at scan rotation 0, from x towards y."""
    aberrations: ResidualAberrations = ResidualAberrations()
    current_ratio_above_pa: tuple[CurrentStep, ...] = ()
    hot_pixels: BadPixels = 0.0
    dead_pixels: BadPixels = 0.0
    scan: ScanTruth = ScanTruth()
    projector: ProjectorTruth = ProjectorTruth()
    detector: DetectorTruth = DetectorTruth()
    beam: BeamTruth = BeamTruth()
    supply: SupplyTruth = SupplyTruth()
    stage: StageTruth = StageTruth()
    lens: LensTruth = LensTruth()
    schedule: Annotated[tuple[ScheduledChange, ...], Field(max_length=1000)] = ()
    speed: Literal["accelerated", "real"] = "accelerated"
    frames_per_s: Annotated[float, Field(ge=1e-3, le=1e9)] | None = None
    """Frames handed over in a second at most; as fast as they can be made where absent."""

    def at(self, simulated_s: float) -> "Truth":
        """The truth with every change that holds at a moment of the instrument's time."""
        now = [change for change in self.schedule if _holds(change, simulated_s)]
        return self if not now else _changed(self, now)

    def next_change_s(self, simulated_s: float) -> float:
        """When the truth changes next, by its schedule; infinity where it stays."""
        return min((moment for moment in self.moments_s if moment > simulated_s), default=inf)

    @property
    def moments_s(self) -> set[float]:
        """When the schedule changes something [s]."""
        return {moment for change in self.schedule for moment in (change.at_s, change.until_s) if moment is not None}

    def true_current_pa(self, commanded_pa: float) -> float:
        """Current that really flows: the ratio of the highest step at or below the commanded value."""
        steps = [step for step in self.current_ratio_above_pa if step.above_pa <= commanded_pa]
        return commanded_pa * max(steps, key=lambda step: step.above_pa).ratio if steps else commanded_pa

    def specimen_at(self, position: str) -> Specimen:
        """What lies under the beam at a stage position."""
        return Specimen("vacuum") if position == VACUUM else self.areas[position].physics

    def true_aberrations(
        self, defocus_nm: float, spherical_aberration_mm: float, stigmator_nm: tuple[float, float] = (0.0, 0.0)
    ) -> Aberrations:
        """Commanded plus residual."""
        rest = self.aberrations
        added = {
            "defocus_nm": defocus_nm + rest.defocus_nm,
            "spherical_aberration_mm": spherical_aberration_mm + rest.spherical_aberration_mm,
        }
        if any(stigmator_nm):
            twofold = 2 * radians(rest.astigmatism_angle_deg)
            along = rest.astigmatism_nm * cos(twofold) + stigmator_nm[0]
            across = rest.astigmatism_nm * sin(twofold) + stigmator_nm[1]
            added["astigmatism_nm"] = hypot(along, across)
            added["astigmatism_angle_deg"] = degrees(atan2(across, along)) / 2
        return Aberrations(**(rest.model_dump() | added))


def _holds(change: ScheduledChange, simulated_s: float) -> bool:
    return change.at_s <= simulated_s and (change.until_s is None or simulated_s < change.until_s)


UNSCHEDULED = {"schedule", "speed", "frames_per_s"}
"""What belongs to the server and not to a moment: turning it would have no effect."""


def _changed(truth: Truth, changes: list[ScheduledChange]) -> Truth:
    """Turn knobs, the earliest first.

    Raises
    ------
    BadInput
        For a knob that is not there, or a value that it does not take.
    """
    document = truth.model_dump(mode="json", exclude=UNSCHEDULED)
    for change in sorted(changes, key=lambda each: each.at_s):
        found = _knob(document, change.knob)
        if found is None:
            fixed = change.knob in UNSCHEDULED
            limit = "holds for the whole session" if fixed else "is no knob of the simulator"
            remedy = "Set it outside the schedule" if fixed else "docs/simulator.md lists them"
            raise BadInput(field="settings.schedule", value=change.knob, limit=limit, remedy=remedy)
        node, last = found
        node[last] = deepcopy(change.value)
        if isinstance(change.value, dict):
            # A later change may turn a knob that this table leaves at its default.
            with suppress(BadInput):
                document = validate(document, Truth, "").model_dump(mode="json", exclude=UNSCHEDULED)
    changed = validate(document, Truth, "settings.schedule")
    return changed.model_copy(update={name: getattr(truth, name) for name in UNSCHEDULED})


def _knob(node: dict[str, Any], dotted: str) -> tuple[dict[str, Any], str] | None:
    """Where a knob is; an area's name may have dots of its own, and the longest name wins."""
    if dotted in node:
        return node, dotted
    for name in sorted(node, key=len, reverse=True):
        inner = node[name]
        if isinstance(inner, dict) and dotted.startswith(f"{name}."):
            found = _knob(inner, dotted.removeprefix(f"{name}."))
            if found is not None:
                return found
    return None


def read_settings(settings: dict[str, Any], shapes: tuple[tuple[int, int], ...]) -> Truth:
    """Check an instrument file's ``settings`` table against this driver's model and the detectors' shapes.

    Raises
    ------
    BadInput
        Naming the first offending key, of the settings or of what its schedule makes of them.
    """
    truth = validate(settings, Truth, "settings")
    if VACUUM in truth.areas:
        raise BadInput(field="settings.areas", value=VACUUM, limit="is the name of the position without specimen")
    smallest = (min(shape[0] for shape in shapes), min(shape[1] for shape in shapes))
    _check_pixels(truth, smallest, "settings")
    for moment in sorted(truth.moments_s):
        try:
            changed = truth.at(moment)
            _check_pixels(changed, smallest, "settings.schedule")
            _check_areas(truth, changed)
        except BadInput as error:
            field = error.field.replace("settings.schedule", f"settings.schedule at {moment:g} s", 1)
            raise BadInput(
                field=field, value=error.value, limit=error.limit, unit=error.unit, remedy=error.remedy
            ) from None
    return truth


def _check_pixels(truth: Truth, smallest: tuple[int, int], name: str) -> None:
    """Pixels that are named must be there, whichever detector is used."""
    named = (
        ("hot_pixels", truth.hot_pixels),
        ("dead_pixels", truth.dead_pixels),
        ("detector.noisy_pixels", truth.detector.noisy_pixels),
        ("detector.gaps", tuple((top, left) for top, left, _bottom, _right in truth.detector.gaps)),
    )
    for field, pixels in named:
        if isinstance(pixels, tuple):
            for y, x in pixels:
                if y >= smallest[0] or x >= smallest[1]:
                    limit = f"must lie on every detector, below ({smallest[0]}, {smallest[1]})"
                    raise BadInput(field=f"{name}.{field}", value=(y, x), limit=limit, unit="px")


def _check_areas(truth: Truth, changed: Truth) -> None:
    """Areas stay what they are called, and one that is to suffer remembers its dose from the beginning."""
    if set(changed.areas) != set(truth.areas):
        limit = f"has to keep the areas there are: {', '.join(sorted(truth.areas)) or 'none'}"
        raise BadInput(field="settings.schedule: areas", value=sorted(changed.areas), limit=limit)
    for name, area in changed.areas.items():
        if area.beam_damage is not None and truth.areas[name].beam_damage is None:
            raise BadInput(
                field=f"settings.schedule: areas.{name}.beam_damage",
                value="a table",
                limit="cannot begin by a schedule",
                remedy="Give the area a beam_damage in the settings; an empty table does no harm",
            )
