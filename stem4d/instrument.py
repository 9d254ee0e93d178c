"""What an instrument is and can do, as its file states it: apertures, camera lengths, ranges, detectors."""

from typing import Any, Literal

from pydantic import Field

from stem4d.detector import DetectorFacts
from stem4d.model import Name, NonNegative, Positive, Strict, Title


class Range(Strict):
    """An allowed range, both ends included."""

    lowest: float
    highest: float

    def holds(self, value: float) -> bool:
        """Whether a value lies inside."""
        return self.lowest <= value <= self.highest

    def __str__(self) -> str:
        return f"{self.lowest:g} to {self.highest:g}"


class Aperture(Strict):
    """A condenser aperture. Changing it means realigning the condenser: a person's work."""

    name: Name
    convergence_semi_angle_mrad: Positive


class InstrumentFacts(Strict):
    """Everything a plan is checked against."""

    beam_energies_kev: tuple[Positive, ...]
    apertures: tuple[Aperture, ...]
    camera_lengths_mm: tuple[Positive, ...]
    defocus_nm: Range
    probe_current_pa: Range
    dwell_time_us: Range
    max_field_nm: Positive
    brightness_a_per_m2_sr: Positive | None = None
    expected_drift_nm_per_min: NonNegative = 0.0
    detectors: tuple[DetectorFacts, ...] = Field(min_length=1)


class InstrumentFile(Strict):
    """An instrument file: which driver, its own settings, and the facts."""

    format_version: Literal[1]
    name: Name
    title: Title = ""
    driver: Name
    facts: InstrumentFacts
    settings: dict[str, Any] = Field(default_factory=dict)
    """Read by the driver alone."""
