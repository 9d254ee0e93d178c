"""The knobs of the hidden truth, group by group: scan engine, projector, detector, beam, moves and damage of areas.

Every number has limits: what no instrument has, and what arithmetic cannot bear, is refused before anything is opened.
"""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from stem4d.model import Strict
from stem4d.simulate.scanning import ScanErrors
from stem4d.simulate.wander import Dropout, Emission

Fraction = Annotated[float, Field(ge=0, lt=1)]
Ratio = Annotated[float, Field(ge=0.1, le=10)]
"""True over nominal."""
Small = Annotated[float, Field(ge=-1, le=1)]
Thousand = Annotated[float, Field(ge=-1e3, le=1e3)]
Angle = Annotated[float, Field(ge=-360, le=360)]
Place = Annotated[float, Field(ge=-1e5, le=1e5)]
Length = Annotated[float, Field(ge=0, le=1e3)]
Moment = Annotated[float, Field(ge=0, le=1e9)]
"""On the instrument's clock [s], up to 30 years."""
Counts = Annotated[float, Field(ge=0, le=1e6)]
Fluence = Annotated[float, Field(ge=1e-3, le=1e12)]
PixelIndex = Annotated[int, Field(ge=0, le=65536)]
Pixels = tuple[tuple[PixelIndex, PixelIndex], ...]
BadPixels = Fraction | Pixels
"""A fraction of all pixels, drawn out of the seed, or a list of (y, x)."""
NO_QUADRATIC = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


class ScanTruth(Strict):
    """The scan engine's errors; its rotation is ``scan_detector_rotation_deg``."""

    mirrored: bool = False
    """The detector's y runs against the specimen's."""
    step_ratio: tuple[Ratio, Ratio] = (1.0, 1.0)
    """True over commanded step along (y, x)."""
    shear: Small = 0.0
    barrel_per_um2: Thousand = 0.0
    flyback_nm: Thousand = 0.0
    flyback_settle_us: Annotated[float, Field(ge=1e-3, le=1e6)] = 100.0
    hum_a_rms: Length = 0.0
    hum_hz: Annotated[float, Field(ge=1e-3, le=1e6)] = 50.0
    jitter_a_rms: Length = 0.0

    def errors(self, rotation_deg: float) -> ScanErrors:
        """As the physics layer takes them, with the whole rotation."""
        return ScanErrors(rotation_deg=rotation_deg, **self.model_dump(exclude={"mirrored"}))


class ProjectorTruth(Strict):
    """What the projector and the condenser do besides what they were told."""

    angle_ratio: Ratio = 1.0
    """True over nominal angle per pixel."""
    convergence_ratio: Ratio = 1.0
    """True over nominal convergence semi-angle."""
    ellipticity: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Long over short axis, less 1, of what ought to be a circle on the detector."""
    ellipse_angle_deg: Angle = 0.0
    """Of the long axis, from the detector's x towards its y."""
    descan_quadratic_mrad_per_nm2: tuple[tuple[Thousand, Thousand, Thousand], tuple[Thousand, Thousand, Thousand]] = (
        NO_QUADRATIC
    )
    """For the pattern's y and x: shift per y², yx, x² of probe position, from the field's middle, plus beam shift."""

    def matrix(self, nominal_mrad_per_pixel: float, mirrored: bool) -> npt.NDArray[np.float64]:
        """Angle (y, x) [mrad] per detector pixel (y, x): δ M E, see docs/conventions.md."""
        angle = np.radians(self.ellipse_angle_deg)
        long_axis = np.array([np.sin(angle), np.cos(angle)])
        along, across = (1 + self.ellipticity) ** -0.5, (1 + self.ellipticity) ** 0.5
        ellipse = across * np.eye(2) + (along - across) * np.outer(long_axis, long_axis)
        mirror = np.diag([-1.0, 1.0]) if mirrored else np.eye(2)
        # The ellipse is stated as it is seen on the detector: it acts on pixels before they are mirrored.
        matrix: npt.NDArray[np.float64] = self.angle_ratio * nominal_mrad_per_pixel * mirror @ ellipse
        return matrix


class DetectorTruth(Strict):
    """How the detector answers; hot and dead pixels stand beside it, at the top of the settings."""

    kind: Literal["counting", "integrating"] = "counting"
    noisy_pixels: BadPixels = 0.0
    noise_counts: Counts = 10.0
    """Spread that a noisy pixel adds."""
    gaps: tuple[tuple[PixelIndex, PixelIndex, PixelIndex, PixelIndex], ...] = ()
    """Rectangles (y from, x from, y to, x to) between chips, where nothing counts."""
    dead_time_us: Annotated[float, Field(ge=0, le=1e4)] = 0.0
    paralysable: bool = False
    wraps: bool = False
    """A full counter begins again at 0."""
    response_spread: Fraction = 0.0
    """Standard deviation of the pixels' response about the mean one."""
    blur_px: Annotated[float, Field(ge=0, le=20)] = 0.0
    """Standard deviation of the sensor's point spread."""
    counts_per_electron: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    """Of an integrating detector; also the efficiency of a counting one, where it is below 1."""
    dark_counts: Counts = 0.0
    dark_spread_counts: Counts = 0.0
    read_noise_counts: Counts = 0.0

    @model_validator(mode="after")
    def _gaps_have_an_inside(self) -> "DetectorTruth":
        for top, left, bottom, right in self.gaps:
            if top >= bottom or left >= right:
                raise ValueError(
                    f"gaps: {[top, left, bottom, right]} is empty: it reads y from, x from, y to, x to, in px, "
                    f"and has to end after it begins"
                )
        return self


class DropoutTruth(Strict):
    """For a while only a part of the current flows."""

    at_s: Moment
    seconds: Annotated[float, Field(gt=0, le=1e9)]
    part: Annotated[float, Field(ge=0, le=100)] = 0.0


class BeamTruth(Strict):
    """How the current goes on, and how large the source is."""

    drift_per_h: Thousand = 0.0
    dropouts: tuple[DropoutTruth, ...] = ()
    source_fwhm_a: Length = 0.0
    """Image of the source on the specimen [Å]."""

    @property
    def emission(self) -> Emission:
        """As the physics layer takes it."""
        return Emission(self.drift_per_h, tuple(Dropout(each.at_s, each.seconds, each.part) for each in self.dropouts))


class SupplyTruth(Strict):
    """What keeps a column going, as its gauges read it; none of it changes the pictures."""

    vacuum_pascal: Annotated[float, Field(gt=0, le=1e5)] = 2e-6
    """Pressure at the specimen; a trip is a schedule's entry that raises it for a while."""
    emission_ua: Annotated[float, Field(ge=0, le=1e4)] = 10.0
    cryo_fill_s: Annotated[float, Field(ge=0, le=1e5)] = 0.0
    """How long a fill of the cold trap goes on [s]; 0 where none does."""


class JumpTruth(Strict):
    """The stage slips at one moment of the instrument's time."""

    at_s: Moment
    by_nm: tuple[Place, Place]


class DamageTruth(Strict):
    """How an area suffers under the beam; what is left out does not happen. See `stem4d.simulate.damage`."""

    critical_e_per_a2: Fluence | None = None
    """Fluence at which what detail of 1 Å scatters has faded to 1/e: high-angle counts decay."""
    critical_power: Annotated[float, Field(ge=0, le=4)] = 1.0
    """Detail of period d fades at the critical fluence times (d/Å)^power."""
    contamination_rad_per_e_per_a2: Annotated[float, Field(ge=0, le=10)] = 0.0
    shrinkage_per_e_per_a2: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Part of the area lost per fluence at first."""
    shrinkage_limit: Annotated[float, Field(ge=1e-6, le=0.5)] = 0.15
    bubble_onset_e_per_a2: Fluence | None = None
    bubble_spacing_a: Annotated[float, Field(ge=5, le=1e5)] = 80.0
    bubble_radius_a: Annotated[float, Field(ge=0.1, le=1e4)] = 30.0
    """At three times the onset."""
    bubble_depth: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Part of the contrast that is gone inside a bubble."""
    bubble_phase_rad: Annotated[float, Field(ge=0, le=100)] = 0.5
    """Phase missing in the middle of a bubble."""
