"""What a reconstruction can be asked for."""

from typing import Annotated, Literal

from pydantic import Field

from stem4d.model import Positive, Strict


class PtychographyOptions(Strict):
    """Names that a plan's analysis has too mean the same (`stem4d.plan.Ptychography`)."""

    target_d_a: Positive | None = None
    """Full period that is wanted [Å]; the finest that the detector carries where absent."""
    model: Literal["single_slice", "multislice"] = "single_slice"
    """``multislice`` is handed over to an engine of its own."""
    slice_thickness_nm: Positive | None = None
    """For the hand-over."""
    probe_modes: Annotated[int, Field(ge=1, le=8)] = 1
    """Mutually incoherent modes of the probe."""
    affine_refinement: bool = False
    """Whether scale, shear and rotation of the scan follow the data."""
    position_refinement: bool = False
    """Whether every position follows the data."""
    probe_refinement: bool = True
    iterations: Annotated[int, Field(ge=2, le=1000)] = 20
    half_data: bool = True
    """Whether two halves of the patterns are reconstructed as well, with half the iterations, for the ring correlation
    and the uncertainty of the phase."""
