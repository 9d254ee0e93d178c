"""What an instrument is and can do, as its file states it: apertures, camera lengths, ranges, detectors."""

from typing import Any, Literal

from pydantic import Field, model_validator

from stem4d.catalogue import CATALOGUE, closest
from stem4d.detector import DetectorFacts
from stem4d.model import Name, NonNegative, Positive, Range, Strict, Title


class Aperture(Strict):
    """A condenser aperture. Changing it means realigning the condenser: a person's work."""

    name: Name
    convergence_semi_angle_mrad: Positive


class Spot(Strict):
    """A spot setting: the current it reaches, and what brightness is left of the gun's at that current."""

    name: Name
    largest_current_pa: Positive
    brightness_a_per_m2_sr: Positive


class ReferenceArea(Strict):
    """A stored stage position with a specimen of known lattice, which calibrations may expose."""

    name: Name
    crystal: Literal["Au", "Al", "Si", "SrTiO3"]
    kind: Literal["rings", "spots", "lattice"]
    """Diffraction rings of a polycrystal, spots of a single crystal, or a lattice that the scan resolves."""
    period_nm: Positive | None = None
    """Of a lattice: side of its square cell in projection, where it is not that of the crystal along [001]."""


class StageFacts(Strict):
    """How far the stage goes, and how it is to be moved."""

    x_um: Range
    y_um: Range
    z_um: Range
    alpha_deg: Range
    beta_deg: Range | None = None
    """Absent where the holder has no second tilt."""
    backlash_um: NonNegative = 0.0
    """How far below a pose the stage goes first, along x and y, so that it always arrives from the same side."""
    reads_within_um: Positive = 0.01
    """How near to the pose that was asked for the stage has to read afterwards; real ones may need more."""
    scan_rotation_deg: float = 0.0
    """Angle of the scan's axes to the stage's at scan rotation 0, from x towards y."""

    def range_of(self, axis: str) -> Range | None:
        """How far an axis of `StagePose` goes; None where there is none such."""
        found: Range | None = getattr(self, axis)
        return found

    def lowest_target(self, axis: str) -> float:
        """Lowest value of an axis that a pose may have: the stage goes below it first, along x and y."""
        allowed = self.range_of(axis)
        if allowed is None:
            return 0.0
        return allowed.lowest + (self.backlash_um if axis in ("x_um", "y_um") else 0.0)


class InstrumentFacts(Strict):
    """Everything a plan is checked against."""

    beam_energies_kev: tuple[Positive, ...]
    apertures: tuple[Aperture, ...]
    camera_lengths_mm: tuple[Positive, ...]
    aligned_semi_angle_mrad: Positive | None = None
    """What the condenser is aligned for, where realigning it takes a person; absent where the column does it alone."""
    defocus_nm: Range
    probe_current_pa: Range
    dwell_time_us: Range
    max_field_nm: Positive
    stage: StageFacts | None = None
    """Where the stage can be sent to poses; without it there are its stored positions alone."""
    beam_shift_nm: Range | None = None
    """What the beam shift coils can do, per axis; without it the field is moved with the scan coils alone."""
    stigmator_nm: Range | None = None
    """What the stigmator can do, for each of its two components."""
    normalisation_wait_s: NonNegative = 0.0
    """How long the lenses take to come to rest after they were normalised."""
    areas: tuple[Name, ...] = ()
    """Stored stage positions, where the file lists them: a plan's area must be one of them."""
    reference_areas: tuple[ReferenceArea, ...] = ()
    """Where calibrations that need a known specimen go; without one they are not measurable."""
    brightness_a_per_m2_sr: Positive | None = None
    spots: tuple[Spot, ...] = ()
    """From the smallest current to the largest; the plan's current is made with the first that reaches it."""
    expected_drift_nm_per_min: NonNegative | None = None
    """Not known where absent: what hangs on it is then not measurable."""
    write_rate_mb_per_s: Positive | None = None
    """What the disk for the data takes for hours [MB/s]."""
    detectors: tuple[DetectorFacts, ...] = ()
    catalogue_detectors: tuple[Name, ...] = ()
    """Detectors that are as ``stem4d.catalogue`` has them."""

    @model_validator(mode="after")
    def _some_detector(self) -> "InstrumentFacts":
        for name in self.catalogue_detectors:
            if name not in CATALOGUE:
                raise ValueError(
                    f"catalogue_detectors: there is no {name} in the catalogue; {', '.join(closest(name))}"
                )
        names = [each.name for each in self.all_detectors]
        if not names:
            raise ValueError("an instrument needs a detector: state detectors or catalogue_detectors")
        if len(set(names)) < len(names):
            raise ValueError(f"detectors must have different names: {', '.join(names)}")
        return self

    @property
    def all_detectors(self) -> tuple[DetectorFacts, ...]:
        """The detectors described here, then those of the catalogue."""
        return (*self.detectors, *(CATALOGUE[name] for name in self.catalogue_detectors))

    def detector(self, name: str) -> DetectorFacts | None:
        """What is known of a detector; None where the file does not name it."""
        return next((each for each in self.all_detectors if each.name == name), None)

    def integrates(self, name: str) -> bool:
        """Whether a detector counts on a dark level; one that the file does not name is taken not to."""
        facts = self.detector(name)
        return facts is not None and facts.integrates

    def spot(self, probe_current_pa: float) -> Spot | None:
        """The first spot that reaches a current."""
        return next((each for each in self.spots if each.largest_current_pa >= probe_current_pa * (1 - 1e-9)), None)

    def brightness_at(self, probe_current_pa: float) -> float | None:
        """Brightness [A/m²/sr] with the spot that makes a current; None where the file does not say."""
        spot = self.spot(probe_current_pa)
        return self.brightness_a_per_m2_sr if spot is None else spot.brightness_a_per_m2_sr


class InstrumentFile(Strict):
    """An instrument file: which driver, its own settings, and the facts."""

    format_version: Literal[1]
    name: Name
    title: Title = ""
    driver: Name
    facts: InstrumentFacts
    settings: dict[str, Any] = Field(default_factory=dict)
    """Read by the driver alone."""
