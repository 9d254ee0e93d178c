"""What may be asked of a strain analysis; the words are those of ``stem4d.plan.Strain``."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stem4d.model import Strict
from stem4d.plan import AngstromPeriod, Edge, LatticeAngle, LatticeSpacing, Share, require_region


class StrainOptions(Strict):
    """Options of the strain analysis."""

    reflection_d_a: AngstromPeriod | None = None
    """Lattice spacing of a reflection that the lattice found has to contain [Å]."""
    target_strain: Share = 1e-3
    """Uncertainty of a position's strain that is still good."""
    reference: Literal["region", "absolute"] = "region"
    """Strain against the median lattice of a region of the scan, or against a lattice stated below."""
    reference_region: tuple[Edge, Edge, Edge, Edge] | None = None
    """(y0, x0, y1, x1) [positions], the ends not included; the whole scan where absent."""
    lattice_a_nm: LatticeSpacing | None = None
    """For ``reference: absolute``: the unstrained lattice as seen along the beam, two vectors and their angle."""
    lattice_b_nm: LatticeSpacing | None = None
    """As ``lattice_a_nm`` where absent."""
    lattice_angle_deg: LatticeAngle = 90.0
    accept_disk_overlap: bool = False
    origin: Literal["per_pattern", "fixed"] = "per_pattern"
    """Whether the origin is found in each pattern, or one origin or map serves all."""
    fewest_disks: Annotated[int, Field(ge=3, le=500)] = 5
    """Disks, the undeflected one included, that a position needs to be well fitted."""
    most_poor_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Part of the positions that may have fewer disks, or none."""

    @model_validator(mode="after")
    def _reference_stated(self) -> "StrainOptions":
        if self.reference == "absolute" and self.lattice_a_nm is None:
            raise ValueError("lattice_a_nm must be stated for reference: absolute")
        require_region(self.reference, self.reference_region)
        return self
