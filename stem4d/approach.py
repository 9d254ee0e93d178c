"""What a plan says of the way to its target: where it is, what it looks like, which places beside it are free."""

from math import hypot
from typing import Annotated

from pydantic import Field, model_validator

from stem4d.model import Name, Strict

SURVEY_ELECTRONS = 2e3
"""In a pattern of a survey: few, as whole images are registered."""
FOCUS_ELECTRONS = 1e4
"""In a pattern of a focus scan, of which an area beside the target is to bear some four."""

Micrometre = Annotated[float, Field(ge=-1e4, le=1e4)]
Tilt = Annotated[float, Field(ge=-90, le=90)]
Offset = Annotated[float, Field(ge=-1e7, le=1e7)]


class StagePose(Strict):
    """Where the stage stands."""

    x_um: Micrometre
    y_um: Micrometre
    z_um: Micrometre = 0.0
    alpha_deg: Tilt = 0.0
    beta_deg: Tilt = 0.0


POSE_UNITS = {"x_um": "um", "y_um": "um", "z_um": "um", "alpha_deg": "deg", "beta_deg": "deg"}
"""Axes of a pose with their units."""


class FocusArea(Strict):
    """A place beside the target that is given up for focusing, with a name and a budget of its own."""

    name: Name
    offset_nm: tuple[Offset, Offset]
    """From the middle of the target's field, (y, x) along the scan's axes; reached by beam shift."""
    fluence_budget_e_per_a2: Annotated[float, Field(ge=1e-6, le=1e15)]

    @property
    def distance_nm(self) -> float:
        """From the target."""
        return hypot(*self.offset_nm)


class Approach(Strict):
    """The way to the target. Each part is optional; what is left out is not done."""

    pose: StagePose | None = None
    """Of the stage, within the plan's area; without it the area's stored position is gone to."""
    thumbnail: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """A stored survey of the target, its middle where the field is to be: a file's path, or the name of a run."""
    focus_area: FocusArea | None = None
    eucentric_tilt_deg: Annotated[float, Field(ge=0.5, le=30)] | None = None
    """Tilt by which the eucentric height is measured and corrected; without it the focus alone is."""
    vacuum_area: Name | None = None
    """Stage position without a specimen that calibrations use; ``vacuum`` where absent."""
    max_drift_nm_per_min: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    """Below which the stage has settled; what moves a tenth of a step in a line where absent."""
    max_settling_min: Annotated[float, Field(gt=0, le=1e4)] = 30.0
    """Longest wait for that."""

    @model_validator(mode="after")
    def _something_to_do(self) -> "Approach":
        parts = (self.pose, self.thumbnail, self.focus_area, self.eucentric_tilt_deg, self.vacuum_area)
        if all(part is None for part in parts):
            parts_named = "pose, thumbnail, focus_area, eucentric_tilt_deg or vacuum_area"
            raise ValueError(f"an approach needs a {parts_named}; leave it out for none")
        return self
